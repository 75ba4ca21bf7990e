"""What the rounds around a recording say of a golden's throughput and memory: what is accepted, and of one run more."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from esa_pytest.records import FloatArray, Record, peak_over_start


def golden_efficiency(golden: Record) -> float | None:
    """What is accepted: the geometric mean of the undisturbed rounds, or the recorded value where there are none."""
    values = undisturbed(golden)
    return math.exp(_center(np.log(values), golden)) if values else number(golden.resources, "efficiency")


def golden_peak(golden: Record) -> float | None:
    """Likewise of memory: the mean of the rounds in bytes over what was held, or the recorded value."""
    peaks = peaks_of(golden)
    return _center(np.array(peaks, dtype=np.float64), golden) if peaks else over_start(golden.resources)


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """What a golden's rounds say of one more: where it is expected, and how far from there.

    Attributes:
        center: the expected value.
        deviation: standard deviation of a round.
        once_more: variance of one more run about the centre, the centre's own error in it, and its degrees of freedom.
    """

    center: float
    deviation: float
    once_more: tuple[float, float]


def rounds_of(values: FloatArray, golden: Record) -> Rounds:
    """Rounds of the same work have a mean; those of a part of it were made to lie about the recorded one."""
    repeats = values[1:] if _of_a_part(golden) else values
    variance = float(repeats.var(ddof=1))
    known_by = 1 if _of_a_part(golden) else values.size
    return Rounds(
        center=_center(values, golden),
        deviation=math.sqrt(variance),
        once_more=(variance * (1 + 1 / known_by), repeats.size - 1),
    )


def _center(values: FloatArray, golden: Record) -> float:
    return float(values[0] if _of_a_part(golden) else values.mean())


def _of_a_part(golden: Record) -> bool:
    return golden.resource_noise is not None and golden.resource_noise.part


def undisturbed(golden: Record) -> list[float]:
    """The efficiencies of the rounds that can be believed, the recorded one first."""
    rounds = () if golden.resource_noise is None else golden.resource_noise.rounds
    return [done.efficiency for done in rounds if done.disturbance is None and done.efficiency and done.efficiency > 0]


def peaks_of(golden: Record) -> list[int]:
    """The peaks of the rounds in bytes over what was held, the recorded one first."""
    rounds = () if golden.resource_noise is None else golden.resource_noise.rounds
    return [done.peak_bytes for done in rounds if done.peak_bytes is not None]


def over_start(resources: Mapping[str, float | int | str | None]) -> float | None:
    """A run's own peak in bytes over what was held when it began, as the number that is judged."""
    peak = peak_over_start(resources)
    return None if peak is None else float(peak)


def number(resources: Mapping[str, float | int | str | None], name: str) -> float | None:
    """A resource that is a number; None where it is another thing or is not there."""
    value = resources.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
