import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.evaluation.calibration import NUM_BINS, calibrate, expected_calibration_error, reliability
from esa_pytest.records import TokenProbabilities
from tests.unit.builders import token_scores

# Many confidences share a bin, lie on a border or next to one.
confidences = (
    st.floats(0, 1, width=32)
    | st.sampled_from([0.0, 0.25, 0.5, 1.0])
    | st.integers(0, NUM_BINS).map(lambda index: float(np.float32(index / NUM_BINS)))
)
predictions = st.lists(st.tuples(confidences, st.booleans()), min_size=1, max_size=40)


def ece(pairs: list[tuple[float, bool]], *, num_bins: int = NUM_BINS) -> float:
    confidence = np.array([pair[0] for pair in pairs], dtype=np.float32)
    return expected_calibration_error(confidence, np.array([pair[1] for pair in pairs]), num_bins=num_bins)


def plain_ece(pairs: list[tuple[float, bool]], num_bins: int) -> float:
    error = Fraction(0)
    for index in range(num_bins):
        low, high = Fraction(index, num_bins), Fraction(index + 1, num_bins)
        members = [(Fraction(c), ok) for c, ok in pairs if low < c <= high or (index == 0 and c == 0)]
        if members:
            accuracy = Fraction(sum(ok for _, ok in members), len(members))
            confidence = sum((c for c, _ in members), start=Fraction(0)) / len(members)
            error += Fraction(len(members), len(pairs)) * abs(accuracy - confidence)
    return float(error)


@given(predictions)
def test_the_bins_of_a_diagram_are_those_of_the_error(pairs: list[tuple[float, bool]]) -> None:
    scores = token_scores([1.0] * len(pairs), argmax=[int(right) for _, right in pairs], target=[1] * len(pairs))
    confidence = np.array([pair[0] for pair in pairs], dtype=np.float32)
    bins = reliability(
        scores,
        TokenProbabilities(confidence=confidence, entropy=confidence, brier=confidence, top_k_mass=confidence),
    )
    assert sum(one.num_tokens for one in bins) == len(pairs)
    assert all(one.num_tokens and one.low <= one.confidence <= one.high + 1e-7 for one in bins)
    error = sum(one.num_tokens * abs(one.accuracy - one.confidence) for one in bins) / len(pairs)
    assert error == pytest.approx(ece(pairs), abs=1e-12)


@given(predictions, st.sampled_from([1, 2, 7, 10, 15]))
def test_error_is_that_of_a_plain_loop_over_bins(pairs: list[tuple[float, bool]], num_bins: int) -> None:
    assert ece(pairs, num_bins=num_bins) == pytest.approx(plain_ece(pairs, num_bins), abs=1e-12)


def test_bins_are_as_many_as_are_usual_in_print() -> None:
    # On a border of fifteenths and inside a tenth: the gaps of two bins add up, those of one would cancel.
    assert ece([(0.65625, False), (0.671875, True)]) == pytest.approx((0.65625 + 1 - 0.671875) / 2)
    assert NUM_BINS == 15


@given(predictions)
def test_error_is_a_share(pairs: list[tuple[float, bool]]) -> None:
    assert 0 <= ece(pairs) <= 1


@pytest.mark.parametrize(
    "pairs",
    [
        [(1.0, True)] * 3,
        [(0.0, False)] * 3,
        [(0.5, True), (0.5, False)],
        [(0.75, True), (0.75, True), (0.75, True), (0.75, False), (1.0, True), (0.25, False), (0.25, True)]
        + [(0.25, False)] * 2,
    ],
)
def test_perfect_calibration_has_no_error(pairs: list[tuple[float, bool]]) -> None:
    assert ece(pairs) == 0.0


@pytest.mark.parametrize("pair", [(1.0, False), (0.0, True)])
def test_certain_and_wrong_is_the_whole_error(pair: tuple[float, bool]) -> None:
    assert ece([pair] * 4) == 1.0


def test_gaps_of_different_bins_never_cancel() -> None:
    assert ece([(0.25, True), (0.75, False)]) == 0.75
    assert ece([(0.25, True), (0.75, False)], num_bins=1) == 0.0


def test_confidence_on_a_border_belongs_to_the_lower_bin() -> None:
    # Together in one bin the gaps cancel; apart they do not.
    assert ece([(0.5, False), (0.25, True)], num_bins=2) == pytest.approx(0.125)
    assert ece([(0.5625, False), (0.25, True)], num_bins=2) == pytest.approx((0.5625 + 0.75) / 2)


def float32(values: list[float]) -> npt.NDArray[np.float32]:
    return np.array(values, dtype=np.float32)


def probabilities(entropy: list[float]) -> TokenProbabilities:
    size = len(entropy)
    return TokenProbabilities(
        confidence=float32([1.0] * size),
        entropy=float32(entropy),
        brier=float32([0.25 * index for index in range(size)]),
        top_k_mass=float32([0.5] * (size - 1) + [1.0]),
    )


def test_calibration_of_a_run_is_the_mean_over_its_tokens() -> None:
    scores = token_scores([1.0, 2.0, 3.0, 4.0])  # every other argmax is right
    found = calibrate(scores, probabilities([1.0, 2.0, 3.0, 6.0]))
    assert found.ece == 0.5
    assert found.brier == 0.375
    assert found.mean_entropy == 3.0
    assert found.top_k_mass == 0.625
    assert found.entropy_by_position == {"0-15": 3.0}


def entropies_at(positions: list[int]) -> dict[str, float]:
    scores = replace(token_scores([1.0] * len(positions)), position=np.array(positions, dtype=np.int32))
    found = calibrate(scores, probabilities([float(position) for position in positions]))
    return dict(found.entropy_by_position)


@pytest.mark.parametrize(
    ("positions", "labels"),
    [
        ([0], ["0-15"]),
        ([15], ["0-15"]),
        ([16], ["16-63"]),
        ([63, 64], ["16-63", "64-255"]),
        ([255, 256, 1023, 1024], ["64-255", "256-1023", "1024-4095"]),
        ([4095, 3], ["0-15", "1024-4095"]),
        ([4096], ["4096-16383"]),
    ],
)
def test_entropy_is_told_by_ranges_of_positions_that_hold_a_token(positions: list[int], labels: list[str]) -> None:
    assert list(entropies_at(positions)) == labels


@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=30))
def test_each_token_counts_in_the_range_of_its_position(positions: list[int]) -> None:
    expected: dict[tuple[int, int], list[float]] = {}
    for position in positions:
        low, high = 0, 16
        while position >= high:
            low, high = high, high * 4
        expected.setdefault((low, high), []).append(float(position))
    assert entropies_at(positions) == {
        f"{low}-{high - 1}": pytest.approx(math.fsum(values) / len(values))
        for (low, high), values in sorted(expected.items())
    }
