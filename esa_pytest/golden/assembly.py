"""From an evaluated round to the record that is judged, kept and reported."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.evaluation.calibration import calibrate
from esa_pytest.evaluation.checkpoints import Checkpoint
from esa_pytest.evaluation.context import measure_context, metric_names
from esa_pytest.evaluation.efficiency import ceiling_of, forward_flops
from esa_pytest.evaluation.evaluate import Round
from esa_pytest.evaluation.loading import LoadedModel, device_class, dtype_of
from esa_pytest.evaluation.metrics import compute_metrics
from esa_pytest.golden.environment import environment_of
from esa_pytest.records import (
    CALIBRATION_NAMES,
    METRIC_NAMES,
    Calibration,
    LongContext,
    Metrics,
    NonFinite,
    Record,
)


@dataclass(frozen=True, kw_only=True)
class RoundSums:
    """What a round comes to: its metrics, or the first value in it that is no number."""

    metrics: Metrics | None = None
    calibration: Calibration | None = None
    context: LongContext | None = None
    non_finite: NonFinite | None = None


def assemble(
    baseline: Baseline,
    checkpoint: Checkpoint,
    model: LoadedModel,
    rounds: Sequence[Round],
    *,
    provenance: dict[str, str | bool | None],
) -> Record:
    """The record of one evaluated baseline; scores are those of the first round, times the median of all."""
    done = rounds[0]
    sums = summed_up(done)
    return Record(
        baseline=baseline.id,
        device=device_class(model.device),
        identity=_identity(baseline, checkpoint, model, done),
        metrics=sums.metrics,
        scores=done.scores,
        strata=done.prepared.strata,
        environment=environment_of(model, done, packages=baseline.packages),
        resources=resources_of(model, rounds),
        provenance=provenance,
        calibration=sums.calibration,
        top=done.top if sums.non_finite is None else None,
        context=sums.context,
        non_finite=sums.non_finite,
    )


def summed_up(done: Round) -> RoundSums:
    """The metrics of a round, or what keeps it from having any."""
    if done.non_finite is not None:
        return RoundSums(non_finite=done.non_finite)
    metrics = compute_metrics(done.scores)
    calibration = None if done.probabilities is None else calibrate(done.scores, done.probabilities)
    context = _context(done)
    # Finite sums can still overflow in what follows from them.
    if (bad := _first_non_finite(metrics, calibration, context)) is not None:
        return RoundSums(non_finite=NonFinite(what=bad))
    return RoundSums(metrics=metrics, calibration=calibration, context=context)


def _context(done: Round) -> LongContext | None:
    texts = done.prepared.context
    if texts is None or done.beside is None:
        return None
    return measure_context(
        done.scores,
        done.beside,
        texts,
        long_window=done.prepared.probe_window,
    )


def _first_non_finite(metrics: Metrics, calibration: Calibration | None, context: LongContext | None) -> str | None:
    values = metrics.as_dict()
    if calibration is not None:
        values |= {name: getattr(calibration, name) for name in CALIBRATION_NAMES}
        values |= {f"entropy at {label}": value for label, value in calibration.entropy_by_position.items()}
    if context is not None:
        values |= context.metrics
    return next((name for name, value in values.items() if not math.isfinite(value)), None)


def _identity(baseline: Baseline, checkpoint: Checkpoint, model: LoadedModel, done: Round) -> dict[str, Any]:
    """All that tier 0 compares, the likeliest causes of a change first in `drift.identity`."""
    prepared = done.prepared
    texts = prepared.context
    beside = {} if texts is None else {"context": {"sha256": texts.sha256()}}
    return beside | {
        "model": {"architecture": type(model.network).__name__, "dtype": dtype_of(model.network)},
        "checkpoint": {"config": checkpoint.config, "weights_sha256": checkpoint.weights_sha256},
        "tokenizer": {"sha256": checkpoint.tokenizer_sha256},
        "corpus": {name: {"sha256": digest} for name, digest in prepared.corpora_sha256.items()},
        "windows": {
            "bos": baseline.model.bos,
            "context_lengths": prepared.context_lengths,
            "seeds": list(baseline.type.seeds),
            "stride": baseline.type.stride,
            "sha256": prepared.windows_identity(),
        },
        "tokens": {"sha256": prepared.tokens_sha256()},
        "probe": {"sha256": prepared.probe_sha256()},
        "metrics": [
            *METRIC_NAMES,
            *(CALIBRATION_NAMES if baseline.type.calibration else ()),
            *(() if texts is None else metric_names(done.scores, texts)),
        ],
    }


def resources_of(model: LoadedModel, rounds: Sequence[Round]) -> dict[str, float | int | str | None]:
    """What some rounds used: the median of their times, memory and conditions of the first, any disturbance of all."""
    seconds = statistics.median(done.timed_seconds for done in rounds)
    disturbances = [found for done in rounds if (found := done.conditions["disturbance"])]
    return {
        "throughput_tokens_per_second": rounds[0].timed_tokens / seconds,
        "timed_seconds": seconds,
        **_efficiency(model, rounds),
        "rounds": len(rounds),
        **rounds[0].peak_bytes,
        **rounds[0].conditions,
        "disturbance": disturbances[0] if disturbances else None,
    }


def _efficiency(model: LoadedModel, rounds: Sequence[Round]) -> dict[str, float | int | str | None]:
    """Achieved FLOP/s over those of the matrix products beside, all rounds together; each None without any."""
    flops = forward_flops(model.network, rounds[0].timed_batches)
    achieved = flops * len(rounds) / sum(done.timed_seconds for done in rounds)
    ceiling = ceiling_of([portion for done in rounds for portion in done.portions])
    told = ceiling is not None and math.isfinite(ceiling.error)
    return {
        "efficiency": None if ceiling is None else achieved / ceiling.flops_per_second,
        "efficiency_error": ceiling.error if told and ceiling is not None else None,
        "efficiency_freedom": 0 if ceiling is None else ceiling.freedom,
        "achieved_flops_per_second": achieved,
        "matrix_product_flops_per_second": None if ceiling is None else ceiling.flops_per_second,
    }
