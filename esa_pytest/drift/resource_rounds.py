"""What the rounds around a recording say of a golden's throughput and memory: what is accepted, and of one run more."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from esa_pytest.records import FloatArray, Record, peak_over_start


def golden_efficiency(golden: Record) -> float | None:
    """What is accepted: the geometric mean of the undisturbed rounds, or the recorded value where there are none."""
    values = undisturbed(golden)
    if not values:
        return number(golden.resources, "efficiency")
    return values[0] if of_a_part(golden) else math.exp(float(np.log(values).mean()))


def golden_peak(golden: Record) -> float | None:
    """Likewise of memory, in bytes over what was held: of the recorded round, the first of its process."""
    peaks = peaks_of(golden)
    return float(peaks[0]) if peaks else over_start(golden.resources)


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


def rounds_of(values: FloatArray, *, about_first: bool) -> Rounds:
    """What rounds say of one more.

    Args:
        values: of the rounds, the recorded one first.
        about_first: whether the others tell only how far rounds lie apart, and not where: those of a part of the work
            were made to lie about the recorded round, and of memory a later round takes less.
    """
    repeats = values[1:] if about_first else values
    variance = float(repeats.var(ddof=1))
    known_by = 1 if about_first else values.size
    return Rounds(
        center=float(values[0] if about_first else values.mean()),
        deviation=math.sqrt(variance),
        once_more=(variance * (1 + 1 / known_by), repeats.size - 1),
    )


def of_a_part(golden: Record) -> bool:
    """Whether the rounds behind the recorded one did a part of its work."""
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
