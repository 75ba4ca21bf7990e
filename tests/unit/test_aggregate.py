import math
from dataclasses import replace

import pytest

from esa_pytest.drift.aggregate import metric_rows
from esa_pytest.records import Metrics, Record
from tests.unit.builders import CALIBRATION, small_record

TOKENS = 1000
RECORD = small_record()


def run(mean_nll: float, correct: int = 500, tokens: int = TOKENS) -> Record:
    metrics = Metrics(nll_sum=mean_nll * tokens, num_scored_tokens=tokens, num_correct_tokens=correct)
    return replace(RECORD, metrics=metrics)


def drifted(golden: Record, measured: Record) -> set[str]:
    return {row.name for row in metric_rows(golden, measured, None) if not row.within}


def test_rows_are_loss_perplexity_and_accuracy_with_their_drift() -> None:
    loss, perplexity, accuracy = metric_rows(run(2.0, 500), run(2.5, 250), None)
    assert (loss.name, loss.golden, loss.measured, loss.drift) == ("mean_nll", 2.0, 2.5, 0.5)
    assert (perplexity.name, perplexity.golden, perplexity.measured) == ("perplexity", math.exp(2.0), math.exp(2.5))
    assert perplexity.drift == math.exp(2.5) - math.exp(2.0)
    assert (accuracy.name, accuracy.golden, accuracy.measured, accuracy.drift) == ("token_accuracy", 0.5, 0.25, -0.25)
    assert {row.source for row in (loss, perplexity, accuracy)} == {"provisional"}


def test_perplexity_is_allowed_what_follows_from_the_loss() -> None:
    loss, perplexity, accuracy = metric_rows(run(2.0), run(2.0), None)
    assert loss.allowed == 0.002
    assert perplexity.allowed == pytest.approx(math.exp(2.002) - math.exp(2.0), rel=1e-12)
    assert accuracy.allowed == 0.01


@pytest.mark.parametrize("mean_nll", [0.01, 2.0, 3.7, 11.0])
@pytest.mark.parametrize("direction", [1, -1])
def test_loss_is_judged_alike_in_both_directions(mean_nll: float, direction: int) -> None:
    bound = 1e-3 * mean_nll
    assert drifted(run(mean_nll), run(mean_nll + direction * bound * (1 - 1e-9))) == set()
    beyond = drifted(run(mean_nll), run(mean_nll + direction * bound * (1 + 1e-9)))
    assert "mean_nll" in beyond


@pytest.mark.parametrize("direction", [1, -1])
def test_accuracy_may_move_by_the_whole_share_that_is_allowed(direction: int) -> None:
    judged = {correct: drifted(run(2.0, correct, 100), run(2.0, correct + direction, 100)) for correct in range(1, 100)}
    assert [correct for correct, names in judged.items() if names] == []


@pytest.mark.parametrize("direction", [1, -1])
def test_accuracy_that_moves_by_more_has_drifted(direction: int) -> None:
    assert drifted(run(2.0, 500), run(2.0, 500 + 11 * direction)) == {"token_accuracy"}


def test_loss_of_zero_may_not_move_at_all() -> None:
    assert drifted(run(0.0), run(0.0)) == set()
    assert drifted(run(0.0), run(1e-12)) == {"mean_nll", "perplexity"}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_never_within(value: float) -> None:
    assert {"mean_nll", "perplexity"} <= drifted(run(2.0), run(value))
    assert {"mean_nll", "perplexity"} <= drifted(run(value), run(value))


CALIBRATED = replace(run(2.0), calibration=CALIBRATION)
ALLOWED = {"ece": 0.01, "brier": 0.01, "mean_entropy": 0.02, "top_k_mass": 0.01}


def moved(name: str, drift: float) -> Record:
    calibration = replace(CALIBRATION, **{name: getattr(CALIBRATION, name) + drift})
    return replace(CALIBRATED, calibration=calibration)


def test_without_calibration_on_either_side_there_are_no_rows_of_it() -> None:
    assert [row.name for row in metric_rows(run(2.0), run(2.0), None)] == ["mean_nll", "perplexity", "token_accuracy"]


@pytest.mark.parametrize("pair", [(run(2.0), CALIBRATED), (CALIBRATED, run(2.0))], ids=["new", "gone"])
def test_calibration_that_one_side_lacks_is_never_within(pair: tuple[Record, Record]) -> None:
    assert drifted(*pair) == set(ALLOWED)


def test_calibration_rows_follow_the_quoted_ones_with_their_bounds() -> None:
    rows = metric_rows(CALIBRATED, CALIBRATED, None)[3:]
    assert {row.name: row.allowed for row in rows} == ALLOWED
    assert [(row.golden, row.measured, row.drift) for row in rows] == [
        (value, value, 0.0) for value in (CALIBRATION.ece, CALIBRATION.brier, 2.0, CALIBRATION.top_k_mass)
    ]
    assert {row.source for row in rows} == {"provisional"}


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("name", ALLOWED)
def test_calibration_is_judged_alike_in_both_directions(name: str, direction: int) -> None:
    bound = direction * ALLOWED[name]
    assert drifted(CALIBRATED, moved(name, bound * 0.999)) == set()
    assert drifted(CALIBRATED, moved(name, bound * 1.001)) == {name}


@pytest.mark.parametrize("name", ALLOWED)
def test_calibration_that_is_no_number_is_never_within(name: str) -> None:
    assert drifted(CALIBRATED, moved(name, math.nan)) == {name}
