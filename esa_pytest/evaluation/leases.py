"""One GPU for each pytest-xdist worker, of those the caller made visible, held by a lock until the worker ends."""

import os
from collections.abc import Sequence

import torch
from filelock import FileLock, Timeout

from esa_pytest.errors import DeviceError
from esa_pytest.evaluation.cache import cache_root, writing

_WORKER = "PYTEST_XDIST_WORKER"
_NUM_WORKERS = "PYTEST_XDIST_WORKER_COUNT"


class GpuLease:
    """A GPU that no other worker of this user on this machine takes."""

    def __init__(self, index: int, lock: FileLock) -> None:
        self.index = index
        self._lock = lock

    def release(self) -> None:
        """Give the GPU back."""
        self._lock.release()


def in_worker() -> bool:
    """Whether this process is a pytest-xdist worker."""
    return _WORKER in os.environ


def num_workers() -> int:
    """How many workers pytest-xdist runs beside each other, this process among them; 1 without it."""
    return int(os.environ.get(_NUM_WORKERS, "1")) if in_worker() else 1


def lease_gpu(names: Sequence[str]) -> GpuLease:
    """Take the first GPU that is free, beginning with the worker's own number.

    Args:
        names: of the visible GPUs, in torch's order; each names the piece of hardware and not its place in the order,
            so that two callers with other orders in CUDA_VISIBLE_DEVICES mean the same GPU by the same name.

    Raises:
        DeviceError: every visible GPU is taken.
        CacheError: the cache, where the locks lie, cannot be written.
    """
    folder = cache_root() / "gpus"
    first = _worker_number() % len(names)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for offset in range(len(names)):
            index = (first + offset) % len(names)
            lock = FileLock(folder / f"{names[index]}.lock")
            try:
                lock.acquire(blocking=False)
            except Timeout:
                continue
            return GpuLease(index, lock)
    raise DeviceError(
        f"Each of the {len(names)} visible GPUs is taken by another worker, and two on one would spoil each other's "
        f"memory and throughput; start no more workers than there are GPUs (-n {len(names)})."
    )


def visible_gpus() -> list[str]:
    """The hardware's own names of the GPUs that CUDA_VISIBLE_DEVICES leaves visible, in torch's order."""
    return [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]


def _worker_number() -> int:
    return int(os.environ.get(_WORKER, "gw0").removeprefix("gw"))
