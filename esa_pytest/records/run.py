"""One run of one baseline: its metrics, how consistent it was with itself, and everything that is kept of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from esa_pytest.names import METRIC_NAMES
from esa_pytest.records.context import LongContext
from esa_pytest.records.noise import Noise
from esa_pytest.records.resources import ResourceNoise
from esa_pytest.records.scores import BlockScores, FloatArray, TokenScores, TopProbabilities


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Sufficient statistics of a run; everything that people quote follows from them.

    Attributes:
        nll_sum: sum of the negative log-likelihoods, in nats.
        num_scored_tokens: how many tokens were scored.
        num_correct_tokens: for how many of them the argmax was the target.
    """

    nll_sum: float
    num_scored_tokens: int
    num_correct_tokens: int

    @property
    def mean_nll(self) -> float:
        """`nll_sum / num_scored_tokens`, in nats a token; people call it the loss."""
        return self.nll_sum / self.num_scored_tokens

    @property
    def perplexity(self) -> float:
        """`exp(nll_sum / num_scored_tokens)` over the whole text; infinite where that overflows."""
        try:
            return math.exp(self.mean_nll)
        except OverflowError:
            return math.inf

    @property
    def token_accuracy(self) -> float:
        """`num_correct_tokens / num_scored_tokens`, a share between 0 and 1."""
        return self.num_correct_tokens / self.num_scored_tokens

    def as_dict(self) -> dict[str, float | int]:
        """Every metric by its name, the derived ones included."""
        return {name: getattr(self, name) for name in METRIC_NAMES}


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How far the model's probabilities can be believed.

    Attributes:
        ece: expected calibration error of the likeliest token, over equal bins of confidence (Guo et al. 2017).
        brier: mean squared distance of the distribution to the one-hot target (Brier 1950), between 0 and 2.
        mean_entropy: in nats.
        top_k_mass: mean probability of the likeliest tokens together.
        entropy_by_position: mean entropy in nats by the position of the predicting token, as `64-255`.
    """

    ece: float
    brier: float
    mean_entropy: float
    top_k_mass: float
    entropy_by_position: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """The tokens whose likeliest token has a probability within a range; shown, not judged.

    Attributes:
        low: the range's lower end, itself outside.
        high: its upper end, itself inside.
        num_tokens: how many tokens lie in it.
        confidence: the mean probability of their likeliest tokens.
        accuracy: the share of them whose likeliest token was the target.
    """

    low: float
    high: float
    num_tokens: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """One more evaluation of the same tokens by the same model.

    Attributes:
        kind: what was different, as `round`, `batch shape` or `fresh process`.
        detail: of the difference, as `1x1024`.
        metrics: what came out.
        bit_equal: whether every NLL and argmax had the bits of the first evaluation.
    """

    kind: str
    detail: str
    metrics: Metrics
    bit_equal: bool


@dataclass(frozen=True, kw_only=True)
class Consistency:
    """How a run agreed with itself.

    Attributes:
        first: metrics of the first evaluation, the one that is judged.
        repeats: further evaluations that should give the same.
        seeds: metrics by seed, each over windows of its own choice: the spread of the text, not of the machine.
        impossible: what could not be varied here, a sentence each.
    """

    first: Metrics
    repeats: tuple[Repeat, ...]
    seeds: Mapping[int, Metrics]
    impossible: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NonFinite:
    """Where the first NaN or infinity was met.

    Attributes:
        what: the thing that was not a number, as `"nll"`, `"logits"` or a metric's name.
        window: index of the window, or None for a value of the whole run.
        token: index of the token within its window, or None.
        layer: name of the first module whose output was not finite, or None if no module was to blame.
    """

    what: str
    window: int | None = None
    token: int | None = None
    layer: str | None = None


@dataclass(frozen=True, kw_only=True)
class BitStability:
    """What repeated runs of an unchanged model showed.

    Attributes:
        fresh_processes: in how many new processes the run was repeated.
        distinct_bit_patterns: how many different per-token NLL arrays came out of them.
    """

    fresh_processes: int
    distinct_bit_patterns: int

    @property
    def proven(self) -> bool:
        """Whether an unchanged model in an unchanged environment was seen to give the same bits."""
        return self.fresh_processes >= 2 and self.distinct_bit_patterns == 1


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What the float32 reference probe gave.

    Attributes:
        version: of the way it is computed.
        nll: nats, float64, shape (tokens,).
        window: the window of the run that begins with the probe's tokens.
        rounded_nll: of the same tokens as the bf16 run scored them, float32, shape (tokens,); None where it did not
            score all of them.
        points: the modules with a fingerprint, in the order of execution.
        fingerprints: float32, shape (points, numbers).
    """

    version: int
    nll: npt.NDArray[np.float64]
    points: tuple[str, ...]
    fingerprints: npt.NDArray[np.float32]
    window: int = 0
    rounded_nll: FloatArray | None = None


@dataclass(frozen=True, kw_only=True)
class ProbeNoise:
    """How much the probe moved under changes that must not matter; the largest of each.

    Attributes:
        varied: what was changed.
        distinct_bit_patterns: how many different results came out, the unchanged one included.
        rms: root mean square over tokens, in nats.
        maximum: of one token, in nats.
        fingerprints: of any number of a point's fingerprint, float32, shape (points,).
    """

    varied: tuple[str, ...]
    distinct_bit_patterns: int
    rms: float
    maximum: float
    fingerprints: npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Record:
    """Everything kept of one run of one baseline: a golden once accepted, a measurement before.

    Attributes:
        baseline: the baseline's id, as `smollm2-135m-smoke`.
        device: the device class in the file's name, as `cpu` or `cuda-sm90`.
        identity: what makes it the same experiment; nested, compared leaf by leaf.
        metrics: the sufficient statistics; None where they are not finite.
        scores: the per-token arrays, or the sums of blocks that a golden keeps of a long run.
        strata: the names that `scores.stratum` indexes.
        environment: what may change bits and not meaning.
        resources: throughput, efficiency, memory, and what else the machine did meanwhile; judged by tier 6.
        provenance: when, from which commit, by which command, and why.
        bit_stability: what was measured when the golden was recorded; None for a plain run.
        calibration: how the model's probabilities fared; None where the baseline does not ask.
        probe: the float32 reference; None where it was not needed, or does not suit the model.
        probe_noise: what was measured of its noise when the golden was recorded.
        top: the likeliest tokens at a fixed sample of the scored ones; None where nothing was sampled.
        noise: how the bf16 scores moved under harmless changes; measured with a golden, None for a plain run.
        resource_noise: how throughput and memory repeated themselves; measured with a golden, None for a plain run.
        context: what the model makes of a long context; None where the baseline does not ask.
        non_finite: where the first NaN or infinity was met, if any; such a record is never a golden.
    """

    baseline: str
    device: str
    identity: Mapping[str, Any]
    metrics: Metrics | None
    scores: TokenScores | BlockScores
    strata: tuple[str, ...]
    environment: Mapping[str, str]
    resources: Mapping[str, float | int | str | None]
    provenance: Mapping[str, str | bool | None]
    bit_stability: BitStability | None = None
    calibration: Calibration | None = None
    probe: Probe | None = None
    probe_noise: ProbeNoise | None = None
    top: TopProbabilities | None = None
    noise: Noise | None = None
    resource_noise: ResourceNoise | None = None
    context: LongContext | None = None
    non_finite: NonFinite | None = None

    @property
    def bits_proven(self) -> bool:
        """Whether this record's environment was seen to give the same bits from process to process."""
        return self.bit_stability is not None and self.bit_stability.proven
