"""What the operating system refuses to `esa` is told in a sentence, and is never taken for a broken promise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from esa_pytest.errors import EsaError, sentence_of
from tests.plugin.conftest import Project
from tests.plugin.perturbed import REFUSED, goldens_of, record_of, run
from tests.plugin.test_accepting import rewritten

ADVICE = "name another place, or see to its permissions and to the space on its disk."


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (["diff", "--esa-golden-dir", "afile"], "afile/tiny__smoke/cpu-bfloat16.json"),
        (["bisect", "--work-dir", "afile/work"], "afile/work/tiny__smoke-"),
        (["selftest", "--instrument", "bits", "--seeds", "1", "--esa-output-dir", "afile/out"], "afile/out"),
    ],
)
def test_a_file_in_the_place_of_a_folder_is_told(
    recorded: Project, capsys: pytest.CaptureFixture[str], words: list[str], refused: str
) -> None:
    Path("afile").touch()
    status, _, complaint = run(capsys, *words)
    assert status == REFUSED
    assert complaint.startswith(f"esa: {recorded.pytester.path / refused}")
    assert complaint.endswith(f" cannot be read or written (Not a directory); {ADVICE}")
    assert "\n" not in complaint


def test_a_record_whose_golden_cannot_be_read_stops_no_other(
    recorded: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded.add(
        "[tool.esa.corpora.mine]", f'[tool.esa.models.other]\npath = "{recorded.checkpoint}"\n\n[tool.esa.corpora.mine]'
    )
    recorded.add('["tiny"]', '["tiny", "other"]')
    other = Path("other/record-cpu-bfloat16.json")
    other.parent.mkdir()
    for suffix in (".json", ".npz"):
        other.with_suffix(suffix).write_bytes(record_of(recorded).with_suffix(suffix).read_bytes())
    rewritten(other, lambda document, _: document.update(baseline="other-smoke"))
    golden = goldens_of(recorded) / "other__smoke"
    golden.touch()
    status, lines, complaint = run(capsys, "accept", other, record_of(recorded))
    assert lines == [
        f"refused    {other}: {golden / 'cpu-bfloat16.json'} cannot be read or written (Not a directory); {ADVICE}",
        "unchanged  tiny-smoke (cpu, bfloat16): equal bits in an equal environment, so there is nothing to accept",
    ]
    assert (status, complaint) == (
        REFUSED,
        "esa: 1 of 2 records refused for the reason above; those goldens are unchanged.",
    )


def test_a_reader_that_has_gone_is_no_error_and_no_success(project: Project) -> None:
    """As in `esa list | head -1`: what was left to say or to do stays so, and that is neither 0 nor 1."""
    reader, writer = os.pipe()
    # Before the first line: a busy machine may otherwise close it behind the last one.
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "esa_pytest.cli", "list"],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (EsaError("As it is."), "As it is."),
        (
            OSError(28, "No space left on device"),
            "The system refused what it was asked for (No space left on device); ",
        ),
        (ConnectionError("no\n answer."), "The system refused what it was asked for (no answer); see to "),
        (TimeoutError(), "The system refused what it was asked for (TimeoutError); see to "),
        (
            PermissionError(13, "Permission denied", "a/b"),
            f"a/b cannot be read or written (Permission denied); {ADVICE}",
        ),
    ],
)
def test_every_error_is_one_sentence(error: EsaError | OSError, sentence: str) -> None:
    assert sentence_of(error).startswith(sentence)
    assert "\n" not in sentence_of(error)
