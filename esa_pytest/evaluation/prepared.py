"""Windows and batches of one baseline, as arrays: what a model is given, in order."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from esa_pytest.records import Batch, IntArray, Window

# Of how many scored tokens, at most, the likeliest tokens are kept.
SAMPLED_TOKENS = 512


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The windows of one corpus at one context length that one seed chose."""

    corpus: str
    context_length: int
    seed: int
    windows: tuple[Window, ...]


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


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything that a baseline scores, in order.

    Attributes:
        segments: in the order in which their windows are scored: context length, corpus, seed.
        rectangles: one a context length.
        batch_tokens: most tokens that go through the model at once.
        strata: names that the batches' strata index.
        corpora_sha256: by corpus name.
        notes: what a reader should know of the texts, a sentence each.
        probe_ids: what the reference probe scores: the beginning of the window that the first seed likes best, which
            does not depend on how many windows a device scores; int64, shape (tokens,).
        probe_window: the index of that window among those that are scored.
        sample_every: of a window's targets, the likeliest tokens of each so many-th are kept.
    """

    segments: tuple[Segment, ...]
    rectangles: tuple[Rectangle, ...]
    batch_tokens: int
    strata: tuple[str, ...]
    corpora_sha256: dict[str, str]
    notes: tuple[str, ...]
    probe_ids: npt.NDArray[np.int64]
    probe_window: int
    sample_every: int

    @property
    def batches(self) -> tuple[Batch, ...]:
        """Every batch, in order."""
        return tuple(batch for rectangle in self.rectangles for batch in rectangle.batches(self.batch_tokens))

    @property
    def batch_shapes(self) -> str:
        """The shapes that go through the model, as `3x1024 1x4096`."""
        shapes = dict.fromkeys(batch.input_ids.shape for batch in self.batches)
        return " ".join(f"{windows}x{context_length}" for windows, context_length in shapes)

    @property
    def context_lengths(self) -> list[int]:
        """The context lengths that are scored, in order."""
        return [rectangle.input_ids.shape[1] for rectangle in self.rectangles]

    @property
    def num_windows(self) -> int:
        """How many windows are scored."""
        return sum(len(rectangle.input_ids) for rectangle in self.rectangles)

    @property
    def num_scored(self) -> int:
        """How many tokens are scored."""
        return sum(rectangle.targets.size for rectangle in self.rectangles)

    def only(self, windows: IntArray) -> "Prepared":
        """Some of the windows, which are then numbered anew, in the same order.

        Args:
            windows: which of them, ascending; the probe's among them.
        """
        chosen = set(windows.tolist())
        segments, rectangles, first = [], [], 0
        for segment in self.segments:
            kept = tuple(w for number, w in enumerate(segment.windows, start=first) if number in chosen)
            segments += [replace(segment, windows=kept)] if kept else []
            first += len(segment.windows)
        first = 0
        for rectangle in self.rectangles:
            rows = [row for row in range(len(rectangle.input_ids)) if first + row in chosen]
            if rows:
                rectangles.append(rectangle.rows(rows))
            first += len(rectangle.input_ids)
        return replace(
            self,
            segments=tuple(segments),
            rectangles=tuple(rectangles),
            probe_window=int(np.searchsorted(windows, self.probe_window)),
        )

    def rebatched(self, batch_tokens: int) -> "Prepared":
        """The same windows in batches of another size."""
        return replace(self, batch_tokens=batch_tokens)

    def halved(self) -> "Prepared | None":
        """The same windows in batches of half the size, None where each holds a single window already."""
        largest = max((batch.input_ids.size for batch in self.batches if len(batch.input_ids) > 1), default=0)
        return self.rebatched(largest // 2) if largest else None

    def in_another_shape(self) -> "Prepared | None":
        """The same windows one at a time, or two where it was one; None where that changes nothing."""
        for batch_tokens in (1, 2 * max(self.context_lengths)):
            other = self.rebatched(batch_tokens)
            if other.batch_shapes != self.batch_shapes:
                return other
        return None

    def seed_of_window(self) -> npt.NDArray[np.int64]:
        """The seed that chose each window, shape (windows,)."""
        return np.concatenate([np.full(len(s.windows), s.seed, dtype=np.int64) for s in self.segments])

    def windows_identity(self) -> dict[str, Any]:
        """What tier 0 compares of the windows: a hash of their positions for every segment."""
        return {
            f"{segment.corpus}/{segment.context_length}/{segment.seed}": _windows_sha256(segment.windows)
            for segment in self.segments
        }

    def probe_sha256(self) -> str:
        """sha256 over the tokens of the reference probe, as little-endian integers."""
        return hashlib.sha256(self.probe_ids.astype("<i8").tobytes()).hexdigest()

    def tokens_sha256(self) -> str:
        """sha256 over every input and target id, in order, as little-endian integers."""
        digest = hashlib.sha256()
        # Window by window: how many of them go through the model at once is environment, not identity.
        for rectangle in self.rectangles:
            for inputs, targets in zip(rectangle.input_ids, rectangle.targets, strict=True):
                digest.update(inputs.astype("<i8").tobytes())
                digest.update(targets.astype("<i4").tobytes())
        return digest.hexdigest()


def sample_every(num_scored: int) -> int:
    """The smallest power of two that leaves at most `SAMPLED_TOKENS` of so many tokens."""
    return 1 << max(0, math.ceil(math.log2(num_scored / SAMPLED_TOKENS)))


def micro_batch_size(*, num_windows: int, context_length: int, batch_tokens: int) -> int:
    """How many windows go through the model at once.

    `batch_tokens` over the context length, and at most half of the windows, so that there is a first micro-batch to
    warm up on and a second one to time.
    """
    return max(1, min(batch_tokens // context_length, -(-num_windows // 2)))


def _windows_sha256(windows: Sequence[Window]) -> str:
    positions = ";".join(f"{w.context_begin},{w.score_begin},{w.score_end}" for w in windows)
    return hashlib.sha256(positions.encode()).hexdigest()
