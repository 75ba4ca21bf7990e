"""The words behind `esa`: which command is asked for, what is its own, and what is given to pytest."""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest

from esa_pytest.options import OPTIONS
from esa_pytest.settings import Settings


def _no_arguments(_parser: argparse.ArgumentParser) -> None:
    """Most commands take pytest's options alone."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """What stands behind one word of `esa`.

    Attributes:
        run: gives the lines to print, each as soon as it is known.
        add_arguments: declares the arguments that are the command's own.
    """

    run: Callable[[Settings, argparse.Namespace], Iterable[str]]
    add_arguments: Callable[[argparse.ArgumentParser], None] = _no_arguments

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
    parser = _Parser(
        prog="esa",
        description="Language-model baselines, apart from their tests (pytest -m smoke).",
        epilog="What follows a command is given to pytest: --esa-device and its like mean what they mean there.",
    )
    names = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in commands.items():
        command_parser = names.add_parser(name, help=command.summary, description=command.summary)
        _hand_on_options(command_parser)
        command.add_arguments(command_parser)
    arguments, left = parser.parse_known_args(words)
    handed_on = (*getattr(arguments, "handed_on", ()), *left)
    return Call(command=commands[arguments.command], arguments=arguments, handed_on=handed_on)


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
        namespace.handed_on = [*getattr(namespace, "handed_on", []), option, value]


def _hand_on_options(parser: argparse.ArgumentParser) -> None:
    """Options of pytest that take a value: it must not be taken for an argument of the command's own."""
    flags = [option.flag for option in OPTIONS if not isinstance(option.default, bool)]
    for flag in [*flags, "-c", "-o", "-p", "-W", "--rootdir"]:
        parser.add_argument(flag, action=_HandOn, help=argparse.SUPPRESS)
