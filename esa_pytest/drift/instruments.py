"""The instruments of tier 4: each a statistic of the drift, how rare it is under harmless changes, and what passes.

Every instrument takes one run or many: values and probabilities have the shape (runs,), which is () for one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from esa_pytest.drift.noise_model import NoiseModel, count_of, root_of
from esa_pytest.drift.paired import Blocks, num_outlying, shape_of, winsorised_rms
from esa_pytest.drift.predictive import Spread, Values, student_quantile

# Every instrument by the name of its statistic, with what it is called in a sentence.
STATISTIC_NAMES = {
    "mean": "mean",
    "rms": "rms",
    "maximum": "largest single token",
    "outlying": "number of outlying tokens",
    "top1_flips": "number of top-1 flips",
    "kl_top": "KL divergence",
    "distance": "distance to the float32 reference",
}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one instrument says.

    Attributes:
        name: of the statistic.
        unit: of its values.
        value: of each run.
        p_value: how often harmless changes go so far.
        noise: what is usual.
        allowed: the largest value that is not rarer than a rate.
    """

    name: str
    unit: str
    value: Values
    p_value: Values
    noise: float
    allowed: Callable[[float], float]


def read_mean(model: NoiseModel, mean: Values, error: Values, *, num_blocks: int) -> Reading:
    """The mean shift against `t * sqrt(SE^2 + tau^2)`, in both directions.

    Args:
        model: of the noise.
        mean: of the drift over all scored tokens, nats.
        error: its standard error, from blocks.
        num_blocks: how many of these.
    """
    spread = model.mean.widened(np.asarray(error), float(num_blocks - 1))
    return Reading(
        name="mean",
        unit="nats",
        value=np.asarray(mean),
        p_value=spread.outside(np.asarray(mean)),
        noise=float(model.usual_mean.spread),
        allowed=lambda rate: allowed_mean(model.usual_mean if np.ndim(error) else spread, rate),
    )


def allowed_mean(spread: Spread, rate: float) -> float:
    """The largest mean shift, in either direction, that is not rarer than a rate under one such spread."""
    return float(spread.spread) * student_quantile(1 - rate / 2, float(spread.freedom))


def read_tokens(model: NoiseModel, drift: Values, scale: Values) -> list[Reading]:
    """What is read from single tokens: their size, the largest of them, and how many are out of line.

    Args:
        model: of the noise.
        drift: nats, shape (..., tokens).
        scale: how far each token is from certain, shape (tokens,) or as the drift.
    """
    shape = shape_of(drift, scale, usual=model.usual_scaled_rms)
    count = drift.shape[-1]
    share = count / model.num_tokens
    outlying = num_outlying(drift, scale, shape.scaled_rms, model.outlying_limit)
    # In nats at the token that has it.
    where = np.take_along_axis(np.broadcast_to(scale, drift.shape), shape.where[..., None], axis=-1)[..., 0]
    unit_of_largest = np.asarray(where * shape.scaled_rms)
    return [
        Reading(
            name="rms",
            unit="nats",
            value=shape.rms,
            p_value=model.log_rms.above(np.log(np.maximum(shape.rms, 1e-300))),
            noise=float(np.exp(model.log_rms.center)),
            allowed=lambda rate: float(np.exp(model.log_rms.quantile(1 - rate))),
        ),
        Reading(
            name="maximum",
            unit="nats",
            value=shape.studentised * unit_of_largest,
            p_value=model.tail.above(shape.studentised, count=count),
            noise=float(model.tail.bound(0.5, count=count) * np.median(unit_of_largest)),
            allowed=lambda rate: float(model.tail.bound(rate, count=count) * np.median(unit_of_largest)),
        ),
        Reading(
            name="outlying",
            unit="tokens",
            value=outlying,
            # Measured on another number of tokens, if the run is longer than the noise's sample.
            p_value=model.root_outlying.above(root_of(outlying / share)),
            noise=count_of(model.root_outlying.center) * share,
            allowed=lambda rate: count_of(model.root_outlying.quantile(1 - rate)) * share,
        ),
    ]


def read_flips(model: NoiseModel, flips: Values) -> Reading:
    """How many tokens have another argmax."""
    return Reading(
        name="top1_flips",
        unit="tokens",
        value=flips,
        p_value=model.root_flips.above(root_of(flips)),
        noise=count_of(model.root_flips.center),
        allowed=lambda rate: count_of(model.root_flips.quantile(1 - rate)),
    )


def read_kl(model: NoiseModel, kl: Values) -> Reading | None:
    """The mean lower bound of the KL divergence at the sampled tokens."""
    known = model.log_kl
    if known is None:
        return None
    return Reading(
        name="kl_top",
        unit="nats",
        value=kl,
        p_value=known.above(np.log(np.maximum(kl, 1e-300))),
        noise=float(np.exp(known.center)),
        allowed=lambda rate: float(np.exp(known.quantile(1 - rate))),
    )


def read_distance(model: NoiseModel, rounding: Values) -> Reading | None:
    """The distance of the bf16 scores to the float32 reference, as a multiple of the golden's.

    Args:
        model: of the noise.
        rounding: bf16 less float32 of the probe's tokens, nats, shape (..., tokens).
    """
    known, probe = model.log_distance, model.probe
    if known is None or probe is None or probe.rounded_nll is None:
        return None
    golden = float(winsorised_rms(probe.rounded_nll - probe.nll))
    if golden == 0:
        return None
    distance = winsorised_rms(rounding)
    return Reading(
        name="distance",
        unit="times",
        value=distance / golden,
        p_value=known.above(np.log(np.maximum(distance, 1e-300))),
        noise=float(np.exp(known.center)) / golden,
        allowed=lambda rate: float(np.exp(known.quantile(1 - rate))) / golden,
    )


def mean_and_error(drift: Values, blocks: Blocks) -> tuple[Values, Values]:
    """The mean over the tokens and its standard error, each of the shape (...,)."""
    return drift.mean(axis=-1), blocks.error_of_mean(drift)
