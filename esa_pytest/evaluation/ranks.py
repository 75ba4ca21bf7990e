"""The ranks of torchrun: processes that compute one model together. Light: torch arrives with the first question to it.

Every rank runs the same tests in the same order, since each forward pass needs all of them; the first one alone judges
aloud, writes and records.
"""

import os
from typing import Any

# torchrun sets all of them; a job scheduler may leave one of them behind.
_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def world_size() -> int:
    """How many ranks there are; 1 without torchrun."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in _VARIABLES) else 1


def local_rank() -> int:
    """Which of its machine's ranks this process is; the number of its GPU."""
    return int(os.environ["LOCAL_RANK"]) if world_size() > 1 else 0


def is_follower() -> bool:
    """Whether another rank speaks for this one."""
    return world_size() > 1 and int(os.environ["RANK"]) > 0


def agreed_status(status: int) -> int:
    """The exit status of the first rank, on every rank; this one's where no model was computed together."""
    if world_size() == 1:
        return status
    import torch
    from torch import distributed

    if not distributed.is_initialized():
        return status
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    shared = torch.tensor([status], device=device)
    distributed.broadcast(shared, src=0)
    agreed = int(shared.item())
    distributed.destroy_process_group()
    return agreed


def is_split(network: Any) -> bool:
    """Whether some matrix of a network lies on several ranks, a part on each."""
    return any(hasattr(parameter, "placements") for parameter in network.parameters())
