"""A user's project in a folder of its own: a tiny real Llama, a text, a pyproject.toml and one test."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# pytester forgets the modules that an inner run imported: what is heavy is imported out here, once. So are the models,
# since transformers keeps their classes and no longer finds their source, and then refuses to switch their attention.
from transformers import GPTNeoXForCausalLM, LlamaForCausalLM, MistralForCausalLM, Phi3ForCausalLM  # noqa: F401

import esa_pytest.check.guarded  # noqa: F401
from esa_pytest.options import OPTIONS
from esa_pytest.records import BitStability
from tests.model.tiny import running_text, saved_tiny
from tests.threads import one_thread_a_worker  # noqa: F401  (a fixture of every test here)

TEXT = running_text(1000)
PYPROJECT = """
[tool.esa.models.tiny]
path = "{checkpoint}"
bos = "{bos}"

[tool.esa.corpora.mine]
path = "mine.txt"

[tool.esa.types.smoke]
corpora = ["mine"]
context_lengths = [32]
scored_tokens = {{ cpu = 256, cuda = 256 }}

[tool.esa.matrix]
smoke = ["tiny"]
"""
# As the fixture `bits_taken_for_stable` does, for runs in processes of their own.
TAKEN_FOR_STABLE = """
import pytest

@pytest.fixture(autouse=True, scope="session")
def bits_taken_for_stable():
    from esa_pytest.measuring import probing
    from esa_pytest.records import BitStability
    with pytest.MonkeyPatch.context() as patch:
        stable = BitStability(fresh_processes=3, distinct_bit_patterns=1)
        patch.setattr(probing, "measure_bit_stability", lambda *_, **__: stable)
        patch.setattr(probing, "other_processors", lambda *_, **__: ({}, ()))
        yield
"""
TEST = """
def test_baseline(esa_baseline):
    esa_baseline.check()
"""


# Of a model that no machine has: no test asks the hub for it.
OF_THE_HUB = 'repo = "org/name"\nrevision = "0123456789abcdef0123456789abcdef01234567"'


@dataclass(frozen=True, kw_only=True)
class Project:
    """A user's project."""

    pytester: pytest.Pytester
    checkpoint: Path

    @property
    def golden(self) -> Path:
        return self.pytester.path / "baselines_golden/tiny__smoke/cpu-bfloat16.json"

    @property
    def output(self) -> Path:
        return self.pytester.path / "outputs/baselines/tiny__smoke"

    def configure(self, *, bos: str = "none", more: str = "") -> None:
        text = PYPROJECT.format(checkpoint=self.checkpoint, bos=bos)
        self.pytester.path.joinpath("pyproject.toml").write_text(text + more, encoding="utf-8")

    def add(self, old: str, new: str) -> None:
        """Change what stands in pyproject.toml."""
        path = self.pytester.path / "pyproject.toml"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    def write_test(self, source: str) -> None:
        self.pytester.path.joinpath("test_it.py").write_text(source, encoding="utf-8")

    def take_bits_for_stable(self) -> None:
        """Let runs in processes of their own record without fresh processes."""
        self.pytester.makeconftest(TAKEN_FOR_STABLE)

    def write_text(self, text: str) -> None:
        self.pytester.path.joinpath("mine.txt").write_text(text, encoding="utf-8")

    def run(self, *arguments: str) -> pytest.RunResult:
        return self.pytester.runpytest_inprocess("-p", "no:timeout", "-W", "default", *arguments)

    def run_apart(self, *arguments: str) -> pytest.RunResult:
        return self.pytester.runpytest_subprocess("-p", "no:timeout", *arguments)

    def record(self, *arguments: str) -> None:
        result = self.run("--snapshot-update", *arguments)
        assert result.ret == pytest.ExitCode.OK, result.stdout.str()

    def manifest(self) -> dict[str, Any]:
        content = json.loads((self.output / "manifest.json").read_text(encoding="utf-8"))
        assert isinstance(content, dict)
        return content


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_tiny("llama", tmp_path_factory)


@pytest.fixture
def project(pytester: pytest.Pytester, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    for option in OPTIONS:
        monkeypatch.delenv(option.variable, raising=False)
    # These tests may run in an xdist worker; the runs inside them do not.
    for variable in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
        monkeypatch.delenv(variable)
    made = Project(pytester=pytester, checkpoint=tiny_llama)
    made.configure()
    made.write_text(TEXT)
    made.write_test(TEST)
    return made


@pytest.fixture(scope="session")
def other_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_tiny("mistral", tmp_path_factory)


@pytest.fixture
def two_models(project: Project, other_checkpoint: Path) -> Project:
    """A project with a second model, and a test that has loaded neither."""
    project.add(
        "[tool.esa.corpora.mine]", f'[tool.esa.models.other]\npath = "{other_checkpoint}"\n\n[tool.esa.corpora.mine]'
    )
    project.add('smoke = ["tiny"]', 'smoke = ["tiny", "other"]')
    return project


@pytest.fixture
def bits_taken_for_stable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Record without fresh processes, for bits or for other processors, which cost seconds each and have tests."""
    stable: Callable[..., BitStability] = lambda *_, **__: BitStability(fresh_processes=3, distinct_bit_patterns=1)  # noqa: E731
    monkeypatch.setattr("esa_pytest.measuring.probing.measure_bit_stability", stable)
    monkeypatch.setattr("esa_pytest.measuring.probing.other_processors", lambda *_, **__: ({}, ()))


@pytest.fixture(scope="session")
def kept_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what the first recording of the untouched project wrote."""
    return tmp_path_factory.mktemp("recorded") / "kept"


@pytest.fixture
def recorded(project: Project, bits_taken_for_stable: None, kept_recording: Path) -> Project:
    """A project whose golden is recorded: once a session, since the same project gives the same golden."""
    if kept_recording.exists():
        shutil.copytree(kept_recording, project.pytester.path, dirs_exist_ok=True)
        return project
    project.record()
    for name in ("baselines_golden", "outputs"):
        shutil.copytree(project.pytester.path / name, kept_recording / name)
    return project
