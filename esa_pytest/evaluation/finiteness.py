"""Find NaN and infinities: cheaply while a model runs, and exactly once something was seen."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from esa_pytest.records import NonFinite

_Hook = Callable[[nn.Module, object, object], None]


def decoder_layers(network: PreTrainedModel) -> list[tuple[str, nn.Module]]:
    """The repeated blocks of the model by name, in order: the longest ModuleList that lies in no other.

    Within a layer there may be a longer one, of its experts.
    """
    stacks = {name: module for name, module in network.named_modules() if isinstance(module, nn.ModuleList)}
    outermost = {
        name: stack for name, stack in stacks.items() if not any(name.startswith(f"{other}.") for other in stacks)
    }
    if not outermost:
        return []
    name, stack = max(outermost.items(), key=lambda item: len(item[1]))
    return [(f"{name}.{index}", layer) for index, layer in enumerate(stack)]


@contextmanager
def watch_layers(network: PreTrainedModel) -> Iterator[dict[str, Tensor]]:
    """Note, while the model runs, which decoder layers put out a NaN or an infinity.

    Yields:
        By layer name a bool tensor on the layer's device, shape (). Nothing is read back before the caller looks, so
        a GPU is not made to wait.
    """
    seen: dict[str, Tensor] = {}

    def watching(name: str) -> _Hook:
        def note(_module: nn.Module, _inputs: object, output: object) -> None:
            hidden = _tensor_of(output)
            if hidden is not None:
                # A twentieth of what isfinite().all() costs; both hand a NaN on.
                low, high = hidden.aminmax()
                bad = ~(low.isfinite() & high.isfinite())
                seen[name] = seen[name] | bad if name in seen else bad

        return note

    with _hooked(decoder_layers(network), watching):
        yield seen


def locate_non_finite(network: PreTrainedModel, input_ids: Tensor) -> NonFinite | None:
    """Run one batch again and name the first module, window and token whose value is not a number.

    Args:
        network: the model.
        input_ids: int64, shape (windows, context_length).

    Returns:
        The first place in the order of execution, window counted within the batch; None if all is finite.
    """
    found: list[NonFinite] = []

    def watching(name: str) -> _Hook:
        def note(_module: nn.Module, _inputs: object, output: object) -> None:
            values = _tensor_of(output)
            if found or values is None or not values.is_floating_point():
                return
            bad = ~values.isfinite()
            if bad.any():
                window, token = _first_place(bad, input_ids.shape)
                found.append(NonFinite(what="output", window=window, token=token, layer=name))

        return note

    # Leaves first, since they finish first; a block is blamed only where no module inside it is to blame.
    modules = [(name or type(network).__name__, module) for name, module in network.named_modules()]
    with _hooked(modules, watching), torch.inference_mode():
        network(input_ids=input_ids, use_cache=False)
    return found[0] if found else None


def _first_place(bad: Tensor, shape: torch.Size) -> tuple[int | None, int | None]:
    if bad.shape[:2] != shape:
        return None, None
    window, token = torch.nonzero(bad.flatten(2).any(-1) if bad.dim() > 2 else bad)[0].tolist()
    return int(window), int(token)


def _tensor_of(output: object) -> Tensor | None:
    first = output[0] if isinstance(output, tuple) and output else output
    return first if isinstance(first, Tensor) else None


@contextmanager
def _hooked(modules: list[tuple[str, nn.Module]], make: Callable[[str], _Hook]) -> Iterator[None]:
    handles = [module.register_forward_hook(make(name)) for name, module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
