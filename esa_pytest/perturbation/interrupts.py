"""Signals in the very moment in which weights are put back: they wait until that is done."""

import signal
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

_Handler = Callable[[int, FrameType | None], Any]
# Those whose handlers raise: Ctrl-C, and the alarm by which pytest-timeout ends a test; Windows has no alarm.
_NUMBERS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGALRM") if hasattr(signal, name))


class DelayedInterrupt:
    """Lets Ctrl-C and alarms through as ever, save while one of its owner's functions runs: then they wait.

    Python runs a signal's handler between two instructions, so the first instruction of an `__exit__` can be
    interrupted before it has done anything. Only the handler knows where it came in; so it looks.
    """

    def __init__(self, owner: object, *protected: CodeType) -> None:
        """Nothing is changed yet.

        Args:
            owner: the object whose methods are protected; a block inside its own has another one.
            protected: the code of these methods.
        """
        self._owner = owner
        self._protected = frozenset(protected)
        self._previous: dict[int, _Handler] = {}
        self._pending: dict[int, FrameType | None] = {}

    def install(self) -> None:
        """Take the place of the signals' handlers; in another thread than the main one there is nothing to do."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _NUMBERS:
            previous = signal.getsignal(number)
            if callable(previous):
                self._previous[number] = previous
                signal.signal(number, self._handle)

    def deliver(self) -> None:
        """Hand on what has come meanwhile: KeyboardInterrupt, as a rule."""
        for number in _NUMBERS:
            if number in self._pending:
                self._previous[number](number, self._pending.pop(number))

    def release(self) -> None:
        """Put the previous handlers back, and hand them what has come meanwhile."""
        for number, previous in self._previous.items():
            # Whoever took our place within the block, as a timer that was set there does, keeps it.
            if signal.getsignal(number) == self._handle:
                signal.signal(number, previous)
        try:
            self.deliver()
        finally:
            self._previous = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_protected(frame) or number not in self._previous:
            self._pending[number] = frame
        else:
            self._previous[number](number, frame)

    def _is_protected(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code in self._protected and frame.f_locals.get("self") is self._owner:
                return True
            frame = frame.f_back
        return False
