"""What is left of a run for others: its documents on the disk, and the lines that belong to every outcome."""

from pathlib import Path

from esa_pytest.baselines.catalog import Reported
from esa_pytest.evaluation.cache import write_atomically
from esa_pytest.measurement import Measurement
from esa_pytest.records import Verdict
from esa_pytest.report.consistency import consistency_lines
from esa_pytest.report.context import context_lines
from esa_pytest.report.documents import as_json, manifest, results_summary
from esa_pytest.report.lines import calibration_lines, notes_lines
from esa_pytest.report.reported import reported_lines


def write_documents(
    folder: Path,
    measurement: Measurement,
    verdict: Verdict | None,
    *,
    outcome: str,
    reported: Reported | None,
    golden_file: str,
) -> None:
    """Write manifest.json and results_summary.json into a folder, each replaced whole."""
    measured = measurement.record
    documents = {
        "manifest.json": manifest(
            measured,
            verdict,
            outcome=outcome,
            seconds=measurement.seconds,
            notes=measurement.notes,
            consistency=measurement.consistency,
            golden_file=golden_file,
        ),
        "results_summary.json": results_summary(
            measured,
            outcome=outcome,
            strata=measurement.strata,
            consistency=measurement.consistency,
            reported=None if reported is None else reported.model_dump(),
        ),
    }
    for name, document in documents.items():
        write_atomically(folder / name, as_json(document))


def run_lines(measurement: Measurement, reported: Reported | None) -> list[str]:
    """What a reader is told of a run whatever its outcome, from its calibration to what was reported of it."""
    return [
        *calibration_lines(measurement.record.calibration),
        *context_lines(measurement.record.context),
        *consistency_lines(measurement.consistency),
        *notes_lines(measurement.notes),
        *([] if reported is None else reported_lines(reported.model_dump())),
    ]
