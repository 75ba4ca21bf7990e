"""Frozen, keyword-only records that travel between rooms; no IO, and nothing heavier than numpy."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]

METRIC_NAMES = (
    "mean_nll",
    "nll_sum",
    "num_correct_tokens",
    "num_scored_tokens",
    "perplexity",
    "token_accuracy",
)


class Tier(IntEnum):
    """The questions a check walks down, in order; the numbers appear in messages and manifests."""

    IDENTITY = 0
    FINITE = 1
    EXACT = 2
    AGGREGATE = 5


class Outcome(StrEnum):
    """What a check concluded. Only `IDENTICAL` and `WITHIN_NOISE` pass."""

    IDENTICAL = "identical"
    WITHIN_NOISE = "within-noise"
    INPUTS_CHANGED = "inputs-changed"
    NON_FINITE = "non-finite"
    UNEXPLAINED_BITS = "unexplained-bits"
    METRIC_DRIFT = "metric-drift"

    @property
    def passed(self) -> bool:
        """Whether a test with this outcome passes."""
        return self in (Outcome.IDENTICAL, Outcome.WITHIN_NOISE)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A stretch of a token sequence that the model sees at once, as positions in that sequence.

    The model's input is `tokens[context_begin : score_end - 1]`, behind a BOS where the policy asks for one;
    the targets are `tokens[score_begin:score_end]`.
    """

    context_begin: int
    score_begin: int
    score_end: int

    @property
    def num_scored(self) -> int:
        """How many tokens this window scores."""
        return self.score_end - self.score_begin


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Windows of one shape, ready for the model.

    Attributes:
        input_ids: int64, shape (windows, context_length).
        targets: int32, shape (windows, scored); the last `scored` positions of each row predict them.
        strata: int32, shape (windows, scored); which stratum each target belongs to.
    """

    input_ids: npt.NDArray[np.int64]
    targets: IntArray
    strata: IntArray

    @property
    def num_scored(self) -> int:
        """How many tokens the batch scores."""
        return int(self.targets.size)


@dataclass(frozen=True, kw_only=True)
class TokenScores:
    """One value a scored token, in the order in which the windows were scored.

    Attributes:
        nll: negative log-likelihood in nats, float32, shape (tokens,).
        argmax: the token id the model held most likely, int32, shape (tokens,).
        target: the token id that was there, int32, shape (tokens,).
        position: index of the predicting token in its window, int32, shape (tokens,).
        window: index of the window, int32, shape (tokens,).
        stratum: index into the names of the strata, int32, shape (tokens,).
    """

    nll: FloatArray
    argmax: IntArray
    target: IntArray
    position: IntArray
    window: IntArray
    stratum: IntArray


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
class Record:
    """Everything kept of one run of one baseline: a golden once accepted, a measurement before.

    Attributes:
        baseline: the baseline's id, as `smollm2-135m-smoke`.
        device: the device class in the file's name, as `cpu` or `cuda-sm90`.
        identity: what makes it the same experiment; nested, compared leaf by leaf.
        metrics: the sufficient statistics; None where they are not finite.
        scores: the per-token arrays.
        strata: the names that `scores.stratum` indexes.
        environment: what may change bits and not meaning.
        resources: throughput, efficiency, memory; shown, and judged by tier 6 once it exists.
        provenance: when, from which commit, by which command, and why.
        bit_stability: what was measured when the golden was recorded; None for a plain run.
        non_finite: where the first NaN or infinity was met, if any; such a record is never a golden.
    """

    baseline: str
    device: str
    identity: Mapping[str, Any]
    metrics: Metrics | None
    scores: TokenScores
    strata: tuple[str, ...]
    environment: Mapping[str, str]
    resources: Mapping[str, float | int | str | None]
    provenance: Mapping[str, str | bool | None]
    bit_stability: BitStability | None = None
    non_finite: NonFinite | None = None


@dataclass(frozen=True, kw_only=True)
class Change:
    """One named item that is not what it was; `None` stands for an item that one side lacks."""

    name: str
    golden: str | None
    measured: str | None


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """One line of the table golden / measured / drift / allowed.

    Attributes:
        name: the metric.
        golden: the accepted value.
        measured: this run's value.
        drift: measured minus golden.
        allowed: the largest absolute drift that passes; None where the metric is shown and not gated.
        source: where the allowance comes from.
    """

    name: str
    golden: float
    measured: float
    drift: float
    allowed: float | None
    source: str

    @property
    def within(self) -> bool:
        """Whether the drift is allowed, in both directions; NaN never is."""
        return self.allowed is None or abs(self.drift) <= self.allowed


@dataclass(frozen=True, kw_only=True)
class BitDrift:
    """How the per-token NLLs differ, bit for bit; all values in nats.

    Attributes:
        num_tokens: how many tokens were compared.
        num_changed: how many of them have other bits.
        mean: mean drift over all tokens.
        rms: root mean square drift over all tokens.
        maximum: the largest absolute drift of one token.
        first_position: the smallest position in its window at which a token changed; None if none did.
        num_top1_flips: for how many tokens the argmax is another.
    """

    num_tokens: int
    num_changed: int
    mean: float
    rms: float
    maximum: float
    first_position: int | None
    num_top1_flips: int


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a check concluded, which tier decided, and what a reader needs to believe it.

    Attributes:
        outcome: the conclusion.
        tier: the tier that decided.
        reason: one sentence for people.
        would_have_caught: what this check was able to see, an instrument a string.
        changes: items of the identity that differ, the likeliest cause first.
        environment: items of the environment that differ.
        rows: the table of metrics.
        bits: how the per-token values differ; None where they could not be compared.
    """

    outcome: Outcome
    tier: Tier
    reason: str
    would_have_caught: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    environment: tuple[Change, ...] = ()
    rows: tuple[MetricRow, ...] = field(default=())
    bits: BitDrift | None = None

    @property
    def nothing_to_accept(self) -> bool:
        """Whether recording anew would change nothing: equal bits in an equal environment.

        Equal bits in another environment are worth accepting: until then tier 2 cannot tell, in the new environment,
        a changed bit from a changed machine.
        """
        return self.outcome is Outcome.IDENTICAL and not self.environment
