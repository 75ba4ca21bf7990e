"""What a check concluded, and what a reader needs to believe it."""

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum


class Tier(IntEnum):
    """The questions a check walks down, in order; the numbers appear in messages and manifests."""

    IDENTITY = 0
    FINITE = 1
    EXACT = 2
    REFERENCE = 3
    AGGREGATE = 5


class Outcome(StrEnum):
    """What a check concluded. `IDENTICAL`, `WITHIN_NOISE` and `REFERENCE_ONLY` pass."""

    IDENTICAL = "identical"
    WITHIN_NOISE = "within-noise"
    INPUTS_CHANGED = "inputs-changed"
    NON_FINITE = "non-finite"
    UNEXPLAINED_BITS = "unexplained-bits"
    SEMANTIC_DRIFT = "semantic-drift"
    REFERENCE_ONLY = "reference-only"
    METRIC_DRIFT = "metric-drift"

    @property
    def passed(self) -> bool:
        """Whether a test with this outcome passes."""
        return self in (Outcome.IDENTICAL, Outcome.WITHIN_NOISE, Outcome.REFERENCE_ONLY)


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
        num_compared: how many values they were compared by: tokens, or blocks where a golden keeps sums of blocks.
        num_changed: how many of these have other bits.
        mean: mean drift over all tokens.
        rms: root mean square of the values' drifts, a block's being that of its mean.
        maximum: the largest absolute drift of one value.
        first_position: the smallest position in its window at which a value changed; None if none did.
        num_top1_flips: for how many tokens the argmax is another; None where only sums of blocks are kept.
    """

    num_tokens: int
    num_compared: int
    num_changed: int
    mean: float
    rms: float
    maximum: float
    first_position: int | None
    num_top1_flips: int | None

    @property
    def unit(self) -> str:
        """What one compared value is, as a noun."""
        return "token" if self.num_compared == self.num_tokens else "block"


@dataclass(frozen=True, kw_only=True)
class ReferenceDrift:
    """How the float32 reference differs, beside what the model's own noise allows; nats.

    Attributes:
        num_tokens: how many tokens the probe scores.
        rms: root mean square over tokens.
        maximum: the largest absolute drift of one token.
        allowed_rms: the largest `rms` that passes.
        allowed_maximum: the largest `maximum` that passes.
        weak: whether the model's noise is so large that the probe sees only coarse changes.
        first_moved: the first module whose fingerprint left its own noise; None if none did.
        num_moved: how many modules did.
        num_points: of how many.
    """

    num_tokens: int
    rms: float
    maximum: float
    allowed_rms: float
    allowed_maximum: float
    weak: bool
    first_moved: str | None
    num_moved: int
    num_points: int

    @property
    def within(self) -> bool:
        """Whether the meaning is what it was, as far as the probe can see; NaN never is."""
        return self.rms <= self.allowed_rms and self.maximum <= self.allowed_maximum


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
        reference: how the float32 reference differs; None where it was not asked, or does not suit the model.
    """

    outcome: Outcome
    tier: Tier
    reason: str
    would_have_caught: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    environment: tuple[Change, ...] = ()
    rows: tuple[MetricRow, ...] = field(default=())
    bits: BitDrift | None = None
    reference: ReferenceDrift | None = None

    @property
    def nothing_to_accept(self) -> bool:
        """Whether recording anew would change nothing: equal bits in an equal environment.

        Equal bits in another environment are worth accepting: until then tier 2 cannot tell, in the new environment,
        a changed bit from a changed machine.
        """
        return self.outcome is Outcome.IDENTICAL and not self.environment
