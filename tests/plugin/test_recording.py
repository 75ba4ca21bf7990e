"""A recording that cannot be done says why, and leaves what was there."""

import json
from collections.abc import Callable

import pytest

from esa_pytest.exit_status import Status
from esa_pytest.golden.ledger_files import read_ledger
from esa_pytest.golden.schema import judged_sha256
from esa_pytest.measuring import probing
from tests.plugin.conftest import Project
from tests.plugin.test_accepting import LARGE, SMALL, perturb
from tests.plugin.test_lifecycle import contents


def goldens(project: Project) -> object:
    return contents(project.golden.parents[1])


def test_a_write_that_fails_is_told_with_its_cause(recorded: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = goldens(recorded)
    perturb(recorded, SMALL)
    monkeypatch.setattr("esa_pytest.check.snapshot.write_accepted", full)
    result = recorded.run("--snapshot-update")
    assert result.ret == Status.BROKEN
    result.stdout.fnmatch_lines(
        [
            (
                "esa: tiny-smoke could not be judged. The golden *cpu-bfloat16.json could not be written ([[]Errno 28] "
                "No space left on device); the old one or the new one lies there whole: mend the cause, and record it "
                "once more."
            )
        ]
    )
    assert goldens(recorded) == before


def test_a_golden_that_another_process_wrote_meanwhile_stays(
    recorded: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = recorded.golden.read_text(encoding="utf-8")
    completed: Callable[..., object] = probing.completed

    def meanwhile(*arguments: object) -> object:
        golden = json.loads(theirs)
        golden["provenance"]["reason"] = "another process"
        golden["resources"]["rounds"] = 7
        golden["judged_sha256"] = judged_sha256(golden)
        recorded.golden.write_text(json.dumps(golden), encoding="utf-8")
        return completed(*arguments)

    perturb(recorded, SMALL)
    monkeypatch.setattr("esa_pytest.check.checking.completed", meanwhile)
    result = recorded.run("--snapshot-update")
    assert result.ret == Status.BROKEN
    result.stdout.fnmatch_lines(["*was changed while this run was about to replace it; run it once more."])
    assert json.loads(recorded.golden.read_text(encoding="utf-8"))["provenance"]["reason"] == "another process"
    assert len(read_ledger(recorded.golden.parents[1])) == 1


def test_a_golden_that_cannot_be_read_lets_no_other_loss_in(recorded: Project) -> None:
    recorded.golden.write_text("{", encoding="utf-8")
    perturb(recorded, LARGE)
    result = recorded.run("--snapshot-update")
    assert result.ret == Status.BROKEN
    result.stdout.fnmatch_lines(
        ["*The golden of tiny-smoke was not replaced: its loss would go from * to *--esa-force*"]
    )
    assert recorded.golden.read_text(encoding="utf-8") == "{"
    recorded.record("--esa-force")
    last = read_ledger(recorded.golden.parents[1])[-1]
    assert (last.outcome, last.forced) == ("unreadable", True)


def test_a_first_golden_worse_than_guessing_is_doubted(recorded: Project) -> None:
    """The weights are random: there is no golden that could tell, so the text itself has to."""
    doubt = "  note: The loss is *, and guessing each token by how often this text has it would give *"
    recorded.run("--snapshot-update", "--esa-calibrate").stdout.fnmatch_lines([doubt])
    recorded.run().stdout.no_fnmatch_line(doubt)
