"""The words behind `esa`: which command is asked for, what is its own, and what is given to pytest."""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest

from esa_pytest.options import OPTIONS
from esa_pytest.settings import Settings

_PYTESTS_OWN = (
    ("-c", "--config-file"),
    ("-o", "--override-ini"),
    ("-p",),
    ("-W", "--pythonwarnings"),
    ("--rootdir",),
)


def _no_arguments(_parser: argparse.ArgumentParser) -> None:
    """Most commands take pytest's options alone."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """What stands behind one word of `esa`.

    Attributes:
        run: gives the lines to print, each as soon as it is known.
        add_arguments: declares the arguments that are the command's own.
        options: names of the options of pytest that it heeds above others; its help tells of them.
    """

    run: Callable[[Settings, argparse.Namespace], Iterable[str]]
    add_arguments: Callable[[argparse.ArgumentParser], None] = _no_arguments
    options: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """What it does, as one sentence."""
        return (self.run.__doc__ or "").split("\n")[0]


@dataclass(frozen=True, kw_only=True)
class Call:
    """What a user asked for.

    Attributes:
        command: which is to run.
        arguments: its own.
        handed_on: what pytest is given.
    """

    command: Command
    arguments: argparse.Namespace
    handed_on: tuple[str, ...]


def call_of(commands: Mapping[str, Command], words: Sequence[str] | None) -> Call:
    """Read the words of a command line; a mistyped one ends the process with a sentence.

    Args:
        commands: by name.
        words: those behind `esa`; None for the words that this process was called with.
    """
    name, rest = _told_apart(commands, words)
    command = commands[name]
    parser = _Parser(prog=f"esa {name}", description=command.summary, allow_abbrev=False)
    _hand_on_options(parser, shown=command.options)
    command.add_arguments(parser)
    # Intermixed, since words may stand on either side of an option: plain parsing takes those on one side alone.
    arguments, left = parser.parse_known_intermixed_args(rest)
    if strays := [word for word in left if not word.startswith("-")]:
        parser.error(f"{strays[0]!r} is one word too many (an option of pytest takes its value behind a =)")
    return Call(command=command, arguments=arguments, handed_on=(*getattr(arguments, "handed_on", ()), *left))


def _told_apart(commands: Mapping[str, Command], words: Sequence[str] | None) -> tuple[str, list[str]]:
    """The name of the command, and all other words as they are."""
    parser = _Parser(
        prog="esa",
        description="Language-model baselines, apart from their tests (pytest -m smoke).",
        epilog="Options of pytest are given to pytest: --esa-device and its like mean what they mean there.",
    )
    names = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in commands.items():
        names.add_parser(name, help=command.summary, add_help=False)
    chosen, rest = parser.parse_known_args(words)
    return chosen.command, rest


class _Parser(argparse.ArgumentParser):
    """Ends with pytest's status for what it was asked wrongly: argparse's own, 2, is that of a time that was up."""

    def error(self, message: str) -> NoReturn:
        self.exit(pytest.ExitCode.USAGE_ERROR, f"{self.prog}: {message}; {self.prog} --help tells what is allowed.\n")


class _HandOn(argparse.Action):
    """Keeps an option of pytest, with its value, for pytest."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        value: Any,
        option: str | None = None,
    ) -> None:
        assert option is not None  # noqa: S101  (it is declared by its flags)
        if self.nargs == 0:
            words = [option]
        elif option.startswith("--"):
            # As one word: a value that begins with a hyphen would be taken for the next option.
            words = [f"{option}={value}"]
        else:
            words = [option, value]
        namespace.handed_on = [*getattr(namespace, "handed_on", []), *words]


def _hand_on_options(parser: argparse.ArgumentParser, *, shown: Sequence[str]) -> None:
    """Options of pytest: neither they nor their values must be taken for arguments of the command's own."""
    group = parser.add_argument_group("options of pytest", "These and all others (pytest --help) are given to it.")
    for option in OPTIONS:
        nargs = 0 if isinstance(option.default, bool) else None
        told = option.help if option.name in shown else argparse.SUPPRESS
        group.add_argument(option.flag, action=_HandOn, nargs=nargs, metavar=option.metavar, help=told)
    for flags in _PYTESTS_OWN:
        parser.add_argument(*flags, action=_HandOn, help=argparse.SUPPRESS)
