"""`esa diff` and `esa history`: what has drifted, and what was accepted."""

import shutil
import subprocess

import pytest

from tests.plugin.conftest import Project
from tests.plugin.perturbed import OK, REFUSED, SMALL, goldens_of, ledger_of, perturb, run


def git(project: Project, *arguments: str) -> None:
    identity = ("-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=project.pytester.path, check=True, capture_output=True)


def commit_goldens(project: Project) -> None:
    git(project, "init", "--initial-branch", "main")
    git(project, "add", "baselines_golden")
    git(project, "commit", "-m", "goldens")


@pytest.fixture
def drifted(recorded: Project) -> Project:
    """A project whose last run drifted."""
    perturb(recorded, SMALL)
    recorded.run()
    return recorded


class TestDiff:
    def test_the_last_run_stands_beside_its_golden(self, drifted: Project, capsys: pytest.CaptureFixture[str]) -> None:
        status, lines, complaint = run(capsys, "diff", "tiny-smoke", "--esa-device", "cpu")
        assert (status, complaint) == (OK, "")
        assert lines[0] == "### Baselines: golden -> measured"
        assert lines[4].startswith("| tiny-smoke (cpu) | unexplained-bits | ")
        assert " of 256 tokens | mean " in lines[4]
        assert " (allowed " in lines[4]
        assert "<details><summary>tiny-smoke (cpu): unexplained-bits, 0 differences in environment</summary>" in lines

    def test_goldens_are_compared_with_those_of_a_revision(
        self, drifted: Project, capsys: pytest.CaptureFixture[str]
    ) -> None:
        commit_goldens(drifted)
        _, lines, _ = run(capsys, "diff", "--against", "main")
        assert lines[0] == "### Baselines: golden of main -> golden"
        assert lines[4].startswith("| tiny-smoke (cpu) | identical | ")
        assert len(lines) == 5

        drifted.record("--esa-reason", "a *larger* weight")
        _, lines, _ = run(capsys, "diff", "--against", "main", "tiny-smoke")
        assert lines[4].startswith("| tiny-smoke (cpu) | unexplained-bits | ")
        assert "Reason given: a \\*larger\\* weight" in lines

        shutil.rmtree(drifted.golden.parent)
        assert run(capsys, "diff", "--against", "HEAD")[1][4].startswith("| tiny-smoke (cpu) | removed | ")

    def test_a_golden_that_is_new_or_damaged_is_said(
        self, recorded: Project, capsys: pytest.CaptureFixture[str]
    ) -> None:
        git(recorded, "init", "--initial-branch", "main")
        git(recorded, "commit", "--allow-empty", "-m", "nothing")
        assert run(capsys, "diff", "--against", "main")[1][4].startswith("| tiny-smoke (cpu) | new | - -> ")
        recorded.golden.write_text("{", encoding="utf-8")
        assert run(capsys, "diff")[1][4].startswith("| tiny-smoke (cpu) | not to be trusted | - -> ")

    def test_an_old_golden_that_lacks_its_arrays_is_said(
        self, recorded: Project, capsys: pytest.CaptureFixture[str]
    ) -> None:
        git(recorded, "init", "--initial-branch", "main")
        git(recorded, "add", str(recorded.golden))
        git(recorded, "commit", "-m", "half of it")
        lines = run(capsys, "diff", "--against", "main")[1]
        assert lines[4].startswith("| tiny-smoke (cpu) | not to be trusted | - -> ")
        assert any(
            line.startswith("The golden main:tiny\\_\\_smoke/cpu-bfloat16.json lacks its arrays") for line in lines
        )

    @pytest.mark.parametrize("name", ["--output=x", "-x", ""])
    def test_what_git_would_take_for_an_option_is_refused(
        self, project: Project, capsys: pytest.CaptureFixture[str], name: str
    ) -> None:
        status, lines, complaint = run(capsys, "diff", f"--against={name}")
        assert (status, lines) == (REFUSED, [])
        assert complaint == (f"esa: {name!r} is no git revision; give a branch, a tag or a commit, as --against main.")

    def test_outside_a_repository_it_is_told(
        self, recorded: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(recorded.pytester.path.parent))
        assert run(capsys, "diff", "--against", "main") == (
            REFUSED,
            [],
            (
                f"esa: The folder {goldens_of(recorded)} is not in a git repository (or git is not installed), so "
                f"there is nothing to compare with; leave --against out to compare with the last run."
            ),
        )

    def test_an_unknown_revision_is_told(self, recorded: Project, capsys: pytest.CaptureFixture[str]) -> None:
        commit_goldens(recorded)
        assert run(capsys, "diff", "--against", "v9")[2] == (
            f"esa: The git repository of {goldens_of(recorded)} has no commit 'v9'; fetch it, or give another."
        )

    def test_an_unknown_baseline_lists_the_valid_ones(
        self, project: Project, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(capsys, "diff", "tiny")[2] == (
            "esa: The matrix has no baseline 'tiny'; valid baselines are tiny-smoke."
        )

    def test_without_a_run_it_says_how_to_get_one(self, project: Project, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(capsys, "diff")[2] == (
            f"esa: There is no measured record in {project.output.parent}; run pytest -m smoke first, set "
            f"--esa-output-dir, or compare goldens with --against REV."
        )


class TestHistory:
    def test_acceptances_are_told_in_order(self, drifted: Project, capsys: pytest.CaptureFixture[str]) -> None:
        drifted.record("--esa-reason", "a larger weight")
        first, second = ledger_of(drifted)
        assert second.drift is not None
        status, lines, complaint = run(capsys, "history", "tiny-smoke")
        assert (status, complaint) == (OK, "")
        bars = "▁█" if second.drift.mean_nll > 0 else "█▁"
        assert lines[0] == f"tiny-smoke (cpu, bfloat16)  {bars}  loss {second.new.mean_nll:.6g}, 2 acceptances"
        assert [line.split()[0] for line in lines[1:]] == ["date", first.utc[:10], second.utc[:10]]
        assert lines[3].split("  ")[-1] == "a larger weight"
        assert f"{second.drift.mean_nll:+.3g}" in lines[3]

    def test_a_golden_that_went_around_the_ledger_is_told(
        self, recorded: Project, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (goldens_of(recorded) / "ledger.jsonl").rename(goldens_of(recorded) / "kept")
        recorded.write_text("Another text, as long. " * 60)
        recorded.record()
        (goldens_of(recorded) / "kept").rename(goldens_of(recorded) / "ledger.jsonl")
        assert run(capsys, "history")[1][-1].startswith("  warning: the golden that was accepted last is another: ")
        recorded.run().stdout.fnmatch_lines(
            [
                (
                    "esa: warning: *tiny__smoke/cpu-bfloat16.json is not the golden that the ledger accepted last; "
                    "take both from the same commit, or record it anew"
                )
            ]
        )
        shutil.rmtree(recorded.golden.parent)
        assert "accepted last is missing or cannot be read" in run(capsys, "history")[1][-1]

    def test_goldens_without_their_ledger_are_told(self, recorded: Project) -> None:
        (goldens_of(recorded) / "ledger.jsonl").unlink()
        result = recorded.run()
        assert result.ret == OK
        result.stdout.fnmatch_lines(
            ["esa: warning: *baselines_golden holds goldens and no ledger.jsonl, which tells when and why each was *"]
        )

    def test_nothing_accepted_is_told(self, project: Project, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(capsys, "history")[2] == (
            f"esa: The ledger {goldens_of(project) / 'ledger.jsonl'} tells of no acceptance; record a golden with: "
            f'pytest --snapshot-update --esa-reason "...".'
        )

    def test_an_unknown_baseline_lists_the_valid_ones(
        self, project: Project, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(capsys, "history", "tiny") == (
            REFUSED,
            [],
            "esa: Neither the matrix nor the ledger has a baseline 'tiny'; valid baselines are tiny-smoke.",
        )

    def test_a_malformed_line_is_told(self, project: Project, capsys: pytest.CaptureFixture[str]) -> None:
        goldens_of(project).mkdir()
        (goldens_of(project) / "ledger.jsonl").write_text("{}\n", encoding="utf-8")
        complaint = run(capsys, "history")[2]
        assert complaint.startswith(f"esa: The ledger {goldens_of(project) / 'ledger.jsonl'} is not valid in line 1: ")
        project.run().stdout.fnmatch_lines(["esa: warning: The ledger *ledger.jsonl is not valid in line 1: *"])
