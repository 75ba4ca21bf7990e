"""What a sweep over single weights costs beside whole evaluations, and whether a killed one ends with the same rows.

    python benchmarks/sweep_cost.py --weights 200 --json sweep.json

On the embedded model: a sweep runs in a process of its own, is killed (SIGKILL) once half of its rows are there, and is
taken up again. Here every tenth perturbation of it is then evaluated twice, one right behind the other: with shared
forward passes and whole. Both must give the row that the sweep has. The ratio is that of the medians.
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
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from esa_pytest.baselines.catalog import Baseline, baseline_of, load_catalog
from esa_pytest.drift.rules import DEFAULT_RULES
from esa_pytest.evaluation.probe_noise import measure_probe_noise
from esa_pytest.measuring.measurement import measure
from esa_pytest.measuring.probing import probed
from esa_pytest.measuring.shelf import ModelShelf
from esa_pytest.perturbation import Guarded
from esa_pytest.perturbation.guard import guarded_by
from esa_pytest.sensitivity import SingleWeights, Trial, ranking_lines, sweep
from esa_pytest.sensitivity.bench import Bench
from esa_pytest.sensitivity.rows import Row, read_rows
from esa_pytest.sensitivity.sweeps import row_of

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
        rows = read_rows(path.read_text(encoding="utf-8"), origin=path)
    guarded = _guarded(arguments.context)
    found = _compared(guarded, plan.trials(guarded.model.network)[::EVERY], rows[::EVERY])
    shared, whole = (statistics.median(found[name]) for name in ("shared_seconds", "whole_seconds"))
    share = found["recording_seconds"] / (shared * len(rows))
    print(f"{len(rows)} perturbations, killed after {killed_at} and taken up again")
    print(
        f"of {found['number']} evaluated anew: shared {found['same_shared']} and whole {found['same_whole']} rows equal"
    )
    print(f"shared / whole: {shared / whole:.3f}; recording the stream adds {share:.1%} of a sweep")
    print("\n".join(ranking_lines(rows)))
    if arguments.json:
        content = {**found, "rows": [vars(row) for row in rows], "ratio": shared / whole, "killed_at": killed_at}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


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


def _compared(guarded: Guarded, trials: Sequence[Trial], rows: Sequence[Row]) -> dict[str, Any]:
    """Each trial with shared passes and whole, timed, and beside the row that is known of it."""
    begin = time.perf_counter()
    benches = {"shared": Bench(guarded), "whole": Bench(guarded, shared=False)}
    found: dict[str, Any] = {"number": len(trials), "recording_seconds": time.perf_counter() - begin}
    assert benches["shared"].shared
    for name in benches:
        found |= {f"{name}_seconds": [], f"same_{name}": 0}
    for trial, row in zip(trials, rows, strict=True):
        for name, bench in benches.items():
            begin = time.perf_counter()
            again = row_of(guarded, trial, *bench.drift(trial))
            found[f"{name}_seconds"].append(time.perf_counter() - begin)
            found[f"same_{name}"] += str(again) == str(row)
    return found


if __name__ == "__main__":
    main()
