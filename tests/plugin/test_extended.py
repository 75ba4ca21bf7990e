"""An extended baseline: long contexts in chunks, what is told of them, and what fails."""

import json
from typing import Any

import pytest

from esa_pytest.evaluation import noise, probe_noise
from tests.model.tiny import running_text
from tests.plugin.conftest import Project

EXTENDED = """
[tool.esa.types.extended]
corpora = ["mine"]
seeds = [1]
scored_tokens = { cpu = 384, cuda = 384 }

[tool.esa.types.extended.context]
longest = { cpu = 4096, cuda = 4096 }
chunk_tokens = { cpu = 64, cuda = 64 }
short_tokens = 32
depths = 1
facts_a_depth = 1

[tool.esa.matrix]
extended = ["tiny"]
"""
DRIFTING = """
import torch

def test_baseline(esa_baseline, esa_model):
    with torch.no_grad():
        esa_model.model.layers[1].mlp.down_proj.weight[:, 3] = {value}
    esa_baseline.check()
"""


@pytest.fixture
def extended(project: Project, bits_taken_for_stable: None, monkeypatch: pytest.MonkeyPatch) -> Project:
    # Enough variants to judge by; a dozen are measured elsewhere.
    for module, name, value in ((noise, "NUM_FLIPS", 2), (noise, "LEAST_PATTERNS", 6), (probe_noise, "NUM_JITTERS", 1)):
        monkeypatch.setattr(module, name, value)
    path = project.pytester.path / "pyproject.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: text.index("[tool.esa.types.smoke]")] + EXTENDED, encoding="utf-8")
    project.write_text(running_text(3000))
    return project


def documents(project: Project) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = project.output.parent / "tiny__extended"
    manifest, summary = (
        json.loads((folder / name).read_text(encoding="utf-8")) for name in ("manifest.json", "results_summary.json")
    )
    return manifest, summary


def test_a_long_context_is_recorded_told_and_judged(extended: Project) -> None:
    result = extended.run("-m", "extended", "--snapshot-update")
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    result.stdout.fnmatch_lines(
        [
            "  recorded       baselines_golden/tiny__extended/cpu-bfloat16.json   loss *",
            "  noise          bf16 noise rms * (*chunks of 32 tokens, chunks of 16 tokens, *",
            "  throughput     *; batch 1x256 1x64",
            "  context        256 tokens; loss by position 0-15 *.* · 16-63 *.* · 64-255 *.*",
            "  gain           ?*.* nats a token: *.* with 33 tokens of context and more, *.* with 193 *, over 64 *",
            "  retrieval      0-100% *.* ± *.* nats an answer over its control; 2 facts a depth",
            "esa: judged 0 of 1, recorded 1",
        ]
    )
    manifest, summary = documents(extended)
    context = manifest["context"]
    assert context == summary["context"]
    assert [part["label"] for part in context["positions"]] == ["0-15", "16-63", "64-255"]
    assert sum(part["num_tokens"] for part in context["positions"]) == manifest["metrics"]["num_scored_tokens"] == 384
    assert sum(one["num_tokens"] for one in manifest["reliability"]) == 384
    assert manifest["environment"]["scoring.prefill_tokens"] == "64"

    again = extended.run("-m", "extended")
    assert again.ret == pytest.ExitCode.OK, again.stdout.str()
    again.stdout.fnmatch_lines(["  identical *", "esa: judged 1 of 1"])

    # Another chunk is another environment and the same experiment.
    extended.add("chunk_tokens = { cpu = 64", "chunk_tokens = { cpu = 128")
    other = extended.run("-m", "extended")
    assert other.ret == pytest.ExitCode.OK, other.stdout.str()
    other.stdout.fnmatch_lines(["*scoring.prefill_tokens  64 -> 128*"])

    extended.write_test(DRIFTING.format(value=0.0))
    drifted = extended.run("-m", "extended")
    assert drifted.ret == pytest.ExitCode.TESTS_FAILED
    drifted.stdout.fnmatch_lines(["esa: tiny-extended is semantic-drift*", "  context gain *±*(measured)*"])

    extended.write_test(DRIFTING.format(value="float('nan')"))
    broken = extended.run("-m", "extended")
    assert broken.ret == pytest.ExitCode.TESTS_FAILED
    broken.stdout.fnmatch_lines(["esa: tiny-extended is non-finite*", "*first in layer model.layers.1.mlp*window 0*"])
