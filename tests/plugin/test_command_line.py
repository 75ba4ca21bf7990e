"""The words behind `esa`: none is lost, and a mistyped one is refused with the status for that."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from esa_pytest.cli import COMMANDS, main
from esa_pytest.options import OPTIONS
from esa_pytest.settings import Settings
from tests.plugin.conftest import Project

Asked = tuple[Settings, argparse.Namespace]


@pytest.fixture
def asked(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Asked]:
    """With what a command would run, which it does not."""

    def with_what(name: str, *words: str) -> Asked:
        found: list[Asked] = []

        def run(settings: Settings, arguments: argparse.Namespace) -> list[str]:
            found.append((settings, arguments))
            return []

        monkeypatch.setitem(COMMANDS, name, replace(COMMANDS[name], run=run))
        assert main([name, *words]) == pytest.ExitCode.OK
        ((settings, arguments),) = found
        return settings, arguments

    return with_what


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The sentence with which words were refused."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    output, complaint = capsys.readouterr()
    assert (ended.value.code, output) == (pytest.ExitCode.USAGE_ERROR, "")
    return complaint.strip()


@pytest.mark.parametrize("option", [["--esa-reason", "why"], ["--esa-reason=why"], ["-o", "esa_reason=why"]])
@pytest.mark.parametrize("switch", [[], ["--esa-force"]])
def test_words_on_either_side_of_an_option_are_the_commands(
    asked: Callable[..., Asked], option: list[str], switch: list[str]
) -> None:
    settings, arguments = asked("accept", "a", *option, "b", *switch, "c")
    assert arguments.records == [Path("a"), Path("b"), Path("c")]
    assert (settings.reason, settings.force) == ("why", bool(switch))
    for command in ("diff", "history"):
        assert asked(command, "a", *option, "b", *switch, "c")[1].baselines == ["a", "b", "c"]
    assert asked("report", *option, "a", *switch)[1].folder == Path("a")
    assert asked("diff", *option)[1].baselines == []


@pytest.mark.parametrize(
    ("words", "stray"),
    [
        (["list", "rubbish"], "rubbish"),
        (["report", "a", "b"], "b"),
        (["bisect", "a", "--esa-device", "cpu", "b"], "b"),
        (["selftest", "a", "--seeds", "2", "b", "c"], "b"),
        (["list", "--color", "yes"], "yes"),
    ],
)
def test_one_word_too_many_is_refused(
    project: Project, capsys: pytest.CaptureFixture[str], words: list[str], stray: str
) -> None:
    assert refusal(capsys, *words) == (
        f"esa {words[0]}: {stray!r} is one word too many (an option of pytest takes its value behind a =); esa "
        f"{words[0]} --help tells what is allowed."
    )


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


@pytest.mark.parametrize("name", COMMANDS)
def test_help_tells_the_options_of_pytest_that_a_command_heeds(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    output = capsys.readouterr().out
    told = {option.name for option in OPTIONS if f"  {option.flag}" in output}
    assert told == set(COMMANDS[name].options)
    assert "golden_dir" in told


def test_a_value_may_begin_with_a_hyphen(asked: Callable[..., Asked]) -> None:
    settings, _ = asked("accept", "--esa-reason=-1%", "a")
    assert settings.reason == "-1%"
