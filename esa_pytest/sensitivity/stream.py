"""Forward passes that share what a perturbation cannot change: the residual stream before the layer it is in."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from esa_pytest.evaluation.finiteness import decoder_layers
from esa_pytest.perturbation.targets import find_tensor, names_of


def first_layer_reached(network: PreTrainedModel, parameters: list[str], *, ran: Sequence[str] = ()) -> int:
    """The index of the first decoder layer that a change of some parameters can change the output of.

    The number of layers where only what runs behind them is changed (the last norm, an untied head); 0 where the
    embedding is, or anything that all layers read.

    Args:
        network: the model.
        parameters: the names of the changed ones; a tied weight counts under each of its names.
        ran: modules in the order in which they ran, as a probe's points are. Where a module stands in the network does
            not tell when it runs: GPT-2's position embedding is fingerprinted with the last norm.
    """
    names = [name for parameter in parameters for name in names_of(network, find_tensor(network, parameter))]
    behind = _behind(network, ran)
    return min(_layer_of(network, name, behind) for name in names)


def layer_index(network: PreTrainedModel, parameter: str) -> int | None:
    """The decoder layer that a parameter belongs to; None where it belongs to none."""
    for index, (name, _) in enumerate(decoder_layers(network)):
        if parameter.startswith(f"{name}."):
            return index
    return None


def _layer_of(network: PreTrainedModel, parameter: str, behind: set[str]) -> int:
    index = layer_index(network, parameter)
    if index is not None:
        return index
    return len(decoder_layers(network)) if parameter.rpartition(".")[0] in behind else 0


def _behind(network: PreTrainedModel, ran: Sequence[str]) -> set[str]:
    """The modules that run behind the decoder layers: the last norm and the head."""
    layers = decoder_layers(network)
    if not layers:
        return set()
    last = layers[-1][0]
    names = {id(module): name for name, module in network.named_modules()}
    head = names.get(id(network.get_output_embeddings()))
    return {*(ran[ran.index(last) + 1 :] if last in ran else ()), *([] if head is None else [head])}


class ResidualStream:
    """The outputs of every decoder layer, recorded once, and given in their stead afterwards.

    They are kept by the tokens of the pass, so an evaluation of many batches is one recording. Kept on the device, in
    the dtype of the pass: `layers * tokens * hidden` numbers.
    """

    def __init__(self, network: PreTrainedModel) -> None:
        self._network = network
        self._layers = [layer for _, layer in decoder_layers(network)]
        self._body: nn.Module = getattr(network, network.base_model_prefix)
        self._outputs: dict[tuple[bytes, int], Any] = {}
        self._tokens = b""

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Keep what the layers put out while the block runs."""
        handles = [self._noting_tokens()]
        for index, layer in enumerate(self._layers):
            handles.append(layer.register_forward_hook(self._keeping(index)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def from_layer(self, first: int) -> Iterator[None]:
        """Let only the layers from `first` on compute while the block runs; those before give what was recorded.

        A pass over tokens that were not recorded computes every layer.
        """
        handle = self._noting_tokens()
        skipped = self._layers[:first]
        # accelerate gives a layer that it places a forward of its own.
        own = [vars(layer).get("forward") for layer in skipped]
        try:
            for index, layer in enumerate(skipped):
                layer.forward = self._recalling(index, layer.forward)
            yield
        finally:
            for layer, before in zip(skipped, own, strict=True):
                vars(layer).pop("forward", None)
                if before is not None:
                    layer.forward = before
            handle.remove()

    def _noting_tokens(self) -> RemovableHandle:
        def note(_module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            # The tokens are the first argument of every body, by position or by name.
            ids: Tensor = inputs[0] if inputs else keywords["input_ids"]
            self._tokens = bytes(ids.shape[1].to_bytes(8, "little")) + ids.cpu().numpy().tobytes()

        return self._body.register_forward_pre_hook(note, with_kwargs=True)

    def _keeping(self, index: int) -> Callable[[nn.Module, object, object], None]:
        def keep(_module: nn.Module, _inputs: object, output: object) -> None:
            self._outputs[self._tokens, index] = output

        return keep

    def _recalling(self, index: int, compute: Callable[..., Any]) -> Callable[..., Any]:
        def recall(*inputs: Any, **keywords: Any) -> Any:
            known = self._outputs.get((self._tokens, index))
            return compute(*inputs, **keywords) if known is None else known

        return recall


def stream_bytes(network: PreTrainedModel, num_tokens: int, dtype: torch.dtype) -> int:
    """The memory that a recording of so many tokens takes."""
    hidden = network.config.get_text_config().hidden_size
    return len(decoder_layers(network)) * num_tokens * int(hidden) * dtype.itemsize
