"""`--esa-ray` is refused with a sentence where it cannot work; no Ray is needed to say so."""

import sys
from collections.abc import Sequence

import pytest

from esa_pytest.cluster import driver, hooks  # noqa: F401
from esa_pytest.cluster.book import Try
from esa_pytest.cluster.events import Event, Failed
from esa_pytest.cluster.needs import Need, Node
from esa_pytest.exit_status import Status
from tests.plugin.conftest import Project


class Hungry:
    """A cluster in which every task runs out of memory."""

    def __init__(self, _address: str) -> None:
        self._tries: list[Try] = []

    def nodes(self) -> Sequence[Node]:
        return [Node(name="small", cpus=1, gpus=0)]

    def start(self, attempt: Try, payload: bytes, need: Need) -> None:
        self._tries.append(attempt)

    def events(self, *, seconds: float) -> Sequence[Event]:
        ended, self._tries = self._tries, []
        return [Failed(attempt=attempt, cause="It ran out of memory.") for attempt in ended]

    def cancel(self, attempts: Sequence[Try]) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing is open."""


def refused(project: Project, *arguments: str) -> str:
    result = project.run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    return next(line for line in result.errlines if line.startswith("ERROR: "))


def test_two_ways_to_distribute_are_one_too_many(project: Project) -> None:
    assert refused(project, "--esa-ray", "auto", "-n", "2") == (
        "ERROR: --esa-ray and -n are two ways to run tests elsewhere, and one of them is enough; leave -n out."
    )


def test_ray_that_is_not_installed(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert refused(project, "--esa-ray", "auto") == (
        "ERROR: --esa-ray needs Ray, which is not installed here: pip install 'esa-pytest[ray]', on every node as well."
    )


def test_an_address_that_is_none(project: Project) -> None:
    assert refused(project, "--esa-ray", "ray://head:10001") == (
        "ERROR: --esa-ray is 'ray://head:10001'; it takes HOST:PORT of a Ray cluster's head, or auto for the one of "
        "this machine."
    )


def test_what_no_node_could_judge_leaves_a_manifest_that_says_so(
    recorded: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert recorded.run().ret == pytest.ExitCode.OK
    assert recorded.manifest()["state"] == "passed"
    monkeypatch.setattr(hooks, "_checked", str)
    monkeypatch.setattr(hooks, "_connected", Hungry)
    result = recorded.run("--esa-ray", "auto", "--esa-resume")
    assert result.ret == Status.BROKEN
    left = recorded.manifest()
    assert (left["state"], left["outcome"], left["reason"]) == ("error", "ClusterError", "It ran out of memory.")
    assert left["test_command"] == "pytest 'test_it.py::test_baseline[tiny-smoke]'"
    assert not (recorded.output / "results_summary.json").exists()
    assert not [*recorded.output.glob("judged-*")]
