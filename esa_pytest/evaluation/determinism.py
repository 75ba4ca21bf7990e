"""Seeds, deterministic kernels and full precision for the length of an evaluation, and all as it was afterwards."""

import os
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from esa_pytest.evaluation.precision import allows_tf32, newer_switches_aside

CUBLAS_WORKSPACE = ":4096:8"
_WORKSPACE_VARIABLE = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def deterministic(*, seed: int, switches: Mapping[str, bool] = MappingProxyType({})) -> Iterator[None]:
    """Seed python, numpy, torch and CUDA, ask for deterministic algorithms, and restore all of it on leaving.

    Args:
        seed: of all random states.
        switches: values of single flags in the place of ours, by name, to measure what they change.

    A forward pass draws nothing; the seeds are for what a user's own model may draw. Where torch knows no
    deterministic kernel it warns and goes on: whether bits are stable is measured, not assumed.
    """
    with _seeded(seed), newer_switches_aside(), _deterministic_algorithms(switches):
        yield


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    python_state, numpy_state = random.getstate(), np.random.get_state()
    cuda = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=cuda):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed % 2**64)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


@contextmanager
def _deterministic_algorithms(switches: Mapping[str, bool]) -> Iterator[None]:
    utils: Any = torch.utils.deterministic  # a module whose attribute is a property, which no type checker sees
    mode, fill = torch.get_deterministic_debug_mode(), utils.fill_uninitialized_memory
    workspace = os.environ.get(_WORKSPACE_VARIABLE)
    before = {flag: flag.read() for flag in _FLAGS}
    os.environ.setdefault(_WORKSPACE_VARIABLE, CUBLAS_WORKSPACE)
    # Filling fresh memory with NaN costs a pass over every tensor and changes no result.
    utils.fill_uninitialized_memory = False
    for flag in _FLAGS:
        flag.write(switches.get(flag.name, flag.value))
    # The same as use_deterministic_algorithms(mode=True, warn_only=True), which first imports the whole of inductor.
    torch.set_deterministic_debug_mode("warn")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation.*")
            yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        utils.fill_uninitialized_memory = fill
        for flag, value in before.items():
            flag.write(value)
        if workspace is None:
            os.environ.pop(_WORKSPACE_VARIABLE, None)


@dataclass(frozen=True, kw_only=True)
class _Flag:
    """A switch of torch that chooses kernels or their precision: what it is called, and what it is during a run."""

    name: str
    value: Any
    read: Callable[[], Any]
    write: Callable[[Any], None]


def _attribute(name: str, owner: Any, attribute: str, value: Any) -> _Flag:
    return _Flag(
        name=name,
        value=value,
        read=lambda: getattr(owner, attribute),
        write=lambda wanted: setattr(owner, attribute, wanted),
    )


def _tf32(name: str, owner: Any) -> _Flag:
    return _Flag(
        name=name,
        value=False,
        read=lambda: allows_tf32(owner),
        write=lambda wanted: setattr(owner, "allow_tf32", wanted),
    )


_CUDA = torch.backends.cuda
_FLAGS = (
    _attribute("cudnn.benchmark", torch.backends.cudnn, "benchmark", value=False),
    _attribute("cudnn.deterministic", torch.backends.cudnn, "deterministic", value=True),
    _tf32("tf32.cudnn", torch.backends.cudnn),
    _tf32("tf32.matmul", _CUDA.matmul),
    _attribute("bf16_reduced_precision_reduction", _CUDA.matmul, "allow_bf16_reduced_precision_reduction", value=False),
    _attribute("fp16_reduced_precision_reduction", _CUDA.matmul, "allow_fp16_reduced_precision_reduction", value=False),
    _Flag(
        name="float32_matmul_precision",
        value="highest",
        read=torch.get_float32_matmul_precision,
        write=torch.set_float32_matmul_precision,
    ),
    _Flag(name="sdp.flash", value=True, read=_CUDA.flash_sdp_enabled, write=_CUDA.enable_flash_sdp),
    _Flag(
        name="sdp.mem_efficient",
        value=True,
        read=_CUDA.mem_efficient_sdp_enabled,
        write=_CUDA.enable_mem_efficient_sdp,
    ),
    _Flag(name="sdp.math", value=True, read=_CUDA.math_sdp_enabled, write=_CUDA.enable_math_sdp),
    # Its choice among engines changes with every release of cuDNN.
    _Flag(name="sdp.cudnn", value=False, read=_CUDA.cudnn_sdp_enabled, write=_CUDA.enable_cudnn_sdp),
)


def torch_flags() -> dict[str, str]:
    """Every switch of torch that may change bits, as it stands now; asked within `deterministic`, as a run has it."""
    found = {flag.name: flag.read() for flag in _FLAGS} | {
        "autocast.cpu": torch.is_autocast_enabled("cpu"),
        "autocast.cuda": torch.is_autocast_enabled("cuda"),
        "cublas_workspace": os.environ.get(_WORKSPACE_VARIABLE),
        "mkldnn": torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled,
    }
    return {f"torch.{name}": str(value) for name, value in found.items()}
