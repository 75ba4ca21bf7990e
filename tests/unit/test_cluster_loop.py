"""The driver's loop over machines that are played: no Ray, no pytest."""

from collections.abc import Callable, Sequence

import pytest

from esa_pytest.cluster.book import Try
from esa_pytest.cluster.events import Answered, Event, Failed, Lost
from esa_pytest.cluster.loop import PATIENCE_SECONDS, Ending, Loop, Task
from esa_pytest.cluster.needs import Need, Node

CPU, GPU = Need(cpus=1), Need(cpus=1, gpus=2)
SMALL = Node(name="small", cpus=1, gpus=1)


class Played:
    """Machines that answer with what they were told to; each test's first events first."""

    def __init__(self, *, nodes: Sequence[Node] = (SMALL,), **scripts: str) -> None:
        self._nodes = nodes
        self._scripts = {test: list(script) for test, script in scripts.items()}
        self.started: list[Try] = []
        self.running: list[Try] = []
        self.cancelled: list[Try] = []

    def nodes(self) -> Sequence[Node]:
        return self._nodes

    def start(self, attempt: Try, payload: bytes, need: Need) -> None:
        self.started.append(attempt)
        self.running.append(attempt)

    def events(self, *, seconds: float) -> Sequence[Event]:
        happened = [event for attempt in self.running if (event := self._next(attempt, final=seconds == 0.0))]
        self.running = [each for each in self.running if each not in [event.attempt for event in happened]]
        return happened

    def cancel(self, attempts: Sequence[Try]) -> None:
        self.cancelled += attempts

    def _next(self, attempt: Try, *, final: bool) -> Event | None:
        kind = self._scripts[attempt.test].pop(0) if self._scripts[attempt.test] else "."
        if kind == "i" and not final:
            raise KeyboardInterrupt
        if kind == "a":
            return Answered(attempt=attempt, payload=attempt.test.encode())
        if kind == "l":
            return Lost(attempt=attempt, cause="its node was lost")
        return Failed(attempt=attempt, cause="It ran out of memory.") if kind == "m" else None


def run(machines: Played, *tests: str, need: Need = CPU, seconds: float = 1.0) -> list[Ending]:
    endings: list[Ending] = []
    times = iter(range(10_000))
    tasks = {test: Task(payload=bytes, need=need) for test in tests}
    Loop(tasks, machines, ended=endings.append, clock=lambda: seconds * next(times)).run()
    return endings


def test_each_test_has_one_ending_and_a_loss_is_told() -> None:
    first, second = sorted(run(Played(a="a", b="la"), "a", "b"), key=lambda ending: ending.test)
    assert (first.payload, first.tries, first.losses) == (b"a", 1, ())
    assert (second.payload, second.tries, second.losses) == (b"b", 2, ("its node was lost",))


def test_what_is_lost_again_and_again_ends_with_a_sentence() -> None:
    (ending,) = run(Played(a="lll"), "a")
    assert ending.error == (
        "It was lost in each of 3 tries (its node was lost; its node was lost; its node was lost); see to the nodes, "
        "and take the run up with --esa-resume."
    )


def test_out_of_memory_is_not_tried_again() -> None:
    machines = Played(a="m")
    (ending,) = run(machines, "a")
    assert (ending.error, len(machines.started)) == ("It ran out of memory.", 1)


def test_an_interrupt_keeps_what_has_answered_and_cancels_the_rest() -> None:
    machines = Played(b="i", a="a")
    endings: list[Ending] = []
    loop = Loop({test: Task(payload=bytes, need=CPU) for test in "ba"}, machines, ended=endings.append)
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    assert [ending.payload for ending in endings] == [b"a"]
    assert [attempt.test for attempt in machines.cancelled] == ["b"]


class Enough(Exception):  # noqa: N818  (what pytest raises has no such name either)
    pass


def test_a_session_that_ends_early_is_told_all_that_came_home_and_cancels_the_rest() -> None:
    # A, b and c come home together, d while the first ones are told, and e is still running.
    machines = Played(a="a", b="m", c="a", d=".a", e="..")
    told: list[str] = []

    def ended(ending: Ending) -> None:
        told.append(ending.test)
        raise Enough

    loop = Loop({test: Task(payload=bytes, need=CPU) for test in "abcde"}, machines, ended=ended)
    with pytest.raises(Enough):
        loop.run()
    assert told == ["a", "b", "c", "d"]
    assert [attempt.test for attempt in machines.cancelled] == ["e"]


def test_a_need_that_no_node_meets_is_told_after_a_while_and_waits_for_nobody() -> None:
    machines = Played(a="")
    (ending,) = run(machines, "a", need=GPU, seconds=PATIENCE_SECONDS / 4)
    assert ending.error == "No node has the 2 GPUs and 1 CPU that it needs, the cluster has small (1 GPUs, 1 CPUs)."
    assert [attempt.test for attempt in machines.cancelled] == ["a"]


def test_a_need_that_is_hopeless_gives_no_other_one_up_that_its_node_left_for_a_moment() -> None:
    now = 0.0

    class Leaving(Played):
        def nodes(self) -> Sequence[Node]:
            return () if abs(now - PATIENCE_SECONDS) < 2 else (SMALL,)

        def events(self, *, seconds: float) -> Sequence[Event]:
            nonlocal now
            now += 1.0
            return super().events(seconds=seconds)

    machines = Leaving(a="", b="." * 2 * int(PATIENCE_SECONDS) + "a")
    endings: list[Ending] = []
    tasks = {"a": Task(payload=bytes, need=GPU), "b": Task(payload=bytes, need=CPU)}
    Loop(tasks, machines, ended=endings.append, clock=lambda: now).run()
    assert [(ending.test, ending.payload) for ending in endings] == [("a", None), ("b", b"b")]


def test_a_test_that_waits_for_another_is_given_what_is_there_when_it_begins() -> None:
    machines = Played(a="la", b="a")
    written: list[str] = []
    given: dict[str, list[str]] = {"a": [], "b": []}

    def payload(test: str) -> Callable[[], bytes]:
        def made() -> bytes:
            given[test] = list(written)
            return b""

        return made

    tasks = {
        "a": Task(payload=payload("a"), need=CPU),
        "b": Task(payload=payload("b"), need=CPU, after="a"),
    }
    Loop(tasks, machines, ended=lambda ending: written.append(ending.test)).run()
    assert [(attempt.test, attempt.number) for attempt in machines.started] == [("a", 1), ("a", 2), ("b", 1)]
    assert (given, written) == ({"a": [], "b": ["a"]}, ["a", "b"])


def test_a_cluster_without_nodes_is_told() -> None:
    (ending,) = run(Played(nodes=(), a=""), "a", seconds=PATIENCE_SECONDS)
    assert ending.error == "No node has the 1 CPU that it needs, the cluster has no node at all."
