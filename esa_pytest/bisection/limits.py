"""Child processes that end when the time is up."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class TimeIsUpError(Exception):
    """The time that the user allows is over; whatever was running has been stopped."""


@dataclass(frozen=True, kw_only=True)
class Deadline:
    """When to stop, on the monotonic clock; None for never."""

    end: float | None = None

    @classmethod
    def after(cls, seconds: float | None) -> "Deadline":
        """So many seconds from now."""
        return cls(end=None if seconds is None else time.monotonic() + seconds)

    def run(
        self, command: Sequence[str], *, environment: Mapping[str, str], text: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end; it is killed if the time is up before, or if this process is interrupted.

        Raises:
            TimeIsUpError: the time is up.
        """
        remaining = None if self.end is None else self.end - time.monotonic()
        if remaining is not None and remaining <= 0:
            raise TimeIsUpError
        try:
            return subprocess.run(
                command, input=text, capture_output=True, text=True, check=False, env=environment, timeout=remaining
            )
        except subprocess.TimeoutExpired:
            raise TimeIsUpError from None
