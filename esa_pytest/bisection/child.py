"""One measurement of a baseline in a process of its own: `python -m esa_pytest.bisection.child`.

Reads a `TrialRun` as JSON from standard input, writes the record that it measured to a file and prints a
`TrialAnswer`.
"""

import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.drift.judge import describe_non_finite, judge, needs_reference
from esa_pytest.drift.rules import Rules
from esa_pytest.errors import EsaError
from esa_pytest.golden.files import read_golden
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.golden.packing import pack
from esa_pytest.measuring.measurement import Measurement, measure
from esa_pytest.measuring.probing import probed
from esa_pytest.measuring.shelf import ModelShelf

ANSWER = "esa-trial "


class TrialRun(BaseModel):
    """What is measured, and where the record goes.

    Attributes:
        baseline: what to evaluate.
        device: as the settings name it.
        threads: how many torch computes with.
        golden: where the golden lies, which says whether the float32 reference is needed.
        rules: how strictly it judges.
        target: the file that the packed record is written to.
    """

    model_config = ConfigDict(frozen=True)

    baseline: Baseline
    device: str
    threads: int
    golden: GoldenLocation
    rules: Rules
    target: Path


class TrialAnswer(BaseModel):
    """What became of it.

    Attributes:
        refusal: why nothing was measured, a sentence.
        non_finite: where the run held no number, a clause; there is no record of it.
        environment: the fingerprint of the run, whether or not there is a record of it.
        notes: what a reader should know of the run, a sentence each.
    """

    model_config = ConfigDict(frozen=True)

    refusal: str | None = None
    non_finite: str | None = None
    environment: dict[str, str] = {}
    notes: tuple[str, ...] = ()


def main() -> None:
    """Measure the run on standard input."""
    run = TrialRun.model_validate_json(sys.stdin.read())
    torch.set_num_threads(run.threads)
    try:
        answer = _answer(run)
    except EsaError as error:
        answer = TrialAnswer(refusal=str(error))
    sys.stdout.write(f"{ANSWER}{answer.model_dump_json()}\n")


def _answer(run: TrialRun) -> TrialAnswer:
    measurement = _measured(run)
    record = measurement.record
    if record.non_finite is None:
        run.target.write_bytes(pack(record, npz_name="trial.npz"))
    return TrialAnswer(
        non_finite=None if record.non_finite is None else describe_non_finite(record.non_finite),
        environment=dict(record.environment),
        notes=measurement.notes,
    )


def _measured(run: TrialRun) -> Measurement:
    shelved = ModelShelf(device=run.device).get(run.baseline)
    measurement = measure(
        run.baseline, shelved, rounds=1, benchmark=None, provenance={}, limit=lambda _phase: nullcontext()
    )
    golden = read_golden(run.golden)
    if golden is None or golden.probe is None or not needs_reference(judge(golden, measurement.record, run.rules)):
        return measurement
    return probed(measurement, shelved.model)


if __name__ == "__main__":
    main()
