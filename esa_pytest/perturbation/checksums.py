"""Whether a model's weights are still the same: a checksum of every bit of them, computed where they lie."""

from collections.abc import Set as AbstractSet

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from esa_pytest.perturbation.targets import storage_of

# So many numbers at once: few enough for a processor's cache, enough to keep a GPU busy.
_SPAN = 1 << 18
_ODD = 6364136223846793005


def checksums_of(network: PreTrainedModel, *, leaving_out: AbstractSet[str] = frozenset()) -> dict[str, int]:
    """A checksum of each parameter, and of each buffer that a checkpoint holds, by name; tied weights have one name.

    One changed bf16 number always shows; of other changes, an exchange of rows say, about one in 2 ** 48 would not.
    What is offloaded, packed or sharded is left out: its numbers do not lie in memory as they are computed with.

    Args:
        network: the model; its other buffers are left out, since forward passes may compute them anew.
        leaving_out: names of weights that are not to be looked at.
    """
    factors: dict[torch.device, Tensor] = {}
    found: dict[str, int] = {}
    seen = set()
    for name, tensor in network.state_dict().items():
        if type(tensor) is not Tensor or tensor.is_meta or name in leaving_out or storage_of(tensor) in seen:
            continue
        seen.add(storage_of(tensor))
        if tensor.device not in factors:
            factors[tensor.device] = _factors().to(tensor.device)
        found[name] = _checksum(tensor, factors[tensor.device])
    return found


def _factors() -> Tensor:
    """Odd, so that no change of one number is lost among the multiples of 2 ** 64."""
    return torch.from_numpy(np.random.PCG64(0).random_raw(_SPAN).view(np.int64) | 1)


def _checksum(tensor: Tensor, factors: Tensor) -> int:
    flat = tensor.reshape(-1)
    # Wider ones would lose changes of their highest bits, which only a few of the sum's bits tell of.
    bits = flat.view(torch.uint8 if flat.element_size() == 1 else torch.int16)
    total = torch.zeros((), dtype=torch.int64, device=tensor.device)
    for part in bits.split(_SPAN):
        total = total * _ODD + (part * factors[: part.numel()]).sum()
    return int(total)
