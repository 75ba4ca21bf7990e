"""From an evaluated round to the record that is judged, kept and reported."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.evaluation.checkpoints import Checkpoint
from esa_pytest.evaluation.efficiency import forward_flops, matrix_product_flops_per_second
from esa_pytest.evaluation.evaluate import Round
from esa_pytest.evaluation.loading import LoadedModel, device_class, dtype_of
from esa_pytest.evaluation.metrics import compute_metrics
from esa_pytest.evaluation.preparation import Prepared
from esa_pytest.golden.environment import environment_of
from esa_pytest.records import METRIC_NAMES, NonFinite, Record


def assemble(
    baseline: Baseline,
    checkpoint: Checkpoint,
    model: LoadedModel,
    prepared: Prepared,
    rounds: Sequence[Round],
    *,
    provenance: dict[str, str | bool | None],
) -> Record:
    """The record of one evaluated baseline; scores are those of the first round, times the median of all."""
    done = rounds[0]
    non_finite, metrics = done.non_finite, None
    if non_finite is None:
        metrics = compute_metrics(done.scores)
        # Finite sums can still overflow in what follows from them.
        bad = next((name for name, value in metrics.as_dict().items() if not math.isfinite(value)), None)
        if bad is not None:
            non_finite, metrics = NonFinite(what=bad), None
    return Record(
        baseline=baseline.id,
        device=device_class(model.device),
        identity=_identity(baseline, checkpoint, model, prepared),
        metrics=metrics,
        scores=done.scores,
        strata=prepared.strata,
        environment=environment_of(model, prepared, head_split=done.head_split),
        resources=_resources(model, prepared, rounds),
        provenance=provenance,
        non_finite=non_finite,
    )


def _identity(baseline: Baseline, checkpoint: Checkpoint, model: LoadedModel, prepared: Prepared) -> dict[str, Any]:
    """All that tier 0 compares, the likeliest causes of a change first in `drift.identity`."""
    return {
        "model": {"architecture": type(model.network).__name__, "dtype": dtype_of(model.network)},
        "checkpoint": {"config": checkpoint.config, "weights_sha256": checkpoint.weights_sha256},
        "tokenizer": {"sha256": checkpoint.tokenizer_sha256},
        "corpus": {name: {"sha256": digest} for name, digest in prepared.corpora_sha256.items()},
        "windows": {
            "bos": baseline.model.bos,
            "context_lengths": list(baseline.type.context_lengths),
            "seeds": list(baseline.type.seeds),
            "stride": baseline.type.stride,
            "sha256": prepared.windows_identity(),
        },
        "tokens": {"sha256": prepared.tokens_sha256()},
        "metrics": list(METRIC_NAMES),
    }


def _resources(model: LoadedModel, prepared: Prepared, rounds: Sequence[Round]) -> dict[str, float | int | str | None]:
    timed = prepared.batches[1:] or prepared.batches
    seconds = statistics.median(done.timed_seconds for done in rounds)
    achieved = forward_flops(model.network, timed) / seconds
    ceiling = matrix_product_flops_per_second(model.network, num_tokens=timed[0].input_ids.size, device=model.device)
    return {
        "throughput_tokens_per_second": rounds[0].timed_tokens / seconds,
        "efficiency": achieved / ceiling,
        "achieved_flops_per_second": achieved,
        "matrix_product_flops_per_second": ceiling,
        "rounds": len(rounds),
        **rounds[0].peak_bytes,
    }
