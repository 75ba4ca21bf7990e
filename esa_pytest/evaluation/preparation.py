"""What will be scored: corpora, windows and batches of one baseline, fixed before the model runs."""

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from esa_pytest.baselines.catalog import Baseline, BaselineType, DeviceType
from esa_pytest.baselines.corpus import Corpus, read_corpus
from esa_pytest.baselines.degeneracy import DEGENERATE_ABOVE, NGRAM_LENGTH, repeated_ngram_share
from esa_pytest.baselines.windows import full_windows, select_windows
from esa_pytest.errors import CorpusError, EsaWarning
from esa_pytest.evaluation.tokenization import TokenStream, tokenize
from esa_pytest.records import Batch, Window


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One corpus at one context length under one seed."""

    corpus: str
    context_length: int
    seed: int
    windows: tuple[Window, ...]
    batches: tuple[Batch, ...]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything that a baseline scores, in order.

    Attributes:
        segments: in the order corpus, context length, seed.
        strata: names that the batches' strata index.
        corpora_sha256: by corpus name.
        notes: what a reader should know of the texts, a sentence each.
    """

    segments: tuple[Segment, ...]
    strata: tuple[str, ...]
    corpora_sha256: dict[str, str]
    notes: tuple[str, ...]

    @property
    def batches(self) -> tuple[Batch, ...]:
        """Every batch of every segment, in order."""
        return tuple(batch for segment in self.segments for batch in segment.batches)

    def windows_identity(self) -> dict[str, Any]:
        """What tier 0 compares of the windows: a hash of their positions for every segment."""
        return {
            f"{segment.corpus}/{segment.context_length}/{segment.seed}": _windows_sha256(segment.windows)
            for segment in self.segments
        }

    def tokens_sha256(self) -> str:
        """sha256 over every input and target id, in order, as little-endian integers."""
        digest = hashlib.sha256()
        # Window by window: how many of them go through the model at once is environment, not identity.
        for batch in self.batches:
            for inputs, targets in zip(batch.input_ids, batch.targets, strict=True):
                digest.update(inputs.astype("<i8").tobytes())
                digest.update(targets.astype("<i4").tobytes())
        return digest.hexdigest()


def prepare(baseline: Baseline, tokenizer: PreTrainedTokenizerBase, *, device_type: DeviceType) -> Prepared:
    """Read, tokenise and window the corpora of a baseline.

    Raises:
        CorpusError: a corpus cannot be read, or is too short for the windows that the baseline asks for.
        TokenizationError: the tokens are not what the model is meant to see.
    """
    corpora = [read_corpus(name, baseline.corpora[name]) for name in baseline.type.corpora]
    streams = [tokenize(corpus, tokenizer, bos=baseline.model.bos) for corpus in corpora]
    strata = tuple(dict.fromkeys(name for stream in streams for name in stream.strata))
    segments = [
        segment
        for corpus, stream in zip(corpora, streams, strict=True)
        for segment in _segments(corpus, _relabelled(stream, strata), baseline.type, device_type=device_type)
    ]
    return Prepared(
        segments=tuple(segments),
        strata=strata,
        corpora_sha256={corpus.name: corpus.sha256 for corpus in corpora},
        notes=tuple(note for corpus, stream in zip(corpora, streams, strict=True) for note in _notes(corpus, stream)),
    )


def _segments(corpus: Corpus, stream: TokenStream, kind: BaselineType, *, device_type: DeviceType) -> Iterator[Segment]:
    for context_length in kind.context_lengths:
        stride = kind.stride or context_length
        bos = stream.bos_id is not None
        windows = full_windows(length=len(stream.ids), context_length=context_length, stride=stride, bos=bos)
        count = -(-kind.scored_tokens[device_type] // stride)
        if len(windows) < count:
            raise CorpusError(
                f"The corpus {corpus.name!r} is too short: its {len(stream.ids)} tokens give {len(windows)} windows of "
                f"{context_length} tokens and the baseline scores {count}; give a longer text, or lower scored_tokens "
                f"or context_lengths of the baseline type."
            )
        for seed in kind.seeds:
            chosen = tuple(select_windows(windows, count=count, seed=seed))
            size = micro_batch_size(
                num_windows=count, context_length=context_length, batch_tokens=kind.batch_tokens[device_type]
            )
            yield Segment(
                corpus=corpus.name,
                context_length=context_length,
                seed=seed,
                windows=chosen,
                batches=tuple(make_batches(stream, chosen, size=size)),
            )


def micro_batch_size(*, num_windows: int, context_length: int, batch_tokens: int) -> int:
    """How many windows go through the model at once.

    `batch_tokens` over the context length, and at most half of the windows, so that there is a first micro-batch to
    warm up on and a second one to time.
    """
    return max(1, min(batch_tokens // context_length, -(-num_windows // 2)))


def make_batches(stream: TokenStream, windows: Sequence[Window], *, size: int) -> Iterator[Batch]:
    """Windows of one shape as batches of `size`; the last may be smaller."""
    for begin in range(0, len(windows), size):
        group = windows[begin : begin + size]
        yield Batch(
            input_ids=np.stack([_input_ids(stream, window) for window in group]),
            targets=np.stack([_scored(stream.ids, window) for window in group]).astype(np.int32),
            strata=np.stack([_scored(stream.stratum, window) for window in group]).astype(np.int32),
        )


def _input_ids(stream: TokenStream, window: Window) -> npt.NDArray[np.int64]:
    ids = stream.ids[window.context_begin : window.score_end - 1]
    return ids if stream.bos_id is None else np.concatenate([np.array([stream.bos_id], dtype=np.int64), ids])


def _scored(values: npt.NDArray[Any], window: Window) -> npt.NDArray[Any]:
    return values[window.score_begin : window.score_end]


def _relabelled(stream: TokenStream, strata: tuple[str, ...]) -> TokenStream:
    """The stream with its strata as indices into the names of all corpora."""
    indices = np.array([strata.index(name) for name in stream.strata], dtype=np.int32)
    return TokenStream(ids=stream.ids, stratum=indices[stream.stratum], strata=strata, bos_id=stream.bos_id)


def _notes(corpus: Corpus, stream: TokenStream) -> Iterator[str]:
    share = repeated_ngram_share(stream.ids)
    if share > DEGENERATE_ABOVE:
        note = (
            f"The corpus {corpus.name!r} is degenerate: {share:.1%} of its {NGRAM_LENGTH}-grams are repetitions "
            f"(running text: under 2 %), so its loss says little about the model."
        )
        warnings.warn(note, EsaWarning, stacklevel=2)
        yield note


def _windows_sha256(windows: Sequence[Window]) -> str:
    positions = ";".join(f"{w.context_begin},{w.score_begin},{w.score_end}" for w in windows)
    return hashlib.sha256(positions.encode()).hexdigest()
