"""Is this computation bit-stable? Asked of fresh processes whenever a golden is recorded."""

import torch

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.errors import GoldenError
from esa_pytest.evaluation.fresh import bits_of, scores_of_fresh_process
from esa_pytest.records import BitStability, TokenScores

FRESH_PROCESSES = 3


def measure_bit_stability(
    baseline: Baseline,
    scores: TokenScores,
    *,
    device: torch.device,
    batch_tokens: int,
    beside: TokenScores | None = None,
) -> BitStability:
    """Repeat a baseline in fresh processes and count the distinct bit patterns, this process's included.

    Args:
        baseline: what was evaluated.
        scores: what this process made of it.
        device: on which device.
        batch_tokens: most tokens at once.
        beside: what was scored beside, of a long context.

    Raises:
        GoldenError: the fresh processes agree with each other and not with this one, so that what is about to be
            recorded is not what the checkpoint computes.
    """
    here = bits_of(scores, beside)
    fresh = [
        scores_of_fresh_process(baseline, device=device, batch_tokens=batch_tokens).bits for _ in range(FRESH_PROCESSES)
    ]
    if here not in fresh and len(set(fresh)) == 1:
        raise GoldenError(
            f"The golden of {baseline.id} was not recorded: {FRESH_PROCESSES} fresh processes agree on its bits and "
            f"this process computes others, as after a perturbation that was not restored; "
            f"record from a process that leaves the model alone."
        )
    return BitStability(fresh_processes=FRESH_PROCESSES, distinct_bit_patterns=len({here, *fresh}))
