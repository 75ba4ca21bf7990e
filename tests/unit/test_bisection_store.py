"""Trials outlive the process that made them, whole or not at all."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.bisection.command import Request, _folder, facts_here
from esa_pytest.bisection.search import Standing
from esa_pytest.bisection.store import TrialStore, folder_for
from esa_pytest.bisection.trial import MovedPackage, Trial
from esa_pytest.drift.rules import DEFAULT_RULES, Rules
from esa_pytest.errors import EsaError
from tests.model.tiny import tiny_baseline
from tests.unit.builders import small_record

GOLDEN = "a" * 64


def trial(*packages: str, standing: Standing = Standing.MEANING) -> Trial:
    return Trial(
        moved=tuple(MovedPackage(package=package, version="1.0", here=None) for package in packages),
        companions=(MovedPackage(package="hub", version="1", here="2"),),
        standing=standing,
        outcome="within-noise",
        tier=5,
        reason="other bits",
        num_compared=8,
        num_changed=3,
        mean=1e-3,
        maximum=0.1,
        reference_rms=1e-6,
        environment=(("cpu.threads", "2", None),),
        inputs=("tokens.sha256",),
        notes=("A note.",),
        seconds=1.5,
    )


@pytest.mark.parametrize("packages", [(), ("torch",), ("torch", "numpy"), tuple(f"package-{n}" for n in range(40))])
def test_a_trial_comes_back_as_it_was(tmp_path: Path, packages: tuple[str, ...]) -> None:
    made = trial(*packages)
    TrialStore(tmp_path).write(made)
    assert TrialStore(tmp_path).read(frozenset(packages)) == made


def test_trials_of_other_packages_are_apart(tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    store.write(trial("torch"))
    assert store.read(frozenset({"torch", "numpy"})) is None
    assert store.read(frozenset()) is None


@pytest.mark.parametrize("standing", Standing)
def test_only_what_was_measured_is_kept(tmp_path: Path, standing: Standing) -> None:
    """What could not be had, or did not run, may be otherwise at the next call."""
    TrialStore(tmp_path).write(trial("torch", standing=standing))
    kept = TrialStore(tmp_path).read(frozenset({"torch"})) is not None
    assert kept == (standing not in (Standing.UNOBTAINABLE, Standing.BROKEN))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"moved": []}', b"\xff"])
def test_a_torn_trial_is_made_again(tmp_path: Path, content: bytes) -> None:
    store = TrialStore(tmp_path)
    store.write(trial("torch"))
    (tmp_path / "trials/torch.json").write_bytes(content)
    assert store.read(frozenset({"torch"})) is None


def test_a_trial_under_another_name_is_not_believed(tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    store.write(trial("torch"))
    (tmp_path / "trials/torch.json").rename(tmp_path / "trials/numpy.json")
    assert store.read(frozenset({"numpy"})) is None


def test_two_bisections_do_not_share_a_folder(tmp_path: Path) -> None:
    with TrialStore(tmp_path).alone(), pytest.raises(EsaError) as caught, TrialStore(tmp_path).alone():
        pytest.fail("two at once")
    assert str(caught.value) == (
        f"Another esa bisect is at work in {tmp_path}; wait for it, or give another folder with --work-dir."
    )
    with TrialStore(tmp_path).alone():
        """The lock was given back."""


def test_what_a_killed_trial_left_is_removed(tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    (store.scratch / "half").mkdir(parents=True)
    with store.alone():
        assert list(store.scratch.iterdir()) == []


def test_the_environments_go_and_the_trials_stay(tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    store.write(trial("torch"))
    (store.overlays / "torch").mkdir(parents=True)
    store.clear_overlays()
    assert not store.overlays.exists()
    assert store.read(frozenset({"torch"})) is not None


class TestFolder:
    """One folder a question: whatever may change the answer leads to another."""

    @pytest.fixture
    def baseline(self, tmp_path: Path) -> Baseline:
        (tmp_path / "checkpoint").mkdir()
        for name in ("checkpoint/config.json", "corpus.txt"):
            (tmp_path / name).write_text("text", encoding="utf-8")
        return tiny_baseline(tmp_path / "checkpoint", tmp_path / "corpus.txt")

    def test_the_same_question_has_the_same_folder(self, tmp_path: Path, baseline: Baseline) -> None:
        folder = folder_for(tmp_path, baseline, GOLDEN, {"a": "1", "b": "2"}, DEFAULT_RULES)
        assert folder == folder_for(tmp_path, baseline, GOLDEN, {"b": "2", "a": "1"}, DEFAULT_RULES)
        assert folder.parent == tmp_path
        assert folder.name.startswith("tiny__tiny-")

    def test_another_golden_or_environment_is_another_question(self, tmp_path: Path, baseline: Baseline) -> None:
        folders = {
            folder_for(tmp_path, baseline, GOLDEN, {}, DEFAULT_RULES),
            folder_for(tmp_path, baseline, "b" * 64, {}, DEFAULT_RULES),
            folder_for(tmp_path, baseline, GOLDEN, {"version.torch": "2"}, DEFAULT_RULES),
            folder_for(tmp_path, baseline.model_copy(update={"packages": ("x",)}), GOLDEN, {}, DEFAULT_RULES),
        }
        assert len(folders) == 4

    @pytest.mark.parametrize("rules", [Rules(false_alarm_rate=1e-3), Rules(tolerances={"mean_nll": 0.5})])
    def test_other_rules_are_another_question(self, tmp_path: Path, baseline: Baseline, rules: Rules) -> None:
        """A standing is a verdict: what was judged by other rules is no answer."""

        def folder(by: Rules) -> Path:
            settings: Any = SimpleNamespace(device="cpu", rules=by)
            return _folder(settings, Request(work_dir=tmp_path), baseline, small_record())

        assert folder(DEFAULT_RULES) == folder(Rules())
        assert folder(rules) != folder(DEFAULT_RULES)

    @pytest.mark.parametrize("fact", ["cpu_model", "instruction_set"])
    def test_another_processor_is_another_question(
        self, fact: str, tmp_path: Path, baseline: Baseline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = folder_for(tmp_path, baseline, GOLDEN, facts_here(baseline, device="cpu"), DEFAULT_RULES)
        assert folder_for(tmp_path, baseline, GOLDEN, facts_here(baseline, device="cpu"), DEFAULT_RULES) == before
        monkeypatch.setattr(f"esa_pytest.golden.environment.{fact}", lambda: "another")
        assert folder_for(tmp_path, baseline, GOLDEN, facts_here(baseline, device="cpu"), DEFAULT_RULES) != before

    @pytest.mark.parametrize("name", ["checkpoint/config.json", "corpus.txt"])
    def test_another_file_is_another_question(self, tmp_path: Path, baseline: Baseline, name: str) -> None:
        before = folder_for(tmp_path, baseline, GOLDEN, {}, DEFAULT_RULES)
        (tmp_path / name).write_text("other text", encoding="utf-8")
        assert folder_for(tmp_path, baseline, GOLDEN, {}, DEFAULT_RULES) != before
