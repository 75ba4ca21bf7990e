"""A night of many model revisions on many GPUs, event by event. Pure: times in, figures out.

Each GPU judges one revision at a time: a process starts, weights come over the network unless the node has them, they
are loaded, evaluated, and what was measured is judged. The network is shared equally among all that fetch, up to what
one node can take. A node is lost at random; the revision it had is tried again, at most so often, on whatever is free.
"""

import heapq
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

MOST_TRIES = 3
PARTS = ("start", "fetch", "load", "evaluate", "judge")


@dataclass(frozen=True, kw_only=True)
class Revision:
    """One model revision to judge: bytes of its weights, and seconds of each part but the fetch."""

    size: float
    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where the night happens.

    Attributes:
        gpus: how many.
        shared_rate: bytes a second that the store of weights gives to all together.
        node_rate: bytes a second that one GPU's node takes at most.
        cache_hits: the share of revisions whose weights a node has already.
        hours_between_losses: of one GPU's node, on average.
        repair_seconds: until it works again.
        prefetch: whether the next revision's weights are fetched while this one is judged.
    """

    gpus: int
    shared_rate: float
    node_rate: float
    cache_hits: float
    hours_between_losses: float
    repair_seconds: float
    prefetch: bool


@dataclass(kw_only=True)
class Night:
    """What came of it: seconds by part over all GPUs, and what became of the revisions."""

    makespan: float = 0.0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys((*PARTS, "lost"), 0.0))
    judged: int = 0
    retried: int = 0
    given_up: int = 0

    def gpu_hours(self, site: Site) -> float:
        """GPUs held from the beginning to the end."""
        return self.makespan * site.gpus / 3600


@dataclass(kw_only=True)
class _Work:
    revision: Revision
    tries: int = 1
    fetched: bool = False


@dataclass(kw_only=True)
class _Gpu:
    number: int
    current: _Work | None = None
    ahead: _Work | None = None
    since: float = 0.0
    # Whether the process of the current revision runs, and whether the node works at all.
    started: bool = False
    down: bool = False
    # Raised by whatever makes the events that are on their way to this GPU void.
    epoch: int = 0


class _Network:
    """Transfers that share a rate equally; `progress` is what each has received since the beginning of the night."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._ends: list[tuple[float, int, int]] = []
        self._gone: set[tuple[int, int]] = set()
        self._progress = self._at = 0.0
        self._running = 0

    def _advance(self, now: float) -> None:
        self._progress += (now - self._at) * self._rate()
        self._at = now

    def _rate(self) -> float:
        return min(self._site.node_rate, self._site.shared_rate / max(1, self._running))

    def begin(self, now: float, size: float, key: tuple[int, int]) -> None:
        self._advance(now)
        heapq.heappush(self._ends, (self._progress + size, *key))
        self._running += 1

    def abandon(self, now: float, key: tuple[int, int]) -> None:
        self._advance(now)
        self._gone.add(key)
        self._running -= 1

    def next_end(self) -> float:
        while self._ends and self._ends[0][1:] in self._gone:
            self._gone.discard(heapq.heappop(self._ends)[1:])
        return self._at + max(0.0, self._ends[0][0] - self._progress) / self._rate() if self._ends else float("inf")

    def finish(self, now: float) -> tuple[int, int]:
        self._advance(now)
        _, number, epoch = heapq.heappop(self._ends)
        self._running -= 1
        return number, epoch


class _Simulation:
    def __init__(self, revisions: Sequence[Revision], site: Site, *, seed: int) -> None:
        self._site = site
        self._draw = random.Random(seed)  # noqa: S311
        self._waiting = deque(_Work(revision=revision) for revision in revisions)
        self._gpus = [_Gpu(number=number) for number in range(site.gpus)]
        self._network = _Network(site)
        self._fetching: dict[tuple[int, int], tuple[_Gpu, _Work]] = {}
        self._events: list[tuple[float, int, str, int, int]] = []
        self._counter = 0
        self._open = len(revisions)
        self.night = Night()

    def run(self) -> Night:
        for gpu in self._gpus:
            self._plan(self._until_loss(), "lost", gpu, epoch=-1)
            self._take(gpu, 0.0)
        while self._open:
            arrival = self._network.next_end()
            if self._events and self._events[0][0] <= arrival:
                now, _, kind, number, epoch = heapq.heappop(self._events)
                self._happen(kind, self._gpus[number], epoch, now)
            else:
                gpu, work = self._fetching.pop(self._network.finish(arrival))
                work.fetched = True
                if gpu.current is work and gpu.started:
                    self.night.seconds["fetch"] += arrival - gpu.since
                    self._compute(gpu, arrival)
        return self.night

    def _happen(self, kind: str, gpu: _Gpu, epoch: int, now: float) -> None:
        if kind == "lost":
            self._lose(gpu, now)
        elif epoch == gpu.epoch and kind == "started":
            self._started(gpu, now)
        elif epoch == gpu.epoch and kind == "done":
            assert gpu.current is not None
            for part in ("load", "evaluate", "judge"):
                self.night.seconds[part] += gpu.current.revision.seconds[part]
            self.night.judged += 1
            self._close(now)
            gpu.current = None
            self._take(gpu, now)
        elif epoch == gpu.epoch and kind == "repaired":
            gpu.down = False
            self._take(gpu, now)

    def _take(self, gpu: _Gpu, now: float) -> None:
        """The next revision for a GPU that is free."""
        gpu.current, gpu.ahead = gpu.ahead or self._next(), None
        if gpu.current is None:
            return
        gpu.since, gpu.started = now, False
        self._plan(now + gpu.current.revision.seconds["start"], "started", gpu)

    def _started(self, gpu: _Gpu, now: float) -> None:
        assert gpu.current is not None
        self.night.seconds["start"] += now - gpu.since
        gpu.since, gpu.started = now, True
        if gpu.current.fetched:
            self._compute(gpu, now)
        elif not any(work is gpu.current for _, work in self._fetching.values()):
            self._fetch(gpu, gpu.current, now)

    def _compute(self, gpu: _Gpu, now: float) -> None:
        assert gpu.current is not None
        gpu.since = now
        seconds = gpu.current.revision.seconds
        self._plan(now + seconds["load"] + seconds["evaluate"] + seconds["judge"], "done", gpu)
        if self._site.prefetch and (ahead := self._next()) is not None:
            gpu.ahead = ahead
            if not ahead.fetched:
                self._fetch(gpu, ahead, now)

    def _fetch(self, gpu: _Gpu, work: _Work, now: float) -> None:
        self._counter += 1
        key = (gpu.number, self._counter)
        self._fetching[key] = (gpu, work)
        self._network.begin(now, work.revision.size, key)

    def _next(self) -> _Work | None:
        if not self._waiting:
            return None
        work = self._waiting.popleft()
        work.fetched = self._draw.random() < self._site.cache_hits
        return work

    def _lose(self, gpu: _Gpu, now: float) -> None:
        for key in [key for key, (owner, _) in self._fetching.items() if owner is gpu]:
            del self._fetching[key]
            self._network.abandon(now, key)
        lost, ahead = gpu.current, gpu.ahead
        gpu.current = gpu.ahead = None
        gpu.down = True
        gpu.epoch += 1
        if ahead is not None:
            # It had not begun: no try of it is lost.
            self._waiting.appendleft(ahead)
        if lost is not None:
            self.night.seconds["lost"] += now - gpu.since
            self._again(lost, now)
        self._plan(now + self._site.repair_seconds, "repaired", gpu)
        self._plan(now + self._site.repair_seconds + self._until_loss(), "lost", gpu, epoch=-1)

    def _again(self, work: _Work, now: float) -> None:
        if work.tries == MOST_TRIES:
            self.night.given_up += 1
            self._close(now)
            return
        work.tries += 1
        self.night.retried += 1
        self._waiting.append(work)
        idle = next((gpu for gpu in self._gpus if gpu.current is None and not gpu.down), None)
        if idle is not None:
            self._take(idle, now)

    def _close(self, now: float) -> None:
        self._open -= 1
        self.night.makespan = now

    def _until_loss(self) -> float:
        return self._draw.expovariate(1.0 / (3600 * self._site.hours_between_losses))

    def _plan(self, at: float, kind: str, gpu: _Gpu, *, epoch: int | None = None) -> None:
        self._counter += 1
        heapq.heappush(self._events, (at, self._counter, kind, gpu.number, gpu.epoch if epoch is None else epoch))


def simulate(revisions: Sequence[Revision], site: Site, *, seed: int) -> Night:
    """Play one night; the same seed gives the same night."""
    return _Simulation(revisions, site, seed=seed).run()
