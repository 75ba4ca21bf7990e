"""Tier 6 where the golden's rounds repeat a part of the work, or where one device of several is watched."""

import math
from dataclasses import replace

import numpy as np
import pytest

from esa_pytest.drift.acceptance import with_noise_of
from esa_pytest.drift.judge import judge
from esa_pytest.drift.numeric import family_of
from esa_pytest.drift.resource_rounds import golden_efficiency, golden_peak
from esa_pytest.drift.resources import BETWEEN_PROCESSES, resource_drifts
from esa_pytest.drift.rules import DEFAULT_RULES, Rules
from esa_pytest.records import MEMORY, THROUGHPUT, Record, ResourceDrift
from esa_pytest.report.resources import resource_remedy
from tests.unit.resource_builders import EFFICIENCIES, MIB, judged_golden, noise_of, run_using

SPREAD = 0.03
NUM_DRAWS = 2000
RATE = 0.1


def drift_of(name: str, golden: Record, measured: Record, rules: Rules = DEFAULT_RULES) -> ResourceDrift:
    return next(drift for drift in resource_drifts(golden, measured, rules) if drift.name == name)


def test_repeats_of_a_part_tell_how_far_apart_and_not_where() -> None:
    part = judged_golden(replace(noise_of((0.55, *EFFICIENCIES[1:]), (120.0, *[100.0] * 6)), part=True))
    assert golden_efficiency(part) == pytest.approx(0.55)
    assert golden_peak(part) == 120 * MIB
    whole = judged_golden(noise_of())
    assert golden_efficiency(whole) == pytest.approx(0.5, rel=0.01)
    # One run says less of where the next will lie than the mean of seven.
    wider, narrower = (drift_of(THROUGHPUT, golden, run_using()) for golden in (part, whole))
    assert wider.lowest is not None
    assert narrower.lowest is not None
    assert wider.lowest / 0.55 < narrower.lowest / 0.5


def test_runs_fail_no_more_often_where_a_part_was_repeated() -> None:
    generator = np.random.default_rng(3)
    rules = Rules(false_alarm_rate=RATE)
    beyond = []
    for _ in range(NUM_DRAWS):
        logs = SPREAD * generator.standard_normal(7)
        # As they are kept: the repeats' mean is moved to the recorded round.
        logs[1:] += logs[0] - logs[1:].mean()
        golden = judged_golden(replace(noise_of((0.5 * np.exp(logs)).tolist()), part=True))
        here = math.hypot(BETWEEN_PROCESSES, SPREAD) * generator.standard_normal()
        beyond.append(drift_of(THROUGHPUT, golden, run_using(efficiency=0.5 * math.exp(here)), rules).beyond)
    share = RATE / family_of(judged_golden())
    assert share / 50 <= np.mean(beyond) <= 1.5 * share


@pytest.mark.parametrize(
    ("environment", "clause"),
    [
        (
            {"placement": "cuda:0 cuda:1, device_map auto"},
            "the model lies on several devices (cuda:0 cuda:1), of which the first alone is watched",
        ),
        (
            {"placement": "cpu, tensor parallel over 2 ranks"},
            "the model is split over ranks (tensor parallel over 2 ranks), and nothing measures their noise",
        ),
        (
            {"scoring.prefill_tokens": "4096"},
            "scoring.prefill_tokens is 4096 here and None in the golden",
        ),
    ],
)
def test_what_is_not_watched_or_not_comparable_is_not_judged(environment: dict[str, str], clause: str) -> None:
    golden, run = judged_golden(), run_using(efficiency=0.1, peak_rss_over_start_bytes=400 * MIB)
    run = replace(run, environment={**run.environment, **environment})
    for drift in resource_drifts(golden, run, DEFAULT_RULES):
        assert (drift.refusal, drift.beyond) == (clause, False)


def test_what_a_user_allows_of_throughput_is_a_share_of_the_goldens() -> None:
    rules, golden = Rules(tolerances={THROUGHPUT: 0.3}), judged_golden()
    before = golden_efficiency(golden)
    assert before is not None
    drift = drift_of(THROUGHPUT, golden, run_using(), rules)
    assert drift.lowest == pytest.approx(0.7 * before)
    assert drift.highest == pytest.approx(1.3 * before)
    assert not drift_of(THROUGHPUT, golden, run_using(efficiency=0.71 * before), rules).beyond
    assert drift_of(THROUGHPUT, golden, run_using(efficiency=0.69 * before), rules).beyond
    # More than all of it leaves no lower bound.
    assert drift_of(THROUGHPUT, golden, run_using(), Rules(tolerances={THROUGHPUT: 1.5})).lowest == 0.0


def test_what_is_a_drift_by_the_users_rules_is_accepted_with_the_run() -> None:
    golden = judged_golden()
    slow = run_using(efficiency=0.45, peak_rss_over_start_bytes=100 * MIB)
    strict = Rules(false_alarm_rate=0.5)
    assert drift_of(THROUGHPUT, golden, slow, strict).beyond
    assert not drift_of(THROUGHPUT, golden, slow).beyond
    assert with_noise_of(golden, slow).resource_noise == golden.resource_noise
    accepted = with_noise_of(golden, slow, strict)
    assert golden_efficiency(accepted) == pytest.approx(0.45)
    assert not drift_of(THROUGHPUT, accepted, slow, strict).beyond
    assert not drift_of(MEMORY, accepted, slow, strict).beyond


# As the rounds of one process were seen to differ, of a process that holds 816 MiB at its peak.
UNSTEADY = (122.0, *(81.0, 88.0, 100.0, 106.0, 112.0, 99.0) * 2)


def test_unsteady_memory_is_judged_beside_all_that_is_resident() -> None:
    """Of what a run takes over its start the allowance is much; of the peak that people see it is little."""
    noise = noise_of([0.5] * len(UNSTEADY), UNSTEADY)
    small = judged_golden(noise, peak_rss_bytes=200 * MIB)
    assert drift_of(MEMORY, small, run_using()).refusal is not None
    golden = judged_golden(noise, peak_rss_bytes=816 * MIB)
    drift = drift_of(MEMORY, golden, run_using(peak_rss_over_start_bytes=190 * MIB))
    assert drift.refusal is None
    assert not drift.beyond
    assert drift_of(MEMORY, golden, run_using(peak_rss_over_start_bytes=400 * MIB)).beyond
    assert drift.highest is not None
    assert drift.highest < 300 * MIB


def test_processes_on_a_cpu_differ_by_a_share_of_what_is_resident_and_on_a_gpu_of_the_work() -> None:
    steady = noise_of(peaks=[8.0] * 7)
    for resources, highest in (
        ({"peak_rss_bytes": 500 * MIB}, (20, 30)),
        ({"peak_cuda_allocated_bytes": 500 * MIB}, (12, 20)),
    ):
        drift = drift_of(MEMORY, judged_golden(steady, **resources), run_using(peak_rss_over_start_bytes=9 * MIB))
        assert not drift.beyond
        assert drift.highest is not None
        assert highest[0] * MIB < drift.highest < highest[1] * MIB


def test_weights_do_not_widen_what_a_process_may_take() -> None:
    """Thirty times the resident set, most of it weights, and the same allowance."""
    allowed = set()
    for resident in (500, 15_000):
        golden = judged_golden(noise_of(peaks=[8.0] * 7), peak_rss_bytes=resident * MIB)
        allowed.add(drift_of(MEMORY, golden, run_using()).highest)
    assert len(allowed) == 1


def test_the_first_round_of_a_process_is_what_is_compared_with() -> None:
    """Rounds behind it find memory that it has left, and say how far rounds lie apart alone."""
    golden = judged_golden(noise_of(peaks=(400.0, *[300.0] * 6)), peak_rss_bytes=800 * MIB)
    drift = drift_of(MEMORY, golden, run_using(peak_rss_over_start_bytes=400 * MIB))
    assert (drift.golden, drift.noise, drift.beyond) == (400.0 * MIB, 0.0, False)
    assert drift_of(MEMORY, golden, run_using(peak_rss_over_start_bytes=250 * MIB)).beyond


def test_blocks_that_the_c_library_keeps_are_no_drift_and_held_logits_are() -> None:
    """Peaks of one model over processes that did the same, as seen; and with a batch's float32 logits beside."""
    rounds = noise_of([0.5] * 13, [84.0, *(71.0, 75.0, 80.0, 84.0) * 3])
    golden = judged_golden(rounds, peak_rss_bytes=815 * MIB)
    for peak in (80, 83, 89, 94, 102, 107, 127, 132, 175):
        drift = drift_of(MEMORY, golden, run_using(peak_rss_over_start_bytes=peak * MIB))
        assert (drift.refusal, drift.beyond) == (None, False)
    assert drift_of(MEMORY, golden, run_using(peak_rss_over_start_bytes=285 * MIB)).beyond


def test_what_is_kept_does_not_grow_with_the_work() -> None:
    large = judged_golden(noise_of(peaks=[4000.0] * 7), peak_rss_bytes=16_000 * MIB)
    assert not drift_of(MEMORY, large, run_using(peak_rss_over_start_bytes=4300 * MIB)).beyond
    assert drift_of(MEMORY, large, run_using(peak_rss_over_start_bytes=4600 * MIB)).beyond


@pytest.mark.parametrize(("before", "now"), [(0.0, 200.0), (300.0, 0.0)])
def test_what_was_accepted_passes_from_nothing_or_to_nothing(before: float, now: float) -> None:
    golden = judged_golden(noise_of(peaks=[before] * 7), peak_rss_bytes=800 * MIB)
    run = run_using(peak_rss_over_start_bytes=round(now * MIB))
    assert drift_of(MEMORY, golden, run).beyond
    accepted = with_noise_of(golden, run)
    again = drift_of(MEMORY, accepted, run)
    assert (again.golden, again.beyond) == (now * MIB, False)


def test_the_remedy_allows_what_drifted_and_promises_nothing_of_nothing() -> None:
    for before, now, share in ((100.0, 300.0, 2.0), (300.0, 100.0, 0.7), (0.0, 200.0, None)):
        golden = judged_golden(noise_of(peaks=[before] * 7), peak_rss_bytes=800 * MIB)
        run = run_using(peak_rss_over_start_bytes=round(now * MIB))
        told = resource_remedy(judge(golden, run)) or ""
        if share is None:
            assert told == "To be told only: --esa-resources warn."
            continue
        assert told.startswith(f"To allow more: memory = {share:g} (shares) in ")
        assert not drift_of(MEMORY, golden, run, Rules(tolerances={MEMORY: share})).beyond


def test_a_run_that_took_nothing_over_its_start_is_judged_by_what_may_differ() -> None:
    golden = judged_golden(noise_of(peaks=[0.0] * 7), peak_rss_bytes=500 * MIB)
    drift = drift_of(MEMORY, golden, run_using(peak_rss_over_start_bytes=200 * MIB))
    assert (drift.golden, drift.lowest, drift.noise, drift.beyond) == (0.0, 0.0, None, True)
    assert not drift_of(MEMORY, golden, run_using(peak_rss_over_start_bytes=9 * MIB)).beyond
