"""What may become a golden, and what the ledger tells of it; a recording that cannot be done leaves what was there."""

import json
from collections.abc import Callable

import pytest

from esa_pytest.exit_status import Status
from esa_pytest.golden.schema import judged_sha256
from esa_pytest.measuring import probing
from tests.plugin.conftest import Project
from tests.plugin.perturbed import FAILED, LARGE, OK, SMALL, goldens_of, ledger_of, perturb
from tests.plugin.test_lifecycle import contents


class TestRecording:
    def test_the_ledger_tells_of_every_golden_that_was_written(self, recorded: Project) -> None:
        perturb(recorded, SMALL)
        recorded.record("--esa-reason", "a larger weight")
        first, second = ledger_of(recorded)
        assert (first.outcome, first.old, first.drift, first.reason, first.forced) == ("first", None, None, None, False)
        assert (second.outcome, second.reason, second.forced) == ("unexplained-bits", "a larger weight", False)
        assert (second.baseline, second.device, second.dtype) == ("tiny-smoke", "cpu", "bfloat16")
        assert second.command
        assert second.old == first.new
        assert second.drift is not None
        assert second.old is not None
        assert second.drift.mean_nll == second.new.mean_nll - second.old.mean_nll != 0.0
        assert second.drift.allowed_by == "measured"
        assert second.drift.loss_allowed is not None
        assert 0 < second.drift.loss_allowed < second.old.mean_nll
        assert second.noise.score_patterns >= 9
        assert (second.noise.fresh_processes, second.noise.noise_of) == (3, None)
        assert second.noise.reference_rms is not None
        golden = json.loads(recorded.golden.read_text(encoding="utf-8"))
        assert second.new.judged_sha256 == golden["judged_sha256"]
        assert second.utc == golden["provenance"]["utc"]

    def test_what_is_replaced_is_told(self, recorded: Project) -> None:
        perturb(recorded, SMALL)
        result = recorded.run("--snapshot-update")
        first, second = ledger_of(recorded)
        day, losses = first.utc[:10], f"{first.new.mean_nll:.4f} -> {second.new.mean_nll:.4f}"
        result.stdout.fnmatch_lines(
            [
                f"esa: cpu * · replaces the golden of {day}",
                "  recorded       *",
                f"  replaces       unexplained-bits from the golden of {day}: loss {losses}",
            ]
        )

    def test_a_run_that_writes_nothing_tells_nothing(self, recorded: Project) -> None:
        before = contents(goldens_of(recorded))
        assert recorded.run().ret == OK
        recorded.record()
        assert contents(goldens_of(recorded)) == before

    def test_changed_inputs_are_named_and_their_loss_is_not_compared(self, recorded: Project) -> None:
        recorded.write_text("Another text, as long. " * 60)
        recorded.record("--esa-accept-limit", "0")
        last = ledger_of(recorded)[-1]
        assert (last.outcome, last.drift, last.forced) == ("inputs-changed", None, False)
        assert next(item.name for item in last.inputs) == "corpus.mine.sha256"

    def test_a_golden_that_could_not_be_read_is_told(self, recorded: Project) -> None:
        recorded.golden.write_text("{", encoding="utf-8")
        recorded.record()
        last = ledger_of(recorded)[-1]
        assert (last.outcome, last.old, last.drift) == ("unreadable", None, None)

    def test_a_large_shift_is_refused_and_the_golden_stays_to_the_byte(self, recorded: Project) -> None:
        before = contents(goldens_of(recorded))
        perturb(recorded, LARGE)
        result = recorded.run("--snapshot-update")
        assert result.ret == FAILED
        result.stdout.fnmatch_lines(
            [
                "esa: tiny-smoke is unexplained-bits, decided by tier 2 (exact):",
                "  loss *  <- drifted",
                (
                    "  The golden of tiny-smoke was not replaced: its loss would go from * to *, a relative shift of "
                    "*, and at most 0.01 in either direction is accepted; find out what moved it, then add "
                    "--esa-force, or set --esa-accept-limit."
                ),
                "esa: judged 1 of 1",
            ]
        )
        assert contents(goldens_of(recorded)) == before

        recorded.record("--esa-force", "--esa-reason", "louder")
        last = ledger_of(recorded)[-1]
        assert (last.forced, last.reason) == (True, "louder")
        assert recorded.run().ret == OK

    def test_the_limit_is_a_setting(self, recorded: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        perturb(recorded, LARGE)
        monkeypatch.setenv("ESA_ACCEPT_LIMIT", "0.9")
        recorded.record()
        assert not ledger_of(recorded)[-1].forced

    def test_a_ledger_that_cannot_be_read_is_told_before_anything_is_written(self, recorded: Project) -> None:
        ledger = goldens_of(recorded) / "ledger.jsonl"
        ledger.write_bytes(ledger.read_bytes() + b"<<<<<<< HEAD\n")
        before = contents(goldens_of(recorded))
        perturb(recorded, SMALL)
        result = recorded.run("--snapshot-update")
        assert result.ret == Status.BROKEN
        result.stdout.fnmatch_lines(
            ["esa: tiny-smoke could not be judged. The ledger *ledger.jsonl is not valid in line 2: *; restore the *"]
        )
        assert contents(goldens_of(recorded)) == before

    def test_two_workers_lose_no_line(self, project: Project) -> None:
        project.take_bits_for_stable()
        project.add(
            "[tool.esa.models.tiny]", f'[tool.esa.models.other]\npath = "{project.checkpoint}"\n[tool.esa.models.tiny]'
        )
        project.add('smoke = ["tiny"]', 'smoke = ["tiny", "other"]')
        result = project.run_apart("--snapshot-update", "-n2", "--dist", "loadgroup", "--esa-reason", "both")
        assert result.ret == OK
        result.stdout.fnmatch_lines(["esa: judged 0 of 2, recorded 2"])
        assert sorted((one.baseline, one.reason) for one in ledger_of(project)) == [
            ("other-smoke", "both"),
            ("tiny-smoke", "both"),
        ]


def test_a_write_that_fails_is_told_with_its_cause(recorded: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = contents(goldens_of(recorded))
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
    assert contents(goldens_of(recorded)) == before


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
    assert len(ledger_of(recorded)) == 1


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
    last = ledger_of(recorded)[-1]
    assert (last.outcome, last.forced) == ("unreadable", True)


def test_a_first_golden_worse_than_guessing_is_doubted(project: Project, bits_taken_for_stable: None) -> None:
    """Nobody trained these weights: there is no golden that could tell, so the text itself has to."""
    doubt = "  note: The loss is *, and guessing each token by how often this text has it would give *"
    project.run("--snapshot-update").stdout.fnmatch_lines([doubt])
    project.run("--snapshot-update", "--esa-calibrate").stdout.no_fnmatch_line(doubt)
    project.run().stdout.no_fnmatch_line(doubt)
