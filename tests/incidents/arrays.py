"""From the arrays of `score.py` to a record that our tiers judge."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from esa_pytest.evaluation.metrics import compute_metrics
from esa_pytest.evaluation.reference import PROBE_VERSION, rounded_at_probe
from esa_pytest.golden.environment import instruction_set
from esa_pytest.records import METRIC_NAMES, NonFinite, Probe, Record, TokenScores, TopProbabilities
from tests.incidents.jobs import Scored, sampled_tokens
from tests.incidents.score import POINT
from tests.incidents.subjects import Subject


def record_of(subject: Subject, found: Scored) -> Record:
    """The record of what a job gave; with its probe where that was asked for."""
    scores = scores_of(subject, found)
    non_finite = _first_non_finite(scores)
    return Record(
        baseline=subject.baseline.id,
        device="cpu",
        identity=_identity(subject, found),
        metrics=compute_metrics(scores) if non_finite is None else None,
        scores=scores,
        strata=subject.prepared.strata,
        environment=_environment(subject, found),
        resources={},
        provenance={},
        probe=_beside_scores(subject, probe_of(found), scores) if found.job.probed else None,
        top=top_of(subject, found),
        non_finite=non_finite,
    )


def scores_of(subject: Subject, found: Scored) -> TokenScores:
    """The per-token scores, in the order of the windows."""
    (rectangle,) = subject.prepared.rectangles
    windows, count = rectangle.targets.shape
    length = rectangle.input_ids.shape[1]
    return TokenScores(
        nll=found.arrays["nll"],
        argmax=found.arrays["argmax"],
        target=rectangle.targets.reshape(-1),
        position=np.tile(np.arange(length - count, length, dtype=np.int32), windows),
        window=np.repeat(np.arange(windows, dtype=np.int32), count),
        stratum=rectangle.strata.reshape(-1),
    )


def top_of(subject: Subject, found: Scored) -> TopProbabilities:
    """The likeliest tokens of the sampled ones."""
    return TopProbabilities(
        token=sampled_tokens(subject.prepared).astype(np.int32),
        ids=found.arrays["top_ids"],
        log_probability=found.arrays["top_log_probability"],
    )


def probe_of(found: Scored) -> Probe:
    """The float32 reference, with our own fingerprints of what its modules put out."""
    # `point/12/model.layers.3.mlp`: in the order of execution, which an archive need not keep.
    names = sorted((name for name in found.arrays if name.startswith(POINT)), key=lambda name: int(name.split("/")[1]))
    return Probe(
        version=PROBE_VERSION,
        nll=found.arrays["probe_nll"],
        points=tuple(name.split("/", 2)[2] for name in names),
        fingerprints=np.stack([found.arrays[name] for name in names]),
    )


def _beside_scores(subject: Subject, probe: Probe, scores: TokenScores) -> Probe:
    prepared = subject.prepared
    return replace(probe, window=prepared.probe_window, rounded_nll=rounded_at_probe(scores, prepared))


def _first_non_finite(scores: TokenScores) -> NonFinite | None:
    bad = np.flatnonzero(~np.isfinite(scores.nll))
    if not bad.size:
        return None
    return NonFinite(what="nll", window=int(scores.window[bad[0]]), token=int(scores.position[bad[0]]))


def _identity(subject: Subject, found: Scored) -> Mapping[str, Any]:
    """As `golden.assembly` has it of our own runs; architecture and dtype are those that the release loaded."""
    checkpoint, prepared, kind = subject.checkpoint, subject.prepared, subject.baseline.type
    return {
        "model": {"architecture": found.loaded["architecture"], "dtype": found.loaded["dtype"]},
        "checkpoint": {"config": checkpoint.config, "weights_sha256": checkpoint.weights_sha256},
        "tokenizer": {"sha256": checkpoint.tokenizer_sha256},
        "corpus": {name: {"sha256": digest} for name, digest in prepared.corpora_sha256.items()},
        "windows": {
            "bos": subject.baseline.model.bos,
            "context_lengths": prepared.context_lengths,
            "seeds": list(kind.seeds),
            "stride": kind.stride,
            "sha256": prepared.windows_identity(),
        },
        "tokens": {"sha256": prepared.tokens_sha256()},
        "probe": {"sha256": prepared.probe_sha256()},
        "metrics": list(METRIC_NAMES),
    }


def _environment(subject: Subject, found: Scored) -> dict[str, str]:
    """What may change bits and not meaning, as the job and the release have it."""
    job, length = found.job, subject.prepared.context_lengths[0]
    reported = {name: value for name, value in found.loaded.items() if name not in ("architecture", "dtype")}
    return reported | {
        "batch_shapes": f"{job.windows_at_once}x{job.left_padding + length}",
        "cpu.instruction_set": instruction_set(),
        "cpu.threads": str(job.threads),
    }
