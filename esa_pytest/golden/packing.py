"""A record as one byte string of JSON and arrays, and back: whatever is not to be trusted is refused by its field."""

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from esa_pytest.errors import GoldenError
from esa_pytest.evaluation.metrics import compute_metrics
from esa_pytest.golden import schema
from esa_pytest.golden.arrays import pack_arrays, unpack_arrays
from esa_pytest.golden.blocks import kept
from esa_pytest.golden.context_arrays import context_arrays, context_part, read_context
from esa_pytest.golden.noise_arrays import (
    is_finite,
    noise_arrays,
    noise_part,
    read_noise,
    read_top,
    top_arrays,
    top_part,
)
from esa_pytest.golden.part_arrays import Arrays
from esa_pytest.golden.probe_arrays import probe_arrays, probe_part, read_probe
from esa_pytest.records import (
    BitStability,
    BlockScores,
    Calibration,
    Metrics,
    Probe,
    ProbeNoise,
    Record,
    ResourceNoise,
    ResourceRound,
    TokenScores,
)

REMEDY = "restore it from version control, or record it anew with --snapshot-update"
# A plain run, repeated nowhere: it proves nothing about its bits.
UNMEASURED = BitStability(fresh_processes=0, distinct_bit_patterns=1)
_LENGTH = struct.Struct("<Q")


def pack(record: Record, *, npz_name: str) -> bytes:
    """A record as one byte string: the length of the JSON, the JSON, the npz.

    Raises:
        GoldenError: the record is not finite.
    """
    if record.non_finite is not None or record.metrics is None:
        raise GoldenError(f"A run of {record.baseline} that is not finite is never a golden.")
    if not _is_finite_probe(record.probe, record.probe_noise):
        raise GoldenError(
            f"The float32 reference of {record.baseline} is not finite, which is never a golden; find out what "
            f"overflows in float32 and not in bf16."
        )
    if not is_finite(record.noise, record.top):
        raise GoldenError(
            f"The noise of {record.baseline} is not finite, which is never a golden; find out which harmless change "
            f"overflows."
        )
    stability = record.bit_stability or UNMEASURED
    content: dict[str, Any] = {
        "schema_version": schema.SCHEMA_VERSION,
        "baseline": record.baseline,
        "device": record.device,
        "identity": record.identity,
        "metrics": schema.metrics_part(record.metrics),
        "calibration": None if record.calibration is None else asdict(record.calibration),
        "context": context_part(record.context),
        "probe": probe_part(record.probe, record.probe_noise),
        "strata": list(record.strata),
        "bit_stability": {
            "distinct_bit_patterns": stability.distinct_bit_patterns,
            "fresh_processes": stability.fresh_processes,
        },
        "noise": noise_part(record.noise),
        "top": top_part(record.top),
        "environment": dict(record.environment),
        "resources": dict(record.resources),
        "resource_noise": None if record.resource_noise is None else _resource_part(record.resource_noise),
        "provenance": dict(record.provenance),
    }
    content["arrays"] = {"file": npz_name}
    arrays = probe_arrays(record.probe, record.probe_noise) | noise_arrays(record.noise) | top_arrays(record.top)
    arrays |= context_arrays(record.context)
    npz = pack_arrays(kept(record.scores), schema.canonical(_sealed_part(content)), arrays)
    content["arrays"]["sha256"] = hashlib.sha256(npz).hexdigest()
    content["judged_sha256"] = schema.judged_sha256(content)
    text = json.dumps(content, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    return join_pair(text.encode(), npz)


def _is_finite_probe(probe: Probe | None, noise: ProbeNoise | None) -> bool:
    arrays: list[npt.NDArray[Any]] = [] if probe is None else [probe.nll, probe.fingerprints]
    if noise is not None:
        arrays += [noise.fingerprints, np.array([noise.rms, noise.maximum])]
    return all(bool(np.isfinite(array).all()) for array in arrays)


def unpack(data: bytes, *, name: str) -> Record:
    """The record of a byte string made by `pack`, every part of it checked.

    Args:
        data: what `pack` returned.
        name: what the golden is called in a message.

    Raises:
        GoldenError: a part is missing, malformed, of another schema, edited by hand, or not finite.
    """
    text, npz = split_pair(data)
    try:
        parts = _parsed(text, name=name)
        content = _validated(parts, name=name)
        scores, sealed, arrays = _sealed_arrays(content, npz, name=name)
        _refuse_edits(parts, sealed, name=name)
        _refuse_contradictions(content, scores, name=name)
        probe, probe_noise = read_probe(content.probe, _of_part(arrays, "probe_"), name=name)
        noise = read_noise(content.noise, _of_part(arrays, "noise_"), name=name)
        context = read_context(content.context, _of_part(arrays, "context_"), name=name)
        num_scored = content.metrics.num_scored_tokens
        top = read_top(content.top, _of_part(arrays, "top_"), num_scored=num_scored, name=name)
    except RecursionError:
        raise GoldenError(f"The golden {name} is nested too deeply to be read; {REMEDY}.") from None
    return Record(
        baseline=content.baseline,
        device=content.device,
        identity=content.identity,
        metrics=_read_metrics(content.metrics),
        scores=scores,
        strata=content.strata,
        environment=content.environment,
        resources=content.resources,
        provenance=content.provenance,
        bit_stability=BitStability(
            fresh_processes=content.bit_stability.fresh_processes,
            distinct_bit_patterns=content.bit_stability.distinct_bit_patterns,
        ),
        calibration=None if content.calibration is None else Calibration(**content.calibration.model_dump()),
        probe=probe,
        probe_noise=probe_noise,
        top=top,
        noise=noise,
        resource_noise=None if content.resource_noise is None else _read_resources(content.resource_noise),
        context=context,
    )


def _read_metrics(part: schema.MetricsPart) -> Metrics:
    """The counted ones, from which all others follow."""
    return Metrics(
        nll_sum=part.nll_sum,
        num_scored_tokens=part.num_scored_tokens,
        num_correct_tokens=part.num_correct_tokens,
    )


def _resource_part(noise: ResourceNoise) -> dict[str, Any]:
    return {"part": noise.part, "rounds": [asdict(done) for done in noise.rounds]}


def _read_resources(part: schema.ResourceNoisePart) -> ResourceNoise:
    rounds = tuple(ResourceRound(**done.model_dump()) for done in part.rounds)
    return ResourceNoise(rounds=rounds, part=part.part)


def _of_part(arrays: Arrays, prefix: str) -> Arrays:
    return {name: array for name, array in arrays.items() if name.startswith(prefix)}


def join_pair(text: bytes, npz: bytes) -> bytes:
    """The two files as one byte string: the length of the JSON, the JSON, the npz."""
    return _LENGTH.pack(len(text)) + text + npz


def split_pair(data: bytes) -> tuple[bytes, bytes]:
    """The JSON and the npz of a byte string made by `join_pair`."""
    (length,) = _LENGTH.unpack_from(data)
    return data[_LENGTH.size : _LENGTH.size + length], data[_LENGTH.size + length :]


def _parsed(text: bytes, *, name: str) -> dict[str, Any]:
    def refuse_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            keys = [key for key, _ in pairs]
            double = next(key for key in keys if keys.count(key) > 1)
            raise GoldenError(f"The golden {name} has the field {double!r} twice; {REMEDY}.")
        return found

    try:
        content = json.loads(text, object_pairs_hook=refuse_doubles)
    except (ValueError, RecursionError) as error:
        raise GoldenError(f"The golden {name} is no JSON, it may be cut short ({error}); {REMEDY}.") from None
    if not isinstance(content, dict):
        raise GoldenError(f"The golden {name} is no JSON object but a {type(content).__name__}; {REMEDY}.")
    for field, value in schema.leaves(content):
        if not _is_finite(value):
            raise GoldenError(f"The golden {name} is not finite in its field {field}; {REMEDY}.")
    return content


def _is_finite(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_finite(item) for item in value)
    if isinstance(value, Mapping):
        return all(_is_finite(item) for item in value.values())
    return not isinstance(value, float) or math.isfinite(value)


def _validated(content: dict[str, Any], *, name: str) -> schema.GoldenFile:
    version = content.get("schema_version")
    if version != schema.SCHEMA_VERSION or isinstance(version, bool):
        raise GoldenError(
            f"The golden {name} has the field schema_version {version!r}; this release reads "
            f"{schema.SCHEMA_VERSION}, so install the release that wrote it, or record it anew with --snapshot-update."
        )
    try:
        return schema.GoldenFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise GoldenError(f"The golden {name} is not valid in its field {field}: {first['msg']}; {REMEDY}.") from None


def _sealed_arrays(
    content: schema.GoldenFile, npz: bytes, *, name: str
) -> tuple[TokenScores | BlockScores, bytes, Arrays]:
    seen = hashlib.sha256(npz).hexdigest()
    if seen != content.arrays.sha256:
        raise GoldenError(
            f"The golden {name} does not match its arrays: the field arrays.sha256 is {content.arrays.sha256[:12]}…, "
            f"{content.arrays.file} has {seen[:12]}… ({len(npz)} bytes); {REMEDY}."
        )
    return unpack_arrays(npz, name=name)


def _refuse_edits(content: Mapping[str, Any], sealed: bytes, *, name: str) -> None:
    """Compare every judged field with the copy sealed in the arrays, then the seal itself."""
    try:
        recorded = json.loads(sealed)
        edited = next(schema.differing_leaves(recorded, _sealed_part(content)), None)
    except (ValueError, AttributeError):
        raise GoldenError(f"The golden {name} is damaged: its arrays hold no sealed copy; {REMEDY}.") from None
    if edited is not None:
        field, before, now = edited
        raise GoldenError(
            f"The golden {name} was edited by hand in its field {field}: it says {now!r}, recorded was {before!r}; "
            f"{REMEDY}."
        )
    if schema.judged_sha256(content) != content["judged_sha256"]:
        raise GoldenError(f"The golden {name} was edited by hand: its field judged_sha256 does not fit; {REMEDY}.")


def _sealed_part(content: Mapping[str, Any]) -> dict[str, Any]:
    """What travels inside the arrays: the judged parts, and the name of the file that holds them."""
    return {part: content[part] for part in schema.JUDGED_PARTS} | {"arrays": {"file": content["arrays"]["file"]}}


def _refuse_contradictions(content: schema.GoldenFile, scores: TokenScores | BlockScores, *, name: str) -> None:
    recomputed = schema.metrics_part(metrics_of(scores))
    written = content.metrics.model_dump()
    # Sums of blocks are rounded once each, and their sum once more.
    tolerance = 0.0 if isinstance(scores, TokenScores) else 1e-12
    for field in ("nll_sum", "num_scored_tokens", "num_correct_tokens"):
        if not math.isclose(written[field], recomputed[field], rel_tol=tolerance, abs_tol=0.0):
            raise GoldenError(
                f"The golden {name} contradicts itself in its field metrics.{field}: it says {written[field]!r}, "
                f"its arrays give {recomputed[field]!r}; {REMEDY}."
            )
    if (derived := schema.contradicted_metric(content.metrics)) is not None:
        raise GoldenError(
            f"The golden {name} contradicts itself in its field metrics.{derived}: it says {written[derived]!r}, "
            f"its sums and counts give {recomputed[derived]!r}; {REMEDY}."
        )


def metrics_of(scores: TokenScores | BlockScores) -> Metrics:
    """The sums and counts of tokens or of blocks."""
    if isinstance(scores, TokenScores):
        return compute_metrics(scores)
    return Metrics(
        nll_sum=math.fsum(scores.nll_sum.tolist()),
        num_scored_tokens=int(scores.num_tokens.sum()),
        num_correct_tokens=int(scores.num_correct.sum()),
    )
