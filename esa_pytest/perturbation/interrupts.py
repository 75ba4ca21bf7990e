"""Ctrl-C in the very moment in which weights are put back: it waits until they are."""

import signal
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

_Handler = Callable[[int, FrameType | None], Any]


class DelayedInterrupt:
    """Lets Ctrl-C through as ever, save while one of its owner's functions runs: then it waits for `deliver`.

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
        self._previous: _Handler | None = None
        self._pending: tuple[int, FrameType | None] | None = None

    def install(self) -> None:
        """Take the place of the handler of Ctrl-C; in another thread than the main one there is nothing to do."""
        if threading.current_thread() is not threading.main_thread():
            return
        previous = signal.getsignal(signal.SIGINT)
        if callable(previous):
            self._previous = previous
            signal.signal(signal.SIGINT, self._handle)

    def deliver(self) -> None:
        """Hand on what has come meanwhile: KeyboardInterrupt, as a rule."""
        pending, self._pending = self._pending, None
        if pending is not None and self._previous is not None:
            self._previous(*pending)

    def release(self) -> None:
        """Put the previous handler back, and hand it what has come meanwhile."""
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
        try:
            self.deliver()
        finally:
            self._previous = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_protected(frame) or self._previous is None:
            self._pending = (number, frame)
        else:
            self._previous(number, frame)

    def _is_protected(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code in self._protected and frame.f_locals.get("self") is self._owner:
                return True
            frame = frame.f_back
        return False
