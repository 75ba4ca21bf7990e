"""Windows of one shape, as a rectangle of tokens cut out of their streams."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from esa_pytest.evaluation.tokenization import TokenStream
from esa_pytest.records import Batch, IntArray, Window


@dataclass(frozen=True, kw_only=True)
class Rectangle:
    """All windows of one context length, which go through the model in batches of one shape.

    Attributes:
        input_ids: int64, shape (windows, context_length).
        targets: int32, shape (windows, scored).
        strata: int32, shape (windows, scored).
    """

    input_ids: npt.NDArray[np.int64]
    targets: IntArray
    strata: IntArray

    def rows(self, rows: Sequence[int]) -> "Rectangle":
        """Some of its windows."""
        return Rectangle(input_ids=self.input_ids[rows], targets=self.targets[rows], strata=self.strata[rows])

    def batches(self, batch_tokens: int) -> Iterator[Batch]:
        """The windows in micro-batches; the last may be smaller."""
        windows, context_length = self.input_ids.shape
        size = micro_batch_size(num_windows=windows, context_length=context_length, batch_tokens=batch_tokens)
        for begin in range(0, windows, size):
            rows = slice(begin, begin + size)
            yield Batch(input_ids=self.input_ids[rows], targets=self.targets[rows], strata=self.strata[rows])


def micro_batch_size(*, num_windows: int, context_length: int, batch_tokens: int) -> int:
    """How many windows go through the model at once.

    `batch_tokens` over the context length, and at most half of the windows, so that there is a first micro-batch to
    warm up on and a second one to time.
    """
    return max(1, min(batch_tokens // context_length, -(-num_windows // 2)))


def cut(chosen: Sequence[tuple[TokenStream, Window]]) -> Rectangle:
    """Windows of one shape, each with the stream that it is cut from."""
    return Rectangle(
        input_ids=np.stack([input_ids_of(stream, window) for stream, window in chosen]),
        targets=np.stack([_scored(stream.ids, window) for stream, window in chosen]).astype(np.int32),
        strata=np.stack([_scored(stream.stratum, window) for stream, window in chosen]).astype(np.int32),
    )


def input_ids_of(stream: TokenStream, window: Window) -> npt.NDArray[np.int64]:
    """What the model sees of a window, int64, shape (context_length,)."""
    ids = stream.ids[window.context_begin : window.score_end - 1]
    return ids if stream.bos_id is None else np.concatenate([np.array([stream.bos_id], dtype=np.int64), ids])


def _scored(values: npt.NDArray[Any], window: Window) -> npt.NDArray[Any]:
    return values[window.score_begin : window.score_end]
