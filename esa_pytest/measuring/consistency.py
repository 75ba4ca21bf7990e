"""How far a run repeats itself: over rounds, in another batch shape, in a fresh process, and over its seeds."""

import numpy as np

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.drift.judge import environment_changes
from esa_pytest.errors import EvaluationError
from esa_pytest.evaluation.evaluate import Round, evaluate
from esa_pytest.evaluation.fresh import bits_of, scores_of_fresh_process
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.metrics import compute_metrics, subset
from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.records import Consistency, Metrics, Record, Repeat

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
    repeats = [_repeat(ROUND, str(number), done, first) for number, done in enumerate(rounds[1:], start=2)]
    impossible: list[str] = []
    if kind.other_batch_shape:
        if (other := first.prepared.in_another_shape()) is None:
            impossible.append("there is too little to score for another batch shape")
        else:
            repeats.append(_in_shape(baseline, model, other, first))
    if kind.fresh_process and model.ranks > 1:
        impossible.append("a fresh process would not have the other ranks")
    elif kind.fresh_process:
        repeats.append(_in_fresh_process(baseline, model, first))
    return Consistency(
        first=compute_metrics(first.scores),
        repeats=tuple(repeats),
        seeds=_seed_metrics(first),
        impossible=tuple(impossible),
    )


def refuse_broken_promise(measured: Record, consistency: Consistency | None, golden: Record | None) -> None:
    """Where the golden's environment proved equal bits from process to process, a repeat with others is no accident.

    Raises:
        EvaluationError: a fresh process gave other bits than this one.
    """
    if consistency is None or golden is None or not golden.bits_proven:
        return
    if environment_changes(golden.environment, measured.environment):
        return
    for repeat in consistency.repeats:
        if repeat.kind == FRESH_PROCESS and not repeat.bit_equal:
            raise EvaluationError(
                f"A fresh process gave other bits for {measured.baseline} than this one, and three of them gave equal "
                f"bits when its golden was recorded in this environment; look for bad memory, or for a kernel that is "
                f"not deterministic."
            )


def _repeat(kind: str, detail: str, done: Round, first: Round) -> Repeat:
    return Repeat(
        kind=kind,
        detail=detail,
        metrics=compute_metrics(done.scores),
        bit_equal=_bits(done) == _bits(first),
    )


def _in_shape(baseline: Baseline, model: LoadedModel, other: Prepared, first: Round) -> Repeat:
    done = evaluate(
        model, other, seed=baseline.type.seeds[0], description=f"{baseline.id}, batches {other.batch_shapes}"
    )
    return _repeat(BATCH_SHAPE, done.batch_shapes, done, first)


def _in_fresh_process(baseline: Baseline, model: LoadedModel, first: Round) -> Repeat:
    fresh = scores_of_fresh_process(baseline, device=model.device, batch_tokens=first.prepared.batch_tokens)
    return Repeat(
        kind=FRESH_PROCESS,
        detail="1",
        metrics=fresh.metrics,
        bit_equal=fresh.bits == _bits(first),
    )


def _bits(done: Round) -> str:
    return bits_of(done.scores, done.beside)


def _seed_metrics(first: Round) -> dict[int, Metrics]:
    seeds = first.prepared.seed_of_window()[first.scores.window]
    return {int(seed): compute_metrics(subset(first.scores, seeds == seed)) for seed in np.unique(seeds)}
