"""The driver's loop: start what is due, hear what happens, make each test final once. Knows neither Ray nor pytest."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from esa_pytest.cluster.book import Book, Try
from esa_pytest.cluster.events import Answered, Event, Failed, Lost, Machines
from esa_pytest.cluster.needs import Need
from esa_pytest.report.layout import count

MOST_TRIES = 3
TICK_SECONDS = 0.5
# An autoscaler brings nodes within minutes; a need that nothing meets by then is told.
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Task:
    """One test as the cluster gets it.

    Attributes:
        payload: gives the JSON of its `Job`, as things are when a try begins.
        need: what it takes of its node.
        after: the test that must have ended before it begins; None where it waits for none.
    """

    payload: Callable[[], bytes]
    need: Need
    after: str | None = None


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What a test came to.

    Attributes:
        test: its id.
        payload: the JSON of its `Answer`; None where there is none.
        error: why there is none, as a sentence.
        losses: why earlier tries were lost.
        tries: how many were needed.
    """

    test: str
    payload: bytes | None
    error: str | None
    losses: tuple[str, ...]
    tries: int


class Loop:
    """Runs every task to its one ending."""

    def __init__(
        self,
        tasks: Mapping[str, Task],
        machines: Machines,
        *,
        ended: Callable[[Ending], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tasks = tasks
        self._machines = machines
        self._ended = ended
        self._clock = clock
        after = {test: task.after for test, task in tasks.items() if task.after is not None}
        self._book = Book(tasks, most_tries=MOST_TRIES, after=after)
        self._hopeless_since: dict[Need, float] = {}

    def run(self) -> None:
        """Until every test has ended.

        What has answered before an interrupt is still told; what is running then is cancelled.
        """
        try:
            while self._book.open:
                for attempt in self._book.due():
                    task = self._tasks[attempt.test]
                    self._machines.start(attempt, task.payload(), task.need)
                self._hear_all(self._machines.events(seconds=TICK_SECONDS))
                self._give_up_hopeless()
        finally:
            if self._book.stop():
                self._end_early()

    def _end_early(self) -> None:
        try:
            self._hear_all([event for event in self._machines.events(seconds=0.0) if isinstance(event, Answered)])
        finally:
            self._machines.cancel(self._book.running())

    def _hear_all(self, events: Sequence[Event]) -> None:
        """Tell of each, also where telling of one ends the session: machines tell of an event once."""
        with contextlib.ExitStack() as told:
            for event in reversed(events):
                told.callback(self._hear, event)

    def _hear(self, event: Event) -> None:
        attempt = event.attempt
        match event:
            case Answered():
                if self._book.settle(attempt):
                    self._end(attempt, payload=event.payload)
            case Failed():
                if self._book.settle(attempt):
                    self._end(attempt, error=event.cause)
            case Lost():
                if not self._book.lose(attempt, event.cause):
                    causes = "; ".join(self._book.losses(attempt.test))
                    self._end(
                        attempt,
                        error=f"It was lost in each of {count(attempt.number, 'try', 'tries')} ({causes}); see to the "
                        f"nodes, and take the run up with --esa-resume.",
                    )

    def _end(self, attempt: Try, *, payload: bytes | None = None, error: str | None = None) -> None:
        losses = self._book.losses(attempt.test)
        self._ended(
            Ending(test=attempt.test, payload=payload, error=error, losses=losses, tries=attempt.number),
        )

    def _give_up_hopeless(self) -> None:
        """End the tests whose need no node that is alive can meet, once there was time for nodes to come."""
        running = self._book.running()
        nodes = self._machines.nodes() if running else ()
        needs = {self._tasks[attempt.test].need for attempt in running}
        now = self._clock()
        self._hopeless_since = {
            need: self._hopeless_since.get(need, now) for need in needs if not any(node.fits(need) for node in nodes)
        }
        given_up = {need for need, since in self._hopeless_since.items() if now - since >= PATIENCE_SECONDS}
        hopeless = [attempt for attempt in running if self._tasks[attempt.test].need in given_up]
        if not hopeless:
            return
        self._machines.cancel(hopeless)
        has = ", ".join(f"{node.name} ({node.gpus:g} GPUs, {node.cpus:g} CPUs)" for node in nodes) or "no node at all"
        for attempt in hopeless:
            need = self._tasks[attempt.test].need
            self._hear(Failed(attempt=attempt, cause=f"No node has the {need} that it needs, the cluster has {has}."))
