"""Limits on the phases of a check end it with the name of the phase, and leave pytest-timeout's own limit alone."""

import signal
import time
from collections.abc import Iterator
from typing import NoReturn

import pytest

from esa_pytest.exit_status import Status
from tests.plugin.conftest import Project

FAILED = pytest.ExitCode.TESTS_FAILED
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="limits need signals")


@pytest.fixture(autouse=True)
def timer_of_its_own() -> Iterator[None]:
    """The runs in here set and stop the one timer of the process; the outer test gets its own back."""
    handler = signal.getsignal(signal.SIGALRM)
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, 0)
    yield
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, remaining, interval)


def run(project: Project, *arguments: str) -> pytest.RunResult:
    return project.pytester.runpytest_inprocess("-W", "default", *arguments)


def endless(*_: object, **__: object) -> NoReturn:
    while True:
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("phase", "place", "sentence"),
    [
        ("load", "esa_pytest.measuring.shelf.load_model", "Fetching and loading the model"),
        ("load", "esa_pytest.measuring.shelf.locate", "Fetching and loading the model"),
        ("evaluate", "esa_pytest.measuring.measurement.evaluate", "Evaluating the baseline"),
        ("evaluate", "esa_pytest.measuring.measurement.measure_consistency", "Evaluating the baseline"),
    ],
)
def test_a_phase_that_takes_too_long_fails_by_its_name(
    recorded: Project, monkeypatch: pytest.MonkeyPatch, phase: str, place: str, sentence: str
) -> None:
    monkeypatch.setattr(place, endless)
    result = run(recorded, f"--esa-{phase}-timeout", "0.3")
    assert result.ret == Status.BROKEN
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            (
                f"esa: tiny-smoke could not be judged. {sentence} took longer than the 0.3 s that "
                f"--esa-{phase}-timeout allows; see the stack above for where it was, and raise the limit "
                "if that is no wonder."
            )
        ]
    )
    # An alarm that struck a weak reference's callback is swallowed there, and pytest then tells of it as a
    # warning; what must not be shown is pytest-timeout's own failure.
    result.stdout.no_fnmatch_line("E *Timeout (>*")
    result.stdout.fnmatch_lines(["esa: judged 0 of 1"])


def test_an_alarm_that_a_finaliser_swallows_comes_back(
    recorded: Project, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    class Swallowing:
        def __del__(self) -> None:
            while signal.getitimer(signal.ITIMER_REAL)[0] < 0.5:
                time.sleep(0.01)

    def swallowing(*_: object, **__: object) -> NoReturn:
        Swallowing()
        endless()

    monkeypatch.setattr("esa_pytest.measuring.measurement.evaluate", swallowing)
    result = run(recorded, "--esa-evaluate-timeout", "0.3", "-p", "no:unraisableexception")
    assert result.ret == Status.BROKEN
    result.stdout.fnmatch_lines(["esa: tiny-smoke could not be judged. Evaluating the baseline took longer than *"])


@pytest.mark.parametrize("more", [(), ("--timeout", "500")], ids=["alone", "within-a-longer-one"])
def test_phases_within_their_limits_are_judged(recorded: Project, more: tuple[str, ...]) -> None:
    result = run(recorded, "--esa-load-timeout", "300", "--esa-evaluate-timeout", "300", *more)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["  identical *", "esa: judged 1 of 1"])


def test_the_tests_own_limit_holds_again_after_a_phase(recorded: Project) -> None:
    recorded.write_test(
        "import signal, time\n"
        "def test_baseline(esa_baseline):\n"
        "    handler = signal.getsignal(signal.SIGALRM)\n"
        "    before = signal.getitimer(signal.ITIMER_REAL)[0]\n"
        "    esa_baseline.check()\n"
        "    assert signal.getsignal(signal.SIGALRM) is handler\n"
        "    assert 300 < signal.getitimer(signal.ITIMER_REAL)[0] < before <= 600\n"
        "    signal.setitimer(signal.ITIMER_REAL, 0.01)\n"
        "    while True:\n"
        "        time.sleep(0.01)\n"
    )
    limits = ("--esa-load-timeout", "200", "--esa-evaluate-timeout", "200")
    result = run(recorded, "--timeout", "600", *limits)
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(["*Failed: Timeout (>600.0s) from pytest-timeout."])


def test_no_timer_is_left_running_after_the_test(recorded: Project) -> None:
    recorded.write_test(
        "import signal\n"
        "def test_baseline(esa_baseline):\n"
        "    esa_baseline.check()\n"
        "def test_after_it():\n"
        "    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0\n"
    )
    result = run(recorded, "--esa-load-timeout", "300", "--esa-evaluate-timeout", "300", "--timeout", "0")
    result.assert_outcomes(passed=2)
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_a_shorter_limit_of_the_test_wins(recorded: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esa_pytest.measuring.shelf.load_model", endless)
    result = run(recorded, "--timeout", "1", "--esa-load-timeout", "20")
    assert result.ret == Status.BROKEN
    result.stdout.fnmatch_lines(["*Failed: Timeout (>1.0s) from pytest-timeout."])
    result.stdout.no_fnmatch_line("*--esa-load-timeout allows*")


def test_a_failure_within_the_limit_stays_what_it_is(recorded: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        pytest.fail("the user's own words")

    monkeypatch.setattr("esa_pytest.measuring.shelf.load_model", fail)
    result = run(recorded, "--esa-load-timeout", "300")
    assert result.ret == Status.BROKEN
    result.stdout.fnmatch_lines(["*the user's own words"])
    result.stdout.no_fnmatch_line("*--esa-load-timeout allows*")
