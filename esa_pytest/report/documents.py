"""The JSON documents of a run: the complete manifest, and the summary of its metrics."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from esa_pytest.golden.context_arrays import context_part
from esa_pytest.records import Consistency, Metrics, Record, ReliabilityBin, Verdict
from esa_pytest.report.advice import Advice

MANIFEST = "manifest.json"
SUMMARY = "results_summary.json"


class State(StrEnum):
    """What became of a baseline, in the words of a manifest."""

    PASSED = "passed"
    FAILED = "failed"
    RECORDED = "recorded"
    SKIPPED = "skipped"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a run is of.

    Attributes:
        baseline: the baseline's id.
        model: its model.
        type_name: its type.
        command: what runs its test alone.
        reported: what others reported of it; None where nobody did.
    """

    baseline: str
    model: str
    type_name: str
    command: str
    reported: Mapping[str, float | None] | None = None

    def as_dict(self) -> dict[str, Any]:
        """As both kinds of manifest begin."""
        return {
            "baseline": self.baseline,
            "model": self.model,
            "type": self.type_name,
            "test_command": self.command,
            "reported": None if self.reported is None else dict(self.reported),
        }


@dataclass(frozen=True, kw_only=True)
class Detail:
    """What is told of a run beside its record and its verdict.

    Attributes:
        seconds: wall time by part.
        notes: what a reader should know, a sentence each.
        consistency: how the run repeated itself; None where the baseline does not ask.
        num_bytes: of the text that was scored.
        reliability: the bins of its calibration; none where the baseline does not ask.
        golden: what it was compared with; None where there was nothing.
        golden_file: where that lies, or would.
        advice: what to do about it.
    """

    seconds: Mapping[str, float]
    notes: tuple[str, ...]
    consistency: Consistency | None
    num_bytes: int
    reliability: tuple[ReliabilityBin, ...]
    golden: Record | None
    golden_file: str
    advice: tuple[Advice, ...] = ()


def manifest(
    measured: Record, verdict: Verdict | None, *, outcome: str, subject: Subject, detail: Detail
) -> dict[str, Any]:
    """Everything that is known of a run: identity, environment, provenance, timings in parts, resources, verdict."""
    golden = detail.golden
    return subject.as_dict() | {
        "device": measured.device,
        "state": _state(verdict),
        "outcome": outcome,
        "reason": None if verdict is None else verdict.reason,
        "advice": [asdict(one) for one in detail.advice],
        "verdict": None if verdict is None else asdict(verdict) | {"tier": int(verdict.tier)},
        "metrics": _metrics(measured),
        "text": _text(measured, detail.num_bytes),
        "calibration": None if measured.calibration is None else asdict(measured.calibration),
        "context": context_part(measured.context),
        "reliability": [asdict(one) for one in detail.reliability],
        "consistency": None if detail.consistency is None else _consistency(detail.consistency),
        "non_finite": None if measured.non_finite is None else asdict(measured.non_finite),
        "identity": measured.identity,
        "environment": dict(measured.environment),
        "provenance": dict(measured.provenance),
        "resources": dict(measured.resources),
        "seconds": dict(detail.seconds),
        "golden": None if golden is None else _golden(golden),
        "golden_file": detail.golden_file,
        "notes": list(detail.notes),
    }


def unjudged_manifest(
    subject: Subject, *, skipped: bool, outcome: str, reason: str, provenance: Mapping[str, str | bool | None]
) -> dict[str, Any]:
    """What is known of a run that came to no verdict.

    Args:
        subject: what was to be judged.
        skipped: whether something that it needs could not be had here; else something is wrong.
        outcome: the class of the error that says so.
        reason: its sentence.
        provenance: of the run.
    """
    state = State.SKIPPED if skipped else State.ERROR
    return subject.as_dict() | {
        "device": None,
        "state": state,
        "outcome": outcome,
        "reason": reason,
        "verdict": None,
        "metrics": None,
        "provenance": dict(provenance),
    }


def _state(verdict: Verdict | None) -> State:
    if verdict is None:
        return State.RECORDED
    return State.PASSED if verdict.outcome.passed else State.FAILED


def _golden(golden: Record) -> dict[str, Any]:
    """What is shown of the golden; all else of it lies in its own files."""
    return {"utc": golden.provenance.get("utc"), "resources": dict(golden.resources)}


def _text(measured: Record, num_bytes: int) -> dict[str, float | int | None]:
    """How long the scored text is, and its NLL in bits a byte, which tokenizers cannot move."""
    nll_sum = None if measured.metrics is None else measured.metrics.nll_sum
    bits = None if nll_sum is None or num_bytes == 0 else nll_sum / math.log(2) / num_bytes
    return {"num_bytes": num_bytes, "bits_per_byte": bits}


def results_summary(
    measured: Record,
    *,
    outcome: str,
    strata: Mapping[str, Metrics],
    consistency: Consistency | None,
    reported: Mapping[str, float | None] | None,
    verdict: Verdict | None = None,
) -> dict[str, Any]:
    """The condensed metrics of a run, and what tier 6 says of its resources."""
    return {
        "baseline": measured.baseline,
        "device": measured.device,
        "outcome": outcome,
        "metrics": _metrics(measured),
        "calibration": None if measured.calibration is None else asdict(measured.calibration),
        "context": context_part(measured.context),
        "consistency": None if consistency is None else _consistency(consistency),
        "strata": {name: metrics.as_dict() for name, metrics in strata.items()},
        "resources": dict(measured.resources),
        "resources_judged": [asdict(drift) for drift in (() if verdict is None else verdict.resources)],
        "reported": None if reported is None else dict(reported),
    }


def _consistency(consistency: Consistency) -> dict[str, Any]:
    return {
        "repeats": [
            {"kind": r.kind, "detail": r.detail, "bit_equal": r.bit_equal, "metrics": r.metrics.as_dict()}
            for r in consistency.repeats
        ],
        "seeds": {str(seed): metrics.as_dict() for seed, metrics in consistency.seeds.items()},
        "impossible": list(consistency.impossible),
    }


def as_json(document: Mapping[str, Any]) -> bytes:
    """A document as valid JSON; what is NaN or infinite becomes null, which its `non_finite` explains."""
    return (json.dumps(_finite(document), sort_keys=True, indent=2, allow_nan=False) + "\n").encode()


def _metrics(measured: Record) -> dict[str, float | int] | None:
    return None if measured.metrics is None else measured.metrics.as_dict()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
