"""One baseline's check from end to end: measure, judge, accept. What the `esa_baseline` fixture hands out."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from esa_pytest.accepting import entry_of
from esa_pytest.baselines.catalog import Baseline
from esa_pytest.consistency import refuse_broken_promise
from esa_pytest.context import CheckContext
from esa_pytest.drift.acceptance import why_refused
from esa_pytest.drift.elsewhere import judge_elsewhere
from esa_pytest.drift.judge import judge, needs_reference, non_finite_verdict
from esa_pytest.drift.resources import describe_resource
from esa_pytest.drift.rules import ResourceMode, Rules, without_resources
from esa_pytest.errors import EsaError, EsaWarning, GoldenError, UnavailableError
from esa_pytest.evaluation.loading import dtype_of
from esa_pytest.golden.files import read_golden
from esa_pytest.golden.ledger import LedgerEntry
from esa_pytest.golden.ledger_files import read_ledger
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.golden.provenance import provenance
from esa_pytest.measurement import Measurement, measure
from esa_pytest.probing import completed, probed
from esa_pytest.records import Outcome, Record, Verdict
from esa_pytest.reporting import CheckReport
from esa_pytest.shelf import Shelved
from esa_pytest.snapshot import golden_extension

if TYPE_CHECKING:
    from esa_pytest.perturbation.guard import Guarded


@dataclass(frozen=True, kw_only=True)
class _Checked:
    """A check that passed, or recorded its golden, which then has no verdict."""

    verdict: Verdict | None
    measurement: Measurement
    golden: Record


class GuardedBaseline:
    """A baseline under test: its model, its measurement, and the check against its golden."""

    def __init__(self, baseline: Baseline, context: CheckContext) -> None:
        self.baseline = baseline
        self._context = context
        self._report = CheckReport(baseline=baseline, context=context)
        # pytest-benchmark's fixture times one call a test.
        self._benchmark = context.benchmark

    @property
    def id(self) -> str:
        """As `smollm2-135m-smoke`."""
        return self.baseline.id

    @property
    def model(self) -> PreTrainedModel:
        """The loaded model, in evaluation mode on the session's device; shared by all tests of the model."""
        with self._told_to_pytest():
            return self._shelved().model.network

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        with self._told_to_pytest():
            return self._shelved().model.tokenizer

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        with self._told_to_pytest():
            return self._shelved().model.device

    def measure(self) -> Record:
        """Evaluate without judging; fails or skips the test where that is impossible."""
        with self._told_to_pytest():
            return self._measure().record

    def check(self) -> Verdict | None:
        """Evaluate, judge against the golden, report; fails or skips the test where that is the verdict.

        Returns:
            The verdict of a baseline that passed, or None where its golden was recorded.
        """
        self._context.checked.add(self.id)
        with self._told_to_pytest():
            return self._check(self._context.settings.rules).verdict

    def guard(self) -> "Guarded":
        """Check once a model and process, and hand out what drift is measured from; fails the test as `check` does."""
        with self._told_to_pytest():
            shelved = self._shelved()
            known = self._context.guards.get(self.id)
            if known is None or known.shelved is not shelved:
                known = self._context.guards[self.id] = self._guarded(shelved)
            else:
                self._report.judged_before(known.verdict)
            return known

    def drop_model(self) -> None:
        """Forget the loaded model, which is not what it was; the next test loads it anew."""
        self._context.shelf.clear()

    def _guarded(self, shelved: Shelved) -> "Guarded":
        from esa_pytest.perturbation.guard import guarded_by

        # The documents of a test that asked for all are not replaced by those of one that asks for less.
        self._report = replace(self._report, documents=self.id not in self._context.checked)
        try:
            # A perturbation asks what the model computes, and not how fast.
            checked = self._check(without_resources(self._context.settings.rules))
        except pytest.fail.Exception as failure:
            refusal = str(failure)
        else:
            return guarded_by(
                checked.golden,
                checked.measurement,
                baseline=self.baseline,
                shelved=shelved,
                verdict=checked.verdict,
                rules=without_resources(self._context.settings.rules),
            )
        raise pytest.fail.Exception(f"esa: {self.id} is not perturbed, its own check failed.\n{refusal}", pytrace=False)

    def _shelved(self) -> Shelved:
        with self._context.limit("load"):
            return self._context.shelf.get(self.baseline)

    def _measure(self) -> Measurement:
        settings = self._context.settings
        benchmark, self._benchmark = self._benchmark, None
        measurement = measure(
            self.baseline,
            self._shelved(),
            rounds=settings.rounds,
            benchmark=benchmark,
            provenance=provenance(settings.root, reason=settings.reason),
            limit=self._context.limit,
        )
        return replace(measurement, seconds={**self._context.imported, **measurement.seconds})

    def _check(self, rules: Rules) -> _Checked:
        measurement = self._measure()
        measured = measurement.record
        location = GoldenLocation(
            root=self._context.settings.golden_dir,
            folder=self.baseline.folder,
            device=measured.device,
            dtype=dtype_of(self.model),
        )
        with measurement.timed("read_golden"):
            golden, refusal = _read(location)
        with measurement.timed("judge"):
            verdict = _verdict(golden, measured, rules)
        if golden is not None and golden.probe is not None and verdict is not None and needs_reference(verdict):
            measurement = self._probed(measurement)
            measured = measurement.record
            with measurement.timed("judge"):
                verdict = judge(golden, measured, rules)
        if self._is_recording(verdict, golden, refusal):
            recorded = self._record(measurement, verdict, golden, location)
            return _Checked(verdict=None, measurement=measurement, golden=recorded)
        if self._context.settings.calibrate and measured.non_finite is None:
            measurement = replace(measurement, record=completed(measurement, self.baseline, self._shelved().model))
            measured = measurement.record
        if golden is None:
            # There is nothing to judge by; what was measured can be accepted all the same.
            self._report.keep(measured)
        if refusal is not None:
            raise refusal
        if verdict is None:
            return self._check_elsewhere(measurement, location)
        if verdict.outcome is not Outcome.NON_FINITE:
            with measurement.timed("snapshot"):
                self._assert_snapshot(measured, location, rewriting=self._context.update, verdict=verdict)
        self._warn_of_resources(verdict, rules)
        if verdict.outcome is Outcome.IDENTICAL:
            refuse_broken_promise(measured, measurement.consistency, golden)
        self._report.judged(verdict, measurement, golden, location)
        # Without a golden there is a verdict only on what is not finite, and that has failed by now.
        assert golden is not None  # noqa: S101
        return _Checked(verdict=verdict, measurement=measurement, golden=golden)

    def _warn_of_resources(self, verdict: Verdict, rules: Rules) -> None:
        if verdict.outcome.passed and rules.resources is ResourceMode.WARN:
            for drift in verdict.resources:
                if drift.beyond:
                    _warn(f"{self.id}: {describe_resource(drift)}")

    def _check_elsewhere(self, measurement: Measurement, location: GoldenLocation) -> _Checked:
        """Without a golden for this device: what one of another device says of the meaning."""
        golden = next((found for found in map(_trusted, location.elsewhere()) if found and found.probe), None)
        if golden is None:
            raise self._report.missing(location)
        measurement = self._probed(measurement)
        verdict = judge_elsewhere(golden, measurement.record, self._context.settings.rules)
        if verdict is None:
            raise self._report.missing(location)
        if verdict.reference is not None and not verdict.reference.within and verdict.outcome.passed:
            _warn(f"{self.id}: {verdict.reason}")
        self._report.judged(verdict, measurement, golden, location)
        return _Checked(verdict=verdict, measurement=measurement, golden=golden)

    def _is_recording(self, verdict: Verdict | None, golden: Record | None, refusal: GoldenError | None) -> bool:
        """Whether this run writes its golden: asked to, finite, and something to accept."""
        if verdict is not None and verdict.outcome is Outcome.NON_FINITE:
            return False
        if self._context.update:
            return verdict is None or not verdict.nothing_to_accept or self._context.settings.calibrate
        return self._context.update_new_only and golden is None and refusal is None

    def _probed(self, measurement: Measurement) -> Measurement:
        with self._context.limit("evaluate"):
            return probed(measurement, self._shelved().model)

    def _record(
        self, measurement: Measurement, verdict: Verdict | None, golden: Record | None, location: GoldenLocation
    ) -> Record:
        settings = self._context.settings
        refused = why_refused(golden, measurement.record, limit=settings.accept_limit)
        if refused is not None and verdict is not None and not settings.force:
            self._report.failed(verdict, measurement, golden, location, refused=refused)
        # A ledger that cannot be read is told before minutes are spent on measuring noise.
        read_ledger(settings.golden_dir)
        measured = completed(measurement, self.baseline, self._shelved().model)
        entry = entry_of(
            golden,
            measured,
            verdict,
            location=location,
            provenance=measured.provenance,
            forced=refused is not None,
        )
        if not self._assert_snapshot(measured, location, rewriting=True, entry=entry):
            raise GoldenError(f"The golden {location.json} could not be written; what was there is unchanged.")
        self._report.recorded(replace(measurement, record=measured), location)
        return measured

    def _assert_snapshot(
        self,
        measured: Record,
        location: GoldenLocation,
        *,
        rewriting: bool,
        verdict: Verdict | None = None,
        entry: LedgerEntry | None = None,
    ) -> bool:
        """Let syrupy compare, count and, under its update flags, write."""
        extension = golden_extension(location, rewriting=rewriting, verdict=verdict, entry=entry)
        return bool(self._context.snapshot.use_extension(extension) == measured)

    @contextmanager
    def _told_to_pytest(self) -> Iterator[None]:
        """A user's mistake becomes a failure with a sentence and no traceback; unreachable weights become a skip."""
        told: EsaError | None = None
        try:
            yield
        except EsaError as error:
            told = error
        except Exception as error:
            # A mistake of ours, or a device that broke: pytest shows its traceback.
            self._report.unjudged(error, skipped=False)
            raise
        if told is None:
            return
        skipped = isinstance(told, UnavailableError) and not self._context.settings.strict
        self._report.unjudged(told, skipped=skipped)
        # Outside the except clause, so that pytest shows the sentence and not where it came from.
        if skipped:
            raise pytest.skip.Exception(str(told)) from None
        raise pytest.fail.Exception(f"esa: {self.id} could not be judged. {told}", pytrace=False) from None


def _warn(text: str) -> None:
    """Warn, also where a project turns warnings into errors: this stands in the place of a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", EsaWarning)
        warnings.warn(text, EsaWarning, stacklevel=3)


def _read(location: GoldenLocation) -> tuple[Record | None, GoldenError | None]:
    try:
        return read_golden(location), None
    except GoldenError as error:
        return None, error


def _trusted(location: GoldenLocation) -> Record | None:
    return _read(location)[0]


def _verdict(golden: Record | None, measured: Record, rules: Rules) -> Verdict | None:
    """The verdict, or None where there is nothing to compare with and nothing wrong in itself."""
    if golden is not None:
        return judge(golden, measured, rules)
    return None if measured.non_finite is None else non_finite_verdict(measured)
