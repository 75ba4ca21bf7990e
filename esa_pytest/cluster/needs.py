"""What a baseline needs of a cluster: GPUs where there are any, CPUs otherwise. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.errors import ClusterError

THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True, kw_only=True)
class Need:
    """What one task takes of its node."""

    cpus: int
    gpus: int = 0

    def __str__(self) -> str:
        parts = [(self.gpus, "GPU"), (self.cpus, "CPU")]
        return " and ".join(f"{count} {name}{'s' if count > 1 else ''}" for count, name in parts if count)


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node of the cluster that is alive, with all that it has, free or not."""

    name: str
    cpus: float
    gpus: float

    def fits(self, need: Need) -> bool:
        """Whether the need could ever be met here."""
        return self.cpus >= need.cpus and self.gpus >= need.gpus


def threads_of(given: str) -> int:
    """How many threads a task on CPUs computes with: the first number of OMP_NUM_THREADS, 1 where there is none.

    Raises:
        ClusterError: it is no number.
    """
    first = (given.strip() or "1").partition(",")[0].strip()
    if not first.isdecimal() or int(first) < 1:
        raise ClusterError(f"{THREADS} is {given!r}; a cluster takes a whole number from 1 on, or several as 4,2.")
    return int(first)


def need_of(baseline: Baseline, *, device: str, nodes: Sequence[Node], threads: int) -> Need:
    """What a baseline needs.

    Args:
        baseline: what is judged; its model says over how many GPUs it is spread.
        device: as the setting says; `auto` takes GPUs where any node has one.
        nodes: of the cluster.
        threads: how many a task on CPUs computes with.
    """
    on_gpu = device != "cpu" and (device != "auto" or any(node.gpus >= 1 for node in nodes))
    return Need(cpus=1, gpus=baseline.model.gpus) if on_gpu else Need(cpus=threads)
