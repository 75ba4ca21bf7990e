"""What will be scored: corpora, windows and batches of one baseline, fixed before the model runs."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from esa_pytest.baselines.catalog import Baseline, BaselineType
from esa_pytest.baselines.corpus import Corpus
from esa_pytest.baselines.degeneracy import DEGENERATE_ABOVE, ngram_length, repeated_ngram_share
from esa_pytest.baselines.shares import Cell, refuse_too_short, share_windows, windows_a_seed
from esa_pytest.baselines.sources import DeviceType
from esa_pytest.baselines.windows import full_windows, select_windows
from esa_pytest.errors import CorpusError, EsaWarning, SettingError
from esa_pytest.evaluation.context_preparation import context_length_of, document_layout
from esa_pytest.evaluation.corpora import load_corpus
from esa_pytest.evaluation.hub import Hub
from esa_pytest.evaluation.loading import LoadedModel, device_type
from esa_pytest.evaluation.prepared import Layout, Prepared, Segment, sample_every
from esa_pytest.evaluation.rectangle import cut, input_ids_of
from esa_pytest.evaluation.tokenization import TokenStream, bos_notes, refuse_mismatch, tokenize
from esa_pytest.records import Window

_DEGENERACY_TOKENS = 200_000
# The last of them is only predicted.
PROBE_TOKENS = 512


@dataclass(frozen=True, kw_only=True)
class ModelLimits:
    """What a model can take; None where its config does not say.

    Attributes:
        positions: most tokens in one window.
        embeddings: how many tokens it knows.
    """

    positions: int | None = None
    embeddings: int | None = None


def limits_of(network: PreTrainedModel) -> ModelLimits:
    """What a loaded model can take."""
    config = network.config.get_text_config()
    return ModelLimits(
        positions=getattr(config, "max_position_embeddings", None),
        embeddings=network.get_input_embeddings().weight.shape[0],
    )


def prepare_for(model: LoadedModel, baseline: Baseline, *, hub: Hub) -> Prepared:
    """What a baseline scores with a loaded model, on that model's device; raises as `prepare` does."""
    return prepare(
        baseline,
        model.tokenizer,
        device_type=device_type(model.device),
        limits=limits_of(model.network),
        hub=hub,
    )


def prepare(
    baseline: Baseline,
    tokenizer: PreTrainedTokenizerBase,
    *,
    device_type: DeviceType,
    limits: ModelLimits,
    hub: Hub,
) -> Prepared:
    """Read, tokenise and window the corpora of a baseline.

    Raises:
        SettingError: the baseline type has no size for this kind of device.
        CorpusUnavailableError: a corpus has to be fetched and cannot be.
        CorpusError: a corpus cannot be read, or the corpora are too short for what the baseline asks for.
        TokenizationError: the tokens are not what the model is meant to see.
        TokenizerMismatchError: the tokenizer, the text and the model do not belong together.
    """
    kind = baseline.type
    _refuse_unsized(baseline, device_type)
    lengths, notes = _reachable(kind, limits, device_type)
    notes += bos_notes(tokenizer, baseline.model)
    corpora = [load_corpus(name, baseline.corpora[name], hub=hub) for name in kind.corpora]
    streams = [tokenize(corpus, tokenizer, bos=baseline.model.bos) for corpus in corpora]
    for corpus, stream in zip(corpora, streams, strict=True):
        refuse_mismatch(corpus, stream, tokenizer, embeddings=limits.embeddings)
        notes += _notes(corpus, stream)
    strata = tuple(dict.fromkeys(name for stream in streams for name in stream.strata))
    by_name = {corpus.name: _relabelled(s, strata) for corpus, s in zip(corpora, streams, strict=True)}
    total = kind.scored_tokens[device_type]
    layout = (
        _window_layout(kind, by_name, lengths, total=total)
        if kind.context is None
        else document_layout(kind, kind.context, by_name, tokenizer, context_length=lengths[0], total=total)
    )
    segments = layout.segments
    return Prepared(
        segments=segments,
        rectangles=layout.rectangles,
        batch_tokens=kind.batch_tokens[device_type],
        strata=strata,
        corpora_sha256={corpus.name: corpus.sha256 for corpus in corpora},
        notes=tuple(notes),
        probe_ids=input_ids_of(by_name[kind.corpora[0]], layout.probed)[: PROBE_TOKENS + 1],
        # The first segment is of the first length, corpus and seed, and a longer choice contains the shorter.
        probe_window=segments[0].windows.index(layout.probed),
        sample_every=sample_every(sum(window.num_scored for segment in segments for window in segment.windows)),
        chunk_tokens=None if kind.context is None else kind.context.chunk_tokens[device_type],
        context=layout.context,
        widened_products=kind.widened_products,
    )


def _refuse_unsized(baseline: Baseline, device_type: DeviceType) -> None:
    kind = baseline.type
    sizes = {"scored_tokens": kind.scored_tokens, "batch_tokens": kind.batch_tokens}
    if kind.context is not None:
        sizes |= {"context.longest": kind.context.longest, "context.chunk_tokens": kind.context.chunk_tokens}
    for name, size in sizes.items():
        if device_type not in size:
            raise SettingError(
                f"The baseline type {baseline.type_name} gives {name} for {' and '.join(size) or 'nothing'} and none "
                f"for {device_type}; add it in [tool.esa.types.{baseline.type_name}]."
            )


def _window_layout(
    kind: BaselineType, streams: dict[str, TokenStream], lengths: Sequence[int], *, total: int
) -> Layout:
    segments = _segments(kind, streams, lengths, total=total)
    return Layout(
        segments=segments,
        rectangles=tuple(
            cut([(streams[s.corpus], window) for s in segments if s.context_length == length for window in s.windows])
            for length in lengths
        ),
        probed=_probed_window(streams[kind.corpora[0]], lengths[0], kind),
    )


def _probed_window(stream: TokenStream, context_length: int, kind: BaselineType) -> Window:
    """The favourite window of the first seed, at the first context length; the probe takes its beginning."""
    (window,) = select_windows(_windows(stream, context_length, kind.stride), count=1, seed=kind.seeds[0])
    return window


def _reachable(kind: BaselineType, limits: ModelLimits, device_type: DeviceType) -> tuple[list[int], list[str]]:
    """The context lengths that the model's positions reach, and a note of those that they do not."""
    most = limits.positions
    if kind.context is not None:
        return [context_length_of(kind, kind.context, positions=most, device_type=device_type)], []
    reached = [length for length in kind.context_lengths if most is None or length <= most]
    left_out = [str(length) for length in kind.context_lengths if length not in reached]
    if not reached:
        raise CorpusError(
            f"The model has {most} positions and the baseline's shortest context length is "
            f"{min(kind.context_lengths)}; give context_lengths that it reaches."
        )
    if not left_out:
        return reached, []
    return reached, [f"The context length {', '.join(left_out)} is left out: the model has {most} positions."]


def _segments(
    kind: BaselineType, streams: dict[str, TokenStream], lengths: Sequence[int], *, total: int
) -> tuple[Segment, ...]:
    """Which windows are scored, in the order of scoring."""
    keys = [(length, name) for length in lengths for name in streams]
    offered = {key: _windows(streams[key[1]], key[0], kind.stride) for key in keys}
    num_seeds = len(kind.seeds)
    cells = [
        Cell(
            window_tokens=(kind.stride or length) * num_seeds,
            num_windows=windows_a_seed(len(offered[length, name]), num_seeds=num_seeds),
        )
        for length, name in keys
    ]
    refuse_too_short(keys, cells, lengths={name: len(stream.ids) for name, stream in streams.items()}, total=total)
    return tuple(
        Segment(
            corpus=name,
            context_length=length,
            seed=seed,
            windows=tuple(select_windows(offered[length, name], count=count, seed=seed)),
        )
        for (length, name), count in zip(keys, share_windows(total, cells), strict=True)
        for seed in kind.seeds
    )


def _windows(stream: TokenStream, context_length: int, stride: int | None) -> list[Window]:
    return full_windows(
        length=len(stream.ids),
        context_length=context_length,
        stride=stride or context_length,
        bos=stream.bos_id is not None,
    )


def _relabelled(stream: TokenStream, strata: tuple[str, ...]) -> TokenStream:
    """The stream with its strata as indices into the names of all corpora."""
    indices = np.array([strata.index(name) for name in stream.strata], dtype=np.int32)
    return replace(stream, stratum=indices[stream.stratum], strata=strata)


def _notes(corpus: Corpus, stream: TokenStream) -> list[str]:
    # Enough to tell a repeated paragraph from a library, and cheap for both.
    length = ngram_length(stream.characters_a_token)
    share = repeated_ngram_share(stream.ids[:_DEGENERACY_TOKENS], length=length)
    if share <= DEGENERATE_ABOVE:
        return []
    note = (
        f"The corpus {corpus.name!r} is degenerate: {share:.1%} of its {length}-grams are repetitions "
        f"(running text: under 2 %), so its loss says little about the model."
    )
    warnings.warn(note, EsaWarning, stacklevel=2)
    return [note]
