"""Tier 5: the numbers people quote, each with what it is allowed to drift and where that comes from.

Until the tolerance is measured it is provisional: a relative shift of the loss of 1e-3. Perplexity is the loss's
exponential, so what it is allowed follows; a token accuracy may move by the share of tokens whose argmax may flip
when every logit is rounded anew, which is counted here as 1 % of the tokens. Calibration moves with the
probabilities, by as much as the accuracy at the most.
"""

import math

from esa_pytest.records import Calibration, MetricRow, Metrics, Record

RELATIVE_LOSS_TOLERANCE = 1e-3
ACCURACY_TOLERANCE = 0.01
CALIBRATION_TOLERANCE = 0.01
SOURCE = "provisional"


def metric_rows(golden: Record, measured: Record) -> tuple[MetricRow, ...]:
    """Loss, perplexity, token accuracy and calibration side by side; both directions are judged alike."""
    assert golden.metrics is not None and measured.metrics is not None  # noqa: PT018, S101  (tier 1 has seen to it)
    rows = _quoted_rows(golden.metrics, measured.metrics)
    if golden.calibration is None or measured.calibration is None:
        return rows
    return rows + _calibration_rows(golden.calibration, measured.calibration)


def _quoted_rows(golden: Metrics, measured: Metrics) -> tuple[MetricRow, ...]:
    loss = RELATIVE_LOSS_TOLERANCE * golden.mean_nll
    allowed = {
        "mean_nll": loss,
        "perplexity": golden.perplexity * math.expm1(loss),
        "token_accuracy": ACCURACY_TOLERANCE,
    }
    return tuple(
        _row(name, golden, measured, drift=_drift(name, golden, measured), allowed=bound)
        for name, bound in allowed.items()
    )


def _calibration_rows(golden: Calibration, measured: Calibration) -> tuple[MetricRow, ...]:
    allowed = {
        "ece": CALIBRATION_TOLERANCE,
        "brier": CALIBRATION_TOLERANCE,
        # An entropy is in nats, as the loss is.
        "mean_entropy": RELATIVE_LOSS_TOLERANCE * 10 * golden.mean_entropy,
        "top_k_mass": CALIBRATION_TOLERANCE,
    }
    return tuple(
        _row(name, golden, measured, drift=getattr(measured, name) - getattr(golden, name), allowed=bound)
        for name, bound in allowed.items()
    )


def _row(
    name: str, golden: Metrics | Calibration, measured: Metrics | Calibration, *, drift: float, allowed: float
) -> MetricRow:
    return MetricRow(
        name=name,
        golden=getattr(golden, name),
        measured=getattr(measured, name),
        drift=drift,
        allowed=allowed,
        source=SOURCE,
    )


def _drift(name: str, golden: Metrics, measured: Metrics) -> float:
    if name == "token_accuracy" and golden.num_scored_tokens == measured.num_scored_tokens:
        # From the counts: 0.51 - 0.50 is more than 0.01 in floating point, one token in a hundred is not.
        return (measured.num_correct_tokens - golden.num_correct_tokens) / golden.num_scored_tokens
    return float(getattr(measured, name) - getattr(golden, name))
