from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from esa_pytest.errors import DeviceError
from esa_pytest.evaluation.leases import GpuLease, in_worker, lease_gpu
from esa_pytest.measuring import shelf as shelf_module
from esa_pytest.measuring.shelf import ModelShelf
from tests.model.tiny import tiny_baseline

GPUS = ["GPU-aaaa", "GPU-bbbb", "GPU-cccc"]
Lease = Callable[..., int]


@pytest.fixture
def held() -> Iterator[list[GpuLease]]:
    leases: list[GpuLease] = []
    yield leases
    for lease in leases:
        lease.release()


@pytest.fixture
def lease(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, held: list[GpuLease]) -> Lease:
    """Take a GPU as a worker does; its index."""
    monkeypatch.setenv("ESA_CACHE", str(tmp_path))

    def take(worker: str, names: list[str] = GPUS) -> int:
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
        held.append(lease_gpu(names))
        return held[-1].index

    return take


def test_workers_take_the_gpu_of_their_number(lease: Lease) -> None:
    assert [lease(worker) for worker in ("gw0", "gw1", "gw2")] == [0, 1, 2]


def test_worker_beyond_the_last_gpu_begins_at_the_first(lease: Lease) -> None:
    assert [lease(worker) for worker in ("gw3", "gw7")] == [0, 1]


def test_gpu_that_is_taken_is_passed_over(lease: Lease) -> None:
    assert [lease(worker) for worker in ("gw1", "gw1", "gw1")] == [1, 2, 0]


def test_worker_finds_the_one_gpu_that_is_left(lease: Lease) -> None:
    assert [lease("gw0"), lease("gw1"), lease("gw4")] == [0, 1, 2]


def test_more_workers_than_gpus_are_told_how_many_there_may_be(lease: Lease) -> None:
    for worker in ("gw0", "gw1", "gw2"):
        lease(worker)
    with pytest.raises(DeviceError) as caught:
        lease("gw3")
    assert str(caught.value) == (
        "Each of the 3 visible GPUs is taken by another worker, and two on one would spoil each other's memory and "
        "throughput; start no more workers than there are GPUs (-n 3)."
    )


def test_gpu_that_is_given_back_can_be_taken_again(lease: Lease, held: list[GpuLease]) -> None:
    assert [lease(worker) for worker in ("gw0", "gw1", "gw2")] == [0, 1, 2]
    held[1].release()
    assert lease("gw5") == 1


def test_one_gpu_is_one_whatever_its_place_in_the_order(lease: Lease) -> None:
    assert lease("gw0", ["GPU-aaaa", "GPU-bbbb"]) == 0
    assert lease("gw1", ["GPU-bbbb", "GPU-aaaa"]) == 0


def test_lock_lies_in_the_cache_under_the_name_of_the_hardware(lease: Lease, tmp_path: Path) -> None:
    lease("gw0")
    assert (tmp_path / "gpus" / "GPU-aaaa.lock").exists()


def test_worker_is_known_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    assert in_worker()
    monkeypatch.delenv("PYTEST_XDIST_WORKER")
    assert not in_worker()


class FakeCuda:
    """Four GPUs as torch shows them: those of CUDA_VISIBLE_DEVICES alone, in its order, counted from 0."""

    def __init__(self, patch: pytest.MonkeyPatch, visible: str) -> None:
        patch.setenv("CUDA_VISIBLE_DEVICES", visible)
        hardware = [f"GPU-{number}" for number in visible.split(",") if number]
        patch.setattr(torch.cuda, "is_available", lambda: bool(hardware))
        patch.setattr(torch.cuda, "device_count", lambda: len(hardware))
        patch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=hardware[index]))


@pytest.mark.parametrize(("worker", "index", "hardware"), [("gw0", 0, "GPU-3"), ("gw1", 1, "GPU-1")])
def test_worker_takes_the_gpu_of_its_number_in_the_callers_list(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, worker: str, index: int, hardware: str
) -> None:
    FakeCuda(monkeypatch, "3,1")
    monkeypatch.setenv("ESA_CACHE", str(tmp_path))
    monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
    shelf = ModelShelf(device="auto")
    assert shelf._resolved() == torch.device("cuda", index)
    assert [path.stem for path in (tmp_path / "gpus").iterdir()] == [hardware]
    shelf.close()


@pytest.mark.parametrize(("worker", "device", "alone"), [("gw1", "auto", True), (None, "auto", False)])
def test_worker_uses_its_gpu_and_no_other(
    worker: str | None, device: str, *, alone: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    FakeCuda(monkeypatch, "3,1")
    monkeypatch.setenv("ESA_CACHE", str(tmp_path))
    if worker is None:
        monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    else:
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(shelf_module, "locate", lambda *_, **__: SimpleNamespace(hash_seconds=0.0))
    monkeypatch.setattr(shelf_module, "load_model", lambda *_, **how: asked.append(how))
    shelf = ModelShelf(device=device)
    shelf.get(tiny_baseline(tmp_path, tmp_path))
    assert [(how["device"].index, how["alone"]) for how in asked] == [(1 if alone else 0, alone)]
    shelf._shelved = None  # there is no GPU whose memory could be given back
    shelf.close()
