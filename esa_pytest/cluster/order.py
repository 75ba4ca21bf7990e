"""The order in which several machines do their work: longest first, so that none is left with it at the end."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

Work = TypeVar("Work")


def longest_first(
    works: Sequence[Work], *, group: Callable[[Work], str], seconds: Callable[[Work], float]
) -> list[Work]:
    """Works with the groups that take longest in front; equal ones, and those of one group, stay in their order.

    Args:
        works: what is to be done.
        group: names what is done together, as the baselines of one model are.
        seconds: how long a work is expected to take; may be infinite.
    """
    groups: dict[str, list[Work]] = {}
    for work in works:
        groups.setdefault(group(work), []).append(work)
    totals = {name: math.fsum(map(seconds, members)) for name, members in groups.items()}
    return [work for name in sorted(groups, key=lambda name: -totals[name]) for work in groups[name]]
