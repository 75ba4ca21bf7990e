"""Documents longer than a context, and the windows that score them.

A document is longer than what the model sees at once: with a context of 8 and one slide it has 12 scored tokens, of
which the first window scores 8 and the next, half a context on, 4 more, each with at least 4 tokens before it:

    first window   t0 t1 t2 t3 t4 t5 t6 t7                  scores 8
    slide                      t4 t5 t6 t7 t8 t9 t10 t11    scores the last 4

No position is beyond those that the model has, and no window sees the keys of another, where they stood elsewhere.
"""

from esa_pytest.baselines.windows import rolling_windows
from esa_pytest.records import Window


def document_tokens(context_length: int, *, slides: int) -> int:
    """How many tokens of a document are scored."""
    return context_length + slides * (context_length // 2)


def documents(*, length: int, context_length: int, slides: int, bos: bool) -> list[Window]:
    """The documents of a sequence of so many tokens, one behind the other, each as what it scores.

    Args:
        length: tokens of the sequence, a BOS not counted.
        context_length: most tokens in one window, a BOS counted.
        slides: how many windows follow the first of a document.
        bos: whether every window begins with a BOS; else the first token of a document is context only.
    """
    scored = document_tokens(context_length, slides=slides)
    size = scored if bos else scored + 1
    return [
        Window(context_begin=begin, score_begin=begin + size - scored, score_end=begin + size)
        for begin in range(0, length - size + 1, size)
    ]


def windows_of(document: Window, *, context_length: int, bos: bool) -> tuple[Window, ...]:
    """The windows of a document, the first of which scores a whole context and the others half of one."""
    begin = document.context_begin
    found = rolling_windows(
        length=document.score_end - begin, context_length=context_length, stride=context_length // 2, bos=bos
    )
    return tuple(
        Window(
            context_begin=begin + window.context_begin,
            score_begin=begin + window.score_begin,
            score_end=begin + window.score_end,
        )
        for window in found
    )


def short_windows(long: Window, *, context_length: int, short_tokens: int, bos: bool) -> tuple[Window, ...]:
    """Windows that score the last quarter of a long one again, in the order of the text.

    Each has twice `short_tokens` of input and scores the last half; the quarter is cut to whole windows, one at least.

    Raises:
        ValueError: the long window is no longer than a short one.
    """
    if context_length < 2 * short_tokens:
        msg = f"a context of {context_length} tokens has no short windows of {2 * short_tokens}"
        raise ValueError(msg)
    number = max(1, context_length // 4 // short_tokens)
    ends = [long.score_end - back * short_tokens for back in range(number - 1, -1, -1)]
    return tuple(
        Window(context_begin=end - 1 - (2 * short_tokens - bos), score_begin=end - short_tokens, score_end=end)
        for end in ends
    )
