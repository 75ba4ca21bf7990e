"""`--esa-ray` without Ray: where it is refused with a sentence, and what comes home from nodes of this process."""

import json
import sys
from collections.abc import Sequence

import pytest

from esa_pytest.cluster import driver, hooks
from esa_pytest.cluster.book import Try
from esa_pytest.cluster.events import Answered, Event, Failed
from esa_pytest.cluster.needs import Need, Node
from esa_pytest.cluster.node import run_job
from esa_pytest.errors import ClusterError
from esa_pytest.exit_status import Status
from tests.plugin.conftest import Project


class _Nodes:
    """A cluster of one node."""

    def __init__(self, _address: str) -> None:
        self._tries: list[tuple[Try, bytes]] = []

    def nodes(self) -> Sequence[Node]:
        return [Node(name="small", cpus=1, gpus=0)]

    def start(self, attempt: Try, payload: bytes, need: Need) -> None:
        self._tries.append((attempt, payload))

    def events(self, *, seconds: float) -> Sequence[Event]:
        ended, self._tries = self._tries, []
        return [self.end(*each) for each in ended]

    def end(self, attempt: Try, payload: bytes) -> Event:
        raise NotImplementedError

    def cancel(self, attempts: Sequence[Try]) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing is open."""


class Hungry(_Nodes):
    """Every task runs out of memory."""

    def end(self, attempt: Try, payload: bytes) -> Event:
        return Failed(attempt=attempt, cause="It ran out of memory.")


class Here(_Nodes):
    """Every task runs in this process."""

    def end(self, attempt: Try, payload: bytes) -> Event:
        return Answered(attempt=attempt, payload=run_job(payload))


class Losing(Here):
    """Every task runs in this process but one, whose nodes are lost."""

    lost: str

    def end(self, attempt: Try, payload: bytes) -> Event:
        if self.lost in attempt.test:
            return Failed(attempt=attempt, cause="Its nodes were lost.")
        return super().end(attempt, payload)


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


@pytest.mark.parametrize("threads", ["many", "0", ",4", "-1,4"])
def test_a_number_of_threads_that_is_none(project: Project, monkeypatch: pytest.MonkeyPatch, threads: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    told = refused(project, "--esa-ray", "127.0.0.1:1")
    assert told == (
        f"ERROR: OMP_NUM_THREADS is {threads!r}; a cluster takes a whole number from 1 on, or several as 4,2."
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


CHECKING = """
def test_checked(esa_baseline):
    esa_baseline.check()
"""
GUARDING = """
def test_guarded(esa_baseline):
    esa_baseline.guard()
"""
PERTURBING = """
from pathlib import Path

def test_perturbed(esa_perturb):
    assert Path("ready").exists()
    with esa_perturb("model.layers.1.mlp.down_proj.weight", zero=(0, 0)):
        pass
"""


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes of this process in the place of Ray's."""
    monkeypatch.setattr(hooks, "_checked", str)
    monkeypatch.setattr(hooks, "_connected", Here)


def guards_alone(project: Project) -> bool:
    """Whether the documents are those of a check that a perturbation asked for, which judges no resources."""
    refusals = [drift["refusal"] for drift in project.manifest()["verdict"]["resources"]]
    return all("in front of a perturbation" in str(refusal) for refusal in refusals)


@pytest.mark.usefixtures("here")
class TestDocuments:
    """They are those of the test that asked for more."""

    @pytest.mark.parametrize("tests", [CHECKING + PERTURBING, PERTURBING + CHECKING], ids=["check", "guard"])
    def test_whoever_comes_first(self, recorded: Project, tests: str) -> None:
        recorded.pytester.path.joinpath("ready").touch()
        recorded.write_test(tests)
        recorded.run("--esa-ray", "auto").assert_outcomes(passed=2)
        assert not guards_alone(recorded)
        recorded.write_test(PERTURBING)
        recorded.run("--esa-ray", "auto").assert_outcomes(passed=1)
        assert guards_alone(recorded)

    @pytest.mark.parametrize("options", [(), ("--esa-ray", "auto")], ids=["one process", "on nodes"])
    def test_of_a_guard_that_stands_give_way_to_those_of_another(
        self, recorded: Project, options: Sequence[str]
    ) -> None:
        recorded.write_test(GUARDING + PERTURBING)
        recorded.run(*options).assert_outcomes(passed=1, failed=1)
        assert "test_guarded" in recorded.manifest()["test_command"]
        recorded.pytester.path.joinpath("ready").touch()
        recorded.run(*options, "--esa-resume").assert_outcomes(passed=2)
        assert "test_perturbed" in recorded.manifest()["test_command"]

    def test_of_a_recording_that_the_driver_refuses_give_way_to_the_reason(self, recorded: Project) -> None:
        recorded.write_test(CHECKING)
        recorded.run().assert_outcomes(passed=1)

        def refuse(*_: object, **__: object) -> None:
            raise ClusterError("The golden was changed.")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(driver, "bring_home", refuse)
            assert recorded.run("--esa-ray", "auto").ret == Status.BROKEN
        assert (recorded.manifest()["state"], recorded.manifest()["reason"]) == ("error", "The golden was changed.")

    @pytest.mark.parametrize("options", [(), ("--esa-ray", "auto")], ids=["one process", "on nodes"])
    def test_of_a_check_that_stands(self, recorded: Project, options: Sequence[str]) -> None:
        recorded.write_test(CHECKING + PERTURBING)
        recorded.run(*options).assert_outcomes(passed=1, failed=1)
        before = recorded.manifest()
        recorded.pytester.path.joinpath("ready").touch()
        recorded.run(*options, "--esa-resume").assert_outcomes(passed=2)
        assert recorded.manifest() == before


@pytest.mark.usefixtures("here")
class TestRecording:
    """Two tests of one baseline write what they write in one process."""

    @pytest.mark.parametrize("options", [(), ("--esa-ray", "auto")], ids=["one process", "on nodes"])
    @pytest.mark.parametrize(
        ("tests", "state"),
        [(CHECKING + PERTURBING, "recorded"), (PERTURBING + CHECKING, "passed")],
        ids=["check", "guard"],
    )
    def test_the_second_finds_what_the_first_has_recorded(
        self, recorded: Project, tests: str, state: str, options: Sequence[str]
    ) -> None:
        recorded.pytester.path.joinpath("ready").touch()
        recorded.write_test(tests)
        recorded.write_text("Another text, as long. " * 60)
        recorded.run(*options, "--snapshot-update").assert_outcomes(passed=2)
        assert recorded.manifest()["state"] == state
        ledger = recorded.pytester.path / "baselines_golden/ledger.jsonl"
        assert len(ledger.read_bytes().splitlines()) == 2


@pytest.mark.usefixtures("here")
def test_what_only_shows_its_fixtures_is_not_judged_on_a_cluster(recorded: Project) -> None:
    recorded.write_test("def test_it(esa_baseline):\n    raise AssertionError\n")
    assert recorded.run("--esa-ray", "auto", "--setup-only").ret == pytest.ExitCode.OK


class TestLost:
    """What one test of a baseline leaves where another one is lost."""

    def marks(self, project: Project) -> set[str]:
        found = [json.loads(path.read_bytes())["nodeid"] for path in project.output.glob("judged-*")]
        return {name.partition("::")[2].partition("[")[0] for name in found}

    def lose(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.setattr(hooks, "_checked", str)
        monkeypatch.setattr(hooks, "_connected", type("", (Losing,), {"lost": name}))

    @pytest.mark.parametrize("options", [(), ("--esa-resume",)], ids=["anew", "resumed"])
    @pytest.mark.parametrize("tests", [CHECKING + PERTURBING, PERTURBING + CHECKING], ids=["check", "perturbation"])
    def test_a_check_that_passed_keeps_its_documents(
        self, recorded: Project, monkeypatch: pytest.MonkeyPatch, tests: str, options: Sequence[str]
    ) -> None:
        recorded.pytester.path.joinpath("ready").touch()
        recorded.write_test(tests)
        recorded.run("-k", "checked").assert_outcomes(passed=1, deselected=1)
        self.lose(monkeypatch, "test_perturbed")
        result = recorded.run("--esa-ray", "auto", *options)
        assert result.ret == Status.BROKEN
        result.assert_outcomes(passed=1, errors=1)
        # The first one is of the recording.
        assert (recorded.manifest()["state"], self.marks(recorded)) == ("passed", {"test_baseline", "test_checked"})
        assert (recorded.output / "results_summary.json").exists()

    def test_no_mark_stands_beside_a_manifest_that_says_why(
        self, recorded: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        recorded.pytester.path.joinpath("ready").touch()
        recorded.write_test(CHECKING + PERTURBING)
        self.lose(monkeypatch, "test_checked")
        recorded.run("--esa-ray", "auto").assert_outcomes(passed=1, errors=1)
        assert (recorded.manifest()["state"], self.marks(recorded)) == ("error", set())
