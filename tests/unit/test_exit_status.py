"""The statuses of a session, from what failed in it."""

import pytest

from esa_pytest.exit_status import Failure, Status, status_of

DRIFT = Failure(guarded=True, judged=True)
OTHER_TEST = Failure(guarded=False)
OWN_ASSERT = Failure(guarded=True, own=True)
NO_GOLDEN = Failure(guarded=True, error="GoldenMissingError")
TRACEBACK = Failure(guarded=True, error="RuntimeError")
CRASHED = Failure(guarded=True)
STRICT = Failure(guarded=True, error="HubUnreachableError")


def status(*failures: Failure, nothing_judged: bool = False) -> Status:
    return status_of(failures, nothing_judged=nothing_judged)


def test_nothing_failed() -> None:
    assert status() is Status.PASSED


def test_a_verdict_and_any_other_failed_test_are_a_failure_as_pytest_has_it() -> None:
    assert status(DRIFT) is status(OTHER_TEST) is status(OWN_ASSERT) is Status.DRIFTED
    assert int(Status.DRIFTED) == pytest.ExitCode.TESTS_FAILED


def test_what_kept_a_baseline_from_its_verdict_is_told_apart() -> None:
    assert status(NO_GOLDEN) is status(TRACEBACK) is status(CRASHED) is Status.BROKEN
    assert status(STRICT) is Status.NOT_JUDGED
    assert status(nothing_judged=True) is Status.NOT_JUDGED


def test_the_worst_is_told() -> None:
    assert status(STRICT, NO_GOLDEN, DRIFT) is Status.DRIFTED
    assert status(STRICT, NO_GOLDEN, nothing_judged=True) is Status.BROKEN


def test_our_statuses_are_none_of_pytests() -> None:
    assert {int(Status.NOT_JUDGED), int(Status.BROKEN)}.isdisjoint(int(code) for code in pytest.ExitCode)
