"""How a baseline's scored tokens are divided among its corpora and context lengths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from esa_pytest.errors import CorpusError


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


def refuse_too_short(
    keys: Sequence[tuple[int, str]], cells: Sequence[Cell], *, lengths: Mapping[str, int], total: int
) -> None:
    """Every corpus must hold a window of each length, and all of them together what is to be scored.

    Args:
        keys: the length of a window and the corpus of each cell.
        cells: what they can give.
        lengths: tokens of each corpus.
        total: tokens to score.

    Raises:
        CorpusError: they do not.
    """
    for (length, name), cell in zip(keys, cells, strict=True):
        if cell.num_windows == 0:
            raise CorpusError(
                f"The corpus {name!r} is too short: its {lengths[name]} tokens give no window of {length} "
                f"tokens; give a longer text, or lower context_lengths of the baseline type."
            )
    capacity = sum(cell.capacity for cell in cells)
    if capacity + max(cell.window_tokens for cell in cells) / 2 < total:
        each = ", ".join(f"{name!r} of {tokens} tokens" for name, tokens in lengths.items())
        raise CorpusError(
            f"The corpora are too short: {each} give {capacity} tokens to score and the baseline asks for {total}; "
            f"give longer texts, or lower scored_tokens of the baseline type."
        )
