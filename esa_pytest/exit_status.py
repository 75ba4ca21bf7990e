"""With which status a session ends, so that a nightly run can tell a drift from a hub that did not answer.

The statuses 0 to 6 are pytest's own. Where baselines are all that failed, and none of them by its verdict, the status
is one of ours.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from esa_pytest import errors


class Status(IntEnum):
    """What a session of baselines ends with, where pytest was not interrupted and its options are valid."""

    PASSED = 0
    DRIFTED = 1
    NOT_JUDGED = 10
    BROKEN = 11


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A test that failed.

    Attributes:
        guarded: whether it uses a baseline.
        judged: whether its baseline came to a verdict, or had its golden recorded.
        error: the class of the error that kept it from one; None where there is none.
        own: whether it failed in its own body, and by nothing that we have told of it.
    """

    guarded: bool
    judged: bool = False
    error: str | None = None
    own: bool = False


def status_of(failures: Iterable[Failure], *, nothing_judged: bool) -> Status:
    """The worst of what happened: a drift, what is broken, what could not be judged.

    Args:
        failures: every failed test of the session.
        nothing_judged: whether baselines were selected and none came to a verdict, which is not allowed.
    """
    found = {_status(failure) for failure in failures}
    if nothing_judged:
        found.add(Status.NOT_JUDGED)
    return next(
        (status for status in (Status.DRIFTED, Status.BROKEN, Status.NOT_JUDGED) if status in found), Status.PASSED
    )


def _status(failure: Failure) -> Status:
    """What one failure says; what a test asserts itself, with a baseline or without one, is an ordinary failure."""
    if failure.judged or failure.own or not failure.guarded:
        return Status.DRIFTED
    kind = getattr(errors, failure.error or "", None)
    unavailable = isinstance(kind, type) and issubclass(kind, errors.UnavailableError)
    return Status.NOT_JUDGED if unavailable else Status.BROKEN
