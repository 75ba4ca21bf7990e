"""Contenders in turn, round after round, so that whatever else the machine does meets them all; medians and ratios."""

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from esa_pytest.report.columns import aligned

Told = TypeVar("Told")


def in_turn(contenders: Mapping[str, Callable[[], Told]], *, rounds: int) -> dict[str, list[Told]]:
    """What each contender tells of itself by round, behind one round that warms up and is not kept.

    Every other round goes backwards: who comes first finds other caches than who comes last.
    """
    told: dict[str, list[Told]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name in list(contenders) if number % 2 == 0 else list(contenders)[::-1]:
            told[name].append(contenders[name]())
        print(f"  round {number} of {rounds}", file=sys.stderr, flush=True)
    return {name: values[1:] for name, values in told.items()}


def interleaved(contenders: Mapping[str, Callable[[], Any]], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender by round, `in_turn`."""
    return in_turn({name: partial(_seconds, contender) for name, contender in contenders.items()}, rounds=rounds)


def _seconds(contender: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    contender()
    return time.perf_counter() - begin


def ratio_rows(seconds: Mapping[str, list[float]], *, against: str) -> list[dict[str, Any]]:
    """By contender how many times faster it is than one of them: of the medians, and the least and most of a round."""
    base = seconds[against]
    return [
        {
            "contender": name,
            "median_seconds": statistics.median(values),
            "speed": statistics.median(base) / statistics.median(values),
            "least": min(b / v for b, v in zip(base, values, strict=True)),
            "most": max(b / v for b, v in zip(base, values, strict=True)),
        }
        for name, values in seconds.items()
    ]


def ratio_lines(rows: list[dict[str, Any]], *, against: str, per: float = 1.0, unit: str = "s") -> list[str]:
    """The rows as a table; seconds are multiplied by `per`."""
    heading = ("contender", unit, f"speed over {against}", "rounds")
    return aligned(
        [
            heading,
            *(
                (
                    row["contender"],
                    f"{row['median_seconds'] * per:.3f}",
                    f"{row['speed']:.3f}",
                    f"{row['least']:.3f} to {row['most']:.3f}",
                )
                for row in rows
            ),
        ],
        right=frozenset({1, 2}),
    )
