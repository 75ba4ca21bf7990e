"""How the bf16 scores of an unchanged model move under changes that must not matter."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from esa_pytest.records.scores import FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One harmless change, and how the scores moved under it: this variant's less the golden's.

    Attributes:
        name: what was changed, as `attention eager` or `last bits, seed 3`.
        drift: of every token's NLL in nats, float16, shape (tokens,), in the order of `Noise.windows`.
        num_top1_flips: for how many tokens the argmax is another.
        correct_drift: by how much the number of correct tokens changed.
        kl_top: mean lower bound of the KL divergence at the sampled tokens, nats; None where none was sampled.
        calibration: drift of each calibration metric by name; empty where the baseline has none.
        context: drift of each metric of the long context by name; empty where the baseline has none.
    """

    name: str
    drift: npt.NDArray[np.float16]
    num_top1_flips: int
    correct_drift: int
    kl_top: float | None
    calibration: Mapping[str, float]
    context: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What calibration measured.

    Attributes:
        windows: which windows of the run were scored again, ascending, int32; all of a short run.
        nll: the golden's NLLs of their tokens, float32, shape (tokens,).
        position: index of the predicting token in its window, int32, shape (tokens,).
        window: the window of each token, int32, shape (tokens,).
        variants: one a harmless change, those that moved no bit included.
        distinct_bit_patterns: how many different results came out, the unchanged one included.
        untried: harmless changes that could not be tried here, a sentence each.
    """

    windows: IntArray
    nll: FloatArray
    position: IntArray
    window: IntArray
    variants: tuple[Variant, ...]
    distinct_bit_patterns: int
    untried: tuple[str, ...] = ()

    @property
    def moved(self) -> tuple[Variant, ...]:
        """The variants that moved any bit: the others say nothing of how large noise is."""
        return tuple(variant for variant in self.variants if variant.drift.any() or variant.num_top1_flips)
