"""The words behind `esa`: a mistyped one is refused with the status for that."""

import pytest

from esa_pytest.cli import main


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The sentence with which words were refused."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    output, complaint = capsys.readouterr()
    assert (ended.value.code, output) == (pytest.ExitCode.USAGE_ERROR, "")
    return complaint.strip()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["bisect", "--time-limit"], "esa bisect: argument --time-limit: expected one argument; esa bisect --help "),
        (["selftest", "--seeds", "many"], "esa selftest: argument --seeds: invalid int value: 'many'; esa selftest "),
        (["accept"], "esa accept: the following arguments are required: RECORD; esa accept --help tells what "),
        (["bisecct"], "esa: argument COMMAND: invalid choice: 'bisecct' (choose from "),
        ([], "esa: the following arguments are required: COMMAND; esa --help tells what is allowed."),
    ],
)
def test_a_mistyped_argument_does_not_end_as_if_the_time_were_up(
    capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    said = refusal(capsys, *words)
    assert said.startswith(sentence)
    assert said.endswith(" --help tells what is allowed.")
    assert "\n" not in said


@pytest.mark.parametrize("words", [["--help"], ["accept", "--help"]])
def test_help_is_no_mistake(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    output, complaint = capsys.readouterr()
    assert (ended.value.code, complaint) == (0, "")
    assert "accept" in output
    assert "Take the records of runs" in output
