"""How far a run repeats itself: over rounds, in another batch shape, in a fresh process, and over its seeds."""

import numpy as np

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.evaluation.evaluate import Round, evaluate
from esa_pytest.evaluation.fresh import bits_of, scores_of_fresh_process
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.metrics import compute_metrics, subset
from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.records import Consistency, Metrics, Repeat, TokenScores

ROUND, BATCH_SHAPE, FRESH_PROCESS = "round", "batch shape", "fresh process"


def measure_consistency(baseline: Baseline, model: LoadedModel, rounds: list[Round]) -> Consistency | None:
    """Compare the first round with the others, and with what the baseline type asks for beyond; None if nothing.

    Args:
        baseline: its type says what is varied.
        model: the loaded model.
        rounds: the evaluated rounds, all finite.
    """
    kind = baseline.type
    if len(rounds) == 1 and len(kind.seeds) == 1 and not (kind.other_batch_shape or kind.fresh_process):
        return None
    first = rounds[0]
    repeats = [_repeat(ROUND, str(number), done.scores, first) for number, done in enumerate(rounds[1:], start=2)]
    impossible: list[str] = []
    if kind.other_batch_shape:
        if (other := first.prepared.in_another_shape()) is None:
            impossible.append("there is too little to score for another batch shape")
        else:
            repeats.append(_in_shape(baseline, model, other, first))
    if kind.fresh_process:
        repeats.append(_in_fresh_process(baseline, model, first))
    return Consistency(
        first=compute_metrics(first.scores),
        repeats=tuple(repeats),
        seeds=_seed_metrics(first),
        impossible=tuple(impossible),
    )


def _repeat(kind: str, detail: str, scores: TokenScores, first: Round) -> Repeat:
    return Repeat(
        kind=kind,
        detail=detail,
        metrics=compute_metrics(scores),
        bit_equal=bits_of(scores) == bits_of(first.scores),
    )


def _in_shape(baseline: Baseline, model: LoadedModel, other: Prepared, first: Round) -> Repeat:
    done = evaluate(
        model, other, seed=baseline.type.seeds[0], description=f"{baseline.id}, batches {other.batch_shapes}"
    )
    return _repeat(BATCH_SHAPE, done.batch_shapes, done.scores, first)


def _in_fresh_process(baseline: Baseline, model: LoadedModel, first: Round) -> Repeat:
    fresh = scores_of_fresh_process(baseline, device=model.device, batch_tokens=first.prepared.batch_tokens)
    return Repeat(
        kind=FRESH_PROCESS,
        detail="1",
        metrics=fresh.metrics,
        bit_equal=fresh.bits == bits_of(first.scores),
    )


def _seed_metrics(first: Round) -> dict[int, Metrics]:
    seeds = first.prepared.seed_of_window()[first.scores.window]
    return {int(seed): compute_metrics(subset(first.scores, seeds == seed)) for seed in np.unique(seeds)}
