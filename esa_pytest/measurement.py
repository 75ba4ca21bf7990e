"""Measure a baseline: prepare its text, evaluate every round, assemble the record."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.errors import EvaluationError
from esa_pytest.evaluation.evaluate import Round, evaluate
from esa_pytest.evaluation.fresh import bits_of
from esa_pytest.evaluation.loading import device_type
from esa_pytest.evaluation.metrics import stratum_metrics
from esa_pytest.evaluation.preparation import Prepared, prepare
from esa_pytest.golden.assembly import assemble
from esa_pytest.records import Metrics, Record
from esa_pytest.shelf import Shelved


class Benchmark(Protocol):
    """What is used of pytest-benchmark's fixture."""

    extra_info: dict[str, Any]

    def pedantic(self, target: Callable[[], None], *, rounds: int, iterations: int) -> object:
        """Time `rounds` calls of the target."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A record and how it came about.

    Attributes:
        record: this run's record.
        seconds: wall time by part.
        notes: what a reader should know of the texts.
        strata: the metrics of each stratum; none for a run that is not finite.
    """

    record: Record
    seconds: dict[str, float]
    notes: tuple[str, ...]
    strata: dict[str, Metrics]


def measure(
    baseline: Baseline,
    shelved: Shelved,
    *,
    rounds: int | None,
    benchmark: Benchmark | None,
    provenance: dict[str, str | bool | None],
) -> Measurement:
    """Evaluate a baseline and assemble its record.

    Args:
        baseline: what to evaluate.
        shelved: its loaded model.
        rounds: how often; None for what the baseline type says.
        benchmark: pytest-benchmark's fixture, which then keeps the times.
        provenance: for the record.

    Raises:
        EsaError: the text or the model is not what it should be, or two rounds gave other bits.
    """
    begin = time.perf_counter()
    prepared = prepare(baseline, shelved.model.tokenizer, device_type=device_type(shelved.model.device))
    ready = time.perf_counter()
    done = _evaluate_rounds(baseline, shelved, prepared, wanted=rounds or baseline.type.rounds, benchmark=benchmark)
    evaluated = time.perf_counter()
    record = assemble(baseline, shelved.checkpoint, shelved.model, prepared, done, provenance=provenance)
    if benchmark is not None:
        benchmark.extra_info.update(record.resources)
    seconds = {
        "locate": shelved.locate_seconds,
        "load": shelved.load_seconds,
        "prepare": ready - begin,
        "evaluate": evaluated - ready,
        "evaluate_first_round": done[0].seconds,
        "assemble": time.perf_counter() - evaluated,
    }
    strata = stratum_metrics(record.scores, record.strata) if record.metrics else {}
    return Measurement(record=record, seconds=seconds, notes=prepared.notes, strata=strata)


def _evaluate_rounds(
    baseline: Baseline, shelved: Shelved, prepared: Prepared, *, wanted: int, benchmark: Benchmark | None
) -> list[Round]:
    """Every round, timed by pytest-benchmark where it is there; all must give the same bits."""
    rounds: list[Round] = []

    def one_round() -> None:
        description = f"{baseline.id}, round {len(rounds) + 1} of {wanted}"
        rounds.append(evaluate(shelved.model, prepared, seed=baseline.type.seeds[0], description=description))

    if benchmark is not None:
        benchmark.pedantic(one_round, rounds=wanted, iterations=1)
    # A disabled benchmark (under xdist, say) runs its target once whatever it is asked.
    while len(rounds) < wanted:
        one_round()
    patterns = {bits_of(done.scores) for done in rounds}
    if len(patterns) > 1:
        raise EvaluationError(
            f"{wanted} rounds of {baseline.id} in one process gave {len(patterns)} bit patterns; one is expected, "
            f"so look for a kernel that is not deterministic, or set --esa-rounds 1."
        )
    return rounds
