"""The JSON documents of a run: the complete manifest, and the summary of its metrics."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from esa_pytest.golden.context_arrays import context_part
from esa_pytest.records import Consistency, Metrics, Record, Verdict


def manifest(
    measured: Record,
    verdict: Verdict | None,
    *,
    outcome: str,
    seconds: Mapping[str, float],
    notes: tuple[str, ...],
    consistency: Consistency | None,
    golden_file: str,
) -> dict[str, Any]:
    """Everything that is known of a run: identity, environment, provenance, timings in parts, resources, verdict."""
    return {
        "baseline": measured.baseline,
        "device": measured.device,
        "outcome": outcome,
        "verdict": None if verdict is None else asdict(verdict) | {"tier": int(verdict.tier)},
        "metrics": _metrics(measured),
        "calibration": None if measured.calibration is None else asdict(measured.calibration),
        "context": context_part(measured.context),
        "consistency": None if consistency is None else _consistency(consistency),
        "non_finite": None if measured.non_finite is None else asdict(measured.non_finite),
        "identity": measured.identity,
        "environment": dict(measured.environment),
        "provenance": dict(measured.provenance),
        "resources": dict(measured.resources),
        "seconds": dict(seconds),
        "golden_file": golden_file,
        "notes": list(notes),
    }


def results_summary(
    measured: Record,
    *,
    outcome: str,
    strata: Mapping[str, Metrics],
    consistency: Consistency | None,
    reported: Mapping[str, float] | None,
) -> dict[str, Any]:
    """The condensed metrics of a run."""
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
