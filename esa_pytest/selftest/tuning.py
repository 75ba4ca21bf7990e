"""Give a fault its size: the strength at which its measured effect lies within bounds."""

import math
from collections.abc import Callable

_MOST_TRIES = 10
_MOST_STEP = 16.0
# Strengths so close together give the same bf16 weights, or none between.
_CLOSE = 1.001


def tuned(effect: Callable[[float], float], bounds: tuple[float, float], *, start: float) -> tuple[float, float] | None:
    """A strength, and the effect that it was measured to have, within the bounds.

    Regula falsi on the logarithms, in which a power law is a line; steps are at most `_MOST_STEP`-fold.

    Args:
        effect: measured at a strength above zero; weights in bf16 make it a staircase.
        bounds: the least and the largest effect that will do, above zero.
        start: the first strength to try.

    Returns:
        None where no strength was found: the fault does nothing, or its steps are too coarse.
    """
    least, most = bounds
    aim = math.sqrt(least * most)
    below: tuple[float, float] | None = None
    above: tuple[float, float] | None = None
    strength = start
    for _ in range(_MOST_TRIES):
        size = effect(strength)
        if least <= size <= most:
            return strength, size
        # NaN is too much.
        if size < least:
            below = (strength, size)
        else:
            above = (strength, size)
        if below is None or above is None:
            strength *= _step(size, aim)
        elif max(above[0] / below[0], below[0] / above[0]) < _CLOSE:
            return None
        else:
            strength = _between(below, above, math.log(aim))
    return None


def _step(size: float, aim: float) -> float:
    """The factor by which a linear fault would reach the aim."""
    ratio = aim / size if size > 0 else math.inf if size == 0 else 0.0
    return min(max(ratio, 1 / _MOST_STEP), _MOST_STEP)


def _between(below: tuple[float, float], above: tuple[float, float], aim: float) -> float:
    """Where the line through both points meets the aim; their middle where it says nothing."""
    low, high = math.log(below[0]), math.log(above[0])
    share = 0.5
    if below[1] > 0 and math.isfinite(above[1]):
        bottom, top = math.log(below[1]), math.log(above[1])
        # Away from both ends, so that neither is kept for ever.
        share = min(max((aim - bottom) / (top - bottom), 0.1), 0.9)
    return math.exp(low + share * (high - low))
