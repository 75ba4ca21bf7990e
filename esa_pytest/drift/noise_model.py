"""What harmless changes do to each statistic of a paired drift, learned from the variants that a golden keeps."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from esa_pytest.drift.paired import (
    WINSORISED,
    Blocks,
    Shape,
    blocks_of,
    num_outlying,
    scale_of,
    shape_of,
    winsorised_rms,
)
from esa_pytest.drift.predictive import Predictive, Spread, Tail, Values
from esa_pytest.records import Noise, Probe, Record

# Of a smaller number no spread is worth its name.
LEAST_VARIANTS = 5
# The tail that the largest token is judged by: enough tokens to fit, few enough to be a tail.
_TAIL_SHARE = 0.02
_OUTLYING_SHARE = 0.01
# Of the square root of a count: that of a Poisson count (Anscombe 1948).
_LEAST_ROOT_SPREAD = 0.5
# Of the logarithm of a size: one part in twenty, which another fifty tokens would change it by.
_LEAST_LOG_SPREAD = 0.05
# Of the number of correct tokens: where no change flipped one, half a token more would have.
_LEAST_CORRECT = 0.5
# A change that moves next to nothing says little of how far another one goes, and in a standard deviation it would make
# room above: it counts for this share of what is usual.
_LEAST_SHARE = 0.75


@dataclass(frozen=True)
class NoiseModel:
    """The noise of one golden; every property is computed when it is first asked for."""

    noise: Noise
    probe: Probe | None

    @property
    def num_tokens(self) -> int:
        """How many tokens the noise was measured on."""
        return int(self.noise.nll.size)

    @cached_property
    def drift(self) -> Values:
        """Of every variant that moved a bit, float64, shape (variants, tokens)."""
        return np.stack([variant.drift for variant in self.noise.moved]).astype(np.float64)

    @cached_property
    def scale(self) -> Values:
        """How far each token is from certain, shape (tokens,)."""
        return scale_of(self.noise.nll)

    @cached_property
    def blocks(self) -> Blocks:
        """The blocks of the noise's own tokens."""
        return blocks_of(self.noise.window)

    @cached_property
    def mean(self) -> Predictive:
        """Of the mean shift; its spread is the one between variants, tau."""
        return Predictive.about_zero(self.drift.mean(axis=-1))

    @cached_property
    def usual_error_of_mean(self) -> float:
        """The standard error of a variant's mean over the noise's tokens, nats."""
        return float(np.median(self.blocks.error_of_mean(self.drift)))

    @cached_property
    def usual_mean(self) -> Spread:
        """Of the mean shift of a run as noisy as usual: between variants, and of the mean's own error."""
        return self.mean.widened(np.array(self.usual_error_of_mean), float(self.blocks.number - 1))

    @cached_property
    def log_rms(self) -> Predictive:
        """Of the logarithm of the winsorised rms."""
        return _of_logarithms(self._shape.rms)

    @cached_property
    def usual_scaled_rms(self) -> float:
        """The median size of a variant's scaled drift."""
        return float(np.median(winsorised_rms(self.drift / self.scale)))

    @cached_property
    def tail(self) -> Tail:
        """Of a token's scaled drift over the size of its variant."""
        sizes = self._shape.scaled_rms[:, None]
        return Tail.of((np.abs(self.drift) / self.scale / sizes).ravel(), share=_TAIL_SHARE)

    @cached_property
    def outlying_limit(self) -> float:
        """Beyond how many times the usual a token counts as outlying."""
        sizes = self._shape.scaled_rms[:, None]
        return float(np.quantile(np.abs(self.drift) / self.scale / sizes, 1 - _OUTLYING_SHARE))

    @cached_property
    def root_outlying(self) -> Predictive:
        """Of the square root of the number of outlying tokens."""
        counts = num_outlying(self.drift, self.scale, self._shape.scaled_rms, self.outlying_limit)
        return Predictive.of(root_of(_no_quieter(counts)), least_spread=_LEAST_ROOT_SPREAD)

    @cached_property
    def root_flips(self) -> Predictive:
        """Of the square root of the number of top-1 flips."""
        counts = np.array([variant.num_top1_flips for variant in self.noise.moved], dtype=np.float64)
        return Predictive.of(root_of(_no_quieter(counts)), least_spread=_LEAST_ROOT_SPREAD)

    @cached_property
    def log_kl(self) -> Predictive | None:
        """Of the logarithm of the KL bound; None where it was not measured."""
        values = [variant.kl_top for variant in self.noise.moved]
        known = np.array([value for value in values if value is not None], dtype=np.float64)
        return _of_logarithms(known) if known.size == len(values) else None

    @cached_property
    def log_distance(self) -> Predictive | None:
        """Of the logarithm of the distance to the float32 reference; None without one."""
        at_probe = self.at_probe
        if at_probe is None or self.probe is None or self.probe.rounded_nll is None:
            return None
        rounded = self.probe.rounded_nll.astype(np.float64) + self.drift[:, at_probe]
        return _of_logarithms(winsorised_rms(rounded - self.probe.nll))

    @cached_property
    def at_probe(self) -> npt.NDArray[np.int64] | None:
        """Which tokens of the noise the probe scores too, in its order; None where it does not score all of its own."""
        if self.probe is None:
            return None
        inside = (self.noise.window == self.probe.window) & (self.noise.position < self.probe.nll.size)
        return np.flatnonzero(inside) if np.count_nonzero(inside) == self.probe.nll.size else None

    @cached_property
    def accuracy(self) -> Predictive:
        """Of the drift of the token accuracy."""
        correct = np.array([variant.correct_drift for variant in self.noise.moved], dtype=np.float64)
        return Predictive.about_zero(correct / self.num_tokens, least_spread=_LEAST_CORRECT / self.num_tokens)

    def calibration(self, name: str) -> Predictive | None:
        """Of the drift of a calibration metric; None where it was not measured."""
        if not all(name in variant.calibration for variant in self.noise.moved):
            return None
        return Predictive.about_zero(np.array([variant.calibration[name] for variant in self.noise.moved]))

    def context(self, name: str) -> Predictive | None:
        """Of the drift of a metric of the long context; None where it was not measured."""
        if not all(name in variant.context for variant in self.noise.moved):
            return None
        return Predictive.about_zero(np.array([variant.context[name] for variant in self.noise.moved]))

    @cached_property
    def _shape(self) -> Shape:
        return shape_of(self.drift, self.scale, usual=self.usual_scaled_rms)


def root_of(counts: Values) -> Values:
    """The square root of counts, which has the same spread whatever their size (Anscombe 1948)."""
    return np.sqrt(counts + 0.375)


def count_of(root: float) -> float:
    """The count of such a square root."""
    return max(0.0, root**2 - 0.375)


def _of_logarithms(values: Values) -> Predictive:
    return Predictive.of(np.log(np.maximum(_no_quieter(values), 1e-300)), least_spread=_LEAST_LOG_SPREAD)


def _no_quieter(values: Values) -> Values:
    return np.maximum(values, _LEAST_SHARE * np.median(values))


def noise_model_of(golden: Record) -> NoiseModel | None:
    """The noise of a golden; None where it measured none, or too little to judge by."""
    noise = golden.noise
    return None if noise is None or why_unmeasured(noise) else NoiseModel(noise, golden.probe)


def why_unmeasured(noise: Noise | None) -> str | None:
    """Why a golden's noise judges nothing, a clause; None where it does."""
    if noise is None:
        return "the golden was recorded without its noise"
    if len(noise.moved) < LEAST_VARIANTS:
        return f"only {len(noise.moved)} harmless changes moved a bit when the golden was recorded"
    # Without a usual size there is nothing that a drift could be a multiple of.
    if np.median([winsorised_rms(variant.drift.astype(np.float64)) for variant in noise.moved]) == 0:
        return f"most harmless changes moved fewer than {WINSORISED:.0%} of the tokens when the golden was recorded"
    return None
