"""What a check concluded, and what a reader needs to believe it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from esa_pytest.records.resources import ResourceDrift

# The source of what is allowed where noise says it and nobody widened it.
MEASURED = "measured"


class Tier(IntEnum):
    """The questions a check walks down, in order; the numbers appear in messages and manifests."""

    IDENTITY = 0
    FINITE = 1
    EXACT = 2
    REFERENCE = 3
    PAIRED = 4
    AGGREGATE = 5
    RESOURCES = 6


class Outcome(StrEnum):
    """What a check concluded. `IDENTICAL`, `WITHIN_NOISE` and `REFERENCE_ONLY` pass."""

    IDENTICAL = "identical"
    WITHIN_NOISE = "within-noise"
    INPUTS_CHANGED = "inputs-changed"
    NON_FINITE = "non-finite"
    UNEXPLAINED_BITS = "unexplained-bits"
    SEMANTIC_DRIFT = "semantic-drift"
    REFERENCE_ONLY = "reference-only"
    NUMERIC_DRIFT = "numeric-drift"
    METRIC_DRIFT = "metric-drift"
    THROUGHPUT_DRIFT = "throughput-drift"
    MEMORY_DRIFT = "memory-drift"

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
        factor: what every NLL is times the golden's, where that is one number for all and not 1; None else.
    """

    num_tokens: int
    num_compared: int
    num_changed: int
    mean: float
    rms: float
    maximum: float
    first_position: int | None
    num_top1_flips: int | None
    factor: float | None = None

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
        rms_source: where `allowed_rms` comes from: `measured`, or the tolerance of the user's that widened it.
        allowed_maximum: the largest `maximum` that passes.
        maximum_source: where `allowed_maximum` comes from.
        weak: whether the model's noise is so large that the probe sees only coarse changes.
        first_moved: the first module whose fingerprint left its own noise; None if none did.
        num_moved: how many modules did.
        num_points: of how many.
        modules: every module's drift over what its noise allows, in the order of execution.
    """

    num_tokens: int
    rms: float
    maximum: float
    allowed_rms: float
    rms_source: str = MEASURED
    allowed_maximum: float
    maximum_source: str = MEASURED
    weak: bool
    first_moved: str | None
    num_moved: int
    num_points: int
    modules: tuple[tuple[str, float], ...] = ()

    @property
    def within(self) -> bool:
        """Whether the meaning is what it was, as far as the probe can see; NaN never is."""
        return self.rms <= self.allowed_rms and self.maximum <= self.allowed_maximum


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """One statistic of the paired drift, beside what harmless changes did to it.

    Attributes:
        name: as `mean` or `top1_flips`.
        unit: of value, noise and allowance, as `nats`.
        value: of this run.
        noise: what is usual under harmless changes.
        allowed: the largest that passes.
        p_value: how often harmless changes go so far, by the model that was fitted to them.
        beyond: whether that is rarer than the stated rate, all statistics of the check considered (Holm).
        source: where the allowance comes from.
    """

    name: str
    unit: str
    value: float
    noise: float
    allowed: float
    p_value: float
    beyond: bool
    source: str


@dataclass(frozen=True, kw_only=True)
class PartDrift:
    """The drift, in nats, of some of the tokens: those at a range of positions, or of a stratum; shown, not judged."""

    label: str
    num_tokens: int
    num_changed: int
    mean: float
    rms: float


@dataclass(frozen=True, kw_only=True)
class PairedDrift:
    """Tier 4: the drift token by token beside the noise of harmless changes.

    Attributes:
        num_tokens: over how many tokens.
        num_patterns: by how many bit patterns the noise was measured.
        rate: how often a check may fail where nothing is wrong, all its statistics together.
        statistics: the most unusual first; none where `refusal` says why.
        positions: by position in the window.
        strata: by stratum of the text.
        refusal: why the drift is not judged, a clause; None where it is.
    """

    num_tokens: int
    num_patterns: int
    rate: float
    statistics: tuple[Statistic, ...]
    positions: tuple[PartDrift, ...]
    strata: tuple[PartDrift, ...] = ()
    refusal: str | None = None

    @property
    def beyond(self) -> tuple[Statistic, ...]:
        """The statistics that harmless changes do not explain, the most unusual first."""
        return tuple(statistic for statistic in self.statistics if statistic.beyond)


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
        reference_refusal: why the golden's float32 reference has no say in a drift, a clause; None where it has, or
            there is none.
        paired: how the drift compares with measured noise; None where bits are equal or no noise was measured.
        detectable: the smallest effect that each instrument finds in 99 of 100 runs, by its name.
        resources: throughput and memory beside the golden's; none where the walk ended before they could be compared.
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
    reference_refusal: str | None = None
    paired: PairedDrift | None = None
    detectable: Mapping[str, float] = field(default_factory=dict)
    resources: tuple[ResourceDrift, ...] = ()

    @property
    def nothing_to_accept(self) -> bool:
        """Whether recording anew would change nothing: equal bits in an equal environment, no resource drifted.

        Equal bits in another environment are worth accepting: until then tier 2 cannot tell, in the new environment,
        a changed bit from a changed machine.
        """
        drifted = any(resource.beyond for resource in self.resources)
        return self.outcome is Outcome.IDENTICAL and not self.environment and not drifted
