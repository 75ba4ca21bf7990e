"""The power curve: how many faults of each size were found, with an interval, and whether the promise was kept."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from esa_pytest.records import Tier
from esa_pytest.selftest.ladder import ROUNDING, Instrument
from esa_pytest.selftest.trial import Harmless, Trial

PROMISED_SHARE = 0.99
# The 97.5 % point of the standard normal distribution.
_Z = 1.959963984540054


@dataclass(frozen=True, kw_only=True)
class Share:
    """So many of so many, with the 95 % interval of Wilson's score."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        """The share; NaN of none."""
        return self.hits / self.of if self.of else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end, Wilson (1927): the shares that a score test at 5 % does not reject; 0 to 1 of none."""
        if not self.of:
            return 0.0, 1.0
        weight = _Z**2 / self.of
        center = (self.value + weight / 2) / (1 + weight)
        half = _Z * math.sqrt(self.value * (1 - self.value) / self.of + weight / (4 * self.of)) / (1 + weight)
        low = 0.0 if self.hits == 0 else max(0.0, center - half)
        return low, 1.0 if self.hits == self.of else min(1.0, center + half)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One rung of the curve.

    Attributes:
        instrument: whose ladder.
        multiple: of the promised size.
        size: median of what its faults were measured to do, nats.
        found: by a tier that keeps the instrument's promise.
        by_tier: by each tier that was asked.
        alone: by the instrument's own statistic; None where it has none of its own.
    """

    instrument: Instrument
    multiple: float
    size: float
    found: Share
    by_tier: dict[Tier, Share]
    alone: Share | None

    @property
    def promised(self) -> bool:
        """Whether the gate said that it finds such faults."""
        return self.multiple >= 1

    @property
    def kept(self) -> bool:
        """Whether 99 % were found; of fewer than 100 that is all of them."""
        return not self.promised or self.found.hits >= PROMISED_SHARE * self.found.of


def curve(trials: Sequence[Trial]) -> list[Point]:
    """A point for each rung, by instrument and size."""
    order = list(Instrument)
    rungs = sorted({(order.index(trial.instrument), trial.multiple) for trial in trials})
    return [
        _point([t for t in trials if order.index(t.instrument) == number and t.multiple == multiple])
        for number, multiple in rungs
    ]


def false_alarms(changes: Sequence[Harmless]) -> Share:
    """How many harmless changes the check failed."""
    return Share(hits=sum(change.alarm for change in changes), of=len(changes))


def broken(points: Sequence[Point], alarms: Share) -> list[str]:
    """What the gate promised and did not keep, a clause each; none where it kept all."""
    clauses = [
        f"{point.found.of - point.found.hits} of {point.found.of} faults of {point.multiple:g} times the promised "
        f"{point.instrument} size were missed"
        for point in points
        if not point.kept
    ]
    if alarms.hits:
        clauses.append(f"{alarms.hits} of {alarms.of} harmless changes were judged a failure")
    return clauses


def _point(trials: Sequence[Trial]) -> Point:
    first = trials[0]
    tiers = tiers_asked(first.instrument)
    own = first.instrument in ROUNDING
    return Point(
        instrument=first.instrument,
        multiple=first.multiple,
        size=median(trial.size for trial in trials),
        found=Share(hits=sum(trial.found for trial in trials), of=len(trials)),
        by_tier={tier: Share(hits=sum(tier in t.beyond for t in trials), of=len(trials)) for tier in tiers},
        alone=Share(hits=sum(t.instrument in t.statistics for t in trials), of=len(trials)) if own else None,
    )


def tiers_asked(instrument: Instrument) -> tuple[Tier, ...]:
    """The tiers that judge the faults of an instrument's ladder."""
    if instrument is Instrument.REFERENCE:
        return (Tier.REFERENCE,)
    return (Tier.EXACT, Tier.REFERENCE, Tier.PAIRED, Tier.AGGREGATE)
