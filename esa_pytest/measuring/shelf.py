"""One model in memory at a time, shared by all its baselines, on a device that no other worker takes."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.errors import UnavailableError
from esa_pytest.evaluation.checkpoints import Checkpoint, locate
from esa_pytest.evaluation.hub import Hub
from esa_pytest.evaluation.leases import GpuLease, in_worker, lease_gpu, visible_gpus
from esa_pytest.evaluation.loading import LoadedModel, load_model, resolve_device
from esa_pytest.evaluation.ranks import local_rank, world_size
from esa_pytest.evaluation.splitting import split_of


@dataclass(frozen=True, kw_only=True)
class Shelved:
    """A loaded model with its checkpoint, the hub it may have come from, and how long each part took."""

    checkpoint: Checkpoint
    model: LoadedModel
    hub: Hub
    seconds: dict[str, float]


class ModelShelf:
    """Keeps the model that was asked for last; asking for another drops it first."""

    def __init__(self, *, device: str, rehash: bool = False, when_dropped: Callable[[], None] = lambda: None) -> None:
        """Nothing is loaded yet.

        Args:
            device: as the user names it.
            rehash: whether weights are hashed even where their hash is known.
            when_dropped: called whenever a model is dropped, to let go of whatever else holds it.
        """
        self._asked = device
        self._rehash = rehash
        self._when_dropped = when_dropped
        self._device: torch.device | None = None
        self._lease: GpuLease | None = None
        self._hub = Hub()
        self._name: str | None = None
        self._shelved: Shelved | None = None
        self._unavailable: dict[str, UnavailableError] = {}

    def get(self, baseline: Baseline) -> Shelved:
        """The loaded model of a baseline.

        Raises:
            UnavailableError: the weights, or the ranks of torchrun, cannot be had here; found out once a session.
            CheckpointError: they are not what they should be.
            DeviceError: the device is not there, or taken.
        """
        name = baseline.model_name
        if name in self._unavailable:
            known = self._unavailable[name]
            raise type(known)(str(known))
        if self._shelved is None or self._name != name:
            self.clear()
            try:
                self._shelved = self._load(baseline)
            except UnavailableError as error:
                self._unavailable[name] = type(error)(str(error))
                raise
            self._name = name
        return self._shelved

    def checkpoint_of(self, baseline: Baseline) -> Checkpoint | None:
        """What the model of a baseline was loaded from; None where it is not the one in memory."""
        shelved = self._shelved
        return shelved.checkpoint if shelved is not None and self._name == baseline.model_name else None

    def clear(self) -> None:
        """Drop the model and its memory."""
        if self._shelved is None:
            return
        self._shelved = self._name = None
        self._when_dropped()
        gc.collect()
        if self._device is not None and self._device.type == "cuda":
            torch.cuda.empty_cache()

    def close(self) -> None:
        """Drop the model and give the GPU back."""
        self.clear()
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    def _load(self, baseline: Baseline) -> Shelved:
        begin = time.perf_counter()
        device = self._resolved()
        checkpoint = locate(baseline.model, hub=self._hub, rehash=self._rehash)
        located = time.perf_counter()
        model = load_model(
            baseline.model_name,
            checkpoint,
            device=device,
            attention=baseline.model.attention,
            split=split_of(baseline.model_name, baseline.model),
            alone=self._lease is not None,
        )
        return Shelved(
            checkpoint=checkpoint,
            model=model,
            hub=self._hub,
            seconds={
                "locate": located - begin - checkpoint.hash_seconds,
                "hash": checkpoint.hash_seconds,
                "load": time.perf_counter() - located,
            },
        )

    def _resolved(self) -> torch.device:
        """The device, found out once; a pytest-xdist worker that may choose takes a GPU of its own."""
        if self._device is None:
            device = resolve_device(self._asked)
            if device.type == "cuda" and in_worker() and ":" not in self._asked:
                self._lease = lease_gpu(visible_gpus())
                device = torch.device("cuda", self._lease.index)
            if device.type == "cuda" and world_size() > 1:
                device = resolve_device(f"cuda:{local_rank()}")
            self._device = device
        return self._device
