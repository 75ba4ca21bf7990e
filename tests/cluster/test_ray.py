"""A real Ray cluster of three nodes: one is killed, a task runs out of memory, the driver is interrupted.

Nothing is lost and nothing is judged twice. `CLUSTER_TIMES=10` runs the tests of losses ten times each.
"""

import os
import shutil
import signal

import psutil
import pytest
import ray

from esa_pytest.exit_status import Status
from tests.cluster.machines import Machines, machines
from tests.cluster.projects import FOLDERS, NAMES, Three, interrupt, is_alive, wait_until
from tests.plugin.conftest import Project

TIMES = range(int(os.environ.get("CLUSTER_TIMES", "1")))
PASSED = {f"test_baseline[{name}-smoke]": ["passed"] for name in NAMES} | {"test_of_no_baseline": ["passed"]}
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("time", TIMES)
def test_a_node_that_is_lost_costs_a_second_try_and_nothing_else(
    three: Three, three_nodes: Machines, time: int
) -> None:
    three_nodes.grow_to(3)
    three.touch("hold-second")
    run = three.start("--esa-ray", three_nodes.address)
    wait_until(lambda: three.started("second"), "the second baseline began", run)
    ((pid, node),) = three.started("second").items()
    three_nodes.kill(node)
    three.remove("hold-second")
    done = three.finish(run)
    assert (done.status, done.outcomes) == (0, PASSED), done.output
    assert "esa: judged 3 of 3" in done.output
    assert ", 2 tries: its node was lost: " in done.output
    assert three.marks() == set(FOLDERS)
    assert [len(three.started(name)) for name in ("tiny", "third")] == [1, 1]
    assert len(three.started("second")) == 2
    wait_until(lambda: not is_alive(pid), "the process of the lost node ended")


@pytest.mark.parametrize("ended", [signal.SIGINT, signal.SIGKILL], ids=lambda which: which.name)
@pytest.mark.parametrize("time", TIMES)
def test_a_driver_that_is_ended_leaves_what_was_judged_and_is_taken_up(
    three: Three, three_nodes: Machines, time: int, ended: signal.Signals
) -> None:
    three_nodes.grow_to(3)
    three.touch("hold-second")
    run = three.start("--esa-ray", three_nodes.address)
    wait_until(lambda: three.marks() == {"tiny__smoke", "third__smoke"}, "two baselines came home", run)
    wait_until(lambda: three.started("second"), "the second baseline began", run)
    if ended is signal.SIGINT:
        interrupt(run)
    else:
        os.killpg(run.pid, ended)
    broken = three.finish(run)
    assert broken.status in (pytest.ExitCode.INTERRUPTED, -signal.SIGKILL), broken.output
    (pid,) = three.started("second")
    wait_until(lambda: not is_alive(pid), "the task that was running ended")
    assert three.marks() == {"tiny__smoke", "third__smoke"}

    three.remove("hold-second")
    done = three.run("--esa-ray", three_nodes.address, "--esa-resume")
    assert (done.status, done.outcomes) == (0, PASSED), done.output
    assert "esa: judged 3 of 3" in done.output
    assert done.output.count("  resumed        judged at ") == 2
    assert [len(three.started(name)) for name in NAMES] == [1, 2, 1]
    assert three.marks() == set(FOLDERS)
    assert {manifest["outcome"] for manifest, *_ in three.computed().values()} == {"identical"}


def test_a_task_out_of_memory_is_an_error_of_its_baseline_and_not_tried_for_ever(three: Three) -> None:
    memory = psutil.virtual_memory()
    threshold = (memory.total - memory.available + 2.5 * 2**30) / memory.total
    three.touch("hungry-second")
    with machines(memory_usage_threshold=threshold, memory_monitor_refresh_ms=100) as cluster:
        cluster.grow_to(1)
        done = three.run("--esa-ray", cluster.address)
    assert done.status == Status.BROKEN
    assert done.outcomes == PASSED | {"test_baseline[second-smoke]": ["error"]}, done.output
    assert "second-smoke could not be judged on the cluster. It ran out of memory on its node" in done.output
    assert "esa: judged 2 of 3" in done.output
    assert len(three.started("second")) == 1
    assert three.marks() == {"tiny__smoke", "third__smoke"}
    left = three.manifest("second__smoke")
    assert (left["state"], left["outcome"]) == ("error", "ClusterError")
    assert left["reason"].startswith("It ran out of memory on its node")


def test_a_node_that_comes_to_no_verdict_takes_the_earlier_one_away(three: Three, three_nodes: Machines) -> None:
    three_nodes.grow_to(3)
    first = three.run("--esa-ray", three_nodes.address)
    assert (first.status, three.marks()) == (0, set(FOLDERS)), first.output
    shutil.rmtree(three.folder / "baselines_golden/second__smoke")
    broken = three.run("--esa-ray", three_nodes.address, "--esa-resume")
    assert broken.status == Status.BROKEN, broken.output
    assert broken.output.count("  resumed        judged at ") == 2
    assert three.marks() == {"tiny__smoke", "third__smoke"}
    assert {folder: three.manifest(folder)["state"] for folder in FOLDERS} == {
        "tiny__smoke": "passed",
        "second__smoke": "error",
        "third__smoke": "passed",
    }


def test_goldens_recorded_on_nodes_come_home_with_their_lines(three: Three, three_nodes: Machines) -> None:
    three.project.take_bits_for_stable()
    three_nodes.grow_to(3)
    three.project.write_text("Another text, as long. " * 60)
    goldens = three.folder / "baselines_golden"
    before = (goldens / "ledger.jsonl").read_text(encoding="utf-8").splitlines()
    done = three.run("--esa-ray", three_nodes.address, "--snapshot-update", "--esa-reason", "another text")
    assert (done.status, done.outcomes) == (0, PASSED), done.output
    assert "esa: judged 0 of 3, recorded 3" in done.output
    after = (goldens / "ledger.jsonl").read_text(encoding="utf-8").splitlines()
    assert after[: len(before)] == before
    assert len(after) == len(before) + 3
    assert all('"reason": "another text"' in line or '"reason":"another text"' in line for line in after[len(before) :])
    again = three.run()
    assert again.status == 0, again.output
    assert again.output.count("  identical      256 of 256") == 3


def test_a_drift_found_on_a_node_fails_with_the_words_of_one_process(three: Three, three_nodes: Machines) -> None:
    three_nodes.grow_to(3)
    three.project.write_text("Another text, as long. " * 60)
    alone, nodes = three.run(), three.run("--esa-ray", three_nodes.address)
    assert (alone.status, nodes.status) == (1, 1)
    assert alone.outcomes == nodes.outcomes
    failures = [line for line in alone.output.splitlines() if line.startswith(("esa: tiny-smoke is", "  golden "))]
    assert len(failures) > 1
    assert set(failures) <= set(nodes.output.splitlines())


class TestRefusals:
    def refused(self, project: Project, *arguments: str) -> str:
        result = project.run_apart(*arguments)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        (line,) = [line for line in result.errlines if line.startswith("ERROR: ")]
        return line

    def test_nobody_answers(self, recorded: Project) -> None:
        told = self.refused(recorded, "--esa-ray", "127.0.0.1:1")
        assert told.startswith("ERROR: No Ray cluster answers at 127.0.0.1:1 (")

    def test_another_version(self, recorded: Project, three_nodes: Machines) -> None:
        recorded.pytester.makeconftest("import ray\nray.__version__ = '2.1.0'\n")
        told = self.refused(recorded, "--esa-ray", three_nodes.address)
        assert told.startswith(
            f"ERROR: The Ray cluster at {three_nodes.address} is of another version: Version mismatch"
        )
        assert ray.__version__ in told
        assert "2.1.0" in told
