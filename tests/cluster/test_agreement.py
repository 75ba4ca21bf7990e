"""One process, two workers of pytest-xdist, and three nodes of a Ray cluster give the same verdicts and records."""

import pytest

from tests.cluster.machines import Machines
from tests.cluster.projects import NAMES, Three

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]
PASSED = {f"test_baseline[{name}-smoke]": ["passed"] for name in NAMES} | {"test_of_no_baseline": ["passed"]}


def test_the_same_verdicts_and_records_however_they_are_distributed(three: Three, three_nodes: Machines) -> None:
    three_nodes.grow_to(3)
    alone = three.run()
    assert (alone.status, alone.outcomes) == (0, PASSED), alone.output
    records = three.computed()

    workers = three.run("-n", "2", "--dist", "loadgroup")
    assert (workers.status, "judged 3 of 3" in workers.output) == (0, True), workers.output
    assert sorted(workers.outcomes.values()) == sorted(PASSED.values())
    assert three.computed() == records

    nodes = three.run("--esa-ray", three_nodes.address)
    assert (nodes.status, nodes.outcomes) == (0, PASSED), nodes.output
    assert "esa: judged 3 of 3" in nodes.output
    assert nodes.output.count("  cluster        on the node ") == 3
    assert three.computed() == records
    used = {three.started(name)[max(three.started(name))] for name in NAMES} - {"none"}
    assert len(used) > 1
