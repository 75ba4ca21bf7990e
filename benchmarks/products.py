"""A matrix product of a model's own: what a run could reach that did nothing else."""

import itertools
import statistics
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel

from esa_pytest.evaluation.timing import Stopwatch

_REPEATS = 5


def matrix_product_flops_per_second(network: PreTrainedModel, *, num_tokens: int, device: torch.device) -> float:
    """FLOP/s of (tokens, hidden) times (hidden, intermediate), the median of five behind one that warms up."""
    left, right = _factors(network, num_tokens=num_tokens, device=device)
    watch = Stopwatch(device)
    with torch.inference_mode():
        marks = [watch.mark()]
        for _ in range(_REPEATS + 1):
            torch.nn.functional.linear(left, right)
            marks.append(watch.mark())
    seconds = [watch.seconds(begin, end) for begin, end in itertools.pairwise(marks)]
    return _flops(left, right) / statistics.median(seconds[1:])


def products_of(network: PreTrainedModel, *, flops: float, num_tokens: int, device: torch.device) -> Callable[[], None]:
    """A call that does so many operations, near enough, in nothing but that product."""
    left, right = _factors(network, num_tokens=num_tokens, device=device)
    repeats = max(1, round(flops / _flops(left, right)))

    def multiply() -> None:
        with torch.inference_mode():
            for _ in range(repeats):
                torch.nn.functional.linear(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return multiply


def _factors(network: PreTrainedModel, *, num_tokens: int, device: torch.device) -> tuple[Tensor, Tensor]:
    config = network.config.get_text_config()
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    dtype = next(network.parameters()).dtype
    left = torch.ones(num_tokens, config.hidden_size, dtype=dtype, device=device)
    return left, torch.ones(inner, config.hidden_size, dtype=dtype, device=device)


def _flops(left: Tensor, right: Tensor) -> float:
    return 2.0 * left.shape[0] * left.shape[1] * right.shape[0]
