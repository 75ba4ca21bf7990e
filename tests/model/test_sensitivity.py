"""Sweeps: shared forward passes give the bits of whole ones, a killed sweep goes on, a planted weight is found."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from esa_pytest.errors import SweepError
from esa_pytest.perturbation import Perturbation, Replace, Scale, Zero
from esa_pytest.perturbation.guard import Guarded
from esa_pytest.perturbation.places import Largest, Selection, select
from esa_pytest.sensitivity import LargestWeights, Layers, Listed, Matrices, SingleWeights, Trial, ranking_lines, sweep
from esa_pytest.sensitivity.bench import Bench
from esa_pytest.sensitivity.identity import identity_of
from esa_pytest.sensitivity.ranking import grid_of
from esa_pytest.sensitivity.rows import COLUMNS, read_rows
from tests.model.guards import guarded_in, guarded_of
from tests.model.tiny import NUM_LAYERS, save_tiny
from tests.model.twins import state_of

PLAN = SingleWeights(count=6, seed=5)


class Together:
    """A plan of a single trial, of some parameters at once."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def trials(self, _network: PreTrainedModel) -> list[Trial]:
        places = [(name, 0 if number else 1) for number, name in enumerate(self._names)]
        together = tuple(Perturbation(parameter=name, kind=Zero(), where=place) for name, place in places)
        return [Trial(label="together", perturbations=together)]


@pytest.fixture
def guarded() -> Guarded:
    return guarded_of("llama")


def test_killed_sweep_goes_on_and_ends_with_the_same_rows(guarded: Guarded, tmp_path: Path) -> None:
    whole = sweep(guarded, PLAN, tmp_path / "whole.csv")
    assert len(whole.rows) == 6
    text = (tmp_path / "whole.csv").read_text(encoding="utf-8")
    assert tuple(text.splitlines()[0].split(",")) == COLUMNS
    for cut in (len(text.splitlines(keepends=True)[0]), len(text) // 3, len(text) // 2, len(text) - 1, len(text)):
        path = tmp_path / f"cut-{cut}.csv"
        path.write_text(text[:cut], encoding="utf-8")
        path.with_name(f"{path.name}.identity.json").write_bytes((tmp_path / "whole.csv.identity.json").read_bytes())
        again = sweep(guarded, PLAN, path)
        assert path.read_text(encoding="utf-8") == text
        assert again.rows == whole.rows


def test_row_is_written_before_the_next_trial_begins(
    guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, drift = tmp_path / "rows.csv", Bench.drift
    done: list[Trial] = []

    def interrupted(bench: Bench, trial: Trial) -> Any:
        assert len(read_rows(path.read_text(encoding="utf-8"), origin=path)) == len(done)
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(trial)
        return drift(bench, trial)

    monkeypatch.setattr(Bench, "drift", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep(guarded, PLAN, path)
    assert len(read_rows(path.read_text(encoding="utf-8"), origin=path)) == 3


def test_finished_sweep_evaluates_nothing(guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sweep(guarded, PLAN, tmp_path / "rows.csv")
    monkeypatch.setattr(Bench, "__init__", lambda *_, **__: pytest.fail("nothing is left to do"))
    assert sweep(guarded, PLAN, tmp_path / "rows.csv") == first


def test_the_largest_of_a_matrix_are_looked_for_once_whatever_the_trials(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def noted(where: Any, values: torch.Tensor) -> Selection:
        asked.append(where)
        return select(where, values)

    monkeypatch.setattr("esa_pytest.sensitivity.identity.select", noted)
    where = Largest(count=2)
    scaled = [Perturbation(parameter="model.norm.weight", kind=Scale(2.0 + step), where=where) for step in range(5)]
    identity_of(guarded, Listed(scaled).trials(guarded.model.network))
    assert asked == [where]


def test_parquet_holds_the_same_rows(guarded: Guarded, tmp_path: Path) -> None:
    found = sweep(guarded, PLAN, tmp_path / "rows.parquet")
    table = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert [row["label"] for row in table] == [row.label for row in found.rows]
    assert [row["mean_nll"] for row in table] == [row.mean_nll for row in found.rows]
    assert sweep(guarded, PLAN, tmp_path / "rows.parquet") == found


def test_planted_super_weight_is_found(tmp_path: Path) -> None:
    save_tiny("llama", tmp_path / "checkpoint")
    name = "model.layers.1.mlp.down_proj.weight"
    # A weight on which all depends: made by hand, in a checkpoint of its own.
    weights = load_file(tmp_path / "checkpoint/model.safetensors")
    weights[name][17, 3] = 30.0
    save_file(weights, tmp_path / "checkpoint/model.safetensors", metadata={"format": "pt"})
    guarded = guarded_in(tmp_path)
    found = sweep(guarded, LargestWeights(per_matrix=2), tmp_path / "rows.csv")
    first, second = found.ranking(2)
    assert (first.label, first.layer) == (f"zero {name}[17, 3]", 1)
    assert abs(first.mean_nll) > 1.5 * abs(second.mean_nll)
    assert first.before == 30.0
    assert first.after == 0.0
    assert "reference" in first.seen_by
    assert first.first_moved == "model.layers.1.mlp"
    assert f"zero {name}[17, 3]" in ranking_lines(found.rows)[1]
    found.heat_map(tmp_path / "map.svg")
    picture = (tmp_path / "map.svg").read_text(encoding="utf-8")
    assert picture.startswith("<?xml")
    assert "decoder layer" in picture or "<path" in picture


def test_run_that_is_not_finite_is_a_row_of_its_own_and_ranks_first(guarded: Guarded, tmp_path: Path) -> None:
    name = "model.layers.2.mlp.down_proj.weight"
    plan = Listed(
        [
            Perturbation(parameter=name, kind=Scale(3.0)),
            Perturbation(parameter=name, kind=Replace(math.nan), where=(0, 0)),
            Perturbation(parameter="model.norm.weight", kind=Scale(0.0)),
        ]
    )
    found = sweep(guarded, plan, tmp_path / "rows.csv")
    assert [row.finite for row in found.rows] == [True, False, True]
    assert [row.layer for row in found.rows] == [2, 2, -1]
    assert found.ranking(1)[0].label.startswith("1: replace by nan")
    assert found.rows[1].seen_by == "finite"
    found.heat_map(tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    # NaN is read back as it was written.
    assert str(sweep(guarded, plan, tmp_path / "rows.csv").rows) == str(found.rows)


@pytest.mark.parametrize("name", ["sweep-1.05", "sweep", "sweep.CSV", "sweep.json"])
def test_file_of_another_ending_is_refused_at_once(name: str, guarded: Guarded, tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=r"whose name ends in .*; let it end in \.csv or \.parquet\.$"):
        sweep(guarded, PLAN, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_sweep_of_no_layer_has_no_heat_map(guarded: Guarded, tmp_path: Path) -> None:
    found = sweep(guarded, Listed([Perturbation(parameter="model.norm.weight", kind=Zero())]), tmp_path / "rows.csv")
    with pytest.raises(SweepError, match="this sweep perturbed none"):
        found.heat_map(tmp_path / "map.svg")


def test_what_perturbs_several_parameters_is_filed_under_none_of_them(guarded: Guarded, tmp_path: Path) -> None:
    layers = sweep(guarded, Layers(), tmp_path / "layers.csv")
    assert [(row.layer, row.parameter) for row in layers.rows] == [(n, "all matrices") for n in range(NUM_LAYERS)]
    assert grid_of(layers.rows).matrices == ("all matrices",)
    layers.heat_map(tmp_path / "map.svg")
    assert str(read_rows((tmp_path / "layers.csv").read_text(encoding="utf-8"), origin=tmp_path)) == str(
        list(layers.rows)
    )
    assert "zero model.layers.1" in "".join(ranking_lines(layers.rows))


@pytest.mark.parametrize(
    ("names", "filed"),
    [
        (["model.layers.1.mlp.up_proj.weight"] * 2, (1, "model.layers.1.mlp.up_proj.weight")),
        (["model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.down_proj.weight"], (1, "several parameters")),
        (["model.layers.1.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"], (-1, "several parameters")),
        (["model.layers.1.mlp.up_proj.weight", "model.norm.weight"], (-1, "several parameters")),
        (["model.norm.weight", "lm_head.weight"], (-1, "several parameters")),
        (["lm_head.weight"], (-1, "lm_head.weight")),
    ],
)
def test_row_names_a_parameter_only_where_there_is_one(
    names: list[str], filed: tuple[int, str], guarded: Guarded, tmp_path: Path
) -> None:
    found = sweep(guarded, Together(names), tmp_path / "rows.csv")
    assert [(row.layer, row.parameter) for row in found.rows] == [filed]


def test_error_bar_is_that_of_the_paired_drift(guarded: Guarded, tmp_path: Path) -> None:
    """Zeroing a matrix moves every token; the error bar is their spread over blocks of the text."""
    found = sweep(guarded, Matrices(), tmp_path / "rows.csv")
    moved = [row for row in found.rows if row.rms > 0]
    assert len(moved) == len(found.rows)
    for row in moved:
        # Of independent tokens it would be rms over the root of their number; neighbours may resemble.
        assert 0.2 < row.mean_nll_error / (row.rms / math.sqrt(128)) < 3
    assert np.isfinite([row.reference_rms for row in moved]).all()


def test_sweep_leaves_the_model_as_it_was(guarded: Guarded, tmp_path: Path) -> None:
    before = state_of(guarded.model.network)
    sweep(guarded, PLAN, tmp_path / "rows.csv")
    assert state_of(guarded.model.network) == before
    assert not any("forward" in vars(module) for module in guarded.model.network.modules())
    assert torch.is_grad_enabled()


def test_sigkill_half_way(tmp_path: Path) -> None:
    """A real kill of a real process, at a moment of its choosing; the rows end as those of an undisturbed sweep."""
    command = [sys.executable, "-m", "tests.model.sweeping", str(tmp_path)]
    # Two processes that spin on the same cores are ten times slower.
    how: Any = {"cwd": Path(__file__).parents[2], "env": {**os.environ, "OMP_NUM_THREADS": "1"}}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, **how)
    path = tmp_path / "rows.csv"
    assert process.stdout is not None
    process.stdout.readline()
    while process.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < 4):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    killed = path.read_text(encoding="utf-8")
    assert 4 <= len(killed.splitlines()) < 41
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **how)
    resumed = path.read_text(encoding="utf-8")
    path.unlink()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **how)
    assert path.read_text(encoding="utf-8") == resumed
    assert len(resumed.splitlines()) == 41
