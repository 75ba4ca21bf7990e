"""A real Ray cluster of several nodes on this machine, bound to the loopback, with pretended GPUs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Before ray is imported: it takes this for "one machine", and then never looks for another address than 127.0.0.1.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from ray.cluster_utils import Cluster

_NODE: dict[str, Any] = {
    "object_store_memory": 75 * 2**20,
    "include_dashboard": False,
    "node_ip_address": "127.0.0.1",
}


class Machines:
    """A head without CPUs, so that no task shares its node with the driver, and nodes of one CPU and one GPU."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._nodes: dict[str, Any] = {}

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def grow_to(self, count: int) -> None:
        """Add nodes until there are so many."""
        while len(self._nodes) < count:
            node = self._cluster.add_node(num_cpus=1, num_gpus=1, **_NODE)
            self._nodes[node.node_id] = node

    def kill(self, node_id: str) -> None:
        """End a node as a loss of power does: SIGKILL to all of its processes."""
        self._cluster.remove_node(self._nodes.pop(node_id), allow_graceful=False)


@contextmanager
def machines(**system: Any) -> Iterator[Machines]:
    """A cluster for the length of the block; `system` are switches of Ray's own."""
    # A node that is gone is to be noticed within seconds.
    switches = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": switches | system, **_NODE}
    )
    try:
        yield Machines(cluster)
    finally:
        cluster.shutdown()
