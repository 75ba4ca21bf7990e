"""What is told of one check, whatever its end: to the terminal, in documents, and to pytest."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import pytest

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.baselines.sources import RandomModel
from esa_pytest.check.accepting import keep_record
from esa_pytest.check.context import CheckContext
from esa_pytest.errors import GoldenMissingError
from esa_pytest.evaluation.metrics import frequency_loss
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.golden.provenance import provenance
from esa_pytest.measuring.measurement import Measurement
from esa_pytest.measuring.publishing import run_lines, subject_of, withdraw_manifest, write_documents, write_unjudged
from esa_pytest.records import Outcome, Record, Verdict
from esa_pytest.report import lines
from esa_pytest.report.advice import REASON
from esa_pytest.report.documents import Subject
from esa_pytest.report.resources import DISABLED_BENCHMARK, resource_figures
from esa_pytest.report.seconds import seconds_lines

RECORDED = "recorded"
# From -vv on.
_TELLS_SECONDS = 2


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """Tells of a baseline's check.

    Attributes:
        baseline: what is checked.
        context: where to tell of it.
        documents: whether the run's documents and record are written.
    """

    baseline: Baseline
    context: CheckContext
    documents: bool = True

    def recorded(
        self, measurement: Measurement, location: GoldenLocation, *, verdict: Verdict | None, replaced: Record | None
    ) -> None:
        """The run's record, complete with its noise, is the golden now.

        Args:
            measurement: of the run.
            location: of the golden.
            verdict: what was found by the golden whose place it took.
            replaced: that golden; None where there was none that could be read.
        """
        if replaced is None and not isinstance(self.baseline.model, RandomModel):
            measurement = replace(measurement, notes=(*measurement.notes, *_doubts(measurement)))
        text = lines.recorded_lines(measurement.record, path=self._shown(location), strata=measurement.strata)
        if verdict is not None and replaced is not None:
            text.insert(1, lines.replaced_line(verdict, measurement.record, replaced))
        self._publish(RECORDED, None, measurement, None, location, text, replaced=replaced)

    def judged(
        self, verdict: Verdict, measurement: Measurement, golden: Record | None, location: GoldenLocation
    ) -> None:
        """A verdict, which fails the test where it does not pass."""
        measured = measurement.record
        if verdict.outcome is Outcome.REFERENCE_ONLY:
            text = lines.reference_only_lines(verdict, measured, measurement.strata, command=self.context.command)
        elif verdict.outcome.passed and golden is not None:
            text = lines.passed_lines(verdict, measured, golden, measurement.strata)
        else:
            self.failed(verdict, measurement, golden, location)
        self._publish(verdict.outcome, verdict, measurement, golden, location, text)

    def judged_before(self, verdict: Verdict | None) -> None:
        """What an earlier test of this process concluded stands for this one too; None was a recording."""
        self.context.add_property("esa_outcome", RECORDED if verdict is None else str(verdict.outcome))

    def failed(
        self,
        verdict: Verdict,
        measurement: Measurement,
        golden: Record | None,
        location: GoldenLocation,
        *,
        refused: str | None = None,
    ) -> NoReturn:
        """Fail the test by a verdict; `refused` says why the run is not accepted either."""
        failure = lines.failed_lines(
            verdict,
            measurement.record,
            golden,
            path=self._shown(location),
            command=self.context.command,
            notes=measurement.notes,
            refused=refused,
        )
        text = [lines.failed_line(verdict)]
        self._publish(verdict.outcome, verdict, measurement, golden, location, text, refused=refused)
        pytest.fail("\n".join(failure), pytrace=False)

    def missing(self, location: GoldenLocation) -> GoldenMissingError:
        """The error that says that there is no golden, and how to record one."""
        others = location.other_devices()
        elsewhere = f" (there is one for {', '.join(others)}, which says nothing of this device)" if others else ""
        return GoldenMissingError(
            f"There is no golden {self._shown(location)}{elsewhere}; "
            f"record one with: {self.context.command} --snapshot-update{REASON}"
        )

    def keep(self, measured: Record) -> None:
        """Keep what was measured beside the documents, so that it can be accepted."""
        if not self.documents:
            return
        withdraw_manifest(self._output)
        keep_record(self._output, measured)

    def unjudged(self, error: BaseException, *, skipped: bool) -> None:
        """The check came to no verdict: something that it needs cannot be had here (a skip), or something is wrong."""
        settings = self.context.settings
        now = provenance(settings.root, reason=settings.reason)
        if self.documents:
            write_unjudged(self._output, self._subject, skipped=skipped, error=error, provenance=now)
        if skipped:
            self.context.add_property("esa_unjudged", str(error))
        else:
            self.context.add_property("esa_outcome", type(error).__name__)

    def _publish(
        self,
        outcome: str,
        verdict: Verdict | None,
        measurement: Measurement,
        golden: Record | None,
        location: GoldenLocation,
        text: list[str],
        *,
        refused: str | None = None,
        replaced: Record | None = None,
    ) -> None:
        """Write the run's documents and attach its results to the test's report."""
        measured = measurement.record
        with measurement.timed("keep"):
            self.keep(measured)
        if self.documents:
            write_documents(
                self._output,
                measurement,
                verdict,
                outcome=outcome,
                subject=self._subject,
                golden=golden,
                golden_file=self._shown(location),
                refused=refused,
            )
        properties = lines.properties(outcome, verdict, measured)
        text = [*text, *self._benchmarked(verdict, measured, golden), *run_lines(measurement, self.baseline.reported)]
        if self.context.verbosity >= _TELLS_SECONDS:
            text += seconds_lines(measurement.seconds)
        properties["esa_report"] = "\n".join([lines.environment_line(measured, golden, replaced=replaced), *text])
        for name, value in properties.items():
            self.context.add_property(name, value)

    def _benchmarked(self, verdict: Verdict | None, measured: Record, golden: Record | None) -> list[str]:
        """Tell pytest-benchmark what it does not time; a line where it keeps nothing."""
        benchmark = self.context.benchmark
        if benchmark is None:
            return []
        benchmark.extra_info.update(resource_figures(verdict, measured, golden))
        return lines.notes_lines((f"{DISABLED_BENCHMARK}.",)) if benchmark.disabled else []

    @property
    def _subject(self) -> Subject:
        return subject_of(self.baseline, command=self.context.command)

    @property
    def _output(self) -> Path:
        return self.context.settings.output_dir / self.baseline.folder

    def _shown(self, location: GoldenLocation) -> str:
        root = self.context.settings.root
        return str(location.json.relative_to(root) if location.json.is_relative_to(root) else location.json)


def _doubts(measurement: Measurement) -> tuple[str, ...]:
    """Why the first golden of a model may be one of a broken model: there is nothing yet to compare it with."""
    metrics = measurement.record.metrics
    guess = frequency_loss(measurement.first.scores)
    if metrics is None or metrics.mean_nll <= guess:
        return ()
    doubt = (
        f"The loss is {metrics.mean_nll:.4g}, and guessing each token by how often this text has it would give "
        f"{guess:.4g}: see whether weights, tokenizer and BOS are what they should be before this golden is relied on."
    )
    return (doubt,)
