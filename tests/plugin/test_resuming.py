"""`--esa-resume` judges only what the last run did not finish, and shows the rest as it was judged."""

import json
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from esa_pytest.drift.rules import Rules
from esa_pytest.evaluation.checkpoints import Checkpoint, locate
from esa_pytest.exit_status import Status
from esa_pytest.resume import journal
from tests.plugin.conftest import Project

RESUMED = "  resumed        judged at *, and nothing that decides has changed since"
SUBTESTS = """
def test_baseline(esa_baseline, subtests):
    esa_baseline.check()
    with subtests.test("first"):
        pass
    with subtests.test("second"):
        assert {subtest}
    assert {body}
"""


def failures(result: pytest.RunResult) -> list[str]:
    """The headings and the causes of what failed."""
    return [line for line in result.outlines if line.startswith(("____", "E  "))]


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

    @pytest.mark.skipif(not hasattr(pytest, "Subtests"), reason="pytest has subtests from 9 on")
    @pytest.mark.parametrize("failing", ["subtest", "body"])
    def test_a_test_of_which_one_subtest_passed_is_not_green(self, recorded: Project, failing: str) -> None:
        recorded.write_test(SUBTESTS.format(subtest=failing != "subtest", body=failing != "body"))
        first, second = recorded.run(), recorded.run("--esa-resume")
        assert first.ret == second.ret == pytest.ExitCode.TESTS_FAILED
        second.stdout.fnmatch_lines([RESUMED, "esa: judged 1 of 1"])
        assert second.parseoutcomes() == first.parseoutcomes()
        assert failures(second) == failures(first)


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

    @pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
    def test_another_file_that_the_tokenizer_is_made_of(self, recorded: Project, tmp_path: Path, name: str) -> None:
        copied = tmp_path / "copied"
        shutil.copytree(recorded.checkpoint, copied)
        recorded.add(str(recorded.checkpoint), str(copied))
        recorded.run()
        tokens = json.loads(path.read_text(encoding="utf-8")) if (path := copied / name).exists() else {}
        path.write_text(json.dumps(tokens | {"bos_token": "<eos>"}), encoding="utf-8")
        self.resumed_after(recorded).stdout.fnmatch_lines(["  judged again   since *: model.files changed"])

    def test_another_rule(self, recorded: Project) -> None:
        recorded.run("--esa-resources", "off")
        key = json.loads(mark(recorded).read_text(encoding="utf-8"))["key"]
        assert {f"setting.{rule.name}" for rule in fields(Rules)} <= key.keys()
        again = self.resumed_after(recorded, "--esa-resources", "fail")
        again.stdout.fnmatch_lines(["  judged again   since *: setting.resources off -> fail"])

    def test_a_verdict_whose_documents_another_try_replaced(self, recorded: Project) -> None:
        recorded.run()
        content = recorded.golden.read_bytes()
        recorded.golden.unlink()
        assert self.resumed_after(recorded).ret == Status.BROKEN
        recorded.golden.write_bytes(content)
        assert recorded.manifest()["state"] == "error"
        assert self.resumed_after(recorded).ret == pytest.ExitCode.OK
        (recorded.output / "manifest.json").unlink()
        assert self.resumed_after(recorded).ret == pytest.ExitCode.OK

    def test_weights_whose_kept_hash_is_not_to_be_believed(
        self, recorded: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[bool] = []

        def noted(*arguments: Any, rehash: bool = False, **named: Any) -> Checkpoint:
            asked.append(rehash)
            return locate(*arguments, rehash=rehash, **named)

        recorded.run()
        monkeypatch.setattr(journal, "locate", noted)
        recorded.run("--esa-resume").stdout.fnmatch_lines([RESUMED])
        recorded.run("--esa-resume", "--esa-rehash").stdout.fnmatch_lines([RESUMED])
        assert asked == [False, True]
