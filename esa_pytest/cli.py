"""`esa`: what is no test. Every command takes pytest's options and reads the same settings as a test run."""

import argparse
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from esa_pytest.command_line import Command, call_of
from esa_pytest.errors import BrokenPromiseError, EsaError, UnfinishedError, sentence_of
from esa_pytest.options import Given
from esa_pytest.settings import Settings, resolve, seconds

# Of a process that SIGPIPE ends, which Python ignores: not all was said or done, so 0 would be a lie, and 1 too.
_READER_GONE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status.

    0 once the command has said what it has to say, 1 where what it tested failed (`esa selftest`), 2 where its time was
    up before, 4 for a setting that is not allowed and whatever else keeps it from its work; pytest has the same. 141
    where its reader has gone (`esa list | head -1`), as a shell says of any program.
    """
    call = call_of(COMMANDS, arguments)
    # pytest reads its options, ini keys and plugins; then the command takes the place of the session. It needs no
    # conftest.py, and cannot have assertions rewritten: this package is imported already.
    session = _InPlaceOfASession(call.command, call.arguments)
    status = int(pytest.main(["--assert=plain", "--noconftest", *call.handed_on], plugins=[session]))
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _for_nobody()
    return status


class _InPlaceOfASession:
    """A pytest plugin that runs a command where pytest would run tests."""

    def __init__(self, command: Command, arguments: argparse.Namespace) -> None:
        self._command = command
        self._arguments = arguments

    @pytest.hookimpl(tryfirst=True)
    def pytest_load_initial_conftests(
        self, early_config: pytest.Config, parser: pytest.Parser, args: list[str]
    ) -> None:
        """A project's `addopts` may hold an option of its conftest.py, which is not loaded; the others hold here."""
        unknown = parser.parse_known_and_unknown_args(args)[1]
        added = [*early_config.getini("addopts"), *shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))]
        args[:] = [each for each in args if each not in unknown or each not in added]

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> int:
        try:
            for line in self._command.run(resolve(config), self._arguments):
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
        except BrokenPipeError:
            return _for_nobody()
        except (EsaError, OSError) as error:
            sys.stderr.write(f"esa: {sentence_of(error)}\n")
            return int(_status_of(error))
        return int(pytest.ExitCode.OK)


def _for_nobody() -> int:
    """The status where the reader has gone; Python writes what is left at its end, and would complain of him."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _READER_GONE


def _status_of(error: EsaError | OSError) -> pytest.ExitCode:
    match error:
        case BrokenPromiseError():
            return pytest.ExitCode.TESTS_FAILED
        case UnfinishedError():
            return pytest.ExitCode.INTERRUPTED
        case _:
            return pytest.ExitCode.USAGE_ERROR


def list_baselines(settings: Settings, _arguments: argparse.Namespace) -> list[str]:
    """List every baseline with its golden, its weights and what was reported of it."""
    from esa_pytest.commands.inventory import inventory_lines

    return inventory_lines(settings)


def accept(settings: Settings, arguments: argparse.Namespace) -> Iterable[str]:
    """Take the records of runs, from here or from another machine, as goldens."""
    from esa_pytest.commands.artifacts import accepted_lines

    return accepted_lines(settings, arguments.records)


def _accept_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "records",
        nargs="+",
        type=Path,
        metavar="RECORD",
        help="a record-<device>-<dtype>.json, or a folder that holds some",
    )


def diff(settings: Settings, arguments: argparse.Namespace) -> list[str]:
    """Show in Markdown how far the last runs, or the goldens since a revision, have drifted."""
    from esa_pytest.commands.differences import difference_lines

    return difference_lines(settings, arguments.baselines, against=arguments.against)


def _diff_arguments(parser: argparse.ArgumentParser) -> None:
    _baseline_arguments(parser)
    parser.add_argument("--against", metavar="REV", help="compare the goldens of a git revision with those here")


def history(settings: Settings, arguments: argparse.Namespace) -> list[str]:
    """Show what was accepted when and why, and whether the loss walks away in small steps."""
    from esa_pytest.commands.history import history_lines

    return history_lines(settings, arguments.baselines)


def _baseline_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("baselines", nargs="*", metavar="BASELINE", help="as smollm2-135m-smoke (default: all)")


def report(settings: Settings, arguments: argparse.Namespace) -> Iterable[str]:
    """Show the last run of every baseline, and write a report that people look at."""
    from esa_pytest.commands.overviews import report_lines

    return report_lines(settings, arguments.folder, output=arguments.output, markdown=arguments.markdown)


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        metavar="FOLDER",
        help="of the runs, a folder each (default: outputs/baselines, or what --esa-output-dir says)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="the HTML file (default: report.html in the folder of the runs)"
    )
    parser.add_argument(
        "--markdown",
        action="store_true",
        help="print Markdown, for the summary of a CI job; HTML is then written only where --output is given",
    )


def bisect(settings: Settings, arguments: argparse.Namespace) -> Iterable[str]:
    """Find out which package moved a baseline's numbers since its golden was recorded."""
    from esa_pytest.bisection.command import Request, bisect_lines

    request = Request(
        baseline=arguments.baseline,
        time_limit=seconds(Given(value=arguments.time_limit, origin="--time-limit")),
        work_dir=arguments.work_dir,
        packages=tuple(arguments.package),
    )
    return bisect_lines(settings, request)


def _bisect_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "baseline",
        nargs="?",
        metavar="BASELINE",
        help="as esa list shows it (default: the first smoke one with a golden)",
    )
    parser.add_argument(
        "--time-limit", metavar="SECONDS", help="stop after so long with status 2; the next call goes on from there"
    )
    parser.add_argument(
        "--work-dir", type=Path, metavar="DIR", help="where trials are kept (default: the user's cache)"
    )
    parser.add_argument(
        "--package", nargs="+", action="extend", default=[], metavar="NAME", help="try these packages only"
    )


def selftest(settings: Settings, arguments: argparse.Namespace) -> Iterable[str]:
    """Put faults of known size into the model and see whether the gate finds what it promised to find."""
    from esa_pytest.selftest.command import Request, selftest_lines

    chosen = {name: getattr(arguments, name) for name in ("seeds", "sizes") if getattr(arguments, name) is not None}
    return selftest_lines(settings, Request(baseline=arguments.baseline, instruments=arguments.instrument, **chosen))


def _selftest_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "baseline",
        nargs="?",
        metavar="BASELINE",
        help="as esa list shows it (default: the first smoke one with a golden and a model that can be loaded)",
    )
    parser.add_argument(
        "--instrument",
        default="all",
        metavar="NAME",
        help="reference (float32, cheap), rounding (bf16, whole checks), bits, or all (default)",
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="faults a size (default: 20)")
    parser.add_argument(
        "--sizes",
        type=float,
        nargs="+",
        metavar="FACTOR",
        help="sizes of the faults in multiples of the promised one (default: 1/8 to 4)",
    )


COMMANDS: dict[str, Command] = {
    "list": Command(run=list_baselines, options=("device", "golden_dir")),
    "report": Command(run=report, add_arguments=_report_arguments, options=("golden_dir", "output_dir")),
    "bisect": Command(run=bisect, add_arguments=_bisect_arguments, options=("device", "golden_dir")),
    "diff": Command(run=diff, add_arguments=_diff_arguments, options=("golden_dir", "output_dir")),
    "accept": Command(
        run=accept, add_arguments=_accept_arguments, options=("reason", "force", "accept_limit", "golden_dir")
    ),
    "history": Command(run=history, add_arguments=_baseline_arguments, options=("golden_dir",)),
    "selftest": Command(
        run=selftest, add_arguments=_selftest_arguments, options=("device", "golden_dir", "output_dir", "rehash")
    ),
}


if __name__ == "__main__":
    sys.exit(main())
