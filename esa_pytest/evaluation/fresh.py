"""One evaluation of a baseline in a process of its own: `python -m esa_pytest.evaluation.fresh`.

Reads a `FreshRun` as JSON from standard input and prints a hash of the bits of its scores.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.errors import EvaluationError
from esa_pytest.evaluation.checkpoints import locate
from esa_pytest.evaluation.evaluate import evaluate
from esa_pytest.evaluation.loading import device_type, load_model, resolve_device
from esa_pytest.evaluation.preparation import prepare
from esa_pytest.records import TokenScores

_ANSWER = "esa-bits "


class FreshRun(BaseModel):
    """What a fresh process evaluates."""

    model_config = ConfigDict(frozen=True)

    baseline: Baseline
    device: str
    threads: int


def bits_of(scores: TokenScores) -> str:
    """A hash over the bits of the NLLs and the argmaxes."""
    return hashlib.sha256(scores.nll.tobytes() + scores.argmax.tobytes()).hexdigest()


def bits_in_fresh_process(baseline: Baseline, *, device: torch.device) -> str:
    """Evaluate a baseline in a new Python process with the threads of this one; returns `bits_of` its scores.

    Raises:
        EvaluationError: the process ended without an answer.
    """
    run = FreshRun(baseline=baseline, device=str(device), threads=torch.get_num_threads())
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "esa_pytest.evaluation.fresh"],
        input=run.model_dump_json(),
        capture_output=True,
        text=True,
        check=False,
        # The folder that this package was imported from, should it not be installed.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [_import_root(), os.environ.get("PYTHONPATH")]))},
    )
    answers = [line for line in done.stdout.splitlines() if line.startswith(_ANSWER)]
    if done.returncode != 0 or not answers:
        cause = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EvaluationError(
            f"A fresh process that was to repeat {baseline.id} ended with {done.returncode} and no result ({cause}); "
            f"the golden is left as it was, so mend the cause and record again."
        )
    return answers[-1].removeprefix(_ANSWER)


def _import_root() -> str:
    return str(Path(__file__).resolve().parents[2])


def main() -> None:
    """Evaluate the run on standard input and print the hash of its bits."""
    run = FreshRun.model_validate_json(sys.stdin.read())
    torch.set_num_threads(run.threads)
    model = load_model(locate(run.baseline.model).folder, device=resolve_device(run.device))
    prepared = prepare(run.baseline, model.tokenizer, device_type=device_type(model.device))
    done = evaluate(model, prepared, seed=run.baseline.type.seeds[0], description=run.baseline.id)
    sys.stdout.write(f"{_ANSWER}{bits_of(done.scores)}\n")


if __name__ == "__main__":
    main()
