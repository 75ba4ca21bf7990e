"""Windows over a token sequence, as a pure generator over integers.

With tokens t0 t1 ... and context length 4, stride 4, no BOS (t0 is context only and is never scored):

    window 0   input  t0 t1 t2 t3
               target    t1 t2 t3 t4
    window 1   input              t4 t5 t6 t7
               target                t5 t6 t7 t8

With a BOS in front of every window each token is scored, t0 too:

    window 0   input  BOS t0 t1 t2
               target t0  t1 t2 t3

With stride 2 a window scores two new tokens and keeps as much context before them as fits:

    window 1   input        t2 t3 t4 t5
               target             t5 t6

Invariants, held by property tests: each scorable token is scored exactly once, in order, and no window's input
is longer than the context length.
"""

import hashlib
from collections.abc import Iterator, Sequence

from esa_pytest.records import Window


def rolling_windows(*, length: int, context_length: int, stride: int, bos: bool) -> Iterator[Window]:
    """The windows of a sequence of `length` tokens.

    Args:
        length: how many tokens the sequence has, a BOS not counted.
        context_length: most tokens the model sees in one window, a BOS counted.
        stride: most new tokens a window after the first scores; at most `context_length`.
        bos: whether every window's input begins with a BOS.

    Yields:
        Windows in order. The first scores `context_length` tokens; the last may score fewer than `stride`.

    Raises:
        ValueError: the context length or the stride is out of range.
    """
    if context_length < 1 + bos or not 1 <= stride <= context_length:
        msg = f"context length {context_length} and stride {stride} (BOS: {bos}) make no windows"
        raise ValueError(msg)
    scored_to = 0 if bos else 1
    first = True
    while scored_to < length:
        score_end = min(scored_to + (context_length if first else stride), length)
        # Inputs are t[context_begin : score_end - 1] and a BOS where there is one: context_length at the most.
        context_begin = max(0, score_end - 1 - (context_length - bos))
        yield Window(context_begin=context_begin, score_begin=scored_to, score_end=score_end)
        scored_to = score_end
        first = False


def full_windows(*, length: int, context_length: int, stride: int, bos: bool) -> list[Window]:
    """Those windows whose input fills the context and which score as many tokens as the others of their kind.

    Only these are scored: a batch then has one shape, and nothing is ever padded. With a stride shorter than the
    context the first window, which scores more, is left out.
    """
    windows = rolling_windows(length=length, context_length=context_length, stride=stride, bos=bos)
    return [
        window
        for window in windows
        if window.num_scored == stride and window.score_end - 1 - window.context_begin + bos == context_length
    ]


def select_windows(windows: Sequence[Window], *, count: int, seed: int) -> list[Window]:
    """The `count` windows that a seed chooses, in the order of the text.

    A forward pass has no randomness; this is all that the seed does. Windows are ranked by a hash of seed and
    index, so that the choice depends on no library's random stream, and a longer choice contains the shorter.
    """
    ranked = sorted(
        range(len(windows)),
        key=lambda index: hashlib.sha256(f"{seed}:{index}".encode()).digest(),
    )
    return [windows[index] for index in sorted(ranked[:count])]
