"""Which moves bring the golden's numbers back: a search over sets of packages that knows neither pip nor models."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from enum import IntEnum

Moved = frozenset[str]


class Standing(IntEnum):
    """What an environment gave beside the golden, from the worst on."""

    UNOBTAINABLE = 0
    BROKEN = 1
    AWAY = 2
    MEANING = 3
    BITS = 4


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a search found.

    Attributes:
        causes: the sets of packages each of which brings the numbers back; none where none was found.
        standing: what they bring back.
    """

    causes: tuple[Moved, ...]
    standing: Standing


# Yields the sets whose standing it wants to know, is sent each, and returns what it found.
Search = Generator[Moved, Standing, Finding]
_Asking = Generator[Moved, Standing, Standing]


def search(ranked: Sequence[str], *, start: Standing) -> Search:
    """Move each package alone; if none suffices, one after the other together, and then drop what was not needed.

    Args:
        ranked: the packages, the likeliest cause first.
        start: the standing with nothing moved. More than that is what is looked for: the meaning, if it was lost, and
            the bits in either case.
    """
    known: dict[Moved, Standing] = {}
    for name in ranked:
        yield from _ask(frozenset({name}), known)
    alone = {name: known[frozenset({name})] for name in ranked}
    best = max(alone.values(), default=start)
    if best > start:
        return Finding(causes=tuple(frozenset({name}) for name in ranked if alone[name] is best), standing=best)
    there = [name for name in ranked if alone[name] is not Standing.UNOBTAINABLE]
    found = yield from _grow(there, known, start=start)
    if found is None:
        return Finding(causes=(), standing=start)
    smallest = yield from _shrink(found, there, known)
    return Finding(causes=(smallest,), standing=known[smallest])


def _ask(moved: Moved, known: dict[Moved, Standing]) -> _Asking:
    if moved not in known:
        known[moved] = yield moved
    return known[moved]


def _grow(
    ranked: Sequence[str], known: dict[Moved, Standing], *, start: Standing
) -> Generator[Moved, Standing, Moved | None]:
    """The first set that brings anything back as one package after the other is added, or None."""
    kept: Moved = frozenset()
    for name in ranked:
        more = kept | {name}
        standing = yield from _ask(more, known)
        if standing > start:
            return more
        # What is broken alone as well would hide what the others do; with all of them it may yet run.
        if standing > Standing.BROKEN or known[frozenset({name})] > Standing.BROKEN:
            kept = more
    everything = frozenset(ranked)
    if len(everything) < 2 or (yield from _ask(everything, known)) <= start:
        return None
    return everything


def _shrink(found: Moved, ranked: Sequence[str], known: dict[Moved, Standing]) -> Generator[Moved, Standing, Moved]:
    """Drop packages, the unlikeliest first, until none can be missed."""
    wanted, smallest = known[found], found
    while True:
        for name in reversed(ranked):
            if name not in smallest:
                continue
            fewer = smallest - {name}
            if fewer and (yield from _ask(fewer, known)) >= wanted:
                smallest = fewer
                break
        else:
            return smallest
