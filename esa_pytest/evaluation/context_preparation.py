"""What a long-context baseline scores: documents, short windows beside them, and texts with planted facts."""

from collections.abc import Mapping

import numpy as np
from transformers import PreTrainedTokenizerBase

from esa_pytest.baselines.catalog import BaselineType
from esa_pytest.baselines.context_plan import NUM_TEXTS, ContextPlan
from esa_pytest.baselines.long_context import (
    document_tokens,
    documents,
    short_windows,
    windows_of,
)
from esa_pytest.baselines.retrieval import Ids, facts_that_fit, make_facts, plant
from esa_pytest.baselines.shares import Cell, refuse_too_short, share_windows, windows_a_seed
from esa_pytest.baselines.sources import DeviceType
from esa_pytest.baselines.windows import select_windows
from esa_pytest.errors import CorpusError
from esa_pytest.evaluation.context_texts import ContextTexts, question_rectangle
from esa_pytest.evaluation.prepared import Layout, Segment
from esa_pytest.evaluation.quiet import quiet_transformers
from esa_pytest.evaluation.rectangle import Rectangle, cut
from esa_pytest.evaluation.tokenization import TokenStream
from esa_pytest.records import Window


def context_length_of(kind: BaselineType, plan: ContextPlan, *, positions: int | None, device_type: DeviceType) -> int:
    """The context of a long window: the longest that type, device and model have.

    Raises:
        CorpusError: it is no longer than the short one that it is compared with.
    """
    found = min(max(kind.context_lengths), plan.longest[device_type], positions or plan.longest[device_type])
    if found < 4 * plan.short_tokens:
        raise CorpusError(
            f"The context of {found} tokens is less than four times the {plan.short_tokens} that it is compared with "
            f"(the model has {positions} positions); lower short_tokens in the context of the baseline type."
        )
    return found


def document_layout(
    kind: BaselineType,
    plan: ContextPlan,
    streams: Mapping[str, TokenStream],
    tokenizer: PreTrainedTokenizerBase,
    *,
    context_length: int,
    total: int,
) -> Layout:
    """Choose the documents and lay out all that is scored.

    Args:
        kind: the baseline type.
        plan: what it asks of long contexts.
        streams: its corpora by name.
        tokenizer: of the model, for the facts.
        context_length: most tokens in one window.
        total: tokens of documents to score.

    Raises:
        CorpusError: the corpora are too short, or no fact fits into the context.
    """
    chosen = _chosen_documents(kind, plan, streams, context_length=context_length, total=total)
    first_stream, first_seed = streams[kind.corpora[0]], kind.seeds[0]
    # The favourite of the first seed is among its documents, however many a device scores.
    (favourite,) = select_windows(
        _documents(plan, first_stream, context_length=context_length), count=1, seed=first_seed
    )
    probed = windows_of(favourite, context_length=context_length, bos=first_stream.bos_id is not None)[0]
    firsts, slides = (
        [
            Segment(
                corpus=name,
                seed=seed,
                context_length=context_length,
                windows=_windows(found, streams[name], context_length=context_length, slide=slide),
                slide=slide,
            )
            for (name, seed), found in chosen.items()
        ]
        for slide in (False, True)
    )
    return Layout(
        segments=(*firsts, *slides),
        rectangles=tuple(_rectangle(segments, streams) for segments in (firsts, slides)),
        probed=probed,
        context=_texts(plan, first_stream, probed, tokenizer, context_length=context_length, seed=first_seed),
    )


def _chosen_documents(
    kind: BaselineType,
    plan: ContextPlan,
    streams: Mapping[str, TokenStream],
    *,
    context_length: int,
    total: int,
) -> dict[tuple[str, int], list[Window]]:
    """By corpus and seed, in the order of scoring."""
    scored, num_seeds = document_tokens(context_length, slides=plan.slides), len(kind.seeds)
    offered = {name: _documents(plan, stream, context_length=context_length) for name, stream in streams.items()}
    cells = [
        Cell(window_tokens=scored * num_seeds, num_windows=windows_a_seed(len(found), num_seeds=num_seeds))
        for found in offered.values()
    ]
    lengths = {name: len(stream.ids) for name, stream in streams.items()}
    refuse_too_short([(scored, name) for name in offered], cells, lengths=lengths, total=total)
    return {
        (name, seed): select_windows(offered[name], count=count, seed=seed)
        for name, count in zip(offered, share_windows(total, cells), strict=True)
        for seed in kind.seeds
    }


def _documents(plan: ContextPlan, stream: TokenStream, *, context_length: int) -> list[Window]:
    return documents(
        length=len(stream.ids), context_length=context_length, slides=plan.slides, bos=stream.bos_id is not None
    )


def _windows(documents: list[Window], stream: TokenStream, *, context_length: int, slide: bool) -> tuple[Window, ...]:
    """The first window of each document, or those that follow it."""
    each = [windows_of(d, context_length=context_length, bos=stream.bos_id is not None) for d in documents]
    return tuple(window for found in each for window in (found[1:] if slide else found[:1]))


def _rectangle(segments: list[Segment], streams: Mapping[str, TokenStream]) -> Rectangle:
    return cut([(streams[segment.corpus], window) for segment in segments for window in segment.windows])


def _texts(
    plan: ContextPlan,
    stream: TokenStream,
    probed: Window,
    tokenizer: PreTrainedTokenizerBase,
    *,
    context_length: int,
    seed: int,
) -> ContextTexts:
    bos = stream.bos_id is not None
    short = short_windows(probed, context_length=context_length, short_tokens=plan.short_tokens, bos=bos)

    def tokens(text: str) -> Ids:
        with quiet_transformers():
            return np.asarray(tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int64)

    facts = make_facts(NUM_TEXTS * plan.depths * plan.facts_a_depth, seed=seed, tokenize=tokens)
    each = facts_that_fit(facts, num_tokens=context_length, depths=plan.depths)
    if each == 0:
        raise CorpusError(
            f"No fact fits into half of a context of {context_length} tokens at {plan.depths} depths; lower depths in "
            f"the context of the baseline type, or take a model with more positions."
        )
    # One more than the window has: the last of them is only predicted.
    texts = plant(
        facts[: NUM_TEXTS * plan.depths * each],
        stream.ids[probed.context_begin :],
        num_tokens=context_length + 1,
        depths=plan.depths,
        seed=seed,
        bos=stream.bos_id,
    )
    return ContextTexts(
        short=cut([(stream, window) for window in short]),
        questions=question_rectangle(texts),
        fact=texts.fact,
        depth=texts.depth,
        planted=texts.planted,
        depths=plan.depths,
    )
