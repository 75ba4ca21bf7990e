"""One evaluation of a baseline in a process of its own: `python -m esa_pytest.evaluation.fresh`.

Reads a `FreshRun` as JSON from standard input and prints a `FreshScores` as JSON.
"""

import hashlib
import subprocess
import sys

import torch
from pydantic import BaseModel, ConfigDict

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.errors import EvaluationError
from esa_pytest.evaluation.checkpoints import locate
from esa_pytest.evaluation.evaluate import evaluate
from esa_pytest.evaluation.hub import Hub
from esa_pytest.evaluation.loading import load_model, resolve_device
from esa_pytest.evaluation.metrics import compute_metrics
from esa_pytest.evaluation.preparation import prepare_for
from esa_pytest.evaluation.processes import child_environment
from esa_pytest.records import Metrics, TokenScores

_ANSWER = "esa-scores "


class FreshRun(BaseModel):
    """What a fresh process evaluates."""

    model_config = ConfigDict(frozen=True)

    baseline: Baseline
    device: str
    threads: int
    batch_tokens: int


class FreshScores(BaseModel):
    """What it answers: `bits_of` its scores, and the sums of its metrics."""

    model_config = ConfigDict(frozen=True)

    bits: str
    nll_sum: float
    num_scored_tokens: int
    num_correct_tokens: int

    @property
    def metrics(self) -> Metrics:
        """The metrics of the fresh evaluation."""
        return Metrics(**self.model_dump(exclude={"bits"}))


def bits_of(scores: TokenScores) -> str:
    """A hash over the bits of the NLLs and the argmaxes."""
    return hashlib.sha256(scores.nll.tobytes() + scores.argmax.tobytes()).hexdigest()


def scores_of_fresh_process(baseline: Baseline, *, device: torch.device, batch_tokens: int) -> FreshScores:
    """Evaluate a baseline in a new Python process with the threads and the batch of this one.

    Raises:
        EvaluationError: the process ended without an answer.
    """
    run = FreshRun(baseline=baseline, device=str(device), threads=torch.get_num_threads(), batch_tokens=batch_tokens)
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-m", "esa_pytest.evaluation.fresh"],
        input=run.model_dump_json(),
        capture_output=True,
        text=True,
        check=False,
        env=child_environment(),
    )
    answers = [line for line in done.stdout.splitlines() if line.startswith(_ANSWER)]
    if done.returncode != 0 or not answers:
        cause = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EvaluationError(
            f"A fresh process that was to repeat {baseline.id} ended with {done.returncode} and no result ({cause}); "
            f"mend the cause and run again."
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
    )
    prepared = prepare_for(model, baseline, hub=hub)
    done = evaluate(model, prepared.rebatched(run.batch_tokens), seed=baseline.type.seeds[0], description=baseline.id)
    metrics = compute_metrics(done.scores)
    answer = FreshScores(
        bits=bits_of(done.scores),
        nll_sum=metrics.nll_sum,
        num_scored_tokens=metrics.num_scored_tokens,
        num_correct_tokens=metrics.num_correct_tokens,
    )
    sys.stdout.write(f"{_ANSWER}{answer.model_dump_json()}\n")


if __name__ == "__main__":
    main()
