"""Tier 5: the numbers people quote, each with what it is allowed to drift and where that comes from.

What is allowed follows from the noise that the golden measured: the loss may move as the mean shift of tier 4 may, the
perplexity as its exponential does, token accuracy and calibration as far as they did under harmless changes. A golden
that was recorded without its noise has provisional bounds: a relative shift of the loss of 1e-3, and for the others the
share of tokens whose argmax may flip when every logit is rounded anew, which is counted as 1 % of the tokens.
"""

import math

from esa_pytest.drift.context import context_rows
from esa_pytest.drift.instruments import allowed_mean
from esa_pytest.drift.noise_model import NoiseModel
from esa_pytest.drift.numeric import family_of
from esa_pytest.drift.predictive import Predictive
from esa_pytest.drift.rules import DEFAULT_RULES, TOLERANCES, Rules
from esa_pytest.records import CALIBRATION_NAMES, MEASURED, Calibration, MetricRow, Metrics, Record

RELATIVE_LOSS_TOLERANCE = 1e-3
ACCURACY_TOLERANCE = 0.01
CALIBRATION_TOLERANCE = 0.01
PROVISIONAL = "provisional"
# In the order in which they are shown.
_QUOTED = ("mean_nll", "perplexity", "token_accuracy")
_CALIBRATION = ("ece", "brier", "mean_entropy", "top_k_mass")


def metric_rows(
    golden: Record, measured: Record, model: NoiseModel | None, rules: Rules = DEFAULT_RULES
) -> tuple[MetricRow, ...]:
    """Loss, perplexity, token accuracy, calibration and long context side by side; both directions are judged alike.

    What a side lacks is NaN there, which never passes.

    Args:
        golden: the accepted record.
        measured: this run's.
        model: the golden's noise; None where it measured none to judge by.
        rules: how strictly.
    """
    assert golden.metrics is not None and measured.metrics is not None  # noqa: PT018, S101  (tier 1 has seen to it)
    source = PROVISIONAL if model is None else MEASURED
    loss = rules.widened("mean_nll", _loss(golden, model, rules), source)
    allowed = {"mean_nll": loss, "perplexity": _perplexity(golden, *loss, source)}
    allowed |= {name: (bound, PROVISIONAL) for name, bound in _provisional(golden).items()}
    if model is not None:
        allowed |= {name: (bound, MEASURED) for name, bound in _measured(golden, model, rules).items()}
    calibrated = golden.calibration is not None or measured.calibration is not None
    rows = [
        _row(name, golden, measured, *rules.widened(name, *allowed.get(name, (0.0, PROVISIONAL))))
        for name in (*_QUOTED, *(_CALIBRATION if calibrated else ()))
    ]
    rate = rules.false_alarm_rate / family_of(golden)
    return (*rows, *context_rows(golden, measured, model, rules, rate=rate))


def _loss(golden: Record, model: NoiseModel | None, rules: Rules) -> float:
    assert golden.metrics is not None  # noqa: S101  (tier 1 has seen to it)
    if model is None:
        return RELATIVE_LOSS_TOLERANCE * golden.metrics.mean_nll
    return allowed_mean(model.usual_mean, rules.false_alarm_rate / family_of(golden))


def _perplexity(golden: Record, loss: float, loss_source: str, source: str) -> tuple[float, str]:
    """What follows from what the loss is allowed, by noise or by a user."""
    assert golden.metrics is not None  # noqa: S101  (tier 1 has seen to it)
    # Beyond this a float overflows, and nothing is left to judge.
    allowed = golden.metrics.perplexity * math.expm1(min(loss, 100.0))
    return allowed, source if loss_source == source else f"{TOLERANCES} of the loss"


def _measured(golden: Record, model: NoiseModel, rules: Rules) -> dict[str, float]:
    assert golden.metrics is not None  # noqa: S101  (tier 1 has seen to it)
    rate = rules.false_alarm_rate / family_of(golden)
    # One token more or less is never a drift of the accuracy.
    least = 1.0 / golden.metrics.num_scored_tokens
    found = {"token_accuracy": max(least, _either_way(model.accuracy, rate))}
    for name in _CALIBRATION:
        spread = model.calibration(name)
        if golden.calibration is not None and spread is not None:
            found[name] = _either_way(spread, rate)
    return found


def _either_way(spread: Predictive, rate: float) -> float:
    return spread.quantile(1 - rate / 2)


def _provisional(golden: Record) -> dict[str, float]:
    found = {"token_accuracy": ACCURACY_TOLERANCE}
    if golden.calibration is None:
        return found
    return found | {
        "ece": CALIBRATION_TOLERANCE,
        "brier": CALIBRATION_TOLERANCE,
        # An entropy is in nats, as the loss is.
        "mean_entropy": RELATIVE_LOSS_TOLERANCE * 10 * golden.calibration.mean_entropy,
        "top_k_mass": CALIBRATION_TOLERANCE,
    }


def _row(name: str, golden: Record, measured: Record, allowed: float, source: str) -> MetricRow:
    old, new = _holder(name, golden), _holder(name, measured)
    return MetricRow(
        name=name,
        golden=getattr(old, name, math.nan),
        measured=getattr(new, name, math.nan),
        drift=_drift(name, old, new),
        allowed=allowed,
        source=source,
    )


def _holder(name: str, record: Record) -> Metrics | Calibration | None:
    return record.calibration if name in CALIBRATION_NAMES else record.metrics


def _drift(name: str, golden: Metrics | Calibration | None, measured: Metrics | Calibration | None) -> float:
    if (
        name == "token_accuracy"
        and isinstance(golden, Metrics)
        and isinstance(measured, Metrics)
        and golden.num_scored_tokens == measured.num_scored_tokens
    ):
        # From the counts: 0.51 - 0.50 is more than 0.01 in floating point, one token in a hundred is not.
        return (measured.num_correct_tokens - golden.num_correct_tokens) / golden.num_scored_tokens
    return float(getattr(measured, name, math.nan) - getattr(golden, name, math.nan))
