"""What the plugin keeps for one pytest session: settings, the loaded model, which baselines were judged.

Light until a baseline is used: no torch, no pydantic.
"""

import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from esa_pytest.commands import command_of
from esa_pytest.errors import SettingError
from esa_pytest.evaluation.ranks import agreed_status, is_follower
from esa_pytest.exit_status import Failure, status_of
from esa_pytest.resume.hooks import FIXTURE, PROPERTY, RECORDED

if TYPE_CHECKING:
    from esa_pytest.baselines.catalog import Baseline
    from esa_pytest.check import GuardedBaseline
    from esa_pytest.evaluation.checkpoints import Checkpoint
    from esa_pytest.measurement import Limit
    from esa_pytest.perturbation import Guarded
    from esa_pytest.settings import Settings
    from esa_pytest.shelf import ModelShelf

SESSION = pytest.StashKey["BaselineSession"]()
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


class BaselineSession:
    """The state of one session; a pytest plugin itself, so that it hears the reports."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._settings: Settings | None = None
        self._private: tempfile.TemporaryDirectory[str] | None = None
        self._shelf: ModelShelf | None = None
        self._guards: dict[str, Guarded] = {}
        self._selected: set[str] = set()
        self._outcomes: dict[str, str] = {}
        self._reports: dict[str, str] = {}
        self._failed: set[str] = set()
        self._remarks: dict[str, list[str]] = {}

    def settings(self) -> "Settings":
        """The settings, resolved at first use.

        No property: older releases of pytest read every attribute of a plugin when it is registered.

        Raises:
            SettingError: a value is not allowed.
        """
        if self._settings is None:
            from esa_pytest.settings import resolve

            self._settings = resolve(self._config)
            if is_follower():
                # The first rank writes what all have measured.
                self._private = tempfile.TemporaryDirectory(prefix="esa-rank-")
                self._settings = replace(self._settings, output_dir=Path(self._private.name))
        return self._settings

    def parameters(self) -> list[Any]:
        """One pytest parameter a baseline of the matrix, marked with its type and grouped by its model."""
        grouped = self._config.pluginmanager.hasplugin("xdist")
        return [
            pytest.param(
                baseline,
                id=baseline.id,
                marks=[
                    getattr(pytest.mark, baseline.type_name),
                    *([pytest.mark.xdist_group(baseline.model_name)] if grouped else []),
                ],
            )
            for baseline in self.settings().baselines
        ]

    def protect(self, items: Sequence[pytest.Item]) -> None:
        """Make sure that no other plugin's option takes a verdict away.

        pytest-benchmark skips, under `--benchmark-only`, what does not use its fixture, and under `--benchmark-skip`
        what does.

        Raises:
            pytest.UsageError: syrupy is switched off.
        """
        guarded = [item for item in items if _is_guarded(item)]
        if guarded and not self._config.pluginmanager.hasplugin("syrupy"):
            raise pytest.UsageError(
                "esa-pytest keeps its goldens through syrupy, which -p no:syrupy switches off; leave that option out."
            )
        if self._benchmarks():
            for item in guarded:
                names = getattr(item, "fixturenames", [])
                if "benchmark" not in names:
                    names.append("benchmark")

    def _benchmarks(self) -> bool:
        active = self._config.pluginmanager.hasplugin("benchmark")
        only = self._config.getoption("benchmark_only", default=False)
        return active and (only or not self._config.getoption("benchmark_skip", default=False))

    def select(self, items: Sequence[pytest.Item]) -> None:
        """Note which baselines were selected; a worker tells them to its controller."""
        self._selected |= {item.nodeid for item in items if _is_guarded(item)}
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output["esa_selected"] = sorted(self._selected)

    def guard(self, request: pytest.FixtureRequest) -> "GuardedBaseline":
        """The object behind the `esa_baseline` fixture of one test."""
        from esa_pytest.imports import import_heavy

        imported = import_heavy()
        from esa_pytest.check import GuardedBaseline
        from esa_pytest.context import CheckContext
        from esa_pytest.shelf import ModelShelf

        if self._shelf is None:
            self._shelf = ModelShelf(device=self.settings().device, rehash=self.settings().rehash)
        context = CheckContext(
            settings=self.settings(),
            shelf=self._shelf,
            snapshot=request.getfixturevalue("snapshot"),
            benchmark=request.getfixturevalue("benchmark") if self._benchmarks() else None,
            update=bool(self._config.option.update_snapshots),
            update_new_only=bool(self._config.option.update_new_snapshots_only),
            command=command_of(request.node),
            imported=imported,
            verbosity=request.config.get_verbosity(),
            add_property=lambda name, value: request.node.user_properties.append((name, value)),
            limit=self._limit(request.node),
            guards=self._guards,
        )
        return GuardedBaseline(request.param, context)

    def _limit(self, item: pytest.Item) -> "Limit":
        from esa_pytest.timeouts import limited

        seconds = {"load": self.settings().load_timeout, "evaluate": self.settings().evaluate_timeout}
        return lambda phase: limited(item, phase=phase, seconds=seconds[phase])

    def drop_models(self) -> None:
        """Free the loaded model and its device."""
        self._guards.clear()
        if self._shelf is not None:
            self._shelf.close()

    def loaded(self, baseline: "Baseline") -> "Checkpoint | None":
        """What the model of a baseline was loaded from, where it is the one in memory."""
        return None if self._shelf is None else self._shelf.checkpoint_of(baseline)

    def forget_frames(self, item: pytest.Item) -> None:
        """Empty the frames of a failed test: pytest keeps its traceback, and with it whatever model it held."""
        if _is_guarded(item):
            for error in _with_causes(getattr(sys, "last_value", None)):
                traceback.clear_frames(error.__traceback__)
                for frame, _ in traceback.walk_tb(error.__traceback__):
                    # Before Python 3.13 a frame keeps the locals that were looked at, until it is asked for them anew.
                    len(frame.f_locals)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what became of a baseline; under xdist this runs where the reports arrive."""
        properties = dict(report.user_properties)
        if "esa_outcome" in properties:
            self._outcomes[report.nodeid] = str(properties["esa_outcome"])
        if "esa_report" in properties:
            self._reports[report.nodeid] = str(properties["esa_report"])
        if report.failed:
            self._failed.add(report.nodeid)
        self._remarks[report.nodeid] = [f"  {properties[name]}" for name in REMARKS if name in properties]

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
        unjudged = self._nothing_judged() and not self.settings().allow_unjudged
        # Without a failed test pytest has a reason of its own.
        return int(status_of(failures, nothing_judged=unjudged) if failures or unjudged else exitstatus)

    def _failure(self, nodeid: str) -> Failure:
        outcome = self._outcomes.get(nodeid)
        judged = outcome in JUDGED or outcome == RECORDED
        return Failure(guarded=nodeid in self._selected, judged=judged, error=None if judged else outcome)

    def _nothing_judged(self) -> bool:
        is_worker = hasattr(self._config, "workerinput")
        if is_worker or not self._selected or self._config.option.collectonly:
            return False
        return not any(outcome in JUDGED or outcome == RECORDED for outcome in self._outcomes.values())

    def summary(self) -> list[str]:
        """The lines at the end of the terminal's output; none where no baseline was selected."""
        if not self._selected or self._config.option.collectonly:
            return []
        lines: list[str] = []
        heads: set[str] = set()
        for nodeid, report in self._reports.items():
            head, *body = report.split("\n")
            lines += [head] if head not in heads else []
            heads.add(head)
            lines += [nodeid, *body, *self._remarks[nodeid]]
        return [*lines, *self._advice(), *self._tally()]

    def _tally(self) -> list[str]:
        judged = sum(outcome in JUDGED for outcome in self._outcomes.values())
        recorded = sum(outcome == RECORDED for outcome in self._outcomes.values())
        last = f"esa: judged {judged} of {len(self._selected)}" + (f", recorded {recorded}" if recorded else "")
        if self._nothing_judged():
            if self.settings().allow_unjudged:
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
        wanted = {baseline.folder for baseline in self.settings().baselines}
        advice += [
            f"esa: no entry of the matrix wants {path}; remove it by hand if nobody needs it"
            for path in unwanted_goldens(self.settings().golden_dir, wanted)
        ]
        return advice

    def _parted(self) -> list[str]:
        """Where goldens and ledger are not of one mind."""
        from esa_pytest.errors import LedgerError
        from esa_pytest.golden.ledger_files import unaccepted_goldens

        folders = {baseline.id: baseline.folder for baseline in self.settings().baselines}
        try:
            found = unaccepted_goldens(self.settings().golden_dir, folders)
        except LedgerError as error:
            return [f"esa: warning: {error}"]
        return [
            f"esa: warning: {path} is not the golden that the ledger accepted last; take both from the same commit, or "
            f"record it anew"
            for path in found
        ]


def _with_causes(error: BaseException | None) -> list[BaseException]:
    """An exception, those it came from, and those that it groups."""
    found: list[BaseException] = []
    ahead = [error]
    while ahead:
        error = ahead.pop()
        if error is not None and not any(error is known for known in found):
            found.append(error)
            ahead += [error.__cause__, error.__context__]
            ahead += error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return found


def _is_guarded(item: pytest.Item) -> bool:
    return FIXTURE in getattr(item, "fixturenames", ())


def settings_or_usage_error(session: BaselineSession) -> None:
    """Resolve the settings now.

    Raises:
        pytest.UsageError: a value is not allowed; the message lists the valid ones.
    """
    try:
        session.settings()
    except SettingError as error:
        raise pytest.UsageError(str(error)) from None
