"""What a score must be, computed in the plainest way."""

import torch
from torch import Tensor
from transformers import PreTrainedModel


def oracle_scores(network: PreTrainedModel, input_ids: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """NLL (float64) and argmax of the last positions of each window, flat, from the model's own logits."""
    with torch.inference_mode():
        logits: Tensor = network(input_ids=input_ids, use_cache=False).logits[:, -targets.shape[1] :]
    nll = -logits.double().log_softmax(dim=-1).gather(-1, targets[..., None])[..., 0]
    return nll.flatten(), logits.argmax(dim=-1).flatten()


def random_windows(num_windows: int, length: int, *, vocabulary: int, seed: int = 7) -> tuple[Tensor, Tensor]:
    """Input ids and their successors, both (num_windows, length)."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, vocabulary, (num_windows, length + 1), generator=draw)
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
