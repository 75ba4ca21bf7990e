"""Find the tensor of a network that a perturbation names, and refuse those that cannot be changed and put back."""

import difflib
from collections.abc import Iterable

from torch import Tensor
from transformers import PreTrainedModel

from esa_pytest.errors import PerturbationError

_NAMES_SHOWN = 3


def find_tensor(network: PreTrainedModel, name: str) -> Tensor:
    """The data of a parameter or buffer, the very storage that the network computes with.

    Raises:
        PerturbationError: there is none of this name, or it cannot be perturbed here.
    """
    tensors = _tensors(network)
    if name not in tensors:
        near = difflib.get_close_matches(str(name), tensors, n=_NAMES_SHOWN, cutoff=0.4) or list(tensors)[:_NAMES_SHOWN]
        raise PerturbationError(
            f"{type(network).__name__} has no parameter {name!r}; near it are {', '.join(near)} "
            f"(network.named_parameters() lists all)."
        )
    tensor = tensors[name]
    if why := _why_fixed(tensor):
        raise PerturbationError(f"{name} {why}; load the model whole on one device, or leave this parameter alone.")
    return tensor.data


def names_of(network: PreTrainedModel, tensor: Tensor) -> tuple[str, ...]:
    """Every name under which a network knows a tensor: tied weights have several."""
    storage = storage_of(tensor)
    return tuple(
        name for name, other in _tensors(network).items() if not other.is_meta and storage_of(other) == storage
    )


def _tensors(network: PreTrainedModel) -> dict[str, Tensor]:
    """Parameters and buffers by every name that they have."""
    named: Iterable[tuple[str, Tensor]] = (
        *network.named_parameters(remove_duplicate=False),
        *network.named_buffers(remove_duplicate=False),
    )
    return dict(named)


def storage_of(tensor: Tensor) -> tuple[int, tuple[int, ...]]:
    """What two names of the same weights have in common."""
    return tensor.data_ptr(), tuple(tensor.shape)


def _why_fixed(tensor: Tensor) -> str | None:
    """Why a tensor cannot be perturbed, as a clause without its subject; None where it can."""
    if tensor.is_meta:
        return "is offloaded: its numbers are not in memory, and would be read anew for every forward pass"
    if type(tensor.data) is not Tensor:
        return f"is a {type(tensor.data).__name__}, whose numbers lie in shards or are packed"
    if not tensor.is_floating_point():
        return f"holds {str(tensor.dtype).removeprefix('torch.')}, and only floating-point numbers can be perturbed"
    return None
