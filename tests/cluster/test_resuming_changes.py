"""What of a finished run is taken up, and each change for which it is judged again."""

import shutil
from pathlib import Path

import pytest

from tests.plugin.conftest import Project
from tests.plugin.test_resuming import RESUMED, mark

pytestmark = pytest.mark.cluster


def resumed_after(project: Project, *arguments: str) -> pytest.RunResult:
    result = project.run("--esa-resume", *arguments)
    result.stdout.no_fnmatch_line("  resumed*")
    return result


def test_a_recording_is_not_repeated(recorded: Project, bits_taken_for_stable: None) -> None:
    recorded.write_text("Another text, as long. " * 60)
    recorded.record()
    golden = recorded.golden.read_bytes()
    again = recorded.run("--snapshot-update", "--esa-resume")
    assert again.ret == pytest.ExitCode.OK
    again.stdout.fnmatch_lines([RESUMED, "esa: judged 0 of 1, recorded 1"])
    assert recorded.golden.read_bytes() == golden


def test_what_was_not_judged_is_asked_again(recorded: Project) -> None:
    shutil.move(recorded.golden.parents[1], recorded.pytester.path / "kept")
    recorded.run()
    shutil.move(recorded.pytester.path / "kept", recorded.golden.parents[1])
    result = recorded.run("--esa-resume")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("*resumed*")


def test_other_weights(recorded: Project, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(recorded.checkpoint, copied)
    recorded.add(str(recorded.checkpoint), str(copied))
    recorded.run()
    weights = copied / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    result = resumed_after(recorded)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*inputs-changed*", "  judged again   since *: model.weights changed"])


def test_another_environment(recorded: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded.run()
    monkeypatch.setenv("MKL_CBWR_NOTE", "other")
    resumed_after(recorded).stdout.fnmatch_lines(["  judged again   since *: env.MKL_CBWR_NOTE (none) -> other"])


def test_another_text(recorded: Project) -> None:
    recorded.run()
    recorded.write_text("Another text, as long. " * 60)
    assert resumed_after(recorded).ret == pytest.ExitCode.TESTS_FAILED


def test_another_setting_another_test_and_a_damaged_mark(recorded: Project) -> None:
    recorded.run()
    resumed_after(recorded, "--esa-rounds", "2").stdout.fnmatch_lines(
        ["  judged again   since *: setting.rounds None -> 2"]
    )
    recorded.run()
    recorded.write_test("def test_baseline(esa_baseline):\n    esa_baseline.check()  # otherwise\n")
    resumed_after(recorded).stdout.fnmatch_lines(["  judged again   since *: test changed"])
    mark(recorded).write_text(mark(recorded).read_text(encoding="utf-8")[:-9], encoding="utf-8")
    resumed_after(recorded).stdout.no_fnmatch_line("*judged again*")
