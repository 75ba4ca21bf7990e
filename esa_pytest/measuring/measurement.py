"""Measure a baseline: prepare its text, evaluate every round, see how they agree, assemble the record."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.errors import EvaluationError
from esa_pytest.evaluation.evaluate import Round, evaluate
from esa_pytest.evaluation.fresh import bits_of
from esa_pytest.evaluation.metrics import stratum_metrics
from esa_pytest.evaluation.preparation import prepare_for
from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.evaluation.text_bytes import scored_bytes
from esa_pytest.golden.assembly import assemble
from esa_pytest.golden.environment import missing_package_notes
from esa_pytest.measuring.consistency import measure_consistency
from esa_pytest.measuring.shelf import Shelved
from esa_pytest.records import Consistency, Metrics, Record

# A context in which the work named by a phase ends with a sentence once its time is up.
Limit = Callable[[str], AbstractContextManager[None]]


class Benchmark(Protocol):
    """What is used of pytest-benchmark's fixture."""

    extra_info: dict[str, Any]
    disabled: bool

    def pedantic(self, target: Callable[[], None], *, rounds: int, iterations: int) -> object:
        """Time `rounds` calls of the target."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A record and how it came about.

    Attributes:
        record: this run's record.
        seconds: wall time by part.
        notes: what a reader should know of the texts and of the run.
        strata: the metrics of each stratum; none for a run that is not finite.
        consistency: how the run repeated itself; None where the baseline does not ask, or the run is not finite.
        first: the round that the record is of.
        num_bytes: of the text that was scored, as UTF-8.
    """

    record: Record
    seconds: dict[str, float]
    notes: tuple[str, ...]
    strata: dict[str, Metrics]
    consistency: Consistency | None
    first: Round
    num_bytes: int

    @property
    def prepared(self) -> Prepared:
        """What was scored, in the batches that fitted."""
        return self.first.prepared

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the wall time of a block to a part's."""
        begin = time.perf_counter()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - begin


def measure(
    baseline: Baseline,
    shelved: Shelved,
    *,
    rounds: int | None,
    benchmark: Benchmark | None,
    provenance: dict[str, str | bool | None],
    limit: Limit,
) -> Measurement:
    """Evaluate a baseline and assemble its record.

    Args:
        baseline: what to evaluate.
        shelved: its loaded model.
        rounds: how often; None for what the baseline type says.
        benchmark: pytest-benchmark's fixture, which then keeps the times.
        provenance: for the record.
        limit: guards the time of the phase `evaluate`.

    Raises:
        EsaError: the text or the model is not what it should be, or two rounds gave other bits.
    """
    begin = time.perf_counter()
    model = shelved.model
    prepared = prepare_for(model, baseline, hub=shelved.hub)
    ready = time.perf_counter()
    with limit("evaluate"):
        done = _evaluate_rounds(baseline, shelved, prepared, wanted=rounds or baseline.type.rounds, benchmark=benchmark)
        evaluated = time.perf_counter()
        consistency = measure_consistency(baseline, model, done) if done[0].non_finite is None else None
    repeated = time.perf_counter()
    record = assemble(baseline, shelved.checkpoint, model, done, provenance=provenance)
    num_bytes = scored_bytes(prepared, model.tokenizer)
    seconds = {
        **shelved.seconds,
        "prepare": ready - begin,
        "evaluate": evaluated - ready,
        "evaluate_first_round": done[0].seconds,
        "consistency": repeated - evaluated,
        "assemble": time.perf_counter() - repeated,
    }
    return Measurement(
        record=record,
        seconds=seconds,
        notes=(
            *model.notes,
            *prepared.notes,
            *_halving_notes(prepared, done[0]),
            *missing_package_notes(baseline.packages),
        ),
        strata=stratum_metrics(done[0].scores, record.strata) if record.metrics else {},
        consistency=consistency,
        first=done[0],
        num_bytes=num_bytes,
    )


def _evaluate_rounds(
    baseline: Baseline, shelved: Shelved, prepared: Prepared, *, wanted: int, benchmark: Benchmark | None
) -> list[Round]:
    """Every round, timed by pytest-benchmark where it is there; all must give the same bits."""
    rounds: list[Round] = []

    def one_round() -> None:
        rounds.append(
            evaluate(
                shelved.model,
                # What fitted once fits again, and all rounds have one shape.
                rounds[0].prepared if rounds else prepared,
                seed=baseline.type.seeds[0],
                description=f"{baseline.id}, round {len(rounds) + 1} of {wanted}",
                probabilities=baseline.type.calibration,
            )
        )

    if benchmark is not None:
        benchmark.pedantic(one_round, rounds=wanted, iterations=1)
    # A disabled benchmark (under xdist, say) runs its target once whatever it is asked.
    while len(rounds) < wanted:
        one_round()
    patterns = {bits_of(done.scores, done.beside) for done in rounds}
    if len(patterns) > 1:
        raise EvaluationError(
            f"{wanted} rounds of {baseline.id} in one process gave {len(patterns)} bit patterns; one is expected, "
            f"so look for a kernel that is not deterministic, or set --esa-rounds 1."
        )
    return rounds


def _halving_notes(asked: Prepared, done: Round) -> list[str]:
    if not done.halvings:
        return []
    times = "once" if done.halvings == 1 else f"{done.halvings} times"
    note = (
        f"The device ran out of memory, so the batch was halved {times}: {done.batch_shapes} instead of "
        f"{asked.batch_shapes}; all tokens were scored again in the smaller one."
    )
    return [note]
