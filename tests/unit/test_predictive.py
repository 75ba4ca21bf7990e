"""What the next harmless change may do: intervals, tails, and how many of them may be wrong at once."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from esa_pytest.drift.predictive import Predictive, Tail, holm, student_quantile

rates = st.floats(1e-8, 0.5)


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=20), st.floats(-20, 20))
def test_prediction_interval_is_that_of_student(values: list[float], new: float) -> None:
    sample = np.array(values)
    found = Predictive.of(sample, least_spread=0.01)
    spread = max(0.01, sample.std(ddof=1) * math.sqrt(1 + 1 / sample.size))
    known = stats.t(sample.size - 1, loc=sample.mean(), scale=spread)
    assert float(found.above(np.array(new))) == pytest.approx(known.sf(new), rel=1e-9, abs=1e-14)
    assert found.quantile(0.999) == pytest.approx(known.ppf(0.999), rel=1e-9, abs=1e-12)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=20), st.floats(-20, 20))
def test_centre_of_harmless_changes_is_zero(values: list[float], new: float) -> None:
    found = Predictive.about_zero(np.array(values))
    assert (found.center, found.freedom) == (0.0, len(values))
    assert found.spread == pytest.approx(math.sqrt(sum(value**2 for value in values) / len(values)))
    there, back = (float(found.outside(np.array(value))) for value in (new, -new))
    assert there == back
    if found.spread > 1e-9:
        expected = 2 * stats.t.sf(abs(new) / found.spread, len(values))
        assert there == pytest.approx(expected, rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("size", [5, 12])
@pytest.mark.parametrize("rate", [0.05, 0.01])
@pytest.mark.parametrize("zero", [True, False])
def test_false_rate_is_the_stated_one(size: int, rate: float, *, zero: bool) -> None:
    runs, found = 4000, 0
    for values in np.random.default_rng(size).standard_normal((runs, size + 1)):
        sample, new = values[1:], values[0]
        known = Predictive.about_zero(sample) if zero else Predictive.of(sample, least_spread=0.0)
        p_value = known.outside(np.array(new)) if zero else known.above(np.array(new))
        found += bool(p_value < rate)
    low, high = (float(stats.binom.ppf(share, runs, rate)) for share in (1e-4, 1 - 1e-4))
    assert low <= found <= high


@given(st.floats(0.01, 10), st.floats(0.01, 10), st.integers(1, 30), st.integers(1, 99))
def test_error_of_the_new_value_widens_as_welch_and_satterthwaite_say(
    ours: float, its: float, freedom: int, blocks: int
) -> None:
    known = Predictive(center=0.0, spread=ours, freedom=freedom)
    found = known.widened(np.array([its]), blocks)
    assert found.spread[0] == pytest.approx(math.hypot(ours, its))
    expected = (ours**2 + its**2) ** 2 / (ours**4 / freedom + its**4 / blocks)
    assert found.freedom[0] == pytest.approx(expected)
    assert min(freedom, blocks) * (1 - 1e-9) <= found.freedom[0] <= (freedom + blocks) * (1 + 1e-9)
    # Alone, each is what it is.
    assert known.widened(np.array(0.0), blocks).freedom == pytest.approx(freedom)
    nothing = Predictive(center=0.0, spread=0.0, freedom=freedom)
    assert nothing.widened(np.array(its), blocks).freedom == pytest.approx(blocks)


def test_where_nothing_ever_varied_whatever_is_larger_is_unheard_of() -> None:
    known = Predictive.about_zero(np.zeros(9))
    assert known.above(np.array([1e-300, 0.0, -1.0])).tolist() == [0.0, 1.0, 1.0]
    assert known.outside(np.array([1e-300, 0.0, -1e-300])).tolist() == [0.0, 1.0, 0.0]
    assert known.quantile(0.9999) == 0.0
    wide = known.widened(np.zeros(3), 31.0)
    assert wide.outside(np.array([0.0, 1e-9, -1e-9])).tolist() == [1.0, 0.0, 0.0]


def test_spread_is_vectorised() -> None:
    known = Predictive(center=0.5, spread=2.0, freedom=11.0)
    errors, values = np.array([0.0, 1.0, 5.0]), np.array([-3.0, 4.0, 20.0])
    together = known.widened(errors, 31.0)
    for index, (error, value) in enumerate(zip(errors, values, strict=True)):
        alone = known.widened(np.array(error), 31.0)
        assert together.outside(values)[index] == float(alone.outside(np.array(value)))
        assert together.above(values)[index] == float(alone.above(np.array(value)))


@given(rates, st.floats(1, 100))
def test_quantile_of_student_is_that_of_scipy(rate: float, freedom: float) -> None:
    assert student_quantile(1 - rate, freedom) == pytest.approx(stats.t.ppf(1 - rate, freedom), rel=1e-6, abs=1e-9)


TAILS = [
    Tail.of(np.abs(np.random.default_rng(1).standard_normal(20_000)), share=0.02),
    Tail.of(np.abs(np.random.default_rng(2).standard_t(4, 20_000)), share=0.02),
    Tail.of(np.random.default_rng(3).random(20_000), share=0.02),
    Tail.of(np.abs(np.random.default_rng(4).standard_cauchy(20_000)), share=0.02),
]
tails = st.sampled_from(TAILS)
counts = st.integers(1, 10**6)


@given(tails, st.floats(1e-8, 1e-2), st.integers(100, 10**6))
def test_bound_of_a_tail_is_the_inverse_of_its_probability(tail: Tail, rate: float, count: int) -> None:
    bound = tail.bound(rate, count=count)
    if bound > tail.threshold:
        assert float(tail.above(np.array(bound), count=count)) == pytest.approx(rate, rel=1e-6)


@given(tails, counts, st.floats(0, 1e3), st.floats(0, 1e3))
def test_larger_value_is_rarer_and_more_tokens_make_it_likelier(
    tail: Tail, count: int, one: float, other: float
) -> None:
    small, large = sorted((one, other))
    p_values = tail.above(np.array([small, large]), count=count)
    assert 0 <= p_values[1] <= p_values[0] <= 1
    assert (tail.above(np.array([small, large]), count=count + 1) >= p_values).all()


@given(tails, counts, rates, rates)
def test_lower_rate_gives_a_larger_bound(tail: Tail, count: int, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert tail.bound(low, count=count) >= tail.bound(high, count=count) >= tail.threshold
    assert tail.bound(low, count=count + 1) >= tail.bound(low, count=count)


@pytest.mark.parametrize("tail", TAILS)
def test_tail_is_never_lighter_than_exponential_and_has_a_variance(tail: Tail) -> None:
    assert 0 <= tail.shape <= 0.5
    assert tail.scale > 0
    # Twice as far is at least as likely as for an exponential tail of the same scale.
    beyond = tail.above(np.array([tail.threshold + 5 * tail.scale]), count=1)[0]
    assert beyond >= tail.share * math.exp(-5) * (1 - 1e-9)


def test_tail_of_uniform_values_would_end_and_is_not_believed() -> None:
    assert TAILS[2].bound(1e-6, count=1000) > 1.0


def test_tail_of_values_that_are_all_alike_is_still_one() -> None:
    for values in (np.zeros(100), np.ones(100)):
        tail = Tail.of(values, share=0.02)
        assert tail.shape == 0
        assert tail.scale > 0
        assert float(tail.above(np.array(2.0), count=100)) < 1


def test_largest_of_new_values_exceeds_the_bound_no_more_often_than_stated() -> None:
    generator = np.random.default_rng(7)
    tail = Tail.of(np.abs(generator.standard_t(4, 24_000)), share=0.02)
    largest = np.abs(generator.standard_t(4, (2000, 2000))).max(axis=1)
    found = np.count_nonzero(largest > tail.bound(0.01, count=2000))
    assert found <= stats.binom.ppf(1 - 1e-4, 2000, 0.01)


def reference_holm(p_values: list[float], rate: float, family: int) -> list[bool]:
    """Of all others in the family nothing is known, so that they count as 1; then every closed test must reject."""
    padded = [*p_values, *[1.0] * (family - len(p_values))]

    def rejects(chosen: tuple[int, ...]) -> bool:
        return min(padded[index] for index in chosen) <= rate / len(chosen)

    subsets = [chosen for size in range(1, family + 1) for chosen in itertools.combinations(range(family), size)]
    return [all(rejects(chosen) for chosen in subsets if index in chosen) for index in range(len(p_values))]


p_lists = st.lists(st.floats(0, 0.2) | st.floats(0, 1), min_size=0, max_size=5)


@given(p_lists, st.integers(0, 3), st.floats(1e-3, 0.2))
def test_holm_is_the_closed_test_of_bonferroni(p_values: list[float], others: int, rate: float) -> None:
    family = len(p_values) + others
    if family:
        assert holm(p_values, rate, family=family) == reference_holm(p_values, rate, family)


@given(p_lists, st.integers(1, 9), st.floats(1e-6, 0.2))
def test_holm_never_rejects_more_than_a_single_test(p_values: list[float], others: int, rate: float) -> None:
    family = len(p_values) + others
    found = holm(p_values, rate, family=family)
    assert all(p_value <= rate for p_value, rejected in zip(p_values, found, strict=True) if rejected)
    assert all(rejected for p_value, rejected in zip(p_values, found, strict=True) if p_value <= rate / family)
    more = holm(p_values, rate, family=family + 1)
    assert all(before or not after for before, after in zip(found, more, strict=True))
