"""What the fixtures `esa_perturb` and `esa_sensitivity` hand out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from esa_pytest.check.guarded import GuardedBaseline
from esa_pytest.errors import EsaError, GuardError, PerturbationError
from esa_pytest.perturbation import Perturbation, PerturbedRun, perturbation
from esa_pytest.perturbation.places import Where
from esa_pytest.sensitivity import Listed, Plan, Sweep, sweep


class Perturb:
    """Perturb the weights of a guarded baseline's model.

    with esa_perturb("model.layers.1.mlp.down_proj.weight", zero=[(3, 17)]) as run:
        assert run.drift.mean_nll > 0.5
    """

    def __init__(self, baseline: GuardedBaseline) -> None:
        self._baseline = baseline

    def __call__(
        self, first: str | Perturbation, *more: Perturbation, at: Where = None, seed: int | None = None, **kind: Any
    ) -> PerturbedRun:
        """A block in which the weights are perturbed; the baseline's own check comes first, once a loaded model.

        Args:
            first: a parameter's name, with a keyword for what is done to it (see `perturbation`), or a `Perturbation`.
            *more: further perturbations, applied in order.
            at: of which numbers; all where nothing is said.
            seed: of `noise`.
            **kind: as `zero=[(3, 17)]`, or `scale=1.5` with `at`.
        """
        guarded = self._baseline.guard()
        try:
            asked = _asked(first, at=at, seed=seed, kind=kind)
            return PerturbedRun(guarded, [asked, *more], if_broken=self._baseline.drop_model)
        except (PerturbationError, GuardError) as error:
            refusal = str(error)
        # Outside the except clause, so that pytest shows the sentence and not where it came from.
        raise pytest.fail.Exception(f"esa: {self._baseline.id} is not perturbed. {refusal}", pytrace=False)


class Sensitivity:
    """Sweep over perturbations of a guarded baseline's model.

    sweep = esa_sensitivity(SingleWeights(count=200, seed=0), to=f"outputs/{esa_baseline.id}.csv")
    """

    def __init__(self, baseline: GuardedBaseline) -> None:
        self._baseline = baseline

    def __call__(self, plan: Plan | Sequence[Perturbation], *, to: str | Path) -> Sweep:
        """Run every trial that has no row yet; the baseline's own check comes first, once a loaded model.

        Args:
            plan: what is perturbed: one of `esa_pytest.sensitivity`'s plans, or perturbations, one a row.
            to: the file of the rows, .csv or .parquet; a sweep that was killed is taken up again by the same call.
        """
        guarded = self._baseline.guard()
        try:
            asked = Listed(plan) if isinstance(plan, Sequence) else plan
            return sweep(guarded, asked, Path(to), if_broken=self._baseline.drop_model)
        except EsaError as error:
            refusal = str(error)
        raise pytest.fail.Exception(f"esa: {self._baseline.id} is not swept. {refusal}", pytrace=False)


def _asked(first: str | Perturbation, *, at: Where, seed: int | None, kind: dict[str, Any]) -> Perturbation:
    if isinstance(first, str):
        return perturbation(first, at=at, seed=seed, **kind)
    if kind or at is not None or seed is not None:
        raise PerturbationError("A Perturbation is given with keywords beside it; these belong to a name.")
    return first
