"""`esa selftest` from end to end in a user's project."""

import json
import shutil
from pathlib import Path

import pytest

from esa_pytest.cli import main
from esa_pytest.selftest import command
from tests.model.tiny import running_text
from tests.plugin.conftest import Project

CHEAP = ("--instrument", "reference", "--seeds", "2", "--sizes", "1", "2")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], str]:
    """Status, lines and complaint of `esa selftest`."""
    capsys.readouterr()
    status = main(["selftest", *arguments, "--esa-device", "cpu"])
    output, complaint = capsys.readouterr()
    return status, output.splitlines(), complaint.strip()


def kept_trials(project: Project) -> list[str]:
    return (project.output / "selftest-trials.jsonl").read_text(encoding="utf-8").splitlines()


def test_an_honest_gate_keeps_its_promise_and_trials_are_kept(
    recorded: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    status, lines, complaint = said(capsys, *CHEAP)
    assert (status, complaint) == (0, "")
    assert lines[0].startswith("esa: selftest of tiny-smoke, by its golden of 20")
    assert lines[1].startswith("  guard          identical")
    assert lines[2].startswith("  promised       reference ")
    assert "4 faults and 2 harmless changes" in lines[3]
    assert lines[-1].startswith("esa: The gate keeps its promise: all 4 faults of the promised size or more were found")
    document = json.loads((recorded.output / "selftest.json").read_text(encoding="utf-8"))
    assert document["kept"] is True
    assert [point["found"]["hits"] for point in document["curve"]] == [2, 2]
    assert (recorded.output / "selftest.svg").exists()
    kept = kept_trials(recorded)
    # Cut the last line short, as a kill would.
    path: Path = recorded.output / "selftest-trials.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    status, again, _ = said(capsys, "tiny-smoke", *CHEAP)
    assert (status, again[-1]) == (0, lines[-1])
    assert "5 of them kept from an earlier call" in again[3]
    assert kept_trials(recorded)[:5] == kept[:5]


def test_a_gate_with_wide_tolerances_ends_with_status_1(recorded: Project, capsys: pytest.CaptureFixture[str]) -> None:
    _, honest, _ = said(capsys, *CHEAP)
    recorded.add(
        "[tool.esa.matrix]", "[tool.esa.tolerances]\nreference_rms = 1.0\nreference_maximum = 9.0\n\n[tool.esa.matrix]"
    )
    status, lines, complaint = said(capsys, *CHEAP)
    assert status == pytest.ExitCode.TESTS_FAILED
    # What is promised comes from the golden, whatever is allowed.
    assert lines[2] == honest[2]
    assert any("[tool.esa.tolerances] allows reference_rms = 1" in line for line in lines)
    assert complaint == (
        "esa: The gate does not keep its promise: 2 of 2 faults of 1 times the promised reference size were missed; 2 "
        "of 2 faults of 2 times the promised reference size were missed; lower or remove [tool.esa.tolerances]."
    )


def test_a_changed_bit_is_found(recorded: Project, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines, _ = said(capsys, "--instrument", "bits", "--seeds", "1")
    assert status == 0
    assert lines[2] == "  promised       any changed bit"
    assert "harmless" not in lines[-1]


def test_what_promises_nothing_is_told(
    recorded: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a golden that was recorded without its noise."""
    monkeypatch.setattr(command, "promised_sizes", lambda *_: {})
    status, lines, complaint = said(capsys, *CHEAP)
    assert status == pytest.ExitCode.USAGE_ERROR
    assert "promises nothing of reference" in complaint
    assert "  no promise     reference: the golden measured no noise, or too little" in lines


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--seeds", "0"), "--seeds is 0; it takes a whole number from 1 on, 20 or more."),
        (("--sizes", "0.5", "0.75"), "--sizes is 0.5 0.75; it takes multiples of the promised size"),
        (("--sizes", "nan"), "--sizes is nan; it takes multiples"),
        (("--instrument", "all-of-it"), "--instrument is 'all-of-it'; it takes reference, rounding, bits, all."),
        (("nothing-smoke",), "There is no baseline 'nothing-smoke' in the matrix; it has tiny-smoke."),
        (("tiny-smoke",), "There is no golden"),
        ((), "There is no golden"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(
    project: Project, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str
) -> None:
    status, lines, complaint = said(capsys, *arguments)
    assert (status, lines) == (pytest.ExitCode.USAGE_ERROR, [])
    assert complaint.startswith(f"esa: {sentence}")
    assert "\n" not in complaint


def test_a_model_that_fails_its_check_is_not_tested(
    recorded: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recorded.write_text(running_text(1000, seed=1))
    status, lines, complaint = said(capsys, *CHEAP)
    assert (status, lines) == (pytest.ExitCode.USAGE_ERROR, [])
    assert "is inputs-changed before anything was perturbed" in complaint


def test_a_model_that_is_not_on_this_machine_is_passed_over(
    recorded: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded.add('smoke = ["tiny"]', 'smoke = ["absent", "tiny"]\n\n[tool.esa.models.absent]\npath = "nowhere"')
    goldens = recorded.golden.parents[1]
    shutil.copytree(goldens / "tiny__smoke", goldens / "absent__smoke")
    status, lines, complaint = said(capsys, *CHEAP)
    assert (status, complaint) == (pytest.ExitCode.OK, "")
    assert "tiny-smoke" in lines[0]
