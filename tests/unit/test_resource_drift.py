"""Tier 6: what is judged of throughput and memory, what is not and why, and how often it is wrong."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.drift.acceptance import adds_noise, with_noise_of
from esa_pytest.drift.judge import judge
from esa_pytest.drift.numeric import family_of
from esa_pytest.drift.resources import BETWEEN_PROCESSES, resource_drifts, unjudged
from esa_pytest.drift.rules import DEFAULT_RULES, ResourceMode, Rules, without_resources
from esa_pytest.drift.seen import tiers_beyond
from esa_pytest.records import MEMORY, THROUGHPUT, Outcome, Record, ResourceDrift, Tier
from tests.unit.builders import scored, small_record, token_scores
from tests.unit.resource_builders import EFFICIENCIES, MIB, PEAKS, judged_golden, noise_of, run_using

GOLDEN = judged_golden()
ANEW = "record it anew with --snapshot-update --esa-calibrate"
NUM_DRAWS = 2000
# As many as are recorded (the golden package loads torch, which a unit test does not).
NUM_ROUNDS = 13
RATE = 0.1


def drift_of(name: str, measured: Record, golden: Record = GOLDEN, rules: Rules = DEFAULT_RULES) -> ResourceDrift:
    return next(drift for drift in resource_drifts(golden, measured, rules) if drift.name == name)


def test_run_like_the_golden_is_identical_and_tells_what_it_would_have_caught() -> None:
    verdict = judge(GOLDEN, run_using())
    assert (verdict.outcome, verdict.tier) == (Outcome.IDENTICAL, Tier.EXACT)
    assert verdict.would_have_caught == ("any changed bit", "throughput 20%", "memory 24 MiB")
    assert verdict.nothing_to_accept
    assert [drift.refusal for drift in verdict.resources] == [None, None]


@pytest.mark.parametrize(
    ("used", "outcome", "clause"),
    [
        (
            {"efficiency": 0.4},
            Outcome.THROUGHPUT_DRIFT,
            "the efficiency is 0.4, the golden's 0.5, allowed are 0.444 to 0.563 (measured): slower",
        ),
        (
            {"efficiency": 0.65},
            Outcome.THROUGHPUT_DRIFT,
            (
                "the efficiency is 0.65, the golden's 0.5, allowed are 0.444 to 0.563 (measured): faster, and a gain "
                "is to be accepted too"
            ),
        ),
        (
            {"peak_rss_over_start_bytes": 120 * MIB},
            Outcome.MEMORY_DRIFT,
            (
                "the peak memory over the beginning is 120.0 MiB, the golden's 100.0, allowed are 83.4 to 116.6 "
                "(measured): more"
            ),
        ),
        (
            {"peak_rss_over_start_bytes": 80 * MIB},
            Outcome.MEMORY_DRIFT,
            (
                "the peak memory over the beginning is 80.0 MiB, the golden's 100.0, allowed are 83.4 to 116.6 "
                "(measured): less, and a gain is to be accepted too"
            ),
        ),
    ],
)
def test_drift_in_either_direction_fails_where_the_bits_are_equal(
    used: dict[str, Any], outcome: Outcome, clause: str
) -> None:
    verdict = judge(GOLDEN, run_using(**used))
    assert (verdict.outcome, verdict.tier) == (outcome, Tier.RESOURCES)
    assert verdict.reason == f"6 of 6 token NLLs bit-equal; {clause}"
    assert not verdict.outcome.passed
    assert not verdict.nothing_to_accept
    assert verdict.would_have_caught == ()
    assert tiers_beyond(verdict) == (Tier.RESOURCES,)


def test_both_drifts_are_told_and_throughput_names_the_outcome() -> None:
    verdict = judge(GOLDEN, run_using(efficiency=0.3, peak_rss_over_start_bytes=200 * MIB))
    assert verdict.outcome is Outcome.THROUGHPUT_DRIFT
    assert "; the efficiency is 0.3" in verdict.reason
    assert "; the peak memory over the beginning is 200.0 MiB" in verdict.reason


def test_an_earlier_tier_keeps_its_say() -> None:
    slow = run_using(efficiency=0.3)
    drifted = judge(GOLDEN, scored(slow, token_scores([1.0, 2.5, 3.0, 4.0, 0.5, 1.5])))
    assert drifted.outcome is Outcome.UNEXPLAINED_BITS
    assert Tier.RESOURCES in tiers_beyond(drifted)


def test_modes_say_what_becomes_of_a_drift() -> None:
    slow = run_using(efficiency=0.3)
    warned = judge(GOLDEN, slow, Rules(resources=ResourceMode.WARN))
    assert warned.outcome is Outcome.IDENTICAL
    assert [drift.name for drift in warned.resources if drift.beyond] == [THROUGHPUT]
    assert not warned.nothing_to_accept
    silenced = judge(GOLDEN, slow, without_resources(DEFAULT_RULES))
    assert silenced.outcome is Outcome.IDENTICAL
    assert silenced.resources == unjudged("resources are off (by --esa-resources, or in front of a perturbation)")


REFUSALS: list[tuple[str, Callable[[], tuple[Record, Record]], str]] = [
    (
        THROUGHPUT,
        lambda: (replace(GOLDEN, resource_noise=None), run_using()),
        f"the golden was recorded without their noise; {ANEW}",
    ),
    (
        THROUGHPUT,
        lambda: (judged_golden(noise_of(disturbances=["it was busy"] * 3 + [None] * 4)), run_using()),
        f"only 4 of the golden's 7 rounds can be believed, 5 are needed (it was busy); {ANEW}",
    ),
    (
        THROUGHPUT,
        lambda: (judged_golden(noise_of([None] * 7)), run_using()),
        f"only 0 of the golden's 7 rounds can be believed, 5 are needed (it has no such figure); {ANEW}",
    ),
    (
        THROUGHPUT,
        lambda: (GOLDEN, run_using(efficiency=None)),
        "this run has no efficiency: no matrix products of the model could be timed beside it",
    ),
    (
        THROUGHPUT,
        lambda: (GOLDEN, replace(run_using(), environment={**GOLDEN.environment, "cpu.threads": "1"})),
        "cpu.threads is 1 here and 2 in the golden",
    ),
    (
        THROUGHPUT,
        lambda: (GOLDEN, run_using(efficiency=0.1, disturbance="2 workers of pytest-xdist share the cores")),
        "2 workers of pytest-xdist share the cores",
    ),
    (
        THROUGHPUT,
        lambda: (GOLDEN, run_using(efficiency=0.1, efficiency_freedom=7)),
        "too short a run: 7 comparisons of its matrix products, 8 are needed",
    ),
    (
        THROUGHPUT,
        lambda: (GOLDEN, run_using(efficiency=0.1, efficiency_error=0.2, timed_seconds=0.04)),
        (
            "its noise would allow a factor of 2.8, which judges nothing: too short a run (0.04 s timed), or too "
            "unsteady a one"
        ),
    ),
    (
        MEMORY,
        lambda: (judged_golden(noise_of(peaks=[100.0] * 4 + [None] * 3)), run_using()),
        f"only 4 of the golden's rounds have a peak, 5 are needed; {ANEW}",
    ),
    (
        MEMORY,
        lambda: (GOLDEN, run_using(peak_rss_over_start_bytes=None)),
        "this run has no peak of its own: the system cannot reset the peak of a process",
    ),
    (
        MEMORY,
        lambda: (judged_golden(noise_of(peaks=[3.0] * 7), peak_cuda_allocated_bytes=20 * MIB), run_using()),
        "its noise and the size of pages would allow 9 MiB of a peak of 20 MiB, which judges nothing",
    ),
    (
        MEMORY,
        lambda: (GOLDEN, replace(run_using(), environment={**GOLDEN.environment, "batch_shapes": "1x2"})),
        "batch_shapes is 1x2 here and 3x2 in the golden",
    ),
]


@pytest.mark.parametrize(("name", "sides", "refusal"), REFUSALS, ids=[refusal[:40] for *_, refusal in REFUSALS])
def test_whatever_is_not_judged_says_why_and_never_fails(
    name: str, sides: Callable[[], tuple[Record, Record]], refusal: str
) -> None:
    golden, measured = sides()
    drift = drift_of(name, measured, golden)
    assert drift.refusal == refusal
    assert not drift.beyond
    assert not any(text.startswith(name) for text in judge(golden, measured).would_have_caught)


def test_on_cuda_the_gpu_decides_and_not_the_processor_beside_it() -> None:
    golden = replace(GOLDEN, environment={**GOLDEN.environment, "cuda.device": "H200"})
    other_host = replace(run_using(), environment={**golden.environment, "cpu.model": "Xeon", "cpu.threads": "9"})
    assert drift_of(THROUGHPUT, other_host, golden).refusal is None
    other_gpu = replace(run_using(), environment={**golden.environment, "cuda.device": "H100"})
    assert drift_of(THROUGHPUT, other_gpu, golden).refusal == "cuda.device is H100 here and H200 in the golden"


def test_other_versions_are_a_cause_and_no_excuse() -> None:
    upgraded = replace(run_using(efficiency=0.3), environment={**GOLDEN.environment, "version.torch": "9.0"})
    assert judge(GOLDEN, upgraded).outcome is Outcome.THROUGHPUT_DRIFT


def test_tolerances_widen_and_never_narrow() -> None:
    slow, large = run_using(efficiency=0.4), run_using(peak_rss_over_start_bytes=120 * MIB)
    wide = Rules(tolerances={THROUGHPUT: 0.3, MEMORY: 0.3})
    assert drift_of(THROUGHPUT, slow, rules=wide).source == "[tool.esa.tolerances], measured was 0.13"
    assert not drift_of(THROUGHPUT, slow, rules=wide).beyond
    assert not drift_of(MEMORY, large, rules=wide).beyond
    narrow = Rules(tolerances={THROUGHPUT: 0.001, MEMORY: 0.001})
    for name in (THROUGHPUT, MEMORY):
        assert drift_of(name, run_using(), rules=narrow) == drift_of(name, run_using())
    # What a user allows by name is judged, however little the noise itself would judge.
    unsteady = run_using(efficiency=0.2, efficiency_error=0.2)
    assert drift_of(THROUGHPUT, unsteady, rules=Rules(tolerances={THROUGHPUT: 2.0})).beyond is (0.2 < 0.5 / 3)


@given(st.floats(1e-3, 1e3), st.floats(1e-4, 0.02), st.integers(0, 2**32 - 1))
def test_allowance_lies_about_the_golden_and_beyond_is_outside_of_it(ratio: float, size: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = 0.5 * np.exp(size * generator.standard_normal(7))
    golden = judged_golden(noise_of(values.tolist(), [100 * value for value in values]))
    used = {"efficiency": 0.5 * ratio, "peak_rss_over_start_bytes": round(50 * MIB * ratio)}
    for drift in resource_drifts(golden, run_using(**used), DEFAULT_RULES):
        assert drift.refusal is None
        assert drift.golden is not None
        assert drift.measured is not None
        assert drift.lowest is not None
        assert drift.highest is not None
        assert drift.lowest < drift.golden < drift.highest
        assert drift.beyond is not (drift.lowest <= drift.measured <= drift.highest)


def share_beyond(*, spread: float, error: float, shift: float = 0.0) -> float:
    """How often unchanged runs of other processes fail by either resource, or slower ones by throughput."""
    generator = np.random.default_rng(1)
    rules = Rules(false_alarm_rate=RATE)
    beyond = 0
    for _ in range(NUM_DRAWS):
        rounds = 0.5 * np.exp(spread * generator.standard_normal(NUM_ROUNDS))
        peaks = 100.0 * (1 + spread * generator.standard_normal(NUM_ROUNDS))
        golden = judged_golden(noise_of(rounds.tolist(), peaks.tolist()))
        # A process of its own, the noise of a round, and what its products were too few to tell.
        own = error * math.sqrt(generator.chisquare(40) / 40)
        here = BETWEEN_PROCESSES * generator.standard_normal() + spread * generator.standard_normal()
        peak = 100.0 * (1 + spread * generator.standard_normal()) + 2.0 * generator.standard_normal()
        run = run_using(
            efficiency=0.5 * math.exp(here + error * generator.standard_normal() - shift),
            efficiency_error=own,
            peak_rss_over_start_bytes=round(peak * MIB),
        )
        beyond += any(drift.beyond for drift in resource_drifts(golden, run, rules))
    return beyond / NUM_DRAWS


@pytest.mark.parametrize(("spread", "error"), [(0.003, 0.003), (0.03, 0.003), (0.003, 0.04)])
def test_unchanged_runs_fail_no_more_often_than_their_share_of_the_stated_rate(spread: float, error: float) -> None:
    share = 2 * RATE / family_of(GOLDEN)
    found = share_beyond(spread=spread, error=error)
    assert found <= 1.3 * share
    # Nor does it hide behind never failing.
    assert found >= share / 50


def test_a_slowdown_of_the_size_told_is_found() -> None:
    generator = np.random.default_rng(2)
    found = []
    for _ in range(300):
        told = drift_of(THROUGHPUT, run_using()).detectable
        assert told is not None
        chance = math.hypot(BETWEEN_PROCESSES, 0.005, 0.0065) * generator.standard_normal()
        found += [drift_of(THROUGHPUT, run_using(efficiency=0.5 * math.exp(chance) / (1 + told))).beyond]
    assert np.mean(found) >= 0.97


def test_a_golden_without_noise_shares_the_rate_among_fewer() -> None:
    assert family_of(GOLDEN) == family_of(small_record()) + 2


def test_noise_of_the_golden_moves_to_what_is_accepted_of_a_plain_run() -> None:
    slow = run_using(efficiency=0.25, peak_rss_over_start_bytes=50 * MIB)
    accepted = with_noise_of(GOLDEN, slow).resource_noise
    assert accepted is not None
    assert [done.efficiency for done in accepted.rounds] == pytest.approx(
        [value / 2 for value in EFFICIENCIES], rel=0.01
    )
    # Memory by so many bytes, as far apart as they were.
    assert [done.peak_bytes for done in accepted.rounds] == [round((peak - 50) * MIB) for peak in PEAKS]
    again = judge(with_noise_of(GOLDEN, slow), slow)
    assert again.outcome is Outcome.IDENTICAL
    # A run within noise, or one that is not to be believed, moves nothing.
    for run in (run_using(efficiency=0.51), run_using(efficiency=0.1, disturbance="it was busy")):
        assert with_noise_of(GOLDEN, run).resource_noise == GOLDEN.resource_noise


def test_a_record_may_add_the_noise_that_a_golden_lacks() -> None:
    without = replace(GOLDEN, resource_noise=None)
    assert adds_noise(without, GOLDEN)
    assert not adds_noise(GOLDEN, GOLDEN)
    assert not adds_noise(without, run_using())
