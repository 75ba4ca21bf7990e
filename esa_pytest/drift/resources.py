"""Tier 6: slower or bigger? Throughput and memory beside what they did when the golden's rounds were repeated.

Throughput is judged as efficiency, in logarithms, since only its ratio to the golden's means anything. What is allowed
is a prediction interval for one more run (Hahn and Meeker 1991, chapter 4): over the spread of the golden's rounds, the
run's own standard error, and a floor for what rounds of one process cannot show, with the degrees of freedom of their
sum (Welch 1947). Both directions are judged: a gain that nobody accepts hides the loss that follows it.

A speed that was disturbed, on either side, is no evidence and never fails a check. Nor is it passed over: whatever
keeps a resource from being judged is a clause of its own.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from esa_pytest.drift.numeric import family_of
from esa_pytest.drift.predictive import Spread, student_quantile
from esa_pytest.drift.resource_rounds import (
    golden_efficiency,
    golden_peak,
    number,
    of_a_part,
    over_start,
    peaks_of,
    rounds_of,
    undisturbed,
)
from esa_pytest.drift.rules import ResourceMode, Rules
from esa_pytest.drift.sight import POWER, spoken
from esa_pytest.records import (
    MEASURED,
    MEMORY,
    THROUGHPUT,
    Outcome,
    Record,
    ResourceDrift,
    Tier,
    Verdict,
)

# How far the efficiency of processes on a quiet machine lies apart (logarithms), which rounds of one do not show.
BETWEEN_PROCESSES = 0.02
# Of memory likewise, a share of it, and never less than what the kernel or the allocator takes at a time.
MEMORY_BETWEEN_PROCESSES = 0.02
# On a CPU the C library decides what it gives back. Alone in its process a small model takes up to 5 MiB more over the
# start than behind others; a larger one, whose blocks are of some MiB, leaves up to 62 MiB of them free in between, in
# one process and not in the next (docs/measurements/2026-11-24-efficiency.md): glibc keeps up to 64 MiB.
LEAST_RESIDENT_BETWEEN_PROCESSES = 4 * 2**20
MOST_RESIDENT_BETWEEN_PROCESSES = 28 * 2**20
RESIDENT_SHARE_BETWEEN_PROCESSES = 1 / 3
# An allowance of more than this share of the whole peak, weights included, judges nothing.
MOST_ALLOWED_MEMORY = 0.25
LEAST_ROUNDS = 5
# Fewer comparisons between products of one shape do not tell how far a ceiling can be believed.
LEAST_FREEDOM = 8
# An allowance of more than this factor, in either direction, judges nothing.
MOST_ALLOWED = 1.5
# What decides how efficient a run can be, beside the code that is judged: versions, flags and kernels are causes.
_SHAPES = ("placement", "batch_shapes", "scoring.prefill_tokens", "scoring.products")
_DECISIVE = ("cuda.device", *_SHAPES)
_DECISIVE_ON_CPU = ("cpu.model", "cpu.instruction_set", "cpu.threads", *_SHAPES)
_RECORD_ANEW = "record it anew with --snapshot-update --esa-calibrate"
_OUTCOMES = {THROUGHPUT: Outcome.THROUGHPUT_DRIFT, MEMORY: Outcome.MEMORY_DRIFT}


def with_resources(verdict: Verdict, golden: Record, measured: Record, rules: Rules) -> Verdict:
    """The verdict of the tiers before, with what tier 6 says; it decides where those have passed.

    Args:
        verdict: of tiers 0 to 5.
        golden: the accepted record.
        measured: this run's.
        rules: how strictly.
    """
    if verdict.outcome in (Outcome.INPUTS_CHANGED, Outcome.NON_FINITE):
        return verdict
    found = resource_drifts(golden, measured, rules)
    beyond = [drift for drift in found if drift.beyond]
    if verdict.outcome.passed and beyond and rules.resources is ResourceMode.FAIL:
        reason = f"{verdict.reason}; {'; '.join(describe_resource(drift) for drift in beyond)}"
        outcome = _OUTCOMES[beyond[0].name]
        return replace(
            verdict, outcome=outcome, tier=Tier.RESOURCES, reason=reason, would_have_caught=(), resources=found
        )
    sight = {drift.name: drift.detectable for drift in found if drift.detectable is not None}
    told = spoken(sight) if verdict.outcome.passed else ()
    return replace(
        verdict,
        would_have_caught=(*verdict.would_have_caught, *told),
        detectable={**verdict.detectable, **sight},
        resources=found,
    )


def resource_drifts(golden: Record, measured: Record, rules: Rules) -> tuple[ResourceDrift, ...]:
    """Throughput and memory, each judged, or with the clause that says why it is not."""
    if rules.resources is ResourceMode.OFF:
        return unjudged("resources are off (by --esa-resources, or in front of a perturbation)")
    rate = rules.false_alarm_rate / family_of(golden)
    return _throughput(golden, measured, rules, rate), _memory(golden, measured, rules, rate)


def unjudged(refusal: str) -> tuple[ResourceDrift, ...]:
    """Both resources, not judged for one reason."""
    return tuple(ResourceDrift(name=name, refusal=refusal) for name in (THROUGHPUT, MEMORY))


def describe_resource(drift: ResourceDrift) -> str:
    """A drift that noise does not explain, as a clause: measured, golden, allowed, direction."""
    assert drift.measured is not None and drift.golden is not None  # noqa: PT018, S101  (it was judged)
    assert drift.lowest is not None and drift.highest is not None  # noqa: PT018, S101
    if drift.name == THROUGHPUT:
        direction = "slower" if drift.measured < drift.golden else "faster, and a gain is to be accepted too"
        return (
            f"the efficiency is {drift.measured:.3g}, the golden's {drift.golden:.3g}, allowed are {drift.lowest:.3g} "
            f"to {drift.highest:.3g} ({drift.source}): {direction}"
        )
    direction = "more" if drift.measured > drift.golden else "less, and a gain is to be accepted too"
    sizes = (f"{size / 2**20:.1f}" for size in (drift.measured, drift.golden, drift.lowest, drift.highest))
    peak, before, lowest, highest = sizes
    return (
        f"the peak memory over the beginning is {peak} MiB, the golden's {before}, allowed are {lowest} to {highest} "
        f"({drift.source}): {direction}"
    )


def _throughput(golden: Record, measured: Record, rules: Rules, rate: float) -> ResourceDrift:
    before, now = golden_efficiency(golden), number(measured.resources, "efficiency")
    known = ResourceDrift(name=THROUGHPUT, golden=before, measured=now)
    error, freedom = (number(measured.resources, name) for name in ("efficiency_error", "efficiency_freedom"))
    if (refusal := _why_no_throughput(golden, measured, now, freedom)) is not None:
        return replace(known, refusal=refusal)
    assert now is not None and error is not None and freedom is not None  # noqa: PT018, S101  (asked before)
    rounds = rounds_of(np.log(undisturbed(golden)), about_first=of_a_part(golden))
    spread = _spread(rounds.center, (rounds.once_more, (error**2, freedom), (BETWEEN_PROCESSES**2, math.inf)))
    allowed, source = rules.widened(THROUGHPUT, math.expm1(_reach(spread, rate)), MEASURED)
    if source == MEASURED and allowed > MOST_ALLOWED - 1:
        seconds = number(measured.resources, "timed_seconds") or 0.0
        return replace(
            known,
            refusal=f"its noise would allow a factor of {1 + allowed:.2g}, which judges nothing: too short a run "
            f"({seconds:.2g} s timed), or too unsteady a one",
        )
    center = math.exp(spread.center)
    # Noise is a factor, in both directions the same; what a user allows is a share of the golden's.
    lowest = center / (1 + allowed) if source == MEASURED else center * max(0.0, 1 - allowed)
    highest = center * (1 + allowed)
    return replace(
        known,
        lowest=lowest,
        highest=highest,
        noise=rounds.deviation,
        detectable=(1 + allowed) * math.exp(_quantile(spread, POWER)) - 1,
        beyond=not lowest <= now <= highest,
        source=source,
    )


def _why_no_throughput(golden: Record, measured: Record, now: float | None, freedom: float | None) -> str | None:
    """Why throughput is not judged, a clause; what lasts first."""
    if (refusal := _unwatched(measured)) is not None:
        return refusal
    noise = golden.resource_noise
    if noise is None:
        return f"the golden was recorded without their noise; {_RECORD_ANEW}"
    values = undisturbed(golden)
    if len(values) < LEAST_ROUNDS:
        disturbed = next((done.disturbance for done in noise.rounds if done.disturbance), "it has no such figure")
        return (
            f"only {len(values)} of the golden's {len(noise.rounds)} rounds can be believed, {LEAST_ROUNDS} are needed "
            f"({disturbed}); {_RECORD_ANEW}"
        )
    if now is None:
        return "this run has no efficiency: no matrix products of the model could be timed beside it"
    if (change := _decisive_change(golden.environment, measured.environment)) is not None:
        return change
    if freedom is None or freedom < LEAST_FREEDOM:
        return f"too short a run: {freedom or 0:.0f} comparisons of its matrix products, {LEAST_FREEDOM} are needed"
    disturbance = measured.resources.get("disturbance")
    return None if disturbance is None else str(disturbance)


def _unwatched(measured: Record) -> str | None:
    """Why the resources of a model on several devices are not judged, a clause; None for one on a single device."""
    devices, _, how = measured.environment.get("placement", "").partition(", ")
    if "tensor parallel" in how:
        return f"the model is split over ranks ({how}), and nothing measures their noise"
    if len(devices.split()) > 1:
        return f"the model lies on several devices ({devices}), of which the first alone is watched"
    return None


def _memory(golden: Record, measured: Record, rules: Rules, rate: float) -> ResourceDrift:
    peaks, now = peaks_of(golden), over_start(measured.resources)
    known = ResourceDrift(name=MEMORY, golden=golden_peak(golden), measured=now)
    if (refusal := _why_no_memory(golden, measured, peaks, now)) is not None:
        return replace(known, refusal=refusal)
    assert now is not None  # noqa: S101  (asked before)
    # What is judged is the first round of its process too, and those behind it find memory that it has left.
    rounds = rounds_of(np.array(peaks, dtype=np.float64), about_first=True)
    center = rounds.center
    resident = number(golden.resources, "peak_rss_bytes")
    whole = resident or number(golden.resources, "peak_cuda_allocated_bytes") or center
    granularity = (number(side.resources, "memory_granularity_bytes") or 0.0 for side in (golden, measured))
    floor = max(*granularity, MEMORY_BETWEEN_PROCESSES * center, _resident_floor(center) if resident else 0.0)
    spread = _spread(center, (rounds.once_more, (floor**2, math.inf)))
    reach = _reach(spread, rate)
    share, source = rules.widened(MEMORY, reach / center if center > 0 else math.inf, MEASURED)
    if source == MEASURED and reach > MOST_ALLOWED_MEMORY * whole:
        return replace(
            known,
            refusal=f"its noise and the size of pages would allow {reach / 2**20:.0f} MiB of a peak of "
            f"{whole / 2**20:.0f} MiB, which judges nothing",
        )
    allowed = share * center if center > 0 else reach
    return replace(
        known,
        lowest=max(0.0, center - allowed),
        highest=center + allowed,
        noise=rounds.deviation / center if center > 0 else None,
        detectable=allowed + _quantile(spread, POWER),
        beyond=not abs(now - center) <= allowed,
        source=source,
    )


def _resident_floor(center: float) -> float:
    """How far the resident sets of processes lie apart that do the same."""
    most = min(RESIDENT_SHARE_BETWEEN_PROCESSES * center, MOST_RESIDENT_BETWEEN_PROCESSES)
    return max(most, LEAST_RESIDENT_BETWEEN_PROCESSES)


def _why_no_memory(golden: Record, measured: Record, peaks: Sequence[int], now: float | None) -> str | None:
    if (refusal := _unwatched(measured)) is not None:
        return refusal
    if golden.resource_noise is None:
        return f"the golden was recorded without their noise; {_RECORD_ANEW}"
    if len(peaks) < LEAST_ROUNDS:
        return f"only {len(peaks)} of the golden's rounds have a peak, {LEAST_ROUNDS} are needed; {_RECORD_ANEW}"
    if now is None:
        return "this run has no peak of its own: the system cannot reset the peak of a process"
    return _decisive_change(golden.environment, measured.environment)


def _decisive_change(golden: Mapping[str, str], measured: Mapping[str, str]) -> str | None:
    """The first item that makes two runs incomparable, as a clause."""
    names = _DECISIVE if "cuda.device" in {*golden, *measured} else _DECISIVE_ON_CPU
    differing = next((name for name in names if golden.get(name) != measured.get(name)), None)
    if differing is None:
        return None
    return f"{differing} is {measured.get(differing)} here and {golden.get(differing)} in the golden"


def _spread(center: float, parts: Sequence[tuple[float, float]]) -> Spread:
    """A sum of independent errors, each its variance and degrees of freedom."""
    total = sum(variance for variance, _ in parts)
    share = sum(variance**2 / freedom for variance, freedom in parts)
    # Of no spread but the floor's, which is no estimate.
    freedom = total**2 / share if share > 0 else 1e9
    return Spread(center=center, spread=np.array(math.sqrt(total)), freedom=np.array(min(freedom, 1e9)))


def _reach(spread: Spread, rate: float) -> float:
    """How far from the centre a value may lie, in either direction, at a rate of false alarms."""
    return _quantile(spread, 1 - rate / 2)


def _quantile(spread: Spread, probability: float) -> float:
    return float(spread.spread) * student_quantile(probability, float(spread.freedom))
