"""Whether a model fits is told from the headers of its weights, before any of them is read."""

from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import save_file

from esa_pytest.baselines.catalog import load_catalog
from esa_pytest.baselines.sources import FolderModel, RandomModel
from esa_pytest.errors import InsufficientMemoryError
from esa_pytest.evaluation import capacity
from esa_pytest.evaluation.capacity import available_bytes, needed_bytes, refuse_too_large
from esa_pytest.evaluation.checkpoints import Checkpoint, locate
from esa_pytest.evaluation.hub import Hub
from esa_pytest.evaluation.loading import load_model
from esa_pytest.evaluation.random_weights import parameters_of_shape

pytestmark = pytest.mark.usefixtures("own_cache")
CPU = torch.device("cpu")
GIB = 1 << 30


def _located(folder: Path) -> Checkpoint:
    return locate(FolderModel(path=folder), hub=Hub())


def _full(name: str) -> Checkpoint:
    entry = load_catalog({}, folder=Path()).models[f"{name}@full"]
    assert isinstance(entry, RandomModel)
    return locate(entry, hub=Hub())


def test_a_model_that_does_not_fit_is_refused_with_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "available_bytes", lambda _device: 4 * GIB)
    checkpoint = _full("llama-3.1-8b")
    with pytest.raises(InsufficientMemoryError) as caught:
        load_model("llama-3.1-8b@full", checkpoint, device=CPU)
    # 8.03e9 parameters of two bytes, a tenth more, and a GiB.
    assert str(caught.value) == (
        "The model llama-3.1-8b@full needs about 17.5 GiB (15.0 of weights in bf16) and cpu has 4.0 GiB free; free "
        "some, or use a larger device (--esa-device)."
    )


def test_several_devices_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"cuda:0": 10 * GIB, "cuda:1": 7 * GIB}
    monkeypatch.setattr(capacity, "available_bytes", lambda device: free[str(device)])
    devices = [torch.device("cuda", 0), torch.device("cuda", 1)]
    with pytest.raises(InsufficientMemoryError, match=r"17\.5 GiB .* and cuda:0 and cuda:1 have 17\.0 GiB free"):
        refuse_too_large("large", _full("llama-3.1-8b"), devices)
    free["cuda:1"] = 8 * GIB
    refuse_too_large("large", _full("llama-3.1-8b"), devices)


@pytest.mark.parametrize("alone", [True, False])
def test_a_model_too_large_for_a_workers_gpu_is_not_spread_over_those_of_others(
    *, alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spread: list[list[str]] = []

    def network(_checkpoint: Checkpoint, devices: list[torch.device], *_: object) -> None:
        spread.append([str(device) for device in devices])
        raise MemoryError

    for module in ("capacity", "loading"):
        monkeypatch.setattr(f"esa_pytest.evaluation.{module}.available_bytes", lambda _device: 10 * GIB)
    monkeypatch.setattr("esa_pytest.evaluation.loading._network", network)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    message = "and cuda:1 has 10.0 GiB free" if alone else "ran out of memory while"
    with pytest.raises(InsufficientMemoryError, match=message):
        load_model("large", _full("llama-3.1-8b"), device=torch.device("cuda", 1), alone=alone)
    assert spread == ([] if alone else [["cuda:0", "cuda:1"]])


def test_exactly_what_is_needed_is_enough(own_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = _located(own_checkpoint)
    needed = needed_bytes(checkpoint)
    monkeypatch.setattr(capacity, "available_bytes", lambda _device: needed)
    refuse_too_large("tiny", checkpoint, [CPU])
    monkeypatch.setattr(capacity, "available_bytes", lambda _device: needed - 1)
    with pytest.raises(InsufficientMemoryError):
        refuse_too_large("tiny", checkpoint, [CPU])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_weights_count_as_they_will_be_loaded_and_not_as_they_lie(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {"a": torch.zeros(300, 1000, dtype=dtype), "b": torch.zeros(700_000, dtype=dtype)}
    save_file(tensors, tmp_path / "model.safetensors")
    checkpoint = Checkpoint(folder=tmp_path, weights_sha256="", tokenizer_sha256="", read_files_sha256="", config={})
    # A million parameters in bf16, a tenth more, and as much again, since a GiB is more than the model.
    assert needed_bytes(checkpoint) == 2_000_000 + 200_000 + 2_000_000


@pytest.mark.parametrize(
    ("name", "billions"),
    [("pythia-1.4b", 1.41), ("llama-3.1-8b", 8.03), ("phi-3-mini-4k-instruct", 3.82), ("mistral-7b-v0.3", 7.25)],
)
def test_the_packaged_shapes_have_as_many_parameters_as_their_models(name: str, billions: float) -> None:
    checkpoint = _full(name)
    parameters = parameters_of_shape(checkpoint.folder)
    assert parameters == pytest.approx(billions * 1e9, rel=0.01)
    assert needed_bytes(checkpoint) == int(2 * parameters * 1.1) + GIB


@pytest.mark.parametrize(("left", "available"), [(None, 77), (76, 76), (78, 77)])
def test_what_is_free_is_available_as_far_as_the_limit_of_a_container_goes(
    left: int | None, available: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 77}))
    monkeypatch.setattr(capacity, "memory_left", lambda: left)
    assert available_bytes(CPU) == available


@pytest.mark.parametrize("error", [MemoryError("no more"), torch.OutOfMemoryError("no more")])
def test_memory_that_runs_out_while_loading_is_told(
    error: Exception, own_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr("esa_pytest.evaluation.loading._network", fail)
    with pytest.raises(InsufficientMemoryError) as caught:
        load_model("tiny", _located(own_checkpoint), device=CPU)
    assert str(caught.value) == (
        "The device cpu ran out of memory while the model tiny was loaded; free some, or use a larger device "
        "(--esa-device)."
    )
