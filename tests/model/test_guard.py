"""What a guard hands out: drift counts from this process's own bits, and nothing is handed out where a check fails."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from esa_pytest.baselines.catalog import baseline_of, load_catalog
from esa_pytest.drift.rules import Rules
from esa_pytest.errors import GoldenMissingError, GuardError
from esa_pytest.measuring.shelf import ModelShelf
from esa_pytest.perturbation import Perturbation, PerturbedRun, Scale, guard
from esa_pytest.perturbation.guard import Guarded
from esa_pytest.perturbation.run import drift_of, perturbed_record
from esa_pytest.records import Outcome, TokenScores
from esa_pytest.settings import Settings, resolve, tool_table
from tests.model.guards import guarded_of, rebased
from tests.model.twins import LLAMA, ROOT

BASELINE = baseline_of(LLAMA, "smoke", load_catalog(tool_table(ROOT) or {}, folder=ROOT))


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> Settings:
    return replace(resolve(request.config), rules=Rules(), golden_dir=ROOT / "baselines_golden", root=ROOT)


def test_drift_counts_from_the_bits_of_this_process() -> None:
    """A golden of another machine has other bits; an unperturbed run has no drift from itself all the same."""
    guarded = rebased(guarded_of("llama"), shift=0.125)
    noise, scores = guarded.clean.noise, guarded.clean.scores
    assert noise is not None
    assert isinstance(scores, TokenScores)
    np.testing.assert_array_equal(noise.nll, scores.nll)


def test_guard_of_a_baseline_that_passes(settings: Settings) -> None:
    guarded = guard(BASELINE, settings, ModelShelf(device="cpu"))
    assert guarded.verdict is not None
    assert guarded.verdict.outcome.passed
    assert guarded.clean.probe is not None
    assert guarded.clean.probe_noise is not None
    name = "model.layers.2.mlp.up_proj.weight"
    with PerturbedRun(guarded, [Perturbation(parameter=name, kind=Scale(1.1))]) as run:
        drift = run.drift
    assert drift.verdict.outcome is Outcome.SEMANTIC_DRIFT
    assert drift.first_moved == "model.layers.2.mlp"
    assert not is_drift(guarded)


def is_drift(guarded: Guarded) -> bool:
    """Whether the clean run, judged as a perturbed one, is anything but identical."""
    done = guarded.evaluate("clean")
    record = perturbed_record(guarded, done, guarded.clean.probe, label="nothing")
    return drift_of(guarded, record).verdict.outcome is not Outcome.IDENTICAL


def test_guard_refuses_a_model_that_is_not_its_golden(settings: Settings) -> None:
    shelf = ModelShelf(device="cpu")
    network = shelf.get(BASELINE).model.network
    network.get_parameter("model.norm.weight").data.mul_(1.5)
    with pytest.raises(GuardError, match=r"llama-3.1-8b@tiny-smoke is .* before anything was perturbed"):
        guard(BASELINE, settings, shelf)


def test_guard_without_a_golden_says_how_to_record_one(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(GoldenMissingError, match="record one with: pytest -m smoke --snapshot-update"):
        guard(BASELINE, replace(settings, golden_dir=tmp_path), ModelShelf(device="cpu"))
