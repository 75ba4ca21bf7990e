"""The bookkeeping of a cluster run: which test is on which try, and that each gets exactly one final report. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto


@dataclass(frozen=True, kw_only=True)
class Try:
    """One attempt at one test; numbers begin at 1."""

    test: str
    number: int


class State(Enum):
    """Where a test stands."""

    WAITING = auto()
    RUNNING = auto()
    FINAL = auto()


class Book:
    """Every test of a run, the try it is on, and what was lost on the way.

    Whatever order answers and losses come in, late and doubled ones included, a test is made final once; a try that was
    given up can no longer answer.
    """

    def __init__(self, tests: Iterable[str], *, most_tries: int, after: Mapping[str, str] | None = None) -> None:
        """Begin with every test waiting.

        Args:
            tests: of the run.
            most_tries: of each.
            after: for a test that is to wait for another one, which that is; without circles.
        """
        self._state = dict.fromkeys(tests, State.WAITING)
        self._after = dict(after or {})
        self._tries: Counter[str] = Counter()
        self._losses: dict[str, list[str]] = {test: [] for test in self._state}
        self._most_tries = most_tries
        self._stopped = False

    @property
    def open(self) -> bool:
        """Whether any test is still to be made final."""
        return not self._stopped and any(state is not State.FINAL for state in self._state.values())

    def due(self) -> list[Try]:
        """The tries to start now; they count as running from here on."""
        if self._stopped:
            return []
        waiting = [test for test, state in self._state.items() if state is State.WAITING and not self._is_held(test)]
        for test in waiting:
            self._state[test] = State.RUNNING
            self._tries[test] += 1
        return [Try(test=test, number=self._tries[test]) for test in waiting]

    def running(self) -> list[Try]:
        """The tries that have not answered."""
        return [self._current(test) for test, state in self._state.items() if state is State.RUNNING]

    def settle(self, done: Try) -> bool:
        """Make a test final by what this try came to; False where the try no longer counts."""
        if not self._counts(done):
            return False
        self._state[done.test] = State.FINAL
        return True

    def lose(self, lost: Try, cause: str) -> bool:
        """Note that a try was lost with its machine; True where its test is due again, False where that was the last.

        A try that no longer counts is nothing to retry, and its test needs no report: also True.
        """
        if not self._counts(lost):
            return True
        self._losses[lost.test].append(cause)
        if lost.number < self._most_tries:
            self._state[lost.test] = State.WAITING
            return True
        self._state[lost.test] = State.FINAL
        return False

    def losses(self, test: str) -> tuple[str, ...]:
        """Why the earlier tries of a test were lost, the first one first."""
        return tuple(self._losses[test])

    def stop(self) -> list[Try]:
        """Start nothing more; the tries that are running, to be cancelled. An answer that is there still counts."""
        self._stopped = True
        return self.running()

    def _is_held(self, test: str) -> bool:
        return test in self._after and self._state[self._after[test]] is not State.FINAL

    def _current(self, test: str) -> Try:
        return Try(test=test, number=self._tries[test])

    def _counts(self, given: Try) -> bool:
        return self._state.get(given.test) is State.RUNNING and given == self._current(given.test)
