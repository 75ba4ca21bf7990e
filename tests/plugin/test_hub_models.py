"""The four models of the hub, offline: their twins lie in a cache of the hub's layout, under the pinned commits."""

import shutil
from pathlib import Path

import pytest

from esa_pytest.baselines.catalog import load_catalog
from esa_pytest.baselines.sources import HubModel
from tests.plugin.conftest import Project

TWINS = Path(__file__).parents[1] / "twins"
PYPROJECT = """
[tool.esa.types.smoke]
context_lengths = [64]
scored_tokens = { cpu = 256, cuda = 256 }

[tool.esa.matrix]
smoke = ["pythia-1.4b", "llama-3.1-8b", "phi-3-mini-4k-instruct", "mistral-7b-v0.3"]
"""


@pytest.fixture
def hub_cache(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub that holds every hub model of the catalog, in small."""
    cache = pytester.path / "hub"
    for name, model in load_catalog({}, folder=pytester.path).models.items():
        if isinstance(model, HubModel):
            repository = cache / f"models--{model.repo.replace('/', '--')}"
            shutil.copytree(TWINS / f"{name}@tiny", repository / "snapshots" / model.revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return cache


@pytest.fixture
def hub_project(project: Project, hub_cache: Path, bits_taken_for_stable: None) -> Project:
    project.pytester.path.joinpath("pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    return project


def test_all_four_are_recorded_and_judged_by_their_own_ids(hub_project: Project) -> None:
    recorded = hub_project.run("--snapshot-update")
    assert recorded.ret == pytest.ExitCode.OK, recorded.stdout.str()
    recorded.stdout.fnmatch_lines(["esa: judged 0 of 4, recorded 4"])

    judged = hub_project.run()
    assert judged.ret == pytest.ExitCode.OK
    judged.assert_outcomes(passed=4)
    identical = "  identical      256 of 256 token NLLs bit-equal*"
    judged.stdout.fnmatch_lines(
        [
            "test_it.py::test_baseline[[]pythia-1.4b-smoke]",
            identical,
            "  reported       loss 0.1826  ppl 1.2004  acc 96.88%  2.86 GiB  8,507 tok/s (2025-08-29, *",
            "test_it.py::test_baseline[[]llama-3.1-8b-smoke]",
            identical,
            "test_it.py::test_baseline[[]phi-3-mini-4k-instruct-smoke]",
            identical,
            "test_it.py::test_baseline[[]mistral-7b-v0.3-smoke]",
            identical,
            "esa: judged 4 of 4",
        ]
    )


def test_one_that_is_missing_in_the_cache_is_skipped_beside_the_others(hub_project: Project, hub_cache: Path) -> None:
    hub_project.add(
        '"pythia-1.4b", "llama-3.1-8b", "phi-3-mini-4k-instruct", "mistral-7b-v0.3"', '"pythia-1.4b", "llama-3.1-8b"'
    )
    assert hub_project.run("--snapshot-update").ret == pytest.ExitCode.OK
    shutil.rmtree(hub_cache / "models--meta-llama--Llama-3.1-8B")
    result = hub_project.run("-rs")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "esa: judged 1 of 2",
            (
                "SKIPPED [[]1] *: The model meta-llama/Llama-3.1-8B at d04e592bb4f6 is not in the hub's cache, and "
                "HF_HUB_OFFLINE forbids to ask the hub; connect to the hub, or bring the cache from a machine that can "
                "(HF_HUB_CACHE)."
            ),
        ]
    )
