"""The manifests of runs as they are read back: another machine may have written them, so nothing is believed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from esa_pytest.records import Tier
from esa_pytest.report.advice import Advice
from esa_pytest.report.documents import State

# Beyond this no scale can be drawn.
_LARGEST = 1e100


def _within_scale(value: float) -> float | None:
    return value if abs(value) <= _LARGEST else None


# What is NaN or infinite was written as null; what is as good as infinite is read as that.
Number = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_within_scale)] | None
Count = Annotated[int, Field(ge=0, lt=2**53)]


class _Part(BaseModel):
    """A release later than this one may write more than is read here."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ChangePart(_Part):
    """One item that differs."""

    name: str
    golden: str | None
    measured: str | None


class RowPart(_Part):
    """One metric, golden and measured."""

    name: str
    golden: Number
    measured: Number
    drift: Number
    allowed: Number
    source: str


class BitsPart(_Part):
    """How the per-token values differ."""

    num_compared: Count
    num_changed: Count
    mean: Number
    rms: Number
    maximum: Number


class ReferencePart(_Part):
    """How the float32 reference differs, and each module's drift over what its noise allows."""

    num_tokens: Count
    rms: Number
    allowed_rms: Number
    first_moved: str | None
    num_moved: Count
    num_points: Count
    modules: tuple[tuple[str, Number], ...] = ()


class DriftPart(_Part):
    """The drift of the tokens of a range of positions, or of a stratum, nats."""

    label: str
    num_tokens: Count
    num_changed: Count
    mean: Number
    rms: Number


class StatisticPart(_Part):
    """One statistic of the paired drift."""

    name: str
    noise: Number
    allowed: Number


class PairedPart(_Part):
    """The drift token by token."""

    statistics: tuple[StatisticPart, ...] = ()
    positions: tuple[DriftPart, ...] = ()
    strata: tuple[DriftPart, ...] = ()


class ResourcePart(_Part):
    """Throughput or memory beside what is allowed, or why it was not judged."""

    name: str
    golden: Number
    beyond: bool = False
    refusal: str | None = None


class VerdictPart(_Part):
    """What the check concluded, and what that rests on."""

    tier: int
    would_have_caught: tuple[str, ...] = ()
    changes: tuple[ChangePart, ...] = ()
    environment: tuple[ChangePart, ...] = ()
    rows: tuple[RowPart, ...] = ()
    bits: BitsPart | None = None
    reference: ReferencePart | None = None
    reference_refusal: str | None = None
    paired: PairedPart | None = None
    resources: tuple[ResourcePart, ...] = ()

    @property
    def tier_name(self) -> str:
        """As `tier 3 (reference)`; a tier that this release does not know has its number alone."""
        known = {int(tier): tier.name.lower() for tier in Tier}
        return f"tier {self.tier} ({known[self.tier]})" if self.tier in known else f"tier {self.tier}"


class MetricsPart(_Part):
    """What people quote."""

    mean_nll: Number
    perplexity: Number
    token_accuracy: Number
    num_scored_tokens: Count


class TextPart(_Part):
    """What was scored, in units that no tokenizer moves."""

    num_bytes: Count
    bits_per_byte: Number


class CalibrationPart(_Part):
    """How far the probabilities can be believed."""

    ece: Number
    brier: Number


class BinPart(_Part):
    """One bin of a reliability diagram."""

    num_tokens: Count
    confidence: Number
    accuracy: Number


class PositionLossPart(_Part):
    """The loss at a range of positions."""

    label: str
    mean_nll: Number
    num_tokens: Count


class GainPart(_Part):
    """What context beyond a short one is worth."""

    nats: Number
    error: Number
    num_tokens: Count


class RetrievalPart(_Part):
    """How well facts of a range of depths are found again."""

    label: str
    gain: Number
    error: Number
    num_facts: Count


class ContextPart(_Part):
    """What the model makes of a long context."""

    context_length: Count
    positions: tuple[PositionLossPart, ...]
    gain: GainPart
    retrieval: tuple[RetrievalPart, ...]


class GoldenPart(_Part):
    """What is shown of the golden."""

    utc: str | None
    resources: Mapping[str, Number | str] = {}


class AdvicePart(_Part):
    """A sentence and its command."""

    text: str
    command: str | None = None


class Run(_Part):
    """One manifest.

    Attributes:
        baseline: the baseline's id.
        model: its model.
        type: its type.
        test_command: what runs its test alone.
        device: the device class; None where the run did not come so far.
        state: what became of it.
        outcome: the verdict's, `recorded`, or the class of the error that kept it from a verdict.
        reason: one sentence; None where there is nothing to say.
        advice: what to do about it.
        reported: what others reported, by name.
        environment: what may change bits and not meaning.
        provenance: when, from which commit, by which command.
        resources: throughput, efficiency, memory, and whatever else was measured.
        reliability: the bins of its calibration.
        context: what it makes of a long context; None where the baseline does not ask.
        notes: what a reader should know.
    """

    baseline: str
    model: str
    type: str
    test_command: str
    device: str | None
    state: State
    outcome: str
    reason: str | None
    advice: tuple[AdvicePart, ...] = ()
    reported: Mapping[str, Number] | None = None
    verdict: VerdictPart | None
    metrics: MetricsPart | None
    text: TextPart | None = None
    calibration: CalibrationPart | None = None
    reliability: tuple[BinPart, ...] = ()
    context: ContextPart | None = None
    environment: Mapping[str, str] = {}
    provenance: Mapping[str, str | bool | None]
    resources: Mapping[str, Number | str] = {}
    golden: GoldenPart | None = None
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The baseline and its device."""
        return self.baseline if self.device is None else f"{self.baseline} ({self.device})"

    @property
    def utc(self) -> str | None:
        """When it was."""
        value = self.provenance.get("utc")
        return value if isinstance(value, str) else None

    @property
    def told(self) -> tuple[Advice, ...]:
        """What to do about it."""
        return tuple(Advice(text=one.text, command=one.command) for one in self.advice)


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A manifest that is damaged or of another release.

    Attributes:
        folder: the name of the folder that it lies in.
        cause: why it cannot be read, a clause.
    """

    folder: str
    cause: str


def read_run(content: bytes, *, folder: str) -> Run | Unreadable:
    """The run of a manifest, or why there is none.

    Args:
        content: of the file.
        folder: the name of the folder that it lies in.
    """
    try:
        return Run.model_validate_json(content)
    except ValidationError as error:
        return Unreadable(folder=folder, cause=_cause(error))


def _cause(error: ValidationError) -> str:
    first: Mapping[str, Any] = dict(error.errors(include_url=False)[0])
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])
