"""What a node does: one test in a pytest session of its own, with goldens and outputs in a private folder.

Nothing is written into the project: several nodes may share its file system, and the locks that guard goldens hold on
one machine only. What was written travels back, and the driver puts it in its place. Loads no torch before the
variables of the job are set.
"""

import contextlib
import io
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from esa_pytest.cluster.jobs import Answer, Job
from esa_pytest.resume.marks import PREFIX
from esa_pytest.resume.states import code_state, source_state
from esa_pytest.stash import CHECKED

_FOLDER_PREFIX = "esa-node-"
_LAST_LINES = 5


class _Listener:
    """Keeps the reports of the inner session as they are serialised."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []
        self.troubles: list[str] = []
        self._config: pytest.Config | None = None

    @property
    def checked(self) -> bool:
        """Whether the session has checked its baseline by all rules."""
        return self._config is not None and bool(self._config.stash[CHECKED])

    @property
    def finished(self) -> bool:
        """Whether the test has been through its last phase."""
        return bool(self.reports) and self.reports[-1]["when"] == "teardown"

    def pytest_configure(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        assert self._config is not None  # noqa: S101  (pytest configures before it runs)
        self.reports.append(self._config.hook.pytest_report_to_serializable(config=self._config, report=report))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.troubles.append(str(report.longrepr).strip().split("\n")[-1])


def run_job(payload: bytes) -> bytes:
    """Run one job and answer it, both as the JSON of their messages.

    A task that is cancelled raises KeyboardInterrupt inside; pytest ends, and the private folder is removed.
    """
    job = Job.model_validate_json(payload)
    refused = _why_refused(job)
    answer = Answer(node=platform.node(), error=refused) if refused else _run(job)
    return answer.model_dump_json().encode()


def _why_refused(job: Job) -> str | None:
    """Another project or another version of the code would judge something else under the same name."""
    here, root = platform.node(), Path(job.root)
    path = Path(job.argument.split("::", 1)[0])
    if not path.is_file():
        return (
            f"The node {here} has no file {path}; the project must lie at the same path on every node, on a shared "
            f"file system or as a checkout of the same commit."
        )
    if job.code != (code := code_state()):
        return (
            f"The node {here} has another esa-pytest ({_short(code)}) than the driver ({_short(job.code)}); install "
            f"the same one on every node."
        )
    if job.source != source_state(path, root):
        return (
            f"The node {here} has another version of {path}, or of a conftest.py above it, than the driver; check out "
            f"the same commit on every node."
        )
    return None


def _short(code: str) -> str:
    version, _, digest = code.partition(" ")
    return f"{version}, {digest[:12]}"


def _run(job: Job) -> Answer:
    with _private_folder() as folder, _as_driver(job):
        goldens, outputs = folder / "goldens" / job.folder, folder / "outputs" / job.folder
        _place(goldens, job.goldens)
        _place(outputs, job.earlier)
        listener, printed = _Listener(), io.StringIO()
        arguments = [
            *job.options,
            *("-o", "addopts=", "--rootdir", job.root, "--esa-golden-dir", str(goldens.parent)),
            *("--esa-output-dir", str(outputs.parent), job.argument),
        ]
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            status = pytest.main(arguments, plugins=[listener])
        if not listener.finished:
            return Answer(node=platform.node(), error=_trouble(listener, printed.getvalue(), int(status)))
        private, shown = str(goldens.parent), job.golden_shown
        return Answer(
            node=platform.node(),
            reports=tuple(_told(report, private, shown) for report in listener.reports),
            checked=listener.checked,
            outputs={name: data for name, data in _read(outputs, private, shown).items() if _is_news(name, data, job)},
            goldens={name: data for name, data in _read(goldens).items() if data != job.goldens.get(name)},
            ledger=_content(goldens.parent / "ledger.jsonl"),
        )


def _is_news(name: str, data: bytes, job: Job) -> bool:
    """Whether the driver is to hear of an output: a mark that is here still stands, a manifest may be the driver's."""
    return name.startswith(PREFIX) or data != job.earlier.get(name)


def _trouble(listener: _Listener, printed: str, status: int) -> str:
    said = listener.troubles or [line for line in printed.strip().splitlines() if line][-_LAST_LINES:]
    cause = " | ".join(said) or "no message"
    return (
        f"pytest on the node {platform.node()} ended with {status}, its test unfinished ({cause}); run it alone there."
    )


@contextlib.contextmanager
def _private_folder() -> Iterator[Path]:
    """A folder of this process; those of processes that were killed are removed first."""
    place = Path(tempfile.gettempdir())
    for left in place.glob(f"{_FOLDER_PREFIX}*"):
        owner = left.name.removeprefix(_FOLDER_PREFIX)
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    folder = place / f"{_FOLDER_PREFIX}{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _as_driver(job: Job) -> Iterator[None]:
    """The variables, the working folder, the import path and the command line of the driver."""
    before, argv, path, folder = dict(os.environ), sys.argv, list(sys.path), Path.cwd()
    for name, value in job.variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    sys.argv = list(job.command)
    sys.path[:] = dict.fromkeys([*job.import_path, *sys.path])
    os.chdir(job.started_in if Path(job.started_in).is_dir() else job.root)
    try:
        yield
    finally:
        os.chdir(folder)
        sys.argv, sys.path[:] = argv, path
        os.environ.clear()
        os.environ.update(before)


def _place(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / Path(name).name).write_bytes(data)


def _read(folder: Path, private: str = "", shown: str = "") -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in sorted(folder.glob("[!.]*")) if path.is_file()}
    # Documents for people name the golden by where it lies for them.
    told = json.dumps(shown)[1:-1].encode()
    return {
        name: data.replace(private.encode(), told) if private and name.endswith(".json") else data
        for name, data in files.items()
    }


def _told(report: Any, private: str, shown: str) -> Any:
    """A serialised report in which the private folder has the name that people know."""
    if isinstance(report, str):
        return report.replace(private, shown)
    if isinstance(report, dict):
        return {key: _told(value, private, shown) for key, value in report.items()}
    if isinstance(report, list | tuple):
        return [_told(value, private, shown) for value in report]
    return report


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
