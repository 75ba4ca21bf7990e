"""`esa list` and `esa report`: what is there of every baseline, and what its last run gave beside what was reported."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from esa_pytest.cli import main
from tests.plugin.conftest import Project

REMARK = (
    "reported: 2025-08-29, CUDA, bf16, on a short paragraph repeated to fill the window: no figures of running text"
)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No hub, and nothing in its cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub")))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """The lines of a command that succeeded."""
    capsys.readouterr()
    status = main(arguments)
    output, complaint = capsys.readouterr()
    assert (status, complaint) == (0, "")
    return output.splitlines()


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The complaint of a command that was refused."""
    capsys.readouterr()
    status = main(arguments)
    output, complaint = capsys.readouterr()
    assert (status, output) == (pytest.ExitCode.USAGE_ERROR, "")
    return complaint.strip()


def columns(lines: list[str], name: str) -> list[str]:
    """The cells of the one line that begins with a name."""
    (line,) = (line for line in lines if line.startswith(f"{name} "))
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


class TestList:
    def test_the_matrix_comes_first_and_the_rest_of_the_catalog_behind_it(
        self, project: Project, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lines = told(capsys, "list", "--esa-device", "cpu")
        assert columns(lines[:1], "baseline") == ["baseline", "golden (cpu)", "weights", "reported"]
        assert columns(lines[1:2], "tiny-smoke") == ["tiny-smoke", "none", "ready", "-"]
        assert lines[2:4] == ["", "in the catalog, and not in the matrix of this project:"]
        assert [line.split()[0] for line in lines[4:11]] == [
            "pythia-1.4b-smoke",
            "llama-3.1-8b-smoke",
            "llama-3.1-8b-standard",
            "phi-3-mini-4k-instruct-smoke",
            "phi-3-mini-4k-instruct-standard",
            "mistral-7b-v0.3-smoke",
            "mistral-7b-v0.3-standard",
        ]
        assert columns(lines, "llama-3.1-8b-standard") == [
            "llama-3.1-8b-standard",
            "none",
            "unreachable",
            "loss 0.0248",
            "ppl 1.0251",
            "acc 99.44%",
            "16.95 GiB",
            "24,277 tok/s",
        ]

    def test_a_reason_that_many_share_is_told_once(self, project: Project, capsys: pytest.CaptureFixture[str]) -> None:
        lines = told(capsys, "list")
        reason = "unreachable (7 baselines): HF_HUB_OFFLINE forbids to ask the hub, and its cache lacks the model"
        assert lines[-4:] == ["", reason, "", REMARK]
        assert "\n".join(lines).count("HF_HUB_OFFLINE") == 1

    def test_a_folder_that_is_not_there_is_unreachable(
        self, project: Project, capsys: pytest.CaptureFixture[str]
    ) -> None:
        project.add(str(project.checkpoint), "nowhere")
        lines = told(capsys, "list")
        assert columns(lines, "tiny-smoke") == ["tiny-smoke", "none", "unreachable", "-"]
        assert f"unreachable (1 baseline): there is no folder {project.pytester.path / 'nowhere'}" in lines

    def test_a_golden_is_shown_by_its_date(self, recorded: Project, capsys: pytest.CaptureFixture[str]) -> None:
        date = json.loads(recorded.golden.read_text(encoding="utf-8"))["provenance"]["utc"][:10]
        assert columns(told(capsys, "list"), "tiny-smoke") == ["tiny-smoke", date, "ready", "-"]

    def test_an_edited_golden_is_not_to_be_trusted(self, recorded: Project, capsys: pytest.CaptureFixture[str]) -> None:
        text = recorded.golden.read_text(encoding="utf-8")
        recorded.golden.write_text(
            text.replace('"num_scored_tokens": 256', '"num_scored_tokens": 257'), encoding="utf-8"
        )
        assert columns(told(capsys, "list"), "tiny-smoke")[1] == "not to be trusted"

    def test_a_golden_of_another_device_is_named(self, project: Project, capsys: pytest.CaptureFixture[str]) -> None:
        other = project.golden.with_name("cuda-sm90-bfloat16.json")
        other.parent.mkdir(parents=True)
        other.write_text("{}", encoding="utf-8")
        assert columns(told(capsys, "list"), "tiny-smoke")[1] == "none (cuda-sm90 only)"

    def test_nothing_is_loaded_or_run(
        self, project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr("esa_pytest.measuring.shelf.load_model")
        project.write_test("raise AssertionError('collected')")
        assert "collected" not in "\n".join(told(capsys, "list"))


class TestReport:
    def test_a_run_stands_with_what_it_measured(self, recorded: Project, capsys: pytest.CaptureFixture[str]) -> None:
        summary = json.loads((recorded.output / "results_summary.json").read_text(encoding="utf-8"))
        metrics, resources = summary["metrics"], summary["resources"]
        lines = told(capsys, "report")
        assert columns(lines, "baseline") == [
            "baseline",
            "outcome",
            "loss",
            "perplexity",
            "bits/byte",
            "accuracy",
            "tok/s",
            "peak GiB",
        ]
        assert columns(lines, "tiny-smoke") == [
            "tiny-smoke (cpu)",
            "recorded",
            f"{metrics['mean_nll']:.4f}",
            f"{metrics['perplexity']:.4f}",
            f"{metrics['mean_nll'] / math.log(2):.4f}",  # the tokens are bytes
            f"{metrics['token_accuracy']:.2%}",
            f"{resources['throughput_tokens_per_second']:,.0f}",
            f"{resources['peak_rss_bytes'] / 2**30:.2f}",
        ]
        assert lines[2:] == ["esa: 1 baseline", f"esa: the report is {recorded.output.parent / 'report.html'}"]

    def test_what_was_reported_stands_below_it(
        self, project: Project, bits_taken_for_stable: None, capsys: pytest.CaptureFixture[str]
    ) -> None:
        project.add("[tool.esa.models.tiny]", '[tool.esa.models."pythia-1.4b"]')
        project.add('["tiny"]', '["pythia-1.4b"]')
        project.record()
        lines = told(capsys, "report")
        assert lines[1].startswith("pythia-1.4b-smoke (cpu)  recorded")
        assert lines[2].split() == ["reported", "0.1826", "1.2004", "-", "96.88%", "8,507", "2.86"]
        assert lines[3:6] == ["", REMARK, "esa: 1 baseline"]

    def test_without_a_run_it_says_how_to_get_one(self, project: Project, capsys: pytest.CaptureFixture[str]) -> None:
        folder = project.pytester.path / "outputs/baselines"
        assert refusal(capsys, "report") == (
            f"esa: There is no run in {folder}; run pytest -m smoke first, or name the folder that holds some."
        )

    def test_the_folder_is_that_of_the_option(self, recorded: Project, capsys: pytest.CaptureFixture[str]) -> None:
        elsewhere = Path("elsewhere")
        (recorded.pytester.path / "outputs/baselines").rename(recorded.pytester.path / elsewhere)
        assert told(capsys, "report", "--esa-output-dir", str(elsewhere))[-2] == "esa: 1 baseline"


def test_an_option_of_the_projects_own_conftest_is_passed_over_and_ours_beside_it_holds(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    own = "def pytest_addoption(parser):\n    parser.addoption('--mine')\n    parser.addoption('--more')\n"
    project.pytester.makeconftest(own)
    project.configure(more='[tool.pytest.ini_options]\naddopts = "--mine=1 --more 2 --esa-device=cpu"\n')
    assert columns(told(capsys, "list"), "baseline")[1] == "golden (cpu)"
    project.configure(more='[tool.pytest.ini_options]\naddopts = "--mine=1 --esa-device=gpu"\n')
    assert refusal(capsys, "list").endswith("--esa-device is 'gpu'; valid devices are auto, cpu, cuda, cuda:N.")
    project.configure(more='[tool.pytest.ini_options]\naddopts = "--mine=1"\n')
    assert "unrecognized arguments: --esa-devise=cpu" in refusal(capsys, "list", "--esa-devise=cpu")


@pytest.mark.parametrize("command", ["list", "report"])
def test_a_wrong_setting_lists_the_valid_ones(
    project: Project, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    complaint = refusal(capsys, command, "--esa-device", "gpu")
    assert complaint.endswith("--esa-device is 'gpu'; valid devices are auto, cpu, cuda, cuda:N.")


def test_a_device_that_is_not_there_is_told(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    complaint = refusal(capsys, "list", "--esa-device", "cuda:3")
    assert complaint.startswith("esa: The device cuda:3 is not there: torch ")
    assert complaint.endswith("use --esa-device cpu, or check CUDA_VISIBLE_DEVICES and the installed torch.")


def test_an_unknown_command_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["lists"])
    assert ended.value.code == pytest.ExitCode.USAGE_ERROR
    assert "(choose from" in capsys.readouterr().err


def test_it_runs_on_its_own(project: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "esa_pytest.cli", "list", "-o", "esa_device=cpu"],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert columns(lines, "baseline") == ["baseline", "golden (cpu)", "weights", "reported"]
    assert columns(lines, "tiny-smoke") == ["tiny-smoke", "none", "ready", "-"]


@pytest.mark.parametrize("value", [["--esa-device", "gpu"], ["--esa-device=gpu"]])
def test_the_value_of_an_option_is_no_argument_of_a_command(
    project: Project, capsys: pytest.CaptureFixture[str], value: list[str]
) -> None:
    assert "--esa-device is 'gpu'" in refusal(capsys, "bisect", *value)
    assert "--esa-device is 'gpu'" in refusal(capsys, "bisect", *value, "tiny-smoke")
