"""Run a bf16 network in float32, one layer's weights at a time."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from esa_pytest.evaluation.attention import with_attention
from esa_pytest.evaluation.finiteness import decoder_layers

REFERENCE_ATTENTION = "eager"


@contextmanager
def in_float32(network: PreTrainedModel, *, attention: str = REFERENCE_ATTENTION) -> Iterator[None]:
    """Let the network's body compute in float32 from the same weights while the block runs.

    Each decoder layer's parameters are float32 copies only while that layer computes; whatever else has parameters
    (the embedding aside, whose output is widened) is small and handled likewise. Attention is eager, autocast is off.
    The weights are the very tensors they were before as soon as a layer is done, and after an exception.

    Raises:
        EvaluationError: the network cannot run with this attention implementation.
    """
    units = _units(network)
    kept: dict[nn.Module, list[tuple[nn.Parameter, Tensor]]] = {}

    def widen(module: nn.Module, _inputs: object) -> None:
        kept[module] = [(parameter, parameter.data) for parameter in module.parameters()]
        for parameter, data in kept[module]:
            parameter.data = data.float()

    def narrow(module: nn.Module, _inputs: object, _output: object) -> None:
        for parameter, data in kept.get(module, ()):
            parameter.data = data
        # Only now: whatever interrupts this, the rest is put back at the end.
        kept.pop(module, None)

    def float_output(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        return output.float()

    handles: list[RemovableHandle] = []
    device = next(network.parameters()).device.type
    try:
        handles.append(network.get_input_embeddings().register_forward_hook(float_output))
        for unit in units:
            handles += [unit.register_forward_pre_hook(widen), unit.register_forward_hook(narrow)]
        with with_attention(network, attention), torch.autocast(device, enabled=False):
            yield
    finally:
        for module in list(kept):
            narrow(module, None, None)
        for handle in handles:
            handle.remove()


def _units(network: PreTrainedModel) -> list[nn.Module]:
    """The modules that are widened as one: decoder layers, and the outermost others of the body with parameters."""
    body: nn.Module = getattr(network, network.base_model_prefix)
    layers = {id(layer) for _, layer in decoder_layers(network)}
    embedding = network.get_input_embeddings()
    units: list[nn.Module] = []

    def visit(module: nn.Module) -> None:
        for child in module.children():
            if child is embedding:
                continue
            if id(child) in layers or not _contains_layers(child, layers):
                units.append(child)
            else:
                visit(child)

    visit(body)
    return units


def _contains_layers(module: nn.Module, layers: set[int]) -> bool:
    return any(id(inner) in layers for inner in module.modules())
