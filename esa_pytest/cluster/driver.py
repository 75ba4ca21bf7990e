"""What `--esa-ray` does in the place of pytest's own loop: guarded tests go to the cluster, all others run here."""

import os
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.cluster.arrivals import bring_home
from esa_pytest.cluster.events import Machines
from esa_pytest.cluster.expected import expected_seconds
from esa_pytest.cluster.jobs import Answer, Job
from esa_pytest.cluster.loop import Ending, Loop, Task
from esa_pytest.cluster.needs import THREADS, Node, need_of, threads_of
from esa_pytest.cluster.order import longest_first
from esa_pytest.errors import ClusterError
from esa_pytest.golden.environment import variables
from esa_pytest.golden.provenance import provenance
from esa_pytest.invocation import command_of
from esa_pytest.measuring.publishing import subject_of, write_unjudged
from esa_pytest.options import OPTIONS
from esa_pytest.report.documents import MANIFEST
from esa_pytest.report.layout import count
from esa_pytest.resume.hooks import baseline_of, plain_nodeid
from esa_pytest.resume.marks import PREFIX, forget_mark, forget_marks, mark_path
from esa_pytest.resume.states import code_state, source_state
from esa_pytest.settings import Settings

# A line for people on a report: on which node the test was judged, and what was lost before.
PROPERTY = "esa_cluster"
_PASSED_ON = re.compile(r"^(ESA_|HF_|TOKENIZERS_)")
# Of pytest's own command line, by the name of their value: what a test's outcome may hang on.
_FLAGS = {"update_snapshots": "--snapshot-update", "update_new_snapshots_only": "--snapshot-update-new-only"}
_LISTS = {"plugins": "-p", "pythonwarnings": "-W", "override_ini": "-o"}
_PLACES = ("golden_dir", "output_dir", "ray")


class Driver:
    """Judges the guarded tests of one session on a cluster and tells pytest of each as if it had run here."""

    def __init__(self, config: pytest.Config, settings: Settings, items: Sequence[pytest.Item]) -> None:
        self._config = config
        self._settings = settings
        self._items: dict[str, pytest.Item] = {item.nodeid: item for item in items}
        self._checked: set[str] = set()
        # What no node could judge, by the baseline: its last test, and why.
        self._unjudged: dict[str, tuple[pytest.Item, ClusterError]] = {}

    def run(self, machines: Machines, *, stop: Any) -> None:
        """Judge every test.

        Args:
            machines: the cluster.
            stop: called after each report; raises where the session is to end early.
        """

        def ended(ending: Ending) -> None:
            self._report(ending)
            stop()

        try:
            Loop(self._tasks(machines.nodes()), machines, ended=ended).run()
        finally:
            self._leave_unjudged()

    def _tasks(self, nodes: Sequence[Node]) -> dict[str, Task]:
        """What each test is for the cluster, those in front that take longest.

        Where goldens are written, the tests of one baseline go one after another, each with what the one before it
        recorded, as in one process.
        """
        threads = threads_of(os.environ.get(THREADS, ""))
        seconds = expected_seconds(self._settings.baselines, self._settings.output_dir)
        order = longest_first(
            list(self._items.values()),
            group=lambda item: item.nodeid,
            seconds=lambda item: seconds.get(_guarded(item).id, 0.0),
        )
        tasks: dict[str, Task] = {}
        last: dict[str, str] = {}
        for item in order:
            baseline = _guarded(item)
            need = need_of(baseline, device=self._settings.device, nodes=nodes, threads=threads)
            payload = partial(self._payload, item, threads=None if need.gpus else threads)
            after = last.get(baseline.id) if self._writes else None
            tasks[item.nodeid] = Task(payload=payload, need=need, after=after)
            last[baseline.id] = item.nodeid
        return tasks

    @property
    def _writes(self) -> bool:
        return any(getattr(self._config.option, name, False) for name in _FLAGS)

    def _payload(self, item: pytest.Item, *, threads: int | None) -> bytes:
        return self._job(item, threads=threads).model_dump_json().encode()

    def _job(self, item: pytest.Item, *, threads: int | None) -> Job:
        settings, baseline = self._settings, _guarded(item)
        goldens = settings.golden_dir / baseline.folder
        nodeid = plain_nodeid(item)
        return Job(
            nodeid=nodeid,
            argument=f"{item.path}::{nodeid.partition('::')[2]}",
            folder=baseline.folder,
            root=str(settings.root),
            started_in=str(self._config.invocation_params.dir),
            options=tuple(self._options()),
            variables=_variables(threads),
            command=tuple(sys.argv),
            import_path=tuple(place or str(Path.cwd()) for place in sys.path),
            code=code_state(),
            source=source_state(item.path, settings.root),
            goldens={path.name: path.read_bytes() for path in goldens.glob("[!.]*") if path.is_file()},
            earlier=_earlier(self._output(item), nodeid) if settings.resume else {},
            golden_shown=_shown(settings.golden_dir, settings.root),
        )

    def _options(self) -> list[str]:
        """The driver's command line as far as a single test's outcome may hang on it."""
        option = self._config.option
        options = [] if self._config.inipath is None else ["-c", str(self._config.inipath)]
        options += [flag for name, flag in _FLAGS.items() if getattr(option, name, False)]
        for name, flag in _LISTS.items():
            options += [part for value in getattr(option, name, None) or () for part in (flag, str(value))]
        for own in OPTIONS:
            value = self._config.getoption(own.flag)
            if value is not None and own.name not in _PLACES:
                options.append(own.flag if value is True else f"{own.flag}={value}")
        if self._config.pluginmanager.hasplugin("benchmark"):
            options.append("--benchmark-disable")
        return [*options, "-p", "no:cacheprovider", "-q"]

    def _report(self, ending: Ending) -> None:
        """Keep what came home, and tell pytest."""
        item = self._items[ending.test]
        answer = None if ending.payload is None else Answer.model_validate_json(ending.payload)
        error = ending.error if answer is None else answer.error
        if answer is not None and error is None:
            try:
                bring_home(
                    self._wanted(answer, _guarded(item)),
                    nodeid=plain_nodeid(item),
                    folder=_guarded(item).folder,
                    output_dir=self._settings.output_dir,
                    golden_dir=self._settings.golden_dir,
                )
            except ClusterError as refused:
                error = str(refused)
            else:
                if answer.checked:
                    self._checked.add(_guarded(item).id)
        if error is not None:
            forget_mark(self._output(item), plain_nodeid(item))
            self._unjudged[_guarded(item).id] = (item, ClusterError(error))
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        line = _line(answer, ending)
        for report in self._reports(item, answer, error):
            report.nodeid = item.nodeid
            report.user_properties = [*report.user_properties, (PROPERTY, line)]
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _wanted(self, answer: Answer, baseline: Baseline) -> Answer:
        """An answer without its documents, where they would replace those of a test that asked for more."""
        if answer.checked or baseline.id not in self._checked:
            return answer
        marks = {name: data for name, data in answer.outputs.items() if name.startswith(PREFIX)}
        return answer.model_copy(update={"outputs": marks})

    def _leave_unjudged(self) -> None:
        """Manifests that say why, in the place of what the run before has left.

        Last of all: a check that has passed, or that stands, may come home after a test that asked for less was lost,
        and its documents stay.
        """
        for name, (item, error) in self._unjudged.items():
            if name not in self._checked:
                forget_marks(self._output(item))
                now = provenance(self._settings.root, reason=self._settings.reason)
                subject = subject_of(_guarded(item), command=command_of(item))
                write_unjudged(self._output(item), subject, skipped=False, error=error, provenance=now)

    def _output(self, item: pytest.Item) -> Path:
        return self._settings.output_dir / _guarded(item).folder

    def _reports(self, item: pytest.Item, answer: Answer | None, error: str | None) -> list[pytest.TestReport]:
        if answer is None or error is not None:
            return _error_reports(item, f"{_guarded(item).id} could not be judged on the cluster. {error}")
        hook = self._config.hook
        return [hook.pytest_report_from_serializable(config=self._config, data=data) for data in answer.reports]


def _earlier(folder: Path, nodeid: str) -> dict[str, bytes]:
    """The mark of a test and the manifest that it vouches for; neither without the other."""
    paths = (mark_path(folder, nodeid), folder / MANIFEST)
    return {path.name: path.read_bytes() for path in paths} if all(path.is_file() for path in paths) else {}


def _error_reports(item: pytest.Item, sentence: str) -> list[pytest.TestReport]:
    """A test that could not even begin, as pytest reports it."""
    failed = pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords=dict.fromkeys(item.keywords, 1),
        outcome="failed",
        longrepr=f"esa: {sentence}",
        when="setup",
        user_properties=[("esa_outcome", ClusterError.__name__)],
    )
    ended = pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords=dict.fromkeys(item.keywords, 1),
        outcome="passed",
        longrepr=None,
        when="teardown",
    )
    return [failed, ended]


def _line(answer: Answer | None, ending: Ending) -> str:
    where = "on no node" if answer is None else f"on the node {answer.node}"
    if not ending.losses:
        return f"cluster        {where}"
    return f"cluster        {where}, {count(ending.tries, 'try', 'tries')}: {'; '.join(ending.losses)}"


def _variables(threads: int | None) -> dict[str, str | None]:
    """The driver's variables that may change a result; Ray chooses a number of threads where there is none."""
    chosen = {name.removeprefix("env."): value for name, value in variables().items()}
    passed = {name: value for name, value in os.environ.items() if _PASSED_ON.match(name) and name != "ESA_CACHE"}
    return {THREADS: None if threads is None else str(threads), "PYTEST_ADDOPTS": None, **chosen, **passed}


def _shown(folder: Path, root: Path) -> str:
    return str(folder.relative_to(root) if folder.is_relative_to(root) else folder)


def _guarded(item: pytest.Item) -> Baseline:
    baseline = baseline_of(item)
    assert baseline is not None  # noqa: S101  (only guarded tests are handed over)
    return baseline
