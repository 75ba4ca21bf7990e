"""Shares with their intervals, the points of the curve, and when a promise is broken."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from esa_pytest.records import Tier
from esa_pytest.selftest.ladder import Instrument
from esa_pytest.selftest.power import Share, broken, curve, false_alarms
from tests.unit.selftest_builders import harmless, trial


@given(st.integers(1, 500).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_the_interval_is_that_of_scipy(counts: tuple[int, int]) -> None:
    hits, of = counts
    wanted = binomtest(hits, of).proportion_ci(confidence_level=0.95, method="wilson")
    assert Share(hits=hits, of=of).interval == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_of_nothing_nothing_is_known() -> None:
    assert math.isnan(Share(hits=0, of=0).value)
    assert Share(hits=0, of=0).interval == (0.0, 1.0)


def test_a_point_counts_its_own_tier_and_every_other_one() -> None:
    seen = [(Tier.EXACT, Tier.REFERENCE), (Tier.EXACT, Tier.PAIRED), (Tier.EXACT, Tier.PAIRED, Tier.AGGREGATE)]
    trials = [trial(Instrument.RMS, seed=seed, beyond=beyond) for seed, beyond in enumerate(seen)]
    (point,) = curve([*trials[:2], trials[2].model_copy(update={"statistics": ("kl_top", "rms")})])
    assert point.found == Share(hits=2, of=3)
    assert point.alone == Share(hits=1, of=3)
    assert {int(tier): share.hits for tier, share in point.by_tier.items()} == {2: 3, 3: 1, 4: 2, 5: 1}


def test_points_stand_in_the_order_of_instruments_and_sizes() -> None:
    trials = [trial(Instrument.RMS), trial(multiple=2), trial(multiple=0.5), trial()]
    assert [(point.instrument, point.multiple) for point in curve(trials)] == [
        (Instrument.REFERENCE, 0.5),
        (Instrument.REFERENCE, 1),
        (Instrument.REFERENCE, 2),
        (Instrument.RMS, 1),
    ]


@pytest.mark.parametrize(
    ("misses", "of", "kept"), [(0, 20, True), (1, 20, False), (1, 99, False), (1, 100, True), (2, 100, False)]
)
def test_a_promise_is_99_percent(misses: int, of: int, *, kept: bool) -> None:
    trials = [trial(seed=seed, beyond=() if seed < misses else None) for seed in range(of)]
    (point,) = curve(trials)
    assert point.kept == kept
    assert bool(broken([point], Share(hits=0, of=20))) != kept


def test_what_is_smaller_than_promised_may_be_missed() -> None:
    assert broken(curve([trial(multiple=0.75, beyond=())]), Share(hits=0, of=20)) == []


def test_another_tier_keeps_no_promise() -> None:
    points = curve([trial(Instrument.RMS, beyond=(Tier.EXACT, Tier.REFERENCE, Tier.AGGREGATE))])
    assert broken(points, Share(hits=0, of=1)) == ["1 of 1 faults of 1 times the promised rms size were missed"]


def test_one_false_alarm_breaks_it() -> None:
    alarms = false_alarms([harmless(0), harmless(1, alarm=True)])
    assert broken([], alarms) == ["1 of 2 harmless changes were judged a failure"]
