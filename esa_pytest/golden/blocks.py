"""Sums over blocks of consecutive tokens, which a golden keeps of a run that is too long for single tokens."""

import hashlib
import math

import numpy as np
import numpy.typing as npt

from esa_pytest.records import BlockScores, TokenScores

MOST_TOKENS = 32_768
BLOCK_TOKENS = 64


def kept(scores: TokenScores | BlockScores) -> TokenScores | BlockScores:
    """What a golden keeps of a run: every token up to `MOST_TOKENS`, blocks beyond."""
    if isinstance(scores, BlockScores) or scores.nll.size <= MOST_TOKENS:
        return scores
    return block_sums(scores)


def as_blocks(scores: TokenScores | BlockScores) -> BlockScores:
    """The blocks of a run, whatever was kept of it."""
    return block_sums(scores) if isinstance(scores, TokenScores) else scores


def block_sums(scores: TokenScores) -> BlockScores:
    """The blocks of a run: `BLOCK_TOKENS` tokens of one window each, fewer at its end.

    The sums are exact (`math.fsum`), and the hash tells any changed bit of a block.
    """
    starts = block_starts(scores.window)
    ends = np.append(starts[1:], scores.nll.size)
    correct = (scores.argmax == scores.target).astype(np.int32)
    pairs = list(zip(starts.tolist(), ends.tolist(), strict=True))
    return BlockScores(
        nll_sum=np.array([math.fsum(scores.nll[begin:end].tolist()) for begin, end in pairs], dtype=np.float64),
        num_correct=np.add.reduceat(correct, starts).astype(np.int32),
        num_tokens=(ends - starts).astype(np.int32),
        window=scores.window[starts].astype(np.int32),
        position=scores.position[starts].astype(np.int32),
        bits=np.array([_bits(scores, begin, end) for begin, end in pairs], dtype=np.uint64),
    )


def block_starts(window: npt.NDArray[np.int32], *, size: int = BLOCK_TOKENS) -> npt.NDArray[np.int64]:
    """Where blocks begin: at every window's first token, and each `size` behind it, shape (blocks,).

    Args:
        window: the window of each token, equal ones together, shape (tokens,).
        size: tokens of a block.
    """
    first = np.flatnonzero(np.diff(window, prepend=window[0] - 1))
    ends = np.append(first[1:], window.size)
    return np.concatenate([np.arange(begin, end, size) for begin, end in zip(first, ends, strict=True)])


def _bits(scores: TokenScores, begin: int, end: int) -> int:
    content = scores.nll[begin:end].tobytes() + scores.argmax[begin:end].tobytes()
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "little")
