"""Seeds and deterministic kernels for the length of an evaluation, and everything as it was afterwards."""

import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

CUBLAS_WORKSPACE = ":4096:8"


@contextmanager
def deterministic(*, seed: int) -> Iterator[None]:
    """Seed python, numpy, torch and CUDA, ask for deterministic algorithms, and restore all of it on leaving.

    A forward pass draws nothing; the seeds are for what a user's own model may draw. Where torch knows no
    deterministic kernel it warns and goes on: whether bits are stable is measured, not assumed.
    """
    with _seeded(seed), _deterministic_algorithms():
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
def _deterministic_algorithms() -> Iterator[None]:
    backends = torch.backends
    utils: Any = torch.utils.deterministic  # a module whose attribute is a property, which no type checker sees
    mode = torch.get_deterministic_debug_mode()
    cudnn = (backends.cudnn.deterministic, backends.cudnn.benchmark)
    fill = utils.fill_uninitialized_memory
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
    # Filling fresh memory with NaN costs a pass over every tensor and changes no result.
    utils.fill_uninitialized_memory = False
    backends.cudnn.deterministic, backends.cudnn.benchmark = True, False
    # The same as use_deterministic_algorithms(mode=True, warn_only=True), which first imports the whole of inductor.
    torch.set_deterministic_debug_mode("warn")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation.*")
            yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        backends.cudnn.deterministic, backends.cudnn.benchmark = cudnn
        utils.fill_uninitialized_memory = fill
        if workspace is None:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
