"""A network of a given shape with seeded random weights, made directly on its device."""

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel


def shaped_network(folder: Path, *, seed: int, attention: str, dtype: torch.dtype, device: torch.device) -> Any:
    """The network that a folder's config.json describes, initialised as for training; the same for the same seed.

    Args:
        folder: holds the config.json.
        seed: of the weights.
        attention: the attention implementation.
        dtype: of the weights.
        device: where they are made; nothing passes through the host.
    """
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    cuda = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), device:
        torch.manual_seed(seed)
        return transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)


def parameters_of_shape(folder: Path) -> int:
    """How many parameters a config.json's network has; none is made."""
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        network: PreTrainedModel = transformers.AutoModelForCausalLM.from_config(config)
    return sum(parameter.numel() for parameter in network.parameters())
