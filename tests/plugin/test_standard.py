"""A standard baseline: seeds, context lengths and rounds, how far its run repeats itself, and what it is sure of."""

import json
import math
from dataclasses import dataclass, field

import pytest

from esa_pytest.evaluation.fresh import FreshScores
from esa_pytest.exit_status import Status
from tests.model.tiny import running_text
from tests.plugin.conftest import Project

FAILED = pytest.ExitCode.TESTS_FAILED
# Everything else is as the packaged type has it.
STANDARD = """
[tool.esa.types.standard]
corpora = ["mine"]
context_lengths = [32, 64]
scored_tokens = { cpu = 768, cuda = 768 }

[tool.esa.matrix]
standard = ["tiny"]
"""
OTHER_BITS = (
    "A fresh process gave other bits for tiny-standard than this one, and three of them gave equal bits when its "
    "golden was recorded in this environment; look for bad memory, or for a kernel that is not deterministic."
)


@dataclass
class FakeProcess:
    """A fresh process that answers at once."""

    answer: FreshScores
    batches: list[int] = field(default_factory=list)

    def __call__(self, *_: object, batch_tokens: int, **__: object) -> FreshScores:
        self.batches.append(batch_tokens)
        return self.answer


@pytest.fixture
def standard(project: Project, bits_taken_for_stable: None) -> Project:
    text = (project.pytester.path / "pyproject.toml").read_text(encoding="utf-8")
    (project.pytester.path / "pyproject.toml").write_text(
        text[: text.index("[tool.esa.types.smoke]")] + STANDARD, encoding="utf-8"
    )
    project.write_text(running_text(4000))
    return project


@pytest.fixture
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> FakeProcess:
    """What the fresh process answers: other bits, of the mean loss 7."""
    answer = FreshScores(bits="others", nll_sum=7.0 * 768, num_scored_tokens=768, num_correct_tokens=0)
    process = FakeProcess(answer)
    monkeypatch.setattr("esa_pytest.measuring.consistency.scores_of_fresh_process", process)
    return process


def test_a_run_that_repeats_itself_says_so_in_lines_and_documents(standard: Project) -> None:
    result = standard.run("--snapshot-update")
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    result.stdout.fnmatch_lines(
        [
            "  recorded       baselines_golden/tiny__standard/cpu-bfloat16.json   loss *",
            "  throughput     *; batch 6x32 3x64",
            "  strata         mine * (768)",
            "  calibration    ECE 0.* · Brier ?.* · top-k mass 0.*",
            "  entropy        ?.* nats; by position 0-15 *.* · 16-63 *.*",
            "  consistency    1 more round: bit-equal",
            "                 1 other batch shape (1x32 1x64): *",
            "                 1 other fresh process: bit-equal",
            "                 over 3 seeds loss *.* ± *.*, perplexity *.* ± *.*, accuracy 0.* ± 0.*",
            "esa: judged 0 of 1, recorded 1",
        ]
    )
    folder = standard.output.parent / "tiny__standard"
    manifest, summary = (
        json.loads((folder / name).read_text(encoding="utf-8")) for name in ("manifest.json", "results_summary.json")
    )
    for part in ("calibration", "consistency", "metrics"):
        assert manifest[part] == summary[part]
    consistency = manifest["consistency"]
    assert [repeat["kind"] for repeat in consistency["repeats"]] == ["round", "batch shape", "fresh process"]
    assert [repeat["detail"] for repeat in consistency["repeats"]] == ["2", "1x32 1x64", "1"]
    assert [consistency["repeats"][index]["bit_equal"] for index in (0, 2)] == [True, True]
    assert consistency["repeats"][2]["metrics"] == manifest["metrics"]
    assert consistency["seeds"].keys() == {"1337", "123", "999"}
    assert sum(of_seed["nll_sum"] for of_seed in consistency["seeds"].values()) == pytest.approx(
        manifest["metrics"]["nll_sum"]
    )
    calibration = manifest["calibration"]
    assert 0 < calibration["mean_entropy"] < math.log(258)
    assert calibration["entropy_by_position"].keys() == {"0-15", "16-63"}


def test_a_fresh_process_with_other_bits_fails_in_the_goldens_environment(
    standard: Project, fresh_process: FakeProcess
) -> None:
    standard.record()
    result = standard.run()
    assert result.ret == Status.BROKEN
    result.stdout.fnmatch_lines([f"esa: tiny-standard could not be judged. {OTHER_BITS}"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.fnmatch_lines(["esa: judged 0 of 1"])
    # The batch of the run itself, not the one of the catalog alone.
    assert fresh_process.batches == [8192, 8192]


def test_in_another_environment_its_bits_are_only_reported(
    standard: Project, fresh_process: FakeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    standard.record()
    monkeypatch.setenv("MKL_CBWR_NOTE", "another environment")
    result = standard.run()
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "  identical      768 of 768 token NLLs bit-equal*",
            "    env.MKL_CBWR_NOTE  (none) -> another environment",
            "  consistency    1 more round: bit-equal",
            "                 1 other fresh process: other bits, loss differs by *, perplexity differs by *",
            "esa: judged 1 of 1",
        ]
    )


def test_more_rounds_are_asked_for_by_the_option(standard: Project, fresh_process: FakeProcess) -> None:
    result = standard.run("--snapshot-update", "--esa-rounds", "4")
    result.stdout.fnmatch_lines(["  consistency    3 more rounds: bit-equal"])


def test_a_text_with_too_few_windows_for_another_shape_says_so(standard: Project, fresh_process: FakeProcess) -> None:
    standard.add("context_lengths = [32, 64]", "context_lengths = [256]\nseeds = [1]")
    standard.add("{ cpu = 768", "{ cpu = 256")
    result = standard.run("--snapshot-update")
    result.stdout.fnmatch_lines(["* there is too little to score for another batch shape"])
    result.stdout.no_fnmatch_line("* other batch shape *")


def test_a_model_of_few_positions_leaves_a_context_length_out(standard: Project, fresh_process: FakeProcess) -> None:
    standard.add("[32, 64]", "[32, 512]")
    result = standard.run("--snapshot-update")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["  note: The context length 512 is left out: the model has 256 positions."])


def test_a_run_that_is_not_finite_is_not_repeated(standard: Project, fresh_process: FakeProcess) -> None:
    standard.write_test(
        "import torch\n"
        "def test_baseline(esa_baseline, esa_model):\n"
        "    with torch.no_grad():\n"
        "        esa_model.model.norm.weight[0] = float('nan')\n"
        "    esa_baseline.check()\n"
    )
    result = standard.run("--snapshot-update")
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(["esa: tiny-standard is non-finite, decided by tier 1 (finite):"])
    result.stdout.no_fnmatch_line("  consistency *")
    assert fresh_process.batches == []
