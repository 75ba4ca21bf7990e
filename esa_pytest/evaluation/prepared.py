"""Windows and batches of one baseline, as arrays: what a model is given, in order."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from esa_pytest.evaluation.context_texts import ContextTexts
from esa_pytest.evaluation.rectangle import Rectangle
from esa_pytest.records import Batch, IntArray, Window

# Of how many scored tokens, at most, the likeliest tokens are kept.
SAMPLED_TOKENS = 512


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The windows of one corpus at one context length that one seed chose.

    `slide` tells the windows that follow the first ones of documents, from these.
    """

    corpus: str
    context_length: int
    seed: int
    windows: tuple[Window, ...]
    slide: bool = False

    @property
    def name(self) -> str:
        """As `embedded/1024/1337`, with `/slide` behind that of windows half a context on."""
        return f"{self.corpus}/{self.context_length}/{self.seed}{'/slide' if self.slide else ''}"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the windows of a baseline lie in its texts.

    Attributes:
        segments: as `Prepared` has them.
        rectangles: as `Prepared` has them.
        probed: the window of the first segment whose beginning the reference probe scores.
        context: as `Prepared` has it.
    """

    segments: tuple[Segment, ...]
    rectangles: tuple[Rectangle, ...]
    probed: Window
    context: ContextTexts | None = None


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything that a baseline scores, in order.

    Attributes:
        segments: in the order in which their windows are scored: context length, corpus, seed.
        rectangles: one a context length; of long contexts one more, of the windows that follow the first ones.
        batch_tokens: most tokens that go through the model at once.
        strata: names that the batches' strata index.
        corpora_sha256: by corpus name.
        notes: what a reader should know of the texts, a sentence each.
        probe_ids: what the reference probe scores: the beginning of the window that the first seed likes best, which
            does not depend on how many windows a device scores; int64, shape (tokens,).
        probe_window: the index of that window among those that are scored.
        sample_every: of a window's targets, the likeliest tokens of each so many-th are kept.
        chunk_tokens: most tokens of a window that go through the model at once; None for all.
        context: what is scored beside, of long contexts; None where the baseline asks for none.
        widened_products: whether a CPU without bf16 arithmetic multiplies in float32.
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
    chunk_tokens: int | None = None
    context: ContextTexts | None = None
    widened_products: bool = False

    @property
    def batches(self) -> tuple[Batch, ...]:
        """Every batch, in order."""
        return tuple(batch for rectangle in self.rectangles for batch in rectangle.batches(self.batch_tokens))

    @property
    def context_batches(self) -> tuple[Batch, ...]:
        """Every batch that is scored beside, in order."""
        return () if self.context is None else self.context.batches(self.batch_tokens)

    @property
    def batch_shapes(self) -> str:
        """The shapes that go through the model, as `3x1024 1x4096`."""
        shapes = dict.fromkeys(batch.input_ids.shape for batch in (*self.batches, *self.context_batches))
        return " ".join(f"{windows}x{context_length}" for windows, context_length in shapes)

    @property
    def context_lengths(self) -> list[int]:
        """The context lengths that are scored, in order."""
        return list(dict.fromkeys(rectangle.input_ids.shape[1] for rectangle in self.rectangles))

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

    def rechunked(self, chunk_tokens: int) -> "Prepared":
        """The same windows in chunks of another size."""
        return replace(self, chunk_tokens=chunk_tokens)

    def rebatched(self, batch_tokens: int) -> "Prepared":
        """The same windows in batches of another size."""
        return replace(self, batch_tokens=batch_tokens)

    def halved(self) -> "Prepared | None":
        """The same windows in batches of half the size, None where each holds a single window already."""
        every = (*self.batches, *self.context_batches)
        largest = max((batch.input_ids.size for batch in every if len(batch.input_ids) > 1), default=0)
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
        return {segment.name: _windows_sha256(segment.windows) for segment in self.segments}

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


def _windows_sha256(windows: Sequence[Window]) -> str:
    positions = ";".join(f"{w.context_begin},{w.score_begin},{w.score_end}" for w in windows)
    return hashlib.sha256(positions.encode()).hexdigest()
