"""What is judged of a long context: the loss by position, the gain from context, and retrieval by depth.

Each is allowed what it did under the harmless changes of the golden, in both directions. The loss by position was then
measured on a part of the run's windows, which only widens what is allowed. A golden that was recorded without its noise
has provisional bounds: 1 % of the loss, or of an answer's NLL without its fact.
"""

import math

from esa_pytest.drift.noise_model import NoiseModel
from esa_pytest.drift.rules import Rules
from esa_pytest.records import (
    GAIN_METRIC,
    MEASURED,
    POSITION_METRIC,
    RETRIEVAL_METRIC,
    LongContext,
    MetricRow,
    Record,
)

PROVISIONAL_SHARE = 0.01
# What a user's tolerance of a metric is called.
_SETTINGS = {POSITION_METRIC: "position_nll", GAIN_METRIC: "context_gain", RETRIEVAL_METRIC: "retrieval_gain"}


def num_context_metrics(golden: Record) -> int:
    """How many metrics of a long context share the rate of false alarms."""
    return 0 if golden.context is None else len(golden.context.metrics)


def context_rows(
    golden: Record, measured: Record, model: NoiseModel | None, rules: Rules, *, rate: float
) -> tuple[MetricRow, ...]:
    """Every metric of the long context side by side; one that a side lacks is NaN there, which never passes.

    Args:
        golden: the accepted record.
        measured: this run's.
        model: the golden's noise; None where it measured none to judge by.
        rules: how strictly.
        rate: of false alarms of a single metric.
    """
    old, new = (None if r.context is None else r.context.metrics for r in (golden, measured))
    before, now = old or {}, new or {}
    found = []
    for name in dict.fromkeys((*before, *now)):
        allowed, source = _allowed(name, golden.context, model, rate)
        allowed, source = rules.widened(_setting(name), allowed, source)
        values = before.get(name, math.nan), now.get(name, math.nan)
        found.append(
            MetricRow(
                name=name,
                golden=values[0],
                measured=values[1],
                drift=values[1] - values[0],
                allowed=allowed,
                source=source,
            )
        )
    return tuple(found)


def _allowed(name: str, golden: LongContext | None, model: NoiseModel | None, rate: float) -> tuple[float, str]:
    spread = None if model is None else model.context(name)
    if spread is not None:
        return spread.quantile(1 - rate / 2), MEASURED
    return (0.0 if golden is None else _provisional(name, golden)), "provisional"


def _provisional(name: str, golden: LongContext) -> float:
    if name.startswith(RETRIEVAL_METRIC):
        return PROVISIONAL_SHARE * max(depth.control_nll for depth in golden.retrieval)
    return PROVISIONAL_SHARE * golden.gain.short_nll


def _setting(name: str) -> str:
    return next(setting for kind, setting in _SETTINGS.items() if name.startswith(kind))
