"""What a check would have caught: the smallest effect that each instrument finds in 99 of 100 runs."""

import math
from collections.abc import Mapping

import numpy as np

from esa_pytest.drift.aggregate import RELATIVE_LOSS_TOLERANCE, allowed_mean
from esa_pytest.drift.noise_model import NoiseModel
from esa_pytest.drift.numeric import family_of, noise_model
from esa_pytest.drift.paired import winsorised_rms
from esa_pytest.drift.predictive import student_quantile
from esa_pytest.drift.reference import allowed_rms
from esa_pytest.drift.rules import Rules
from esa_pytest.records import ProbeNoise, Record

POWER = 0.99
ANY_BIT = "any changed bit"
_SPOKEN = {
    "reference": "reference {:.1g} nats",
    "mean": "bf16 mean {:.2g} nats",
    "rms": "bf16 rms {:.2g}",
    "maximum": "one token {:.2g}",
    "provisional": "a loss shift of {:.1%} (provisional)",
}


def detectable(golden: Record, rules: Rules, *, in_full: bool) -> dict[str, float]:
    """By instrument, in nats; `provisional` is relative to the loss, and stands for noise that was not measured.

    Args:
        golden: the accepted record.
        rules: how strictly it judges.
        in_full: whether to fit the tail of the noise for it, which takes a moment.
    """
    found: dict[str, float] = {}
    if golden.probe_noise is not None:
        found["reference"] = detectable_reference(golden.probe_noise, rules)
    model = noise_model(golden)
    if model is None:
        return found | {"provisional": RELATIVE_LOSS_TOLERANCE}
    rate = rules.false_alarm_rate / family_of(golden)
    found["mean"] = detectable_mean(model, rate)
    if not in_full:
        return found
    return found | {
        "rms": detectable_rms(model, rate),
        "maximum": detectable_token(model, rate),
    }


def detectable_reference(noise: ProbeNoise, rules: Rules) -> float:
    """The rms of a drift of the reference that no harmless change beside it can hide: the bound and the noise."""
    allowed, _ = rules.widened("reference_rms", allowed_rms(noise), "")
    return allowed + noise.rms


def detectable_mean(model: NoiseModel, rate: float) -> float:
    """A shift of the mean: the bound, and what noise may take from it in one run of a hundred."""
    usual = model.mean.widened(np.array(model.usual_error_of_mean), float(model.blocks.number - 1))
    return allowed_mean(model, rate) + float(usual.spread) * student_quantile(POWER, float(usual.freedom))


def detectable_rms(model: NoiseModel, rate: float) -> float:
    """The rms of an effect that is independent of the noise, whose squares therefore add up, and no less even."""
    bound, quiet = model.log_rms.quantile(1 - rate), model.log_rms.quantile(1 - POWER)
    # Winsorised, an effect counts for less than its own rms: a normal one by a fiftieth, one with tails by more.
    whole = np.sqrt(np.mean(np.square(model.drift), axis=-1))
    lost = max(1.03, float(np.median(whole / winsorised_rms(model.drift))))
    return math.sqrt(max(0.0, math.exp(2 * bound) - math.exp(2 * quiet))) * lost


def detectable_token(model: NoiseModel, rate: float) -> float:
    """The drift of a single token, whichever: the bound and the token's own noise, at the largest scale."""
    bound = model.tail.bound(rate, count=model.num_tokens)
    opposing = model.tail.bound(1 - POWER, count=1)
    # The size that it is measured by is that of the run, which one run in a hundred exceeds.
    size = model.usual_scaled_rms * math.exp(model.log_rms.quantile(POWER) - model.log_rms.center)
    return (bound + opposing) * size * float(model.scale.max())


def spoken(found: Mapping[str, float]) -> tuple[str, ...]:
    """The sizes in words, an instrument a string."""
    return tuple(_SPOKEN[name].format(size) for name, size in found.items())
