"""`esa`: what is no test. Every command takes pytest's options and reads the same settings as a test run."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence

import pytest

from esa_pytest.errors import EsaError
from esa_pytest.settings import Settings, resolve

Command = Callable[[Settings], list[str]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status, 4 for a setting that is not allowed, as pytest does."""
    parser = argparse.ArgumentParser(
        prog="esa",
        description="Language-model baselines, apart from their tests (pytest -m smoke).",
        epilog="What follows a command is given to pytest: --esa-device and its like mean what they mean there.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=(command.__doc__ or "").split("\n")[0])
    chosen, rest = parser.parse_known_args(arguments)
    # pytest reads its options, ini keys and plugins; then the command takes the place of the session. It needs no
    # conftest.py, and cannot have assertions rewritten: this package is imported already.
    return int(
        pytest.main(["--assert=plain", "--noconftest", *rest], plugins=[_InPlaceOfASession(COMMANDS[chosen.command])])
    )


class _InPlaceOfASession:
    """A pytest plugin that runs a command where pytest would run tests."""

    def __init__(self, command: Command) -> None:
        self._command = command

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> int:
        try:
            lines = self._command(resolve(config))
        except EsaError as error:
            sys.stderr.write(f"esa: {error}\n")
            return int(pytest.ExitCode.USAGE_ERROR)
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        return int(pytest.ExitCode.OK)


def list_baselines(settings: Settings) -> list[str]:
    """List every baseline with its golden, its weights and what was reported of it."""
    from esa_pytest.inventory import inventory_lines

    return inventory_lines(settings)


def report(settings: Settings) -> list[str]:
    """Show the last run of every baseline beside what was reported of it."""
    from esa_pytest.report.comparison import comparison_lines

    summaries = []
    for path in sorted(settings.output_dir.glob("*/results_summary.json")):
        try:
            summaries.append(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise EsaError(f"The summary {path} cannot be read ({error}); run its baseline again.") from None
    if not summaries:
        raise EsaError(f"There is no run in {settings.output_dir}; run pytest -m smoke first, or set --esa-output-dir.")
    return comparison_lines(summaries)


COMMANDS: dict[str, Command] = {"list": list_baselines, "report": report}


if __name__ == "__main__":
    sys.exit(main())
