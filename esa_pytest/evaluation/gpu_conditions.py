"""What NVML says of a GPU: clocks, what slows them, temperature, other processes. Its library is an extra."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch

INSTALL = "pip install 'esa-pytest[nvml]'"
# Bits of NVML's clocks-event reasons that mean trouble. A software power cap is none: a GPU at full load lives on it.
_TROUBLES = {
    0x08: "a hardware slowdown",
    0x20: "its temperature (by software)",
    0x40: "its temperature (by hardware)",
    0x80: "a power brake",
}

Figures = dict[str, float | int | str | None]


def read_gpu(device: torch.device) -> Figures:
    """The GPU as it is now, by name: what NVML does not tell is None, and `gpu_untold` says why it tells nothing.

    `gpu_slowed_by` names what holds its clocks down, `gpu_other_processes` counts those of others that compute on it.
    """
    try:
        import pynvml
    except ImportError:
        return {"gpu_untold": f"nvidia-ml-py is not installed, {INSTALL}"}
    try:
        pynvml.nvmlInit()
        # By its UUID: NVML also counts GPUs that are not visible to torch.
        handle = pynvml.nvmlDeviceGetHandleByUUID(_uuid(device))
    except pynvml.NVMLError as error:
        return {"gpu_untold": f"NVML says {str(error)!r}"}
    asked: dict[str, Callable[[], Any]] = {
        "gpu_sm_clock_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "gpu_sm_clock_largest_mhz": lambda: pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "gpu_temperature_celsius": lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
        "gpu_slowed_by": lambda: _slowed_by(pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)),
        "gpu_other_processes": lambda: _others(pynvml.nvmlDeviceGetComputeRunningProcesses(handle)),
    }
    found: Figures = dict.fromkeys(asked)
    for name, ask in asked.items():
        # Older bindings lack a function, older drivers an answer.
        with suppress(pynvml.NVMLError, AttributeError):
            found[name] = ask()
    return found


def disturbance_of_gpu(found: Mapping[str, float | int | str | None]) -> str | None:
    """What keeps the speed of a GPU from being believed, as a clause; None where nothing does."""
    if found.get("gpu_untold"):
        return f"nothing tells of the GPU's clocks and of other processes on it ({found['gpu_untold']})"
    others, slowed = found["gpu_other_processes"], found["gpu_slowed_by"]
    if others is None:
        return "NVML does not tell whether other processes compute on the GPU"
    if slowed is None:
        return "NVML does not tell whether something holds the GPU's clocks down"
    if others:
        return f"{others} other {'process computes' if others == 1 else 'processes compute'} on the GPU"
    if slowed:
        return (
            f"the GPU is slowed by {slowed}, at {found['gpu_sm_clock_mhz']} of {found['gpu_sm_clock_largest_mhz']} MHz "
            f"and {found['gpu_temperature_celsius']} °C"
        )
    return None


def _uuid(device: torch.device) -> str:
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    return uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"


def _slowed_by(reasons: int) -> str:
    """What holds the clocks down, empty where nothing does."""
    return " and ".join(name for bit, name in _TROUBLES.items() if reasons & bit)


def _others(processes: list[Any]) -> int:
    """How many of the processes on a GPU are not this one, which a container may list under another number."""
    pids = {process.pid for process in processes}
    return len(pids - {os.getpid()}) if os.getpid() in pids else max(0, len(pids) - 1)
