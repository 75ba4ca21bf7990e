"""What a check would have caught: the smallest effect that each instrument finds in 99 of 100 runs."""

import math
from collections.abc import Mapping

import numpy as np

from esa_pytest.drift.aggregate import RELATIVE_LOSS_TOLERANCE
from esa_pytest.drift.instruments import allowed_mean
from esa_pytest.drift.noise_model import NoiseModel
from esa_pytest.drift.numeric import family_of
from esa_pytest.drift.paired import LEAST_BLOCKS, winsorised_rms
from esa_pytest.drift.predictive import student_quantile
from esa_pytest.drift.reference import allowed_rms
from esa_pytest.drift.rules import DEFAULT_RULES, Rules
from esa_pytest.records import MEASURED, ProbeNoise, Record

POWER = 0.99
ANY_BIT = "any changed bit"
_SPOKEN = {
    "reference": "reference {:.1g} nats",
    "mean": "bf16 mean {:.2g} nats",
    "rms": "bf16 rms {:.2g}",
    "maximum": "one token {:.2g}",
    "provisional": "a loss shift of {:.1%} (provisional)",
    "throughput": "throughput {:.0%}",
    "memory": "memory {:.0f} MiB",
}
# To how many digits they are told, always upwards: what is told is found.
_DIGITS = {"reference": 1, "mean": 2, "rms": 2, "maximum": 2, "provisional": 1, "throughput": 2, "memory": 2}
# What a size is told in, where not in its own unit.
_UNITS = {"memory": 2**20}


def detectable(
    golden: Record, model: NoiseModel | None, rules: Rules, *, in_full: bool, with_reference: bool = True
) -> dict[str, float]:
    """By instrument, in nats; `provisional` is relative to the loss, and stands for noise that was not measured.

    Args:
        golden: the accepted record.
        model: its noise; None where it measured none to judge by.
        rules: how strictly it judges.
        in_full: whether the metrics had a say, and the tail of the noise is fitted, which takes a moment.
        with_reference: whether the float32 reference was compared, or would be as soon as a bit differs.
    """
    found: dict[str, float] = {}
    if with_reference and golden.probe_noise is not None:
        found["reference"] = detectable_reference(golden.probe_noise, rules)
    if model is None:
        return found | ({"provisional": _provisional(golden, rules)} if in_full else {})
    rate = rules.false_alarm_rate / family_of(golden)
    found["mean"] = detectable_mean(model, rate, rules)
    if not in_full or model.blocks.number < LEAST_BLOCKS:
        return found
    return found | {
        "rms": detectable_rms(model, rate, rules),
        "maximum": detectable_token(model, rate),
    }


def detectable_reference(noise: ProbeNoise, rules: Rules) -> float:
    """The rms of a drift of the reference that no harmless change beside it can hide: the bound and the noise."""
    allowed, _ = rules.widened("reference_rms", allowed_rms(noise), MEASURED)
    return allowed + noise.rms


def _provisional(golden: Record, rules: Rules) -> float:
    """A shift of the loss as a share of it, where no noise was measured."""
    loss = 0.0 if golden.metrics is None else golden.metrics.mean_nll
    wanted = rules.tolerances.get("mean_nll", 0.0)
    return max(RELATIVE_LOSS_TOLERANCE, wanted / loss) if loss > 0 else RELATIVE_LOSS_TOLERANCE


def detectable_mean(model: NoiseModel, rate: float, rules: Rules = DEFAULT_RULES) -> float:
    """A shift of the mean: the bound, and what noise may take from it in one run of a hundred."""
    usual = model.usual_mean
    allowed, _ = rules.widened("mean_nll", allowed_mean(usual, rate), MEASURED)
    return allowed + float(usual.spread) * student_quantile(POWER, float(usual.freedom))


def detectable_rms(model: NoiseModel, rate: float, rules: Rules = DEFAULT_RULES) -> float:
    """The rms of an effect that needs no help from noise, which some harmless change has next to none of."""
    bound, _ = rules.widened("rms", math.exp(model.log_rms.quantile(1 - rate)), MEASURED)
    # Winsorised, an effect counts for less than its own rms: a normal one by a fiftieth, one with tails by more.
    counted = winsorised_rms(model.drift)
    # A change that moved fewer tokens than are winsorised counts for nothing and says nothing of how much they take.
    spread = counted > 0
    whole = np.sqrt(np.mean(np.square(model.drift[spread]), axis=-1))
    return bound * max(1.03, float(np.median(whole / counted[spread])))


def detectable_token(model: NoiseModel, rate: float) -> float:
    """The drift of a single token, whichever: the bound and the token's own noise, at the largest scale."""
    bound = model.tail.bound(rate, count=model.num_tokens)
    opposing = model.tail.bound(1 - POWER, count=1)
    # The size that it is measured by is that of the run, which one run in a hundred exceeds.
    size = model.usual_scaled_rms * math.exp(model.log_rms.quantile(POWER) - model.log_rms.center)
    return (bound + opposing) * size * float(model.scale.max())


def spoken(found: Mapping[str, float]) -> tuple[str, ...]:
    """The sizes in words, an instrument a string."""
    return tuple(
        _SPOKEN[name].format(_rounded_up(size / _UNITS.get(name, 1), _DIGITS[name])) for name, size in found.items()
    )


def _rounded_up(size: float, digits: int) -> float:
    if not 1e-300 < size < 1e300:
        return size
    step = 10.0 ** (math.floor(math.log10(size)) - digits + 1)
    # A sum that is round but for its last bits stays so.
    return math.ceil(size / step - 1e-9) * step
