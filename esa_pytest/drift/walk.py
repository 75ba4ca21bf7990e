"""A slow walk of the loss: small steps of one direction, each accepted; found by a two-sided CUSUM (Page 1954).

Each accepted step is taken in units of what would have passed. Of their sums in either direction, `SLACK` a step is
forgiven; a sum that reaches `DECISION` is a walk. For steps that are chance alone, standard normal in these units, the
number of steps to a false alarm follows by Siegmund's approximation (Siegmund 1985, Sequential Analysis): about 470 for
both directions together. Real chance is smaller than what passes, so false alarms are rarer.

A step counts for `MOST_STEP` at the most. One large step was a failure that a person has looked at, and is no walk.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

SLACK = 0.5
DECISION = 5.0
MOST_STEP = 2.0
# Siegmund's correction for what a sum overshoots the decision by, twice 0.583.
_OVERSHOOT = 1.166


@dataclass(frozen=True, kw_only=True)
class Walk:
    """Steps of one direction that together are too many.

    Attributes:
        first: index of the step with which it began.
        last: index of the step at which it was seen.
        direction: 1 for up, -1 for down.
    """

    first: int
    last: int
    direction: int


@dataclass(kw_only=True)
class _Sum:
    """The sum of one direction."""

    direction: int
    value: float = 0.0
    first: int = 0

    def add(self, step: float, index: int) -> None:
        """Add a step; a sum that falls to zero begins anew behind it."""
        if self.value == 0.0:
            self.first = index
        self.value = max(0.0, self.value + self.direction * step - SLACK)


def walks(steps: Sequence[float | None]) -> tuple[Walk, ...]:
    """Every walk among steps, in order; the sums begin anew behind each.

    Args:
        steps: signed, in units of what would have passed; None for one that nothing can be compared across.
    """
    found: list[Walk] = []
    sums = _new_sums()
    for index, step in enumerate(steps):
        if step is None:
            sums = _new_sums()
            continue
        for one in sums:
            one.add(max(-MOST_STEP, min(MOST_STEP, step)), index)
        reached = next((one for one in sums if one.value >= DECISION), None)
        if reached is not None:
            found.append(Walk(first=reached.first, last=index, direction=reached.direction))
            sums = _new_sums()
    return tuple(found)


def run_length(shift: float, *, decision: float = DECISION, slack: float = SLACK) -> float:
    """How many standard normal steps around a shift pass until either sum reaches the decision, on average."""
    return 1.0 / (1.0 / _one_sided(shift - slack, decision) + 1.0 / _one_sided(-shift - slack, decision))


def _one_sided(drift: float, decision: float) -> float:
    """Siegmund's `(exp(-2 d b) + 2 d b - 1) / (2 d**2)` with `b` the decision and its overshoot."""
    b = decision + _OVERSHOOT
    if abs(drift) < 1e-9:
        return b**2
    return (math.exp(-2 * drift * b) + 2 * drift * b - 1) / (2 * drift**2)


def _new_sums() -> tuple[_Sum, _Sum]:
    return _Sum(direction=1), _Sum(direction=-1)
