"""How a baseline's scored tokens are divided among its corpora and context lengths."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What one corpus at one context length can give.

    Attributes:
        window_tokens: scored tokens of one window, times the seeds, each of which takes as many.
        num_windows: how many windows a seed may take.
    """

    window_tokens: int
    num_windows: int

    @property
    def capacity(self) -> int:
        """The most tokens it can give."""
        return self.window_tokens * self.num_windows


def windows_a_seed(num_windows: int, *, num_seeds: int) -> int:
    """How many of a corpus' windows one seed may take: all, or half where seeds are to choose differently."""
    return num_windows if num_seeds == 1 else -(-num_windows // 2)


def share_windows(total: int, cells: Sequence[Cell]) -> list[int]:
    """Windows of each cell, so that together they score about `total` tokens.

    Every cell gets an equal share, rounded to whole windows, one at least; what a small cell cannot give, the larger
    ones do. The rounding of long windows is made up for by short ones.

    Args:
        total: tokens to score.
        cells: each holds one window at least.
    """
    counts = [0] * len(cells)
    remaining = total
    order = sorted(range(len(cells)), key=lambda index: (cells[index].capacity, -cells[index].window_tokens))
    for place, index in enumerate(order):
        cell = cells[index]
        fair = remaining / (len(cells) - place)
        counts[index] = min(cell.num_windows, max(1, int(fair / cell.window_tokens + 0.5)))
        remaining -= counts[index] * cell.window_tokens
    return counts
