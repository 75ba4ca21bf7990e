"""How much of the machine an evaluation used: its FLOP/s over those of a matrix product measured in the same run.

Both are counted on the same machine within the same minute, so a busy or another machine moves their ratio much less
than it moves tokens per second.
"""

import statistics
import time

import torch
from transformers import PreTrainedModel

from esa_pytest.evaluation.timing import synchronise
from esa_pytest.records import Batch

_REPEATS = 5


def forward_flops(network: PreTrainedModel, batches: tuple[Batch, ...]) -> float:
    """Floating-point operations of scoring some batches, one multiply-add counted as two.

    Every weight matrix but the embedding table takes part once a token, the head once a scored token, and causal
    attention adds `2 * hidden * context_length` a token and layer (half of the square: PaLM, appendix B).
    """
    config = network.config.get_text_config()
    head = network.get_output_embeddings().weight
    matrices = sum(
        parameter.numel()
        for name, parameter in network.named_parameters()
        if parameter.dim() == 2 and parameter is not head and parameter is not network.get_input_embeddings().weight
    )
    total = 0.0
    for batch in batches:
        windows, context_length = batch.input_ids.shape
        attention = 2 * config.num_hidden_layers * config.hidden_size * context_length
        total += windows * context_length * (2 * matrices + attention) + 2 * batch.num_scored * head.numel()
    return total


def matrix_product_flops_per_second(network: PreTrainedModel, *, num_tokens: int, device: torch.device) -> float:
    """FLOP/s of one of the model's own products: (tokens, hidden) times (hidden, intermediate), median of five."""
    config = network.config.get_text_config()
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    dtype = next(network.parameters()).dtype
    left = torch.ones(num_tokens, config.hidden_size, dtype=dtype, device=device)
    right = torch.ones(inner, config.hidden_size, dtype=dtype, device=device)
    seconds: list[float] = []
    with torch.inference_mode():
        for _ in range(_REPEATS + 1):
            synchronise(device)
            begin = time.perf_counter()
            torch.nn.functional.linear(left, right)
            synchronise(device)
            seconds.append(time.perf_counter() - begin)
    return 2.0 * num_tokens * int(config.hidden_size) * int(inner) / statistics.median(seconds[1:])
