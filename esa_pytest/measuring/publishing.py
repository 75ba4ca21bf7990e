"""What is left of a run for others: its documents on the disk, and the lines that belong to every outcome."""

from collections.abc import Mapping
from pathlib import Path

from esa_pytest.baselines.catalog import Baseline, Reported
from esa_pytest.evaluation.cache import write_atomically
from esa_pytest.evaluation.calibration import reliability
from esa_pytest.measuring.measurement import Measurement
from esa_pytest.records import Record, Verdict
from esa_pytest.report.advice import advice_on
from esa_pytest.report.consistency import consistency_lines
from esa_pytest.report.context import context_lines
from esa_pytest.report.documents import (
    MANIFEST,
    SUMMARY,
    Detail,
    Subject,
    as_json,
    manifest,
    results_summary,
    unjudged_manifest,
)
from esa_pytest.report.lines import calibration_lines, notes_lines
from esa_pytest.report.reported import reported_lines


def subject_of(baseline: Baseline, *, command: str) -> Subject:
    """What a run of a baseline is of; `command` runs its test alone."""
    reported = baseline.reported
    return Subject(
        baseline=baseline.id,
        model=baseline.model_name,
        type_name=baseline.type_name,
        command=command,
        reported=None if reported is None else reported.model_dump(),
    )


def withdraw_manifest(folder: Path) -> None:
    """Remove the manifest of an earlier run: where there is one, everything beside it is of the same run."""
    (folder / MANIFEST).unlink(missing_ok=True)


def write_documents(
    folder: Path,
    measurement: Measurement,
    verdict: Verdict | None,
    *,
    outcome: str,
    subject: Subject,
    golden: Record | None,
    golden_file: str,
    refused: str | None = None,
) -> None:
    """Write results_summary.json and manifest.json into a folder, each replaced whole, the manifest last."""
    measured, first = measurement.record, measurement.first
    known = None if measured.calibration is None else first.probabilities
    detail = Detail(
        seconds=measurement.seconds,
        notes=measurement.notes,
        consistency=measurement.consistency,
        num_bytes=measurement.num_bytes,
        reliability=() if known is None else reliability(first.scores, known),
        golden=golden,
        golden_file=golden_file,
        advice=()
        if verdict is None
        else advice_on(verdict, baseline=subject.baseline, command=subject.command, refused=refused),
    )
    summary = results_summary(
        measured,
        outcome=outcome,
        strata=measurement.strata,
        consistency=measurement.consistency,
        reported=subject.reported,
        verdict=verdict,
    )
    write_atomically(folder / SUMMARY, as_json(summary))
    write_atomically(
        folder / MANIFEST, as_json(manifest(measured, verdict, outcome=outcome, subject=subject, detail=detail))
    )


def write_unjudged(
    folder: Path,
    subject: Subject,
    *,
    skipped: bool,
    error: BaseException,
    provenance: Mapping[str, str | bool | None],
) -> None:
    """Write the manifest of a run that came to no verdict; what the run before had concluded is not this run's."""
    document = unjudged_manifest(
        subject, skipped=skipped, outcome=type(error).__name__, reason=str(error), provenance=provenance
    )
    (folder / SUMMARY).unlink(missing_ok=True)
    write_atomically(folder / MANIFEST, as_json(document))


def run_lines(measurement: Measurement, reported: Reported | None) -> list[str]:
    """What a reader is told of a run whatever its outcome, from its calibration to what was reported of it."""
    return [
        *calibration_lines(measurement.record.calibration),
        *context_lines(measurement.record.context),
        *consistency_lines(measurement.consistency),
        *notes_lines(measurement.notes),
        *([] if reported is None else reported_lines(reported.model_dump())),
    ]
