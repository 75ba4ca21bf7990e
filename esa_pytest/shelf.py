"""One model in memory at a time, shared by all its baselines."""

import time
from dataclasses import dataclass

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.errors import ModelUnavailableError
from esa_pytest.evaluation.checkpoints import Checkpoint, locate
from esa_pytest.evaluation.loading import LoadedModel, load_model, resolve_device


@dataclass(frozen=True, kw_only=True)
class Shelved:
    """A loaded model with its checkpoint and how long both took."""

    checkpoint: Checkpoint
    model: LoadedModel
    locate_seconds: float
    load_seconds: float


class ModelShelf:
    """Keeps the model that was asked for last; asking for another drops it first."""

    def __init__(self, *, device: str) -> None:
        self._device = device
        self._name: str | None = None
        self._shelved: Shelved | None = None
        self._unavailable: dict[str, str] = {}

    def get(self, baseline: Baseline) -> Shelved:
        """The loaded model of a baseline.

        Raises:
            ModelUnavailableError: the weights cannot be reached; found out once a session.
            CheckpointError: they are not what they should be.
            DeviceError: the device is not there.
        """
        name = baseline.model_name
        if name in self._unavailable:
            raise ModelUnavailableError(self._unavailable[name])
        if self._shelved is None or self._name != name:
            self.clear()
            try:
                self._shelved = _load(baseline, device=self._device)
            except ModelUnavailableError as error:
                self._unavailable[name] = str(error)
                raise
            self._name = name
        return self._shelved

    def clear(self) -> None:
        """Drop the model."""
        self._shelved = self._name = None


def _load(baseline: Baseline, *, device: str) -> Shelved:
    resolved = resolve_device(device)
    begin = time.perf_counter()
    checkpoint = locate(baseline.model)
    located = time.perf_counter()
    model = load_model(checkpoint.folder, device=resolved)
    return Shelved(
        checkpoint=checkpoint,
        model=model,
        locate_seconds=located - begin,
        load_seconds=time.perf_counter() - located,
    )
