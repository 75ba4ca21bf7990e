"""A process that is killed between two steps of a write, played in this one."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class KilledError(BaseException):
    """The process is gone: no clean-up runs after it."""


class Killer:
    """Lets the first `survived` steps of a write happen, then ends the writer for good."""

    def __init__(self, patch: pytest.MonkeyPatch, *, survived: int) -> None:
        self._left = survived
        self._dead = False
        patch.setattr(os, "fsync", self._step(os.fsync))
        patch.setattr(Path, "replace", self._step(Path.replace))
        patch.setattr(Path, "open", self._step(Path.open))
        patch.setattr(Path, "unlink", self._unless_dead(Path.unlink))

    def _step(self, action: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            if self._left == 0:
                self._dead = True
                raise KilledError
            self._left -= 1
            return action(*arguments, **options)

        return step

    def _unless_dead(self, action: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, **options: None if self._dead else action(*arguments, **options)
