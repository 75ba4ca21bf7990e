"""The rate of a matrix product of a model's own: what a run could reach that did nothing else."""

import itertools
import statistics

import torch
from transformers import PreTrainedModel

from esa_pytest.evaluation.timing import Stopwatch

_REPEATS = 5


def matrix_product_flops_per_second(network: PreTrainedModel, *, num_tokens: int, device: torch.device) -> float:
    """FLOP/s of (tokens, hidden) times (hidden, intermediate), the median of five behind one that warms up."""
    config = network.config.get_text_config()
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    dtype = next(network.parameters()).dtype
    left = torch.ones(num_tokens, config.hidden_size, dtype=dtype, device=device)
    right = torch.ones(inner, config.hidden_size, dtype=dtype, device=device)
    watch = Stopwatch(device)
    with torch.inference_mode():
        marks = [watch.mark()]
        for _ in range(_REPEATS + 1):
            torch.nn.functional.linear(left, right)
            marks.append(watch.mark())
    seconds = [watch.seconds(begin, end) for begin, end in itertools.pairwise(marks)]
    return 2.0 * num_tokens * int(config.hidden_size) * int(inner) / statistics.median(seconds[1:])
