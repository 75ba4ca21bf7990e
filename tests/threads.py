"""Under pytest-xdist each worker computes on one thread: two pools that spin on the same cores are ten times slower."""

import os
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def one_thread_a_worker() -> Iterator[None]:
    """For the length of a module, so that the baselines in the same worker run as their goldens were recorded."""
    threads = torch.get_num_threads()
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
