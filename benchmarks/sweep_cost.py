"""What a sweep over single weights costs beside whole evaluations, and whether a killed one ends with the same rows.

    python benchmarks/sweep_cost.py --weights 200 --json sweep.json

On the embedded model: a first sweep runs in a process of its own, is killed (SIGKILL) once half of its rows are there,
and is taken up again. A second one runs here undisturbed; every tenth perturbation of it is also evaluated whole, right
beside, and must give the same row. The ratio is the time of the shared evaluations, the recording of the residual
stream included, over that of as many whole ones (their median).
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from esa_pytest.baselines.catalog import Baseline, baseline_of, load_catalog
from esa_pytest.drift.rules import DEFAULT_RULES
from esa_pytest.evaluation.probe_noise import measure_probe_noise
from esa_pytest.measurement import measure
from esa_pytest.perturbation import Guarded
from esa_pytest.perturbation.guard import guarded_by
from esa_pytest.probing import probed
from esa_pytest.sensitivity import SingleWeights, ranking_lines, sweep
from esa_pytest.sensitivity.bench import Bench
from esa_pytest.sensitivity.rows import Row, read_rows
from esa_pytest.sensitivity.sweeps import row_of
from esa_pytest.shelf import ModelShelf

ROOT = Path(__file__).resolve().parents[1]
MODEL = "smollm2-135m"
SEED = 0
EVERY = 10


def main() -> None:
    """Run both sweeps and print the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--weights", type=int, default=200, help="single weights to zero (default %(default)s)")
    parser.add_argument("--context", type=int, default=128, help="tokens of the one window (default %(default)s)")
    parser.add_argument("--json", type=Path, help="where everything goes that was measured")
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    plan = SingleWeights(count=arguments.weights, seed=SEED)
    if arguments.rows:
        sweep(_guarded(arguments.context), plan, arguments.rows)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        killed_at = _killed_and_resumed(path, arguments)
        resumed = read_rows(path.read_text(encoding="utf-8"), origin=path)
        found = _timed(_guarded(arguments.context), plan)
    same = sum(str(one) == str(other) for one, other in zip(resumed, found["rows"], strict=True))
    whole = statistics.median(found["whole_seconds"])
    shared = sum(found["shared_seconds"]) + found["recording_seconds"]
    ratio = shared / (whole * len(found["rows"]))
    print(f"killed after {killed_at} rows, taken up again: {same} of {len(resumed)} rows as without the kill")
    print(f"evaluated whole as well: {found['same']} of {len(found['whole_seconds'])} rows equal to the last digit")
    print(f"{len(found['rows'])} perturbations in {ratio:.3f} of the time of as many whole evaluations")
    print("\n".join(ranking_lines(found["rows"])))
    if arguments.json:
        rows = [vars(row) for row in found["rows"]]
        text = json.dumps({**found, "rows": rows, "ratio": ratio, "killed_at": killed_at, "same_rows": same}, indent=2)
        arguments.json.write_text(text + "\n", encoding="utf-8")


def _guarded(context_length: int) -> Guarded:
    """The embedded model over one short window, with the float32 reference and its noise; no golden is asked for."""
    baseline = _short(baseline_of(MODEL, "smoke", load_catalog({}, folder=ROOT)), context_length)
    shelved = ModelShelf(device="cpu").get(baseline)
    measurement = measure(
        baseline, shelved, rounds=1, benchmark=None, provenance={}, limit=lambda _phase: nullcontext()
    )
    measurement = probed(measurement, shelved.model)
    assert measurement.record.probe is not None
    noise = measure_probe_noise(shelved.model, measurement.prepared, measurement.record.probe)
    golden = replace(measurement.record, probe_noise=noise)
    return guarded_by(golden, measurement, baseline=baseline, shelved=shelved, verdict=None, rules=DEFAULT_RULES)


def _short(baseline: Baseline, context_length: int) -> Baseline:
    size = {"cpu": context_length, "cuda": context_length}
    short = baseline.type.model_copy(update={"context_lengths": (context_length,), "scored_tokens": size})
    return baseline.model_copy(update={"type": short})


def _killed_and_resumed(path: Path, arguments: argparse.Namespace) -> int:
    """Sweep in a process that is killed half-way, then in another; returns after how many rows it was killed."""
    command = [
        sys.executable,
        __file__,
        f"--weights={arguments.weights}",
        f"--context={arguments.context}",
        f"--rows={path}",
    ]
    process = subprocess.Popen(command)
    while process.poll() is None and _num_rows(path) < arguments.weights // 2:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    killed_at = _num_rows(path)
    subprocess.run(command, check=True)
    return killed_at


def _num_rows(path: Path) -> int:
    return path.read_bytes().count(b"\n") - 1 if path.exists() else 0


def _timed(guarded: Guarded, plan: SingleWeights) -> dict[str, Any]:
    """The undisturbed sweep, and whole evaluations between its perturbations."""
    begin = time.perf_counter()
    shared = Bench(guarded)
    recording = time.perf_counter() - begin
    assert shared.shared
    whole = Bench(guarded, shared=False)
    rows: list[Row] = []
    shared_seconds, whole_seconds, same = [], [], 0
    for number, trial in enumerate(plan.trials(guarded.model.network)):
        begin = time.perf_counter()
        rows.append(row_of(guarded, trial, *shared.drift(trial)))
        shared_seconds.append(time.perf_counter() - begin)
        if number % EVERY == 0:
            begin = time.perf_counter()
            again = row_of(guarded, trial, *whole.drift(trial))
            whole_seconds.append(time.perf_counter() - begin)
            same += str(again) == str(rows[-1])
    return {
        "rows": rows,
        "shared_seconds": shared_seconds,
        "whole_seconds": whole_seconds,
        "recording_seconds": recording,
        "same": same,
    }


if __name__ == "__main__":
    main()
