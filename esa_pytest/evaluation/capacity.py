"""Does a model fit? Estimated from the headers of its weights, before any of them is read."""

import psutil
import torch

from esa_pytest.errors import InsufficientMemoryError
from esa_pytest.evaluation.checkpoints import Checkpoint
from esa_pytest.evaluation.control_groups import memory_left
from esa_pytest.evaluation.hashing import count_parameters

BYTES_A_PARAMETER = 2  # bf16
# What a micro-batch of 32,768 tokens, a chunk of logits in float64 and the libraries' workspaces take on top.
WORKING_BYTES = 1 << 30
WORKING_SHARE = 0.1


def needed_bytes(checkpoint: Checkpoint) -> int:
    """Weights in bf16, a tenth of them and a GiB on top; small models need no such margin, and get one as small."""
    weights = BYTES_A_PARAMETER * _parameters(checkpoint)
    return int(weights * (1 + WORKING_SHARE)) + min(WORKING_BYTES, weights)


def available_bytes(device: torch.device) -> int:
    """What is free on a device, the limits of a container or a job respected on the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available)
    left = memory_left()
    return free if left is None else min(free, left)


def refuse_too_large(name: str, checkpoint: Checkpoint, devices: list[torch.device]) -> None:
    """Check that a model fits on some devices together.

    Raises:
        InsufficientMemoryError: it does not, by this estimate.
    """
    needed, free = needed_bytes(checkpoint), sum(available_bytes(device) for device in devices)
    if needed > free:
        where = " and ".join(str(device) for device in devices) + (" has" if len(devices) == 1 else " have")
        raise InsufficientMemoryError(
            f"The model {name} needs about {needed / 2**30:.1f} GiB "
            f"({BYTES_A_PARAMETER * _parameters(checkpoint) / 2**30:.1f} of weights in bf16) and {where} "
            f"{free / 2**30:.1f} GiB free; free some, or use a larger device (--esa-device)."
        )


def _parameters(checkpoint: Checkpoint) -> int:
    if checkpoint.random_seed is None:
        return count_parameters(checkpoint.folder)
    from esa_pytest.evaluation.random_weights import parameters_of_shape

    return parameters_of_shape(checkpoint.folder)
