"""The session names outcomes in plain strings, since it loads no numpy; they are the outcomes."""

from esa_pytest import standing
from esa_pytest.check import reporting
from esa_pytest.records import Outcome
from esa_pytest.resume.hooks import RECORDED


def test_every_outcome_counts_as_judged() -> None:
    assert set(Outcome) == standing.JUDGED


def test_what_the_check_calls_recorded_the_session_counts_as_recorded() -> None:
    assert reporting.RECORDED == RECORDED
