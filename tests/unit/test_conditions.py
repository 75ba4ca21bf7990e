"""What spoils a speed: other processes, waiting, quotas and xdist on a CPU; clocks and neighbours on a GPU, by NVML."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from esa_pytest.evaluation import conditions
from esa_pytest.evaluation.conditions import disturbance_of_cpu, watch_conditions
from esa_pytest.evaluation.gpu_conditions import disturbance_of_gpu, read_gpu

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 1)
QUIET: dict[str, Any] = {
    "xdist_workers": 1,
    "cpu_others_share": 0.02,
    "cpu_pressure_share": 0.05,
    "cpu_throttled_share": 0.0,
}


@pytest.mark.parametrize(
    ("found", "clause"),
    [
        ({}, None),
        ({"cpu_pressure_share": None, "cpu_throttled_share": None}, None),
        ({"cpu_others_share": None}, None),
        ({"xdist_workers": 2}, "2 workers of pytest-xdist share the cores"),
        ({"cpu_others_share": 0.43}, "other processes took 43% of the cores, at most 10% are believed"),
        ({"cpu_pressure_share": 0.6}, "a process waited for a core 60% of the time, at most 20% are believed"),
        ({"cpu_throttled_share": 0.3}, "a CPU quota stopped this process 30% of the time"),
        (
            {"cpu_others_share": None, "cpu_pressure_share": None},
            "this system does not tell what else ran on the cores",
        ),
    ],
)
def test_what_spoils_the_speed_of_a_cpu(found: dict[str, Any], clause: str | None) -> None:
    assert disturbance_of_cpu(QUIET | found) == clause


class Machine:
    """Clocks of a machine of four cores that a test sets."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self.wall, self.busy, self.own = 100.0, 50.0, 10.0
        self.folder = folder
        self.tell(pressure=1_000_000, throttled=0)
        patch.setattr(time, "perf_counter", lambda: self.wall)
        patch.setattr(psutil, "cpu_times", self.times)
        patch.setattr(os, "times", lambda: SimpleNamespace(user=self.own, system=0.0))
        patch.setattr(os, "cpu_count", lambda: 4)
        patch.setattr(conditions, "_PRESSURE", folder / "pressure")
        patch.setattr(conditions, "_CGROUP", folder / "cpu.stat")
        patch.delenv("PYTEST_XDIST_WORKER", raising=False)

    def times(self) -> Any:
        found = {"user": self.busy - 5, "guest": 3.0, "system": 5.0, "idle": 999.0 + self.wall, "iowait": 7.0}
        return SimpleNamespace(_asdict=lambda: found)

    def tell(self, *, pressure: int, throttled: int) -> None:
        lines = f"some avg10=1.00 avg60=2.00 avg300=3.00 total={pressure}\nfull avg10=0.00 total=7\n"
        (self.folder / "pressure").write_text(lines, encoding="ascii")
        (self.folder / "cpu.stat").write_text(f"nr_throttled 4\nthrottled_usec {throttled}\n", encoding="ascii")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path)


def test_shares_are_those_of_the_time_in_between(machine: Machine) -> None:
    with watch_conditions(CPU) as found:
        machine.wall += 10
        machine.busy += 30
        machine.own += 18
        machine.tell(pressure=1_500_000, throttled=100_000)
    assert found == {
        "cpu_others_share": 0.3,
        "cpu_pressure_share": 0.05,
        "cpu_throttled_share": 0.01,
        "xdist_workers": 1,
        "disturbance": "other processes took 30% of the cores, at most 10% are believed",
    }


def test_a_quiet_machine_disturbs_nothing(machine: Machine) -> None:
    with watch_conditions(CPU) as found:
        machine.wall += 10
        machine.busy += 40
        machine.own += 39
    assert found["disturbance"] is None


def test_a_system_that_counts_nothing_is_not_taken_for_a_quiet_one(machine: Machine) -> None:
    (machine.folder / "pressure").unlink()
    (machine.folder / "cpu.stat").write_text("usage_usec 1\n", encoding="ascii")
    with watch_conditions(CPU) as found:
        machine.wall += 10
        machine.own += 39
    assert found["cpu_others_share"] is found["cpu_pressure_share"] is found["cpu_throttled_share"] is None
    assert found["disturbance"] == "this system does not tell what else ran on the cores"


def test_workers_beside_each_other_are_counted(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw1")
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "3")
    with watch_conditions(CPU) as found:
        machine.wall += 1
    assert found["disturbance"] == "3 workers of pytest-xdist share the cores"


class FakeNvml(ModuleType):
    """NVML with one GPU, at full load under its power cap, with this process on it."""

    NVML_CLOCK_SM, NVML_TEMPERATURE_GPU = 1, 0

    class NVMLError(Exception):
        """As NVML's."""

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.reasons, self.pids, self.silent = 0x04, [os.getpid()], False
        self.asked: list[str] = []

    def nvmlInit(self) -> None:  # noqa: N802  (NVML's names)
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        self.asked.append(uuid)
        return "handle"

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:  # noqa: N802
        return 1305

    def nvmlDeviceGetMaxClockInfo(self, handle: str, kind: int) -> int:  # noqa: N802
        return 1980

    def nvmlDeviceGetTemperature(self, handle: str, kind: int) -> int:  # noqa: N802
        return 71

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> int:  # noqa: N802
        return self.reasons

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:  # noqa: N802
        if self.silent:
            raise self.NVMLError
        return [SimpleNamespace(pid=pid) for pid in self.pids]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    properties = SimpleNamespace(uuid="1234-abcd")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: properties)
    return fake


def test_a_gpu_of_its_own_under_its_power_cap_is_believed(nvml: FakeNvml) -> None:
    found = read_gpu(CUDA)
    assert nvml.asked == ["GPU-1234-abcd"]
    assert found == {
        "gpu_sm_clock_mhz": 1305,
        "gpu_sm_clock_largest_mhz": 1980,
        "gpu_temperature_celsius": 71,
        "gpu_slowed_by": "",
        "gpu_other_processes": 0,
    }
    assert disturbance_of_gpu(found) is None


@pytest.mark.parametrize("missing", ["nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetComputeRunningProcesses"])
def test_what_the_bindings_or_the_driver_do_not_tell_is_not_taken_for_quiet(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.delattr(FakeNvml, missing)
    found = disturbance_of_gpu(read_gpu(CUDA))
    assert found is not None
    assert found.startswith("NVML does not tell whether ")


@pytest.mark.parametrize(
    ("pids", "clause"),
    [
        ([os.getpid(), 7], "1 other process computes on the GPU"),
        ([os.getpid(), 7, 8], "2 other processes compute on the GPU"),
        # In a container this process is listed under a number of the host's.
        ([7], None),
        ([7, 8], "1 other process computes on the GPU"),
        ([], None),
    ],
)
def test_other_processes_on_the_gpu_spoil_its_speed(nvml: FakeNvml, pids: list[int], clause: str | None) -> None:
    nvml.pids = pids
    assert disturbance_of_gpu(read_gpu(CUDA)) == clause


@pytest.mark.parametrize(
    ("reasons", "by"),
    [
        (0x08, "a hardware slowdown"),
        (0x20 | 0x04, "its temperature (by software)"),
        (0x40 | 0x08, "a hardware slowdown and its temperature (by hardware)"),
        (0x80, "a power brake"),
    ],
)
def test_what_holds_the_clocks_down_spoils_the_speed(nvml: FakeNvml, reasons: int, by: str) -> None:
    nvml.reasons = reasons
    assert disturbance_of_gpu(read_gpu(CUDA)) == f"the GPU is slowed by {by}, at 1305 of 1980 MHz and 71 °C"


def test_a_library_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert disturbance_of_gpu(read_gpu(CUDA)) == (
        "nothing tells of the GPU's clocks and of other processes on it (nvidia-ml-py is not installed, pip install "
        "'esa-pytest[nvml]')"
    )


def test_a_driver_that_does_not_answer_is_told(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise FakeNvml.NVMLError("Driver Not Loaded")

    monkeypatch.setattr(nvml, "nvmlInit", refuse)
    assert disturbance_of_gpu(read_gpu(CUDA)) == (
        "nothing tells of the GPU's clocks and of other processes on it (NVML says 'Driver Not Loaded')"
    )


def test_a_figure_that_nvml_does_not_give_is_missing_alone(nvml: FakeNvml) -> None:
    nvml.silent = True
    found = read_gpu(CUDA)
    assert found["gpu_other_processes"] is None
    assert found["gpu_temperature_celsius"] == 71
    assert disturbance_of_gpu(found) == "NVML does not tell whether other processes compute on the GPU"


def test_on_cuda_the_gpu_decides_what_is_believed(nvml: FakeNvml, machine: Machine) -> None:
    with watch_conditions(CUDA) as found:
        machine.wall += 10
        machine.busy += 40
        nvml.pids = [os.getpid(), 7]
    assert found["cpu_others_share"] == 1.0
    assert found["disturbance"] == "1 other process computes on the GPU"
    nvml.pids = [os.getpid()]
    with watch_conditions(CUDA) as alone:
        machine.wall += 10
    assert alone["disturbance"] is None
    assert alone["gpu_sm_clock_mhz"] == 1305
