"""One evaluation of a baseline in a process of its own: `python -m esa_pytest.evaluation.fresh`.

Reads a `FreshRun` as JSON from standard input and prints a `FreshScores` as JSON; arrays go into a file.
"""

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.errors import EvaluationError
from esa_pytest.evaluation.checkpoints import locate
from esa_pytest.evaluation.evaluate import evaluate
from esa_pytest.evaluation.hub import Hub
from esa_pytest.evaluation.loading import load_model, resolve_device
from esa_pytest.evaluation.metrics import compute_metrics
from esa_pytest.evaluation.noise_sample import NoiseSample, sample_of
from esa_pytest.evaluation.preparation import prepare_for
from esa_pytest.evaluation.processes import child_environment
from esa_pytest.evaluation.reference import probe
from esa_pytest.evaluation.splitting import split_of
from esa_pytest.records import IntArray, Metrics, Probe, TokenScores, TopProbabilities

_ANSWER = "esa-scores "
_SCORES = tuple(field.name for field in fields(TokenScores))
_TOP = tuple(field.name for field in fields(TopProbabilities))


class FreshRun(BaseModel):
    """What a fresh process evaluates.

    Attributes:
        windows: which windows; None for all.
        with_probe: whether the float32 reference is computed too.
        arrays: the file that takes the arrays; None where a hash of their bits is enough.
    """

    model_config = ConfigDict(frozen=True)

    baseline: Baseline
    device: str
    threads: int
    batch_tokens: int
    windows: tuple[int, ...] | None = None
    with_probe: bool = False
    arrays: Path | None = None


class FreshScores(BaseModel):
    """What it answers: `bits_of` its scores, the sums of its metrics, and those of calibration and long context."""

    model_config = ConfigDict(frozen=True)

    bits: str
    nll_sum: float
    num_scored_tokens: int
    num_correct_tokens: int
    calibration: dict[str, float] = {}
    context: dict[str, float] = {}

    @property
    def metrics(self) -> Metrics:
        """The metrics of the fresh evaluation."""
        return Metrics(
            nll_sum=self.nll_sum,
            num_scored_tokens=self.num_scored_tokens,
            num_correct_tokens=self.num_correct_tokens,
        )


@dataclass(frozen=True, kw_only=True)
class FreshSample:
    """A noise sample of another process, and its reference where that was asked for."""

    sample: NoiseSample
    probe: Probe | None


def bits_of(scores: TokenScores, beside: TokenScores | None = None) -> str:
    """A hash over the bits of the NLLs and the argmaxes, those beside them included."""
    parts = [scores] if beside is None else [scores, beside]
    return hashlib.sha256(b"".join(part.nll.tobytes() + part.argmax.tobytes() for part in parts)).hexdigest()


def scores_of_fresh_process(baseline: Baseline, *, device: torch.device, batch_tokens: int) -> FreshScores:
    """Evaluate a baseline in a new Python process with the threads and the batch of this one.

    Raises:
        EvaluationError: the process ended without an answer.
    """
    run = FreshRun(baseline=baseline, device=str(device), threads=torch.get_num_threads(), batch_tokens=batch_tokens)
    return _answer(run, {})


def sample_of_fresh_process(
    baseline: Baseline,
    *,
    device: torch.device,
    batch_tokens: int,
    windows: IntArray,
    variables: Mapping[str, str],
    with_probe: bool,
) -> FreshSample:
    """Evaluate some windows of a baseline in a new Python process that other variables choose the kernels of.

    Args:
        baseline: what to evaluate.
        device: on which device.
        batch_tokens: most tokens at once.
        windows: which windows, int32, ascending.
        variables: of the process, beside those of this one.
        with_probe: whether the float32 reference is computed too.

    Raises:
        EvaluationError: the process ended without an answer.
    """
    with tempfile.TemporaryDirectory(prefix="esa-") as folder:
        path = Path(folder) / "arrays.npz"
        run = FreshRun(
            baseline=baseline,
            device=str(device),
            threads=torch.get_num_threads(),
            batch_tokens=batch_tokens,
            windows=tuple(windows.tolist()),
            with_probe=with_probe,
            arrays=path,
        )
        return _read_arrays(path, _answer(run, variables))


def _answer(run: FreshRun, variables: Mapping[str, str]) -> FreshScores:
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-m", "esa_pytest.evaluation.fresh"],
        input=run.model_dump_json(),
        capture_output=True,
        text=True,
        check=False,
        env={**child_environment(), **variables},
    )
    answers = [line for line in done.stdout.splitlines() if line.startswith(_ANSWER)]
    if done.returncode != 0 or not answers:
        cause = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EvaluationError(
            f"A fresh process that was to repeat {run.baseline.id} ended with {done.returncode} and no result "
            f"({cause}); mend the cause and run again."
        )
    return FreshScores.model_validate_json(answers[-1].removeprefix(_ANSWER))


def main() -> None:
    """Evaluate the run on standard input and print its scores."""
    run = FreshRun.model_validate_json(sys.stdin.read())
    torch.set_num_threads(run.threads)
    baseline, hub = run.baseline, Hub()
    model = load_model(
        baseline.model_name,
        locate(baseline.model, hub=hub),
        device=resolve_device(run.device),
        attention=baseline.model.attention,
        split=split_of(baseline.model_name, baseline.model),
    )
    prepared = prepare_for(model, baseline, hub=hub).rebatched(run.batch_tokens)
    if run.windows is not None:
        prepared = prepared.only(np.array(run.windows, dtype=np.int32))
    done = evaluate(
        model,
        prepared,
        seed=baseline.type.seeds[0],
        description=baseline.id,
        probabilities=baseline.type.calibration and run.arrays is not None,
    )
    metrics = compute_metrics(done.scores)
    sample = sample_of(done)
    if run.arrays is not None:
        _write_arrays(run.arrays, sample, probe(model, prepared) if run.with_probe else None)
    answer = FreshScores(
        bits=bits_of(done.scores, done.beside),
        nll_sum=metrics.nll_sum,
        num_scored_tokens=metrics.num_scored_tokens,
        num_correct_tokens=metrics.num_correct_tokens,
        calibration=sample.calibration,
        context=sample.context,
    )
    sys.stdout.write(f"{_ANSWER}{answer.model_dump_json()}\n")


def _write_arrays(path: Path, sample: NoiseSample, found: Probe | None) -> None:
    arrays: dict[str, npt.NDArray[Any]] = {f"scores_{name}": getattr(sample.scores, name) for name in _SCORES}
    arrays |= {f"top_{name}": getattr(sample.top, name) for name in _TOP}
    if found is not None:
        arrays |= {"probe_nll": found.nll, "probe_fingerprints": found.fingerprints}
        arrays |= {"probe_points": np.array(found.points), "probe_version": np.array(found.version)}
    np.savez(path, allow_pickle=False, **arrays)


def _read_arrays(path: Path, answer: FreshScores) -> FreshSample:
    with np.load(path, allow_pickle=False) as arrays:
        sample = NoiseSample(
            scores=TokenScores(**{name: arrays[f"scores_{name}"] for name in _SCORES}),
            top=TopProbabilities(**{name: arrays[f"top_{name}"] for name in _TOP}),
            calibration=answer.calibration,
            context=answer.context,
        )
        if "probe_nll" not in arrays:
            return FreshSample(sample=sample, probe=None)
        found = Probe(
            version=int(arrays["probe_version"]),
            nll=arrays["probe_nll"],
            points=tuple(str(point) for point in arrays["probe_points"]),
            fingerprints=arrays["probe_fingerprints"],
        )
    return FreshSample(sample=sample, probe=found)


if __name__ == "__main__":
    main()
