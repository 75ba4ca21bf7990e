"""A few numbers for every module of a network, so that a drift can be traced to the first module that moved."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from esa_pytest.evaluation.finiteness import decoder_layers

NUM_PROJECTIONS = 8
_SEED = 20240607


@contextmanager
def fingerprinted(network: PreTrainedModel) -> Iterator[dict[str, Tensor]]:
    """Take fingerprints while a network runs, a dict entry a module in the order of execution.

    Yields:
        By module name a float32 tensor of shape (NUM_PROJECTIONS + 1,) on the module's device, filled when it has run.
    """
    found: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: _note(found, name, output))
        for name, module in fingerprinted_modules(network)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def fingerprinted_modules(network: PreTrainedModel) -> list[tuple[str, nn.Module]]:
    """The embedding, every decoder layer and its blocks, and the norm before the head, by name."""
    names = {id(module): name for name, module in network.named_modules()}
    layers = decoder_layers(network)
    chosen = [network.get_input_embeddings()]
    for _, layer in layers:
        chosen += [child for child in layer.children() if any(True for _ in child.parameters())]
        chosen.append(layer)
    inside = {id(module) for _, layer in layers for module in layer.modules()}
    body = getattr(network, network.base_model_prefix)
    weighted = [child for child in body.children() if isinstance(getattr(child, "weight", None), nn.Parameter)]
    chosen += [child for child in weighted if id(child) not in inside and child is not chosen[0]]
    return [(names[id(module)], module) for module in chosen]


def _note(found: dict[str, Tensor], name: str, output: object) -> None:
    values = output[0] if isinstance(output, tuple) else output
    if name not in found and isinstance(values, Tensor) and values.dim() == 3:
        found[name] = fingerprint(values)


def fingerprint(values: Tensor) -> Tensor:
    """Random projections of RMS-normalised states, and the mean logarithm of their RMS.

    The first position is left out: massive activations live there.

    Args:
        values: float32, shape (1, tokens, hidden).
    """
    states = values[0, 1:].float()
    rms = states.square().mean(dim=-1, keepdim=True).sqrt().clamp_min(torch.finfo(torch.float32).tiny)
    generator = torch.Generator().manual_seed(_SEED)
    tokens, hidden = states.shape
    over_hidden = _signs((hidden, NUM_PROJECTIONS), generator).to(states.device)
    over_tokens = _signs((tokens, NUM_PROJECTIONS), generator).to(states.device)
    projected = ((states / rms) @ over_hidden * over_tokens).double().sum(dim=0) / (tokens * hidden) ** 0.5
    return torch.cat([projected, rms.double().log().mean()[None]]).float()


def _signs(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, shape, generator=generator).float() * 2.0 - 1.0
