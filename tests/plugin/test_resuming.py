"""`--esa-resume` judges only what the last run did not finish, and shows the rest as it was judged."""

import shutil
from pathlib import Path

import pytest

import esa_pytest.resume.journal  # noqa: F401
from tests.plugin.conftest import Project

RESUMED = "  resumed        judged at *, and nothing that decides has changed since"


def mark(project: Project) -> Path:
    (path,) = (project.pytester.path / "outputs/baselines/tiny__smoke").glob("judged-*.json")
    return path


def state(project: Project) -> dict[str, tuple[int, bytes]]:
    root = project.pytester.path / "outputs"
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in root.rglob("*") if path.is_file()}


class TestWhatStands:
    def test_a_finished_run_is_shown_again_and_nothing_is_computed(self, recorded: Project) -> None:
        first = recorded.run()
        before = state(recorded)
        second = recorded.run("--esa-resume")
        assert (first.ret, second.ret) == (pytest.ExitCode.OK, pytest.ExitCode.OK)
        second.assert_outcomes(passed=1)
        second.stdout.fnmatch_lines(
            ["test_it.py::test_baseline[[]tiny-smoke]", "  identical *", RESUMED, "esa: judged 1 of 1"]
        )
        assert state(recorded) == before

    def test_a_failure_stays_a_failure_with_its_text(self, recorded: Project) -> None:
        recorded.write_text("Another text, as long. " * 60)
        first, second = recorded.run(), recorded.run("--esa-resume")
        assert first.ret == second.ret == pytest.ExitCode.TESTS_FAILED
        second.stdout.fnmatch_lines(
            ["*is inputs-changed, decided by tier 0 (identity)*", RESUMED, "esa: judged 1 of 1"]
        )

    def test_a_recording_is_not_repeated(self, recorded: Project, bits_taken_for_stable: None) -> None:
        recorded.write_text("Another text, as long. " * 60)
        recorded.record()
        golden = recorded.golden.read_bytes()
        again = recorded.run("--snapshot-update", "--esa-resume")
        assert again.ret == pytest.ExitCode.OK
        again.stdout.fnmatch_lines([RESUMED, "esa: judged 0 of 1, recorded 1"])
        assert recorded.golden.read_bytes() == golden

    def test_what_was_not_judged_is_asked_again(self, recorded: Project) -> None:
        shutil.move(recorded.golden.parents[1], recorded.pytester.path / "kept")
        recorded.run()
        shutil.move(recorded.pytester.path / "kept", recorded.golden.parents[1])
        result = recorded.run("--esa-resume")
        assert result.ret == pytest.ExitCode.OK
        result.stdout.no_fnmatch_line("*resumed*")


class TestWhatIsJudgedAgain:
    def resumed_after(self, project: Project, *arguments: str) -> pytest.RunResult:
        result = project.run("--esa-resume", *arguments)
        result.stdout.no_fnmatch_line("  resumed*")
        return result

    def test_another_golden(self, recorded: Project) -> None:
        recorded.run()
        other = recorded.golden.with_name("cuda-sm90-bfloat16.json")
        other.write_bytes(recorded.golden.read_bytes())
        self.resumed_after(recorded).stdout.fnmatch_lines(["  judged again   since *: golden changed"])

    def test_other_weights(self, recorded: Project, tmp_path: Path) -> None:
        copied = tmp_path / "copied"
        shutil.copytree(recorded.checkpoint, copied)
        recorded.add(str(recorded.checkpoint), str(copied))
        recorded.run()
        weights = copied / "model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        result = self.resumed_after(recorded)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines(["*inputs-changed*", "  judged again   since *: model.weights changed"])

    def test_another_environment(self, recorded: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        recorded.run()
        monkeypatch.setenv("MKL_CBWR_NOTE", "other")
        self.resumed_after(recorded).stdout.fnmatch_lines(
            ["  judged again   since *: env.MKL_CBWR_NOTE (none) -> other"]
        )

    def test_another_text(self, recorded: Project) -> None:
        recorded.run()
        recorded.write_text("Another text, as long. " * 60)
        assert self.resumed_after(recorded).ret == pytest.ExitCode.TESTS_FAILED

    def test_another_setting_another_test_and_a_damaged_mark(self, recorded: Project) -> None:
        recorded.run()
        self.resumed_after(recorded, "--esa-rounds", "2").stdout.fnmatch_lines(
            ["  judged again   since *: setting.rounds None -> 2"]
        )
        recorded.run()
        recorded.write_test("def test_baseline(esa_baseline):\n    esa_baseline.check()  # otherwise\n")
        self.resumed_after(recorded).stdout.fnmatch_lines(["  judged again   since *: test changed"])
        mark(recorded).write_text(mark(recorded).read_text(encoding="utf-8")[:-9], encoding="utf-8")
        self.resumed_after(recorded).stdout.no_fnmatch_line("*judged again*")
