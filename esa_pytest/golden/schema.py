"""The golden's JSON as a versioned schema; whatever it does not allow is refused with the name of the field."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from esa_pytest.records import METRIC_NAMES, Metrics

SCHEMA_VERSION = 5

Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Leaf = str | bool | int | Finite | None


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class MetricsPart(_Strict):
    """Sums and counts, and what follows from them."""

    mean_nll: Finite
    nll_sum: Finite
    num_correct_tokens: Count
    num_scored_tokens: Annotated[int, Field(gt=0)]
    perplexity: Finite
    token_accuracy: Finite


class CalibrationPart(_Strict):
    """How the model's probabilities fared."""

    brier: Finite
    ece: Finite
    entropy_by_position: dict[str, Finite]
    mean_entropy: Finite
    top_k_mass: Finite


class PositionPart(_Strict):
    """The loss at a range of positions."""

    label: str
    mean_nll: Finite
    num_tokens: Annotated[int, Field(gt=0)]


class GainPart(_Strict):
    """What the rest of a long context adds to a short one."""

    error: Finite | None
    long_context: Count
    long_nll: Finite
    nats: Finite
    num_tokens: Annotated[int, Field(gt=0)]
    short_context: Count
    short_nll: Finite


class RetrievalPart(_Strict):
    """How well facts of a range of depths are found again."""

    control_nll: Finite
    error: Finite | None
    gain: Finite
    label: str
    num_facts: Annotated[int, Field(gt=0)]
    planted_nll: Finite


class ContextPart(_Strict):
    """What the model makes of a long context; the scores behind it lie in the side file."""

    context_length: Annotated[int, Field(gt=0)]
    gain: GainPart
    num_tokens: Annotated[int, Field(gt=0)]
    positions: tuple[PositionPart, ...] = Field(strict=False)
    retrieval: tuple[RetrievalPart, ...] = Field(strict=False)


class ProbeNoisePart(_Strict):
    """What harmless changes moved the reference probe by."""

    distinct_bit_patterns: Annotated[int, Field(gt=0)]
    maximum: Finite
    rms: Finite
    varied: tuple[str, ...] = Field(strict=False)


class ProbePart(_Strict):
    """The float32 reference probe; its arrays lie in the side file."""

    noise: ProbeNoisePart | None
    num_points: Annotated[int, Field(gt=0)]
    num_tokens: Annotated[int, Field(gt=0)]
    rounded: bool
    version: int
    window: Count


class ArraysPart(_Strict):
    """The side file and its hash."""

    file: str
    sha256: Sha256


class BitStabilityPart(_Strict):
    """How far an unchanged model repeated its bits when the golden was recorded."""

    distinct_bit_patterns: Annotated[int, Field(gt=0)]
    fresh_processes: Count


class VariantPart(_Strict):
    """One harmless change, and what it did beside the drift of each token."""

    calibration: dict[str, Finite]
    context: dict[str, Finite] = {}
    correct_drift: int
    kl_top: Finite | None
    name: str
    num_top1_flips: Count


class NoisePart(_Strict):
    """What harmless changes did to the scores; their drifts lie in the side file."""

    distinct_bit_patterns: Annotated[int, Field(gt=0)]
    num_tokens: Annotated[int, Field(gt=0)]
    num_windows: Annotated[int, Field(gt=0)]
    untried: tuple[str, ...] = Field(strict=False)
    variants: tuple[VariantPart, ...] = Field(strict=False)


class ResourceRoundPart(_Strict):
    """One of the rounds that throughput and memory were repeated in."""

    disturbance: str | None
    efficiency: Finite | None
    peak_bytes: Count | None


class ResourceNoisePart(_Strict):
    """How throughput and memory repeated themselves."""

    part: bool
    rounds: tuple[ResourceRoundPart, ...] = Field(strict=False)


class TopPart(_Strict):
    """The likeliest tokens at a sample of the scored ones; their arrays lie in the side file."""

    num_likeliest: Annotated[int, Field(gt=0)]
    num_tokens: Count


class GoldenFile(_Strict):
    """The whole JSON file. `judged_sha256` covers everything but `provenance` and itself."""

    schema_version: int
    baseline: str
    device: str
    identity: dict[str, Any]
    metrics: MetricsPart
    calibration: CalibrationPart | None
    context: ContextPart | None
    probe: ProbePart | None
    strata: tuple[str, ...] = Field(strict=False)
    arrays: ArraysPart
    bit_stability: BitStabilityPart
    noise: NoisePart | None
    top: TopPart | None
    environment: dict[str, str]
    resources: dict[str, Leaf]
    resource_noise: ResourceNoisePart | None
    provenance: dict[str, str | bool | None]
    judged_sha256: Sha256


JUDGED_PARTS = (
    "schema_version",
    "baseline",
    "device",
    "identity",
    "metrics",
    "calibration",
    "context",
    "probe",
    "strata",
    "bit_stability",
    "noise",
    "top",
    "environment",
    "resources",
    "resource_noise",
)


def canonical(value: Any) -> bytes:
    """JSON that is the same for the same content: sorted keys, no spaces, exact floats, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def judged_sha256(content: Mapping[str, Any]) -> str:
    """The seal over the judged part and the hash of the arrays."""
    judged = {part: content[part] for part in (*JUDGED_PARTS, "arrays")}
    return hashlib.sha256(canonical(judged)).hexdigest()


def leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested mappings by its dotted name; a list of values is one, and so is an empty mapping."""
    if isinstance(value, Mapping) and value:
        for key in value:
            yield from leaves(value[key], f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from leaves(item, f"{prefix}.{index}")
    else:
        yield prefix, value


class Missing(Enum):
    """Stands for a value that one side lacks."""

    MISSING = "nothing"

    def __repr__(self) -> str:
        return self.value


def differing_leaves(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The leaves that two nested mappings do not share, by name, with the value on either side or `Missing`.

    1, 1.0 and true are equal in Python and different here. Where one side has emptied a mapping, what was in it is
    named and not the mapping.
    """
    before, after = dict(leaves(old)), dict(leaves(new))
    for name in sorted(before.keys() | after.keys()):
        left, right = before.get(name, Missing.MISSING), after.get(name, Missing.MISSING)
        emptied = {} in (left, right) and any(other.startswith(f"{name}.") for other in before.keys() | after.keys())
        if not emptied and (Missing.MISSING in (left, right) or canonical(left) != canonical(right)):
            yield name, left, right


def metrics_part(metrics: Metrics) -> dict[str, float | int]:
    """The metrics as the file holds them."""
    return {name: metrics.as_dict()[name] for name in sorted(METRIC_NAMES)}


def contradicted_metric(part: MetricsPart) -> str | None:
    """The name of a metric that does not follow from the sums and counts, or None."""
    if part.num_correct_tokens > part.num_scored_tokens:
        return "num_correct_tokens"
    derived = Metrics(
        nll_sum=part.nll_sum,
        num_scored_tokens=part.num_scored_tokens,
        num_correct_tokens=part.num_correct_tokens,
    ).as_dict()
    written = part.model_dump()
    return next(
        (
            name
            for name in ("mean_nll", "perplexity", "token_accuracy")
            # exp() may differ by an ulp between C libraries; an edit that small changes no verdict.
            if not math.isclose(derived[name], written[name], rel_tol=1e-14)
        ),
        None,
    )
