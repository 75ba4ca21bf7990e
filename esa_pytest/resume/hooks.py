"""The hooks of resuming: a test whose earlier verdict stands is played by a stand-in with the earlier reports.

Light: torch and pydantic arrive with the first guarded test. The stand-in goes through pytest's whole protocol, so that
every other plugin sees an ordinary test; it has no fixtures, so nothing is loaded for it.
"""

import copy
import uuid
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from esa_pytest.invocation import run_once, runs_no_test
from esa_pytest.stash import CHECKED

if TYPE_CHECKING:
    from esa_pytest.baselines.catalog import Baseline
    from esa_pytest.evaluation.checkpoints import Checkpoint
    from esa_pytest.resume.journal import Asked, Journal
    from esa_pytest.resume.marks import Mark
    from esa_pytest.settings import Settings

FIXTURE = "esa_baseline"
# A line for people on a test's report: that its verdict is an earlier one, or why an earlier one does not stand.
PROPERTY = "esa_resumed"
RECORDED = "recorded"
# What pytest-rerunfailures calls the failed report of an attempt that it follows by another one.
RERUN = "rerun"
_RUN = pytest.StashKey[str]()


class ResumedItem(pytest.Item):
    """Stands for a test that an earlier run judged; its reports are that run's."""

    earlier: "Mark"
    told: str

    def runtest(self) -> None:
        """Nothing: the report of this phase is replaced."""

    def reports(self, when: str) -> list[pytest.TestReport]:
        """The earlier reports of a phase, under the name that the test has now: of its subtests, and last its own."""
        earlier = [report for report in self.earlier.reports if report["when"] == when]
        return [self._restored(report) for report in earlier or self.earlier.reports[-1:]]

    def _restored(self, data: dict[str, Any]) -> pytest.TestReport:
        data = copy.deepcopy(data) | {"nodeid": self.nodeid}
        report = self.config.hook.pytest_report_from_serializable(config=self.config, data=data)
        assert isinstance(report, pytest.TestReport)  # noqa: S101  (a mark holds nothing else)
        pairs = [(name, value) for name, value in report.user_properties]
        report.user_properties = [*pairs, (PROPERTY, self.told)]
        return report


class Resuming:
    """A pytest plugin that keeps marks of what is judged, and takes them up under `--esa-resume`."""

    def __init__(
        self,
        config: pytest.Config,
        *,
        settings: Callable[[], "Settings"],
        loaded: Callable[["Baseline"], "Checkpoint | None"],
        judged: frozenset[str],
    ) -> None:
        self._config = config
        self._settings = settings
        self._loaded = loaded
        self._finished = judged | {RECORDED}
        self._journal: Journal | None = None
        self._asked: dict[str, Asked] = {}
        self._reports: dict[str, list[pytest.TestReport]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Forget what earlier runs found of the selected tests, unless this run takes it up."""
        if runs_no_test(self._config):
            return
        for item in session.items:
            baseline = baseline_of(item)
            if baseline is not None:
                self._kept().forget(baseline, nodeid=plain_nodeid(item))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a stand-in for a test whose earlier verdict stands, and leave every other to pytest."""
        baseline = None if isinstance(item, ResumedItem) or runs_no_test(self._config) else baseline_of(item)
        if baseline is None:
            return None
        asked = self._asked[item.nodeid] = self._kept().begin(baseline, nodeid=plain_nodeid(item), path=item.path)
        if asked.earlier is not None:
            if asked.earlier.checked:
                self._config.stash[CHECKED].add(baseline.id)
            stand_in = _stand_in(item, asked.earlier)
            item.ihook.pytest_runtest_protocol(item=stand_in, nextitem=nextitem)
            return True
        if asked.again is not None:
            item.user_properties.append((PROPERTY, f"judged again   {asked.again}"))
        return None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
        """The earlier report in the place of the stand-in's, behind those of its subtests."""
        report = yield
        if not isinstance(item, ResumedItem):
            return report
        *subtests, own = item.reports(call.when)
        for subtest in subtests:
            item.ihook.pytest_runtest_logreport(report=subtest)
        return own

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Mark a test once its last phase is over, in the process that ran it."""
        asked = self._asked.get(report.nodeid)
        if asked is None or asked.earlier is not None:
            return
        if str(report.outcome) == RERUN:
            # A verdict that took more than one attempt is none that stands.
            del self._asked[report.nodeid]
            return
        self._reports.setdefault(report.nodeid, []).append(report)
        if report.when == "teardown":
            reports = self._reports.pop(report.nodeid)
            outcome = str(_properties(reports).get("esa_outcome"))
            if outcome in self._finished and reports[0].passed and report.passed:
                self._kept().judged(
                    asked,
                    tuple(self._serialised(each) for each in reports),
                    recorded=outcome == RECORDED,
                    checked=asked.baseline.id in self._config.stash[CHECKED],
                    loaded=self._loaded(asked.baseline),
                )

    def _serialised(self, report: pytest.TestReport) -> dict[str, Any]:
        data: dict[str, Any] = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        return data

    def _kept(self) -> "Journal":
        if self._journal is None:
            from esa_pytest.resume.journal import Journal

            option = self._config.option
            self._journal = Journal(
                self._settings(),
                run=run_id(self._config),
                updates={
                    "update": bool(getattr(option, "update_snapshots", False)),
                    "update_new_only": bool(getattr(option, "update_new_snapshots_only", False)),
                },
            )
        return self._journal


def baseline_of(item: pytest.Item) -> "Baseline | None":
    """What a test guards; None for one that guards nothing, as one that is parametrised by no baseline at all."""
    callspec = getattr(item, "callspec", None)
    found = None if callspec is None else callspec.params.get(FIXTURE)
    return found if hasattr(found, "model_name") else None


def plain_nodeid(item: pytest.Item) -> str:
    """The id of a test without the name of its group, which pytest-xdist puts behind it."""
    return item.nodeid if item.parent is None else f"{item.parent.nodeid}::{item.name}"


def run_id(config: pytest.Config) -> str:
    """Names this run, in all of its pytest-xdist workers alike."""
    given = getattr(config, "workerinput", {}).get("testrunuid")
    if given is None:
        given = config.stash.setdefault(_RUN, uuid.uuid4().hex)
    return str(given)


def _stand_in(item: pytest.Item, earlier: "Mark") -> ResumedItem:
    assert item.parent is not None  # noqa: S101  (a test lies in a module)
    made: ResumedItem = ResumedItem.from_parent(item.parent, name=item.name, nodeid=item.nodeid)
    run_once(made)
    made.earlier = earlier
    made.told = f"resumed        judged at {earlier.utc}, and nothing that decides has changed since"
    return made


def _properties(reports: list[pytest.TestReport]) -> Mapping[str, object]:
    return {name: value for report in reports for name, value in report.user_properties}
