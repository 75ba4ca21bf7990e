"""Whose rows a file holds: a sweep is taken up by itself alone, and the rows of any other are left as they are."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from esa_pytest.errors import SweepError
from esa_pytest.perturbation import Perturbation, Replace, Scale, Zero
from esa_pytest.perturbation.guard import Guarded
from esa_pytest.records import ResourceNoise
from esa_pytest.sensitivity import Listed, SingleWeights, sweep
from tests.model.guards import guarded_of

PLAN = SingleWeights(count=6, seed=5)


@pytest.fixture
def guarded() -> Guarded:
    return guarded_of("llama")


def test_rows_of_another_sweep_are_left_alone(guarded: Guarded, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    sweep(guarded, PLAN, path)
    content = path.read_bytes()
    with pytest.raises(SweepError, match="rows of a sweep whose perturbations differ"):
        sweep(guarded, SingleWeights(count=6, seed=6), path)
    scores: Any = guarded.clean.scores
    moved = replace(guarded, clean=replace(guarded.clean, scores=replace(scores, nll=scores.nll + 1)))
    with pytest.raises(SweepError, match="whose clean scores differ"):
        sweep(moved, PLAN, path)
    assert path.read_bytes() == content
    (tmp_path / "rows.csv.identity.json").unlink()
    with pytest.raises(SweepError, match="of which nothing is known"):
        sweep(guarded, PLAN, path)
    assert path.read_bytes() == content


def test_rows_that_were_judged_otherwise_are_left_alone(guarded: Guarded, tmp_path: Path) -> None:
    """Which tiers saw a perturbation depends on the rules, and on the noise that the golden holds."""
    path, clean = tmp_path / "rows.csv", guarded.clean
    sweep(guarded, PLAN, path)
    content = path.read_bytes()
    assert clean.noise is not None
    assert clean.probe_noise is not None
    prints = clean.probe_noise.fingerprints
    quieter = replace(clean.noise, variants=clean.noise.variants[1:])
    others: list[tuple[str, dict[str, Any]]] = [
        ("rules", {"rules": replace(guarded.rules, false_alarm_rate=0.05)}),
        ("rules", {"rules": replace(guarded.rules, tolerances={"rms": 0.5})}),
        ("noise", {"clean": replace(clean, noise=None)}),
        ("noise", {"clean": replace(clean, noise=quieter)}),
        ("noise", {"clean": replace(clean, probe_noise=replace(clean.probe_noise, rms=1.0))}),
        ("noise", {"clean": replace(clean, probe_noise=replace(clean.probe_noise, fingerprints=prints * 2))}),
        ("noise", {"clean": replace(clean, resource_noise=ResourceNoise(rounds=()))}),
    ]
    for what, changes in others:
        with pytest.raises(SweepError, match=f"rows of a sweep whose {what} differ; name another file"):
            sweep(replace(guarded, **changes), PLAN, path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("order", [[0, 2, 1], [1], [0, 1, 2, 3, 4, 5, 5]])
def test_rows_that_are_not_those_of_their_trials_are_refused(
    order: list[int], guarded: Guarded, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    sweep(guarded, PLAN, path)
    heading, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text(heading + "".join(lines[number] for number in order), encoding="utf-8")
    content = path.read_bytes()
    with pytest.raises(SweepError, match=r"^Row \d of .*rows\.csv is of 'zero model\..*; remove it and .*identity"):
        sweep(guarded, PLAN, path)
    assert path.read_bytes() == content


NORM, NEAR_ONE = "model.norm.weight", 1.0000001


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Perturbation(parameter=NORM, kind=Zero(), where=0), Perturbation(parameter=NORM, kind=Zero(), where=9)),
        (Perturbation(parameter=NORM, kind=Zero(), where=[0]), Perturbation(parameter=NORM, kind=Zero(), where=[9])),
        (Perturbation(parameter=NORM, kind=Scale(NEAR_ONE)), Perturbation(parameter=NORM, kind=Scale(NEAR_ONE + 1e-9))),
        (
            Perturbation(parameter=NORM, kind=Replace(torch.tensor(1.0)), where=0),
            Perturbation(parameter=NORM, kind=Replace(torch.tensor(2.0)), where=0),
        ),
    ],
)
def test_rows_of_a_plan_that_only_reads_alike_are_left_alone(
    one: Perturbation, other: Perturbation, guarded: Guarded, tmp_path: Path
) -> None:
    network = guarded.model.network
    assert Listed([one]).trials(network)[0].label == Listed([other]).trials(network)[0].label
    found = sweep(guarded, Listed([one]), tmp_path / "rows.csv")
    with pytest.raises(SweepError, match="rows of a sweep whose perturbations differ"):
        sweep(guarded, Listed([other]), tmp_path / "rows.csv")
    # NaN is not equal to itself.
    assert str(sweep(guarded, Listed([one]), tmp_path / "rows.csv")) == str(found)
