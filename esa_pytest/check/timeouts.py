"""Time limits for the phases of a check, kept by pytest-timeout and told by the name of the phase."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from esa_pytest.errors import PhaseTimeoutError

_AGAIN_SECONDS = 1.0
PHASES = {"load": "fetching and loading the model", "evaluate": "evaluating the baseline"}


@contextmanager
def limited(item: pytest.Item, *, phase: str, seconds: float | None) -> Iterator[None]:
    """Let the block run for so long at the most; a limit that pytest-timeout has set for the test holds as well.

    Args:
        item: the test.
        phase: a key of `PHASES`.
        seconds: how long, None for as long as it takes.

    Raises:
        PhaseTimeoutError: the time was up.
    """
    if seconds is None or not _signals_work():
        yield
        return
    from pytest_timeout import Settings

    handler, (remaining, _) = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    cancel = getattr(item, "cancel_timeout", None)
    if 0 < remaining <= seconds:
        yield
        return
    begin = time.monotonic()
    settings = Settings(timeout=seconds, method="signal", func_only=False, disable_debugger_detection=False)
    item.ihook.pytest_timeout_set_timer(item=item, settings=settings)
    # Python drops an exception that a signal raises within a finaliser; the alarm comes back until it is heard.
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_SECONDS)
    timed_out = False
    try:
        yield
    except pytest.fail.Exception:
        if time.monotonic() - begin < seconds:
            raise
        timed_out = True
    finally:
        item.ihook.pytest_timeout_cancel_timer(item=item)
        _restore(item, cancel, handler, remaining and max(remaining - (time.monotonic() - begin), 0.001))
    if timed_out:
        raise PhaseTimeoutError(
            f"{PHASES[phase].capitalize()} took longer than the {seconds:g} s that --esa-{phase}-timeout allows; see "
            f"the stack above for where it was, and raise the limit if that is no wonder."
        )


def _restore(item: pytest.Item, cancel: object, handler: "signal._HANDLER", remaining: float) -> None:
    """Put the test's own timer back, with what is left of its time."""
    if cancel is not None:
        item.cancel_timeout = cancel  # type: ignore[attr-defined]  # pytest-timeout keeps its canceller there
    if remaining:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, remaining)


def _signals_work() -> bool:
    return hasattr(signal, "SIGALRM") and threading.current_thread() is threading.main_thread()
