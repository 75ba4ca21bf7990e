"""What became of the baselines of a session: the verdicts that arrive, the lines at its end, its exit status.

Light until there is something to tell: no torch, no pydantic.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from esa_pytest.evaluation.ranks import agreed_status
from esa_pytest.exit_status import Failure, status_of
from esa_pytest.invocation import runs_no_test
from esa_pytest.resume.hooks import FIXTURE, PROPERTY, RECORDED, RERUN, baseline_of

if TYPE_CHECKING:
    from esa_pytest.settings import Settings

STANDING = pytest.StashKey["Standing"]()
# What a test's report carries of a verdict; everything else under `esa_outcome` is the name of an error.
JUDGED = frozenset(
    {
        "identical",
        "within-noise",
        "inputs-changed",
        "non-finite",
        "unexplained-bits",
        "semantic-drift",
        "reference-only",
        "numeric-drift",
        "metric-drift",
        "throughput-drift",
        "memory-drift",
    }
)
# Further lines of a test, by the property of its report that holds them.
REMARKS = (PROPERTY, "esa_cluster")


class Standing:
    """A pytest plugin that hears the reports; under pytest-xdist and on Ray, where they arrive."""

    def __init__(self, config: pytest.Config, *, settings: Callable[[], "Settings"]) -> None:
        self._config = config
        self._settings = settings
        self._selected: set[str] = set()
        self._outcomes: dict[str, str] = {}
        self._reports: dict[str, str] = {}
        self._unjudged: dict[str, str] = {}
        # The phase in which a test failed.
        self._failed: dict[str, str] = {}
        self._remarks: dict[str, list[str]] = {}
        self._not_collected: set[str] = set()
        # What was run again though its verdict was there.
        self._rerun: set[str] = set()

    def select(self, items: Sequence[pytest.Item]) -> None:
        """Note which baselines were selected; a worker tells them to its controller."""
        self._selected |= {item.nodeid for item in items if is_guarded(item)}
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output["esa_selected"] = sorted(self._selected)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what became of a baseline; under xdist this runs where the reports arrive."""
        if report.nodeid in self._rerun:
            return
        properties = dict(report.user_properties)
        if "esa_outcome" in properties:
            self._outcomes[report.nodeid] = str(properties["esa_outcome"])
        if "esa_report" in properties:
            self._reports[report.nodeid] = str(properties["esa_report"])
        if "esa_unjudged" in properties:
            self._unjudged[report.nodeid] = str(properties["esa_unjudged"])
        if report.failed:
            self._failed.setdefault(report.nodeid, report.when)
        self._remarks[report.nodeid] = [f"  {properties[name]}" for name in REMARKS if name in properties]
        if str(report.outcome) == RERUN and self._outcomes.get(report.nodeid) in JUDGED:
            # What a later attempt finds takes no verdict away.
            self._rerun.add(report.nodeid)
            self._failed[report.nodeid] = report.when
            self._remarks[report.nodeid].append("  rerun          by another plugin; this first verdict stands")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a file that could not be collected, which need not end the session."""
        if report.failed:
            self._not_collected.add(report.nodeid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:  # noqa: ARG002  (xdist's signature)
        """Gather what an xdist worker selected."""
        output: Mapping[str, Any] = getattr(node, "workeroutput", {})
        self._selected |= set(output.get("esa_selected", ()))

    def finish(self, exitstatus: int) -> int:
        """The exit status of the session: one that selected baselines and judged none has not passed."""
        return agreed_status(self._status(exitstatus))

    def _status(self, exitstatus: int) -> int:
        if exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return exitstatus
        failures = [self._failure(nodeid) for nodeid in self._failed]
        failures += [Failure(guarded=False) for _ in self._not_collected]
        unjudged = self._nothing_judged() and not self._settings().allow_unjudged
        # Without a failed test pytest has a reason of its own.
        return int(status_of(failures, nothing_judged=unjudged) if failures or unjudged else exitstatus)

    def _failure(self, nodeid: str) -> Failure:
        outcome = self._outcomes.get(nodeid)
        judged = outcome in JUDGED or outcome == RECORDED
        return Failure(
            guarded=nodeid in self._selected,
            judged=judged,
            error=None if judged else outcome,
            own=outcome is None and self._failed[nodeid] == "call",
        )

    def _nothing_judged(self) -> bool:
        is_worker = hasattr(self._config, "workerinput")
        if is_worker or not self._selected or runs_no_test(self._config):
            return False
        return not any(outcome in JUDGED or outcome == RECORDED for outcome in self._outcomes.values())

    def summary(self) -> list[str]:
        """The lines at the end of the terminal's output; none where no baseline was selected."""
        if not self._selected or runs_no_test(self._config):
            return []
        lines: list[str] = []
        above = None
        for nodeid, report in self._reports.items():
            head, *body = report.split("\n")
            lines += [head] if head != above else []
            above = head
            lines += [nodeid, *body, *self._remarks[nodeid]]
        return [*lines, *self._advice(), *self._skipped(), *self._tally()]

    def _skipped(self) -> list[str]:
        """Why baselines were skipped, which pytest tells under -rs alone; a line a reason, which tests may share."""
        from esa_pytest.report.layout import first_sentence

        nodeids: dict[str, list[str]] = {}
        for nodeid, reason in self._unjudged.items():
            nodeids.setdefault(reason, []).append(nodeid)
        return [
            f"esa: not judged {first}{f' and {len(others)} more' if others else ''}: {first_sentence(reason)}"
            for reason, (first, *others) in nodeids.items()
        ]

    def _tally(self) -> list[str]:
        judged = sum(outcome in JUDGED for outcome in self._outcomes.values())
        recorded = sum(outcome == RECORDED for outcome in self._outcomes.values())
        last = f"esa: judged {judged} of {len(self._selected)}" + (f", recorded {recorded}" if recorded else "")
        if self._nothing_judged():
            if self._settings().allow_unjudged:
                return ["esa: nothing was judged, which --esa-allow-unjudged accepts", last]
            return [
                "esa: nothing was judged, so this run has not passed (--esa-allow-unjudged accepts that)",
                last,
            ]
        return [last]

    def _advice(self) -> list[str]:
        from esa_pytest.golden.location import unwanted_goldens

        advice = self._parted()
        if self._config.getoption("dist", default="no") not in ("no", "loadgroup"):
            advice.append("esa: warning: without --dist loadgroup several workers load the same model; add it to -n")
        wanted = {baseline.folder for baseline in self._settings().baselines}
        advice += [
            f"esa: no entry of the matrix wants {path}; remove it by hand if nobody needs it"
            for path in unwanted_goldens(self._settings().golden_dir, wanted)
        ]
        return advice

    def _parted(self) -> list[str]:
        """Where goldens and ledger are not of one mind."""
        from esa_pytest.errors import LedgerError
        from esa_pytest.golden.ledger import LEDGER_NAME
        from esa_pytest.golden.ledger_files import lacks_ledger, unaccepted_goldens

        golden_dir = self._settings().golden_dir
        folders = {baseline.id: baseline.folder for baseline in self._settings().baselines}
        try:
            if lacks_ledger(golden_dir, folders.values()):
                lack = f"holds goldens and no {LEDGER_NAME}, which tells when and why each was accepted"
                return [f"esa: warning: {golden_dir} {lack}; bring it back, and commit it beside them"]
            found = unaccepted_goldens(golden_dir, folders)
        except LedgerError as error:
            return [f"esa: warning: {error}"]
        return [
            f"esa: warning: {path} is not the golden that the ledger accepted last; take both from the same commit, or "
            f"record it anew"
            for path in found
        ]


def is_guarded(item: pytest.Item) -> bool:
    """Whether a test uses a baseline."""
    return FIXTURE in getattr(item, "fixturenames", ()) and baseline_of(item) is not None
