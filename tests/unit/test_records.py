from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from esa_pytest.records import (
    CALIBRATION_NAMES,
    Batch,
    BitStability,
    Calibration,
    Change,
    MetricRow,
    Outcome,
    Tier,
    Verdict,
    Window,
)

CHANGE = Change(name="version.torch", golden="1", measured="2")


def row(drift: float, allowed: float | None) -> MetricRow:
    return MetricRow(name="mean_nll", golden=1.0, measured=1.0 + drift, drift=drift, allowed=allowed, source="test")


@pytest.mark.parametrize("outcome", Outcome)
def test_only_identical_within_noise_and_reference_only_pass(outcome: Outcome) -> None:
    assert outcome.passed == (outcome.value in {"identical", "within-noise", "reference-only"})


def test_tiers_keep_the_numbers_that_documents_hold() -> None:
    numbers = {"IDENTITY": 0, "FINITE": 1, "EXACT": 2, "REFERENCE": 3, "PAIRED": 4, "AGGREGATE": 5, "RESOURCES": 6}
    assert {tier.name: int(tier) for tier in Tier} == numbers


@pytest.mark.parametrize(
    ("processes", "patterns", "proven"),
    [(0, 1, False), (1, 1, False), (2, 1, True), (9, 1, True), (2, 2, False), (9, 3, False)],
)
def test_stability_is_proven_by_two_fresh_processes_that_agree(processes: int, patterns: int, *, proven: bool) -> None:
    stability = BitStability(fresh_processes=processes, distinct_bit_patterns=patterns)
    assert stability.proven is proven


@pytest.mark.parametrize(
    ("drift", "allowed", "within"),
    [
        (0.0, 0.0, True),
        (0.5, 0.5, True),
        (-0.5, 0.5, True),
        (0.5000001, 0.5, False),
        (-0.5000001, 0.5, False),
        (1e9, None, True),
        (float("inf"), 0.5, False),
        (float("-inf"), 0.5, False),
        (float("nan"), 0.5, False),
        (0.1, float("nan"), False),
    ],
)
def test_drift_is_allowed_up_to_its_bound_both_ways_and_nan_never_is(
    drift: float, allowed: float | None, *, within: bool
) -> None:
    assert row(drift, allowed).within is within


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("environment", [(), (CHANGE,)])
def test_only_equal_bits_in_an_equal_environment_leave_nothing_to_accept(
    outcome: Outcome, environment: tuple[Change, ...]
) -> None:
    verdict = Verdict(outcome=outcome, tier=Tier.EXACT, reason="", environment=environment)
    assert verdict.nothing_to_accept is (outcome is Outcome.IDENTICAL and environment == ())


def test_window_and_batch_count_what_they_score() -> None:
    batch = Batch(
        input_ids=np.zeros((2, 4), dtype=np.int64),
        targets=np.zeros((2, 3), dtype=np.int32),
        strata=np.zeros((2, 3), dtype=np.int32),
    )
    assert batch.num_scored == 6
    assert Window(context_begin=0, score_begin=3, score_end=5).num_scored == 2


def test_every_number_of_the_calibration_has_its_name() -> None:
    numbers = [field.name for field in fields(Calibration) if field.name != "entropy_by_position"]
    assert sorted(CALIBRATION_NAMES) == sorted(numbers)
    assert list(CALIBRATION_NAMES) == sorted(CALIBRATION_NAMES)


def test_records_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        CHANGE.golden = "2"  # type: ignore[misc]
