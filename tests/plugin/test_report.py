"""What a run leaves of every baseline, judged or not, what `esa report` makes of it, and the status it ends with."""

import json
import shutil
from pathlib import Path
from typing import Any, NoReturn

import matplotlib.figure  # noqa: F401  (pytester forgets what an inner run imported)
import pytest

from esa_pytest.cli import main
from esa_pytest.exit_status import Status
from esa_pytest.measuring import measurement
from tests.plugin.conftest import OF_THE_HUB, Project

DRIFTING = """
import torch

def test_baseline(esa_baseline):
    if esa_baseline.id == "tiny-smoke":
        with torch.no_grad():
            esa_baseline.model.model.layers[1].mlp.down_proj.weight[3, 5] = 0.0
    esa_baseline.check()
"""


@pytest.fixture
def mixed(recorded: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project of one baseline with a golden, one whose model cannot be had, and one without a golden."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    recorded.add(
        "[tool.esa.corpora.mine]",
        f'[tool.esa.models.gone]\n{OF_THE_HUB}\n\n[tool.esa.models.new]\npath = "{recorded.checkpoint}"\n\n'
        "[tool.esa.corpora.mine]",
    )
    recorded.add('smoke = ["tiny"]', 'smoke = ["tiny", "gone", "new"]')
    return recorded


def manifest(project: Project, name: str) -> Any:
    return json.loads((project.output.parent / name / "manifest.json").read_text(encoding="utf-8"))


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    status = main(["report", *arguments])
    output, complaint = capsys.readouterr()
    assert (status, complaint) == (0, "")
    return output


def test_a_pass_a_skip_and_an_error_each_leave_their_manifest_and_are_reported(
    mixed: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mixed.run().ret == Status.BROKEN
    assert manifest(mixed, "tiny__smoke")["state"] == "passed"
    gone, new = manifest(mixed, "gone__smoke"), manifest(mixed, "new__smoke")
    assert (gone["state"], gone["outcome"]) == ("skipped", "HubUnreachableError")
    assert gone["reason"].startswith("The model org/name at ")
    assert (new["state"], new["outcome"]) == ("error", "GoldenMissingError")
    assert new["test_command"] == "pytest 'test_it.py::test_baseline[new-smoke]'"
    # What was measured can be accepted all the same.
    assert (mixed.output.parent / "new__smoke/record-cpu-bfloat16.json").exists()

    mixed.add('"new"]', '"new", "never"]')
    mixed.add("[tool.esa.models.new]", '[tool.esa.models.never]\npath = "nowhere"\n\n[tool.esa.models.new]')
    lines = printed(capsys).splitlines()
    page = mixed.output.parent / "report.html"
    assert [line.split()[0] for line in lines[1:4]] == ["gone-smoke", "new-smoke", "tiny-smoke"]
    assert lines[4:7] == [
        "",
        f"gone-smoke is not judged: {gone['reason']}",
        f"new-smoke is broken: {new['reason']}",
    ]
    assert lines[-2:] == ["esa: 3 baselines", f"esa: the report is {page}"]
    html = page.read_text(encoding="utf-8")
    assert "these left nothing here: never-smoke." in html
    for word in ("1 broken", "1 not judged", "1 passed", "GoldenMissingError", "What was accepted"):
        assert word in html
    page.unlink()
    markdown = printed(capsys, "--markdown")
    assert markdown.startswith("## Baselines: 1 broken · 1 not judged · 1 passed\n")
    assert not page.exists()


def test_a_run_that_the_matrix_wants_no_more_is_told(recorded: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no entry of the matrix" not in printed(capsys)
    recorded.add('smoke = ["tiny"]', 'smoke = ["smollm2-135m"]')
    unwanted = "esa: no entry of the matrix wants tiny-smoke; remove its folder by hand if nobody needs it"
    assert unwanted in printed(capsys).splitlines()


def test_a_drift_outweighs_what_is_broken_and_its_manifest_says_what_to_do(mixed: Project) -> None:
    mixed.write_test(DRIFTING)
    assert mixed.run().ret == Status.DRIFTED
    found = mixed.manifest()
    assert found["state"] == "failed"
    assert [one["command"] for one in found["advice"]] == [
        "pytest 'test_it.py::test_baseline[tiny-smoke]' --snapshot-update --esa-reason \"...\""
    ]
    golden = json.loads(mixed.golden.read_text(encoding="utf-8"))
    assert found["golden"] == {"utc": golden["provenance"]["utc"], "resources": golden["resources"]}
    # The tokenizer's tokens are bytes.
    assert found["text"]["num_bytes"] == found["metrics"]["num_scored_tokens"] == 256


def test_a_verdict_of_yesterday_is_none_of_today(recorded: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert recorded.manifest()["state"] == "recorded"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    recorded.add(f'path = "{recorded.checkpoint}"', OF_THE_HUB)
    assert recorded.run().ret == Status.NOT_JUDGED
    assert recorded.manifest()["state"] == "skipped"
    assert not (recorded.output / "results_summary.json").exists()
    assert recorded.run("--esa-strict").ret == Status.NOT_JUDGED
    assert recorded.manifest()["state"] == "error"


def test_a_test_that_fails_behind_its_verdict_has_failed(recorded: Project) -> None:
    recorded.write_test("def test_baseline(esa_baseline):\n    esa_baseline.check()\n    assert False\n")
    assert recorded.run().ret == Status.DRIFTED


def test_a_mistake_of_ours_is_broken_and_keeps_its_traceback(
    recorded: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("the device fell over")

    monkeypatch.setattr(measurement, "evaluate", fail)
    result = recorded.run()
    assert result.ret == Status.BROKEN
    result.stdout.fnmatch_lines(["E * RuntimeError: the device fell over"])
    found = recorded.manifest()
    assert (found["state"], found["outcome"], found["reason"]) == ("error", "RuntimeError", "the device fell over")


class TestReport:
    def test_a_folder_from_elsewhere_and_a_file_of_ones_own(
        self, recorded: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        artifact, page = tmp_path / "artifact", tmp_path / "pages/nightly.html"
        shutil.move(recorded.output.parent, artifact)
        assert "## Baselines: 1 recorded" in printed(capsys, str(artifact), "--markdown", "--output", str(page))
        assert "1 recorded" in page.read_text(encoding="utf-8")
        assert not (artifact / "report.html").exists()

    @pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b"{}", None])
    def test_a_damaged_manifest_is_a_row_that_says_so(
        self, recorded: Project, capsys: pytest.CaptureFixture[str], damage: bytes | None
    ) -> None:
        path = recorded.output.parent / "torn__smoke/manifest.json"
        path.parent.mkdir()
        if damage is None:
            # A record without its manifest.
            path.with_name("record-cpu-bfloat16.json").write_bytes(b"{}")
        else:
            path.write_bytes(damage)
        text = printed(capsys, "--markdown")
        assert text.startswith("## Baselines: 1 broken · 1 recorded\n")
        assert "| ! broken | torn\\_\\_smoke | unreadable | - | Its manifest cannot be read (" in text

    def test_a_damaged_manifest_is_none_that_is_missing(
        self, recorded: Project, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (recorded.output / "manifest.json").write_bytes(b"{")
        text = printed(capsys, "--markdown")
        assert text.startswith("## Baselines: 1 broken\n")
        assert "left nothing here" not in text

    def test_a_damaged_ledger_is_a_sentence_of_the_report(
        self, recorded: Project, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (recorded.golden.parents[1] / "ledger.jsonl").write_text("{", encoding="utf-8")
        assert "**Warning**: The ledger " in printed(capsys, "--markdown")

    def test_a_file_that_cannot_be_written_is_told(self, recorded: Project, capsys: pytest.CaptureFixture[str]) -> None:
        capsys.readouterr()
        assert main(["report", "--output", str(recorded.output)]) == pytest.ExitCode.USAGE_ERROR
        assert capsys.readouterr().err.startswith(f"esa: The report {recorded.output} cannot be written (")
