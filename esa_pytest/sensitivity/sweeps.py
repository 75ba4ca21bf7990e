"""Perturb a guarded model again and again, and keep a row of each: what was done, and how far the model drifted."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from tqdm import tqdm
from transformers import PreTrainedModel

from esa_pytest.errors import GuardError, PerturbationError, SweepError
from esa_pytest.evaluation.finiteness import decoder_layers
from esa_pytest.perturbation.guard import Guarded, refuse_changed
from esa_pytest.perturbation.reversible import Applied, perturbed_names, refuse_malformed
from esa_pytest.perturbation.run import Drift
from esa_pytest.sensitivity.bench import Bench
from esa_pytest.sensitivity.heat_map import write_heat_map
from esa_pytest.sensitivity.identity import identity_of
from esa_pytest.sensitivity.plans import Plan, Trial, layer_matrices
from esa_pytest.sensitivity.ranking import grid_of, ranked
from esa_pytest.sensitivity.rows import Row, RowFile, write_parquet
from esa_pytest.sensitivity.stream import layer_index

CSV, PARQUET = ".csv", ".parquet"
# What rows have in the place of a parameter's name where a trial perturbed more than one.
ALL_MATRICES, SEVERAL = "all matrices", "several parameters"


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The rows of a sweep, in its order.

    Attributes:
        rows: one a trial.
        path: the file that holds them.
        title: of what, for pictures.
    """

    rows: tuple[Row, ...]
    path: Path
    title: str

    def ranking(self, most: int | None = None) -> list[Row]:
        """The rows by how far they moved the loss, the largest first."""
        return ranked(self.rows)[:most]

    def heat_map(self, path: str | Path) -> None:
        """Draw the largest effect by decoder layer and matrix.

        Raises:
            SweepError: matplotlib is not installed, or no decoder layer was perturbed.
        """
        write_heat_map(grid_of(self.rows), Path(path), title=self.title)


def sweep(
    guarded: Guarded,
    plan: Plan,
    to: Path,
    *,
    shared: bool = True,
    if_broken: Callable[[], None] = lambda: None,
) -> Sweep:
    """Run every trial of a plan that has no row yet.

    A row is on the disk before the next trial begins, so a sweep that was killed goes on where it stopped, and ends
    with the rows it would have had. Where the file is to be parquet, it is written at the end, and the rows grow in a
    CSV file beside it.

    Args:
        guarded: the model, which has passed its check.
        plan: what is perturbed.
        to: a .csv or .parquet file.
        shared: whether forward passes are shared.
        if_broken: called where the model is not what it was, before the error is raised.

    Raises:
        SweepError: the file has another ending, or holds the rows of another sweep or other ones than this sweep's, or
            a parquet file is asked for without pyarrow.
        PerturbationError: the plan holds no trial, two of the same label, or one that is impossible.
        GuardError: the model is not what it was when it passed its check.
        RestorationError: the weights are not what they were.
    """
    _refuse_other_ending(to)
    _refuse_within_a_block(guarded)
    refuse_changed(guarded, if_broken=if_broken)
    trials = plan.trials(guarded.model.network)
    _refuse_unusable(trials)
    file = RowFile(to.with_suffix(CSV), identity_of(guarded, trials))
    with file.held():
        rows = file.resume()
        _refuse_rows_of_others(rows, trials, file)
        if len(rows) < len(trials):
            bench = Bench(guarded, shared=shared, if_broken=if_broken)
            for trial in _with_progress(trials, done=len(rows), description=f"{guarded.baseline.id}, sensitivity"):
                row = row_of(guarded, trial, *bench.drift(trial))
                file.append(row)
                rows.append(row)
        if to.suffix == PARQUET:
            write_parquet(rows, to)
    title = f"{guarded.baseline.id}: {len(rows)} perturbations"
    return Sweep(rows=tuple(rows), path=to, title=title)


def _with_progress(trials: Sequence[Trial], *, done: int, description: str) -> Iterator[Trial]:
    """The trials that are left to do."""
    yield from tqdm(trials[done:], desc=description, unit="perturbation", initial=done, total=len(trials), disable=None)


def _refuse_within_a_block(guarded: Guarded) -> None:
    """Before a file is begun: what is chosen by size would be chosen of the perturbed weights."""
    if perturbed := perturbed_names(guarded.model.network):
        raise GuardError(
            f"The sweep of {guarded.baseline.id} begins within a block that perturbs {min(perturbed)}, and drift would "
            f"be of that too; sweep outside of every block."
        )


def _refuse_other_ending(to: Path) -> None:
    """In `sweep-1.05` what stands behind the dot is no ending, and `sweep-1.01` would be the same file."""
    if to.suffix not in (CSV, PARQUET):
        raise SweepError(
            f"The rows of a sweep are to be kept in {to}, whose name ends in {to.suffix or 'nothing'}; let it end in "
            f"{CSV} or {PARQUET}."
        )


def _refuse_unusable(trials: Sequence[Trial]) -> None:
    if not trials:
        raise PerturbationError("A sweep has no perturbation to try; give a plan that names at least one.")
    for trial in trials:
        for each in trial.perturbations:
            refuse_malformed(each)
    labels = [trial.label for trial in trials]
    twice = (
        next((label for label in labels if labels.count(label) > 1), None) if len(set(labels)) < len(labels) else None
    )
    if twice is not None:
        raise PerturbationError(
            f"A sweep has two perturbations that are called {twice!r}; each needs a label of its own."
        )


def _refuse_rows_of_others(rows: Sequence[Row], trials: Sequence[Trial], file: RowFile) -> None:
    """The same sweep has the same rows in the same order; somebody else's hand may have been in the file."""
    for number, (row, trial) in enumerate(zip_longest(rows, trials[: len(rows)]), start=1):
        if trial is None or row.label != trial.label:
            wanted = "no such row" if trial is None else repr(trial.label)
            raise SweepError(
                f"Row {number} of {file.path} is of {row.label!r} where this sweep has {wanted}, so something else has "
                f"written to it; remove it and {file.identity_path} to begin anew."
            )


def row_of(guarded: Guarded, trial: Trial, applied: Sequence[Applied], drift: Drift) -> Row:
    """One trial as a row.

    Args:
        guarded: the model.
        trial: what was tried.
        applied: what it did to the weights.
        drift: what came of it.
    """
    layer, parameter = _filed_under(guarded.model.network, {each.parameter for each in trial.perturbations})
    single = applied[0] if len(applied) == 1 else None
    return Row(
        label=trial.label,
        layer=-1 if layer is None else layer,
        parameter=parameter,
        num_changed=sum(each.num_changed for each in applied),
        before=math.nan if single is None or single.before is None else single.before,
        after=math.nan if single is None or single.after is None else single.after,
        finite=not math.isnan(drift.mean_nll),
        mean_nll=drift.mean_nll,
        mean_nll_error=drift.mean_nll_error,
        perplexity=drift.perplexity,
        token_accuracy=drift.token_accuracy,
        rms=drift.rms,
        maximum=drift.maximum,
        reference_rms=drift.reference_rms,
        first_moved=drift.first_moved or "",
        seen_by=" ".join(tier.name.lower() for tier in drift.seen_by),
    )


def _filed_under(network: PreTrainedModel, names: set[str]) -> tuple[int | None, str]:
    """The layer of some parameters and the name of what they are; the effect of several is not that of one of them."""
    if len(names) == 1:
        name = next(iter(names))
        return layer_index(network, name), name
    # A model with experts may have thousands of matrices: its layers are looked for once.
    for index, (layer, _) in enumerate(decoder_layers(network)):
        if all(name.startswith(f"{layer}.") for name in names):
            of_layer = {name for name, _ in layer_matrices(network) if name.startswith(f"{layer}.")}
            return index, ALL_MATRICES if names == of_layer else SEVERAL
    return None, SEVERAL
