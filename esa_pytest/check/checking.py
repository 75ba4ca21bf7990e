"""One baseline's check from end to end: measure, judge, accept, report."""

import warnings
from dataclasses import dataclass, replace

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.check.accepting import Found, entry_of, found_at, why_not_replaced
from esa_pytest.check.context import CheckContext
from esa_pytest.check.reporting import CheckReport
from esa_pytest.check.snapshot import golden_extension
from esa_pytest.drift.elsewhere import judge_elsewhere
from esa_pytest.drift.judge import judge, needs_reference, non_finite_verdict
from esa_pytest.drift.resources import describe_resource
from esa_pytest.drift.rules import ResourceMode, Rules
from esa_pytest.errors import AcceptanceError, EsaError, EsaWarning, GoldenError
from esa_pytest.evaluation.loading import dtype_of
from esa_pytest.golden.ledger import LedgerEntry
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.golden.provenance import provenance
from esa_pytest.measuring.consistency import refuse_broken_promise
from esa_pytest.measuring.measurement import Measurement, measure
from esa_pytest.measuring.probing import completed, probed
from esa_pytest.measuring.shelf import Shelved
from esa_pytest.records import Outcome, Record, Verdict


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A check that passed, or recorded its golden, which then has no verdict."""

    verdict: Verdict | None
    measurement: Measurement
    golden: Record


class Checking:
    """How a baseline is checked.

    Attributes:
        report: tells of it.
        concluded: whether a check has come to its verdict, which then may fail the test.
    """

    def __init__(self, baseline: Baseline, context: CheckContext) -> None:
        self.report = CheckReport(baseline=baseline, context=context)
        self.concluded = False
        self._baseline = baseline
        self._context = context
        # pytest-benchmark's fixture times one call a test.
        self._benchmark = context.benchmark

    def shelved(self) -> Shelved:
        """The model, loaded, and what belongs to it."""
        with self._context.limit("load"):
            return self._context.shelf.get(self._baseline)

    def measure(self) -> Measurement:
        """Evaluate without judging."""
        settings = self._context.settings
        benchmark, self._benchmark = self._benchmark, None
        measurement = measure(
            self._baseline,
            self.shelved(),
            rounds=settings.rounds,
            benchmark=benchmark,
            provenance=provenance(settings.root, reason=settings.reason),
            limit=self._context.limit,
        )
        return replace(measurement, seconds={**self._context.imported, **measurement.seconds})

    def check(self, rules: Rules) -> Checked:
        """Evaluate, judge against the golden, report, and record where that was asked for.

        Raises:
            EsaError: the check came to no verdict.
            pytest.fail.Exception: the verdict does not pass.
        """
        measurement = self.measure()
        measured = measurement.record
        location = GoldenLocation(
            root=self._context.settings.golden_dir,
            folder=self._baseline.folder,
            device=measured.device,
            dtype=dtype_of(self.shelved().model.network),
        )
        with measurement.timed("read_golden"):
            found = found_at(location, sealed=self._context.update or self._context.update_new_only)
            golden = found.record
        with measurement.timed("judge"):
            verdict = _verdict(golden, measured, rules)
        if golden is not None and golden.probe is not None and verdict is not None and needs_reference(verdict):
            measurement = self._probed(measurement)
            measured = measurement.record
            with measurement.timed("judge"):
                verdict = judge(golden, measured, rules)
        if self._is_recording(verdict, found):
            recorded = self._record(measurement, verdict, found, location)
            return Checked(verdict=None, measurement=measurement, golden=recorded)
        if self._context.settings.calibrate and measured.non_finite is None:
            measurement = replace(measurement, record=completed(measurement, self._baseline, self.shelved().model))
            measured = measurement.record
        if golden is None:
            # There is nothing to judge by; what was measured can be accepted all the same.
            self.report.keep(measured)
        if found.refusal is not None:
            raise found.refusal
        if verdict is None:
            return self._check_elsewhere(measurement, location)
        if verdict.outcome is not Outcome.NON_FINITE:
            with measurement.timed("snapshot"):
                self._assert_snapshot(measured, location, rewriting=self._context.update, verdict=verdict)
        self._warn_of_resources(verdict, rules)
        if verdict.outcome is Outcome.IDENTICAL:
            refuse_broken_promise(measured, measurement.consistency, golden)
        self.concluded = True
        self.report.judged(verdict, measurement, golden, location)
        # Without a golden there is a verdict only on what is not finite, and that has failed by now.
        assert golden is not None  # noqa: S101
        return Checked(verdict=verdict, measurement=measurement, golden=golden)

    def _warn_of_resources(self, verdict: Verdict, rules: Rules) -> None:
        if verdict.outcome.passed and rules.resources is ResourceMode.WARN:
            for drift in verdict.resources:
                if drift.beyond:
                    _warn(f"{self._baseline.id}: {describe_resource(drift)}")

    def _check_elsewhere(self, measurement: Measurement, location: GoldenLocation) -> Checked:
        """Without a golden for this device: what one of another device says of the meaning."""
        others = (found_at(place, sealed=False).record for place in location.elsewhere())
        golden = next((found for found in others if found and found.probe), None)
        if golden is None:
            raise self.report.missing(location)
        measurement = self._probed(measurement)
        verdict = judge_elsewhere(golden, measurement.record, self._context.settings.rules)
        if verdict is None:
            raise self.report.missing(location)
        if verdict.reference is not None and not verdict.reference.within and verdict.outcome.passed:
            _warn(f"{self._baseline.id}: {verdict.reason}")
        self.concluded = True
        self.report.judged(verdict, measurement, golden, location)
        return Checked(verdict=verdict, measurement=measurement, golden=golden)

    def _is_recording(self, verdict: Verdict | None, found: Found) -> bool:
        """Whether this run writes its golden: asked to, finite, and something to accept."""
        if verdict is not None and verdict.outcome is Outcome.NON_FINITE:
            return False
        if self._context.update:
            return verdict is None or not verdict.nothing_to_accept or self._context.settings.calibrate
        return self._context.update_new_only and found.record is None and found.refusal is None

    def _probed(self, measurement: Measurement) -> Measurement:
        with self._context.limit("evaluate"):
            return probed(measurement, self.shelved().model)

    def _record(
        self, measurement: Measurement, verdict: Verdict | None, found: Found, location: GoldenLocation
    ) -> Record:
        settings, golden = self._context.settings, found.record
        # A ledger that cannot be read is told before minutes are spent on measuring noise.
        refused = why_not_replaced(found, measurement.record, location=location, limit=settings.accept_limit)
        if refused is not None and not settings.force:
            if verdict is None:
                self.report.keep(measurement.record)
                raise AcceptanceError(refused)
            self.concluded = True
            self.report.failed(verdict, measurement, golden, location, refused=refused)
        measured = completed(measurement, self._baseline, self.shelved().model)
        entry = entry_of(
            golden,
            measured,
            verdict,
            location=location,
            replaces=found.seal,
            provenance=measured.provenance,
            forced=refused is not None,
        )
        self._assert_snapshot(measured, location, rewriting=True, entry=entry)
        self.report.recorded(replace(measurement, record=measured), location, verdict=verdict, replaced=golden)
        return measured

    def _assert_snapshot(
        self,
        measured: Record,
        location: GoldenLocation,
        *,
        rewriting: bool,
        verdict: Verdict | None = None,
        entry: LedgerEntry | None = None,
    ) -> None:
        """Let syrupy compare, count and, under its update flags, write.

        Raises:
            EsaError: there is an entry, and it and the golden were not written.
        """
        extension = golden_extension(location, rewriting=rewriting, verdict=verdict, entry=entry)
        assertion = self._context.snapshot.use_extension(extension)
        if assertion == measured or entry is None:
            return
        # syrupy keeps the exception of a write to itself.
        error = assertion.executions[assertion.num_executions - 1].exception
        if isinstance(error, EsaError):
            raise error
        raise GoldenError(
            f"The golden {location.json} could not be written ({error}); the old one or the new one lies there whole: "
            f"mend the cause, and record it once more."
        )


def _warn(text: str) -> None:
    """Warn, also where a project turns warnings into errors: this stands in the place of a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", EsaWarning)
        warnings.warn(text, EsaWarning, stacklevel=3)


def _verdict(golden: Record | None, measured: Record, rules: Rules) -> Verdict | None:
    """The verdict, or None where there is nothing to compare with and nothing wrong in itself."""
    if golden is not None:
        return judge(golden, measured, rules)
    return None if measured.non_finite is None else non_finite_verdict(measured)
