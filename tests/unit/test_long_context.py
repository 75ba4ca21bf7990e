"""Documents longer than a context, their windows, and the short windows beside them; texts with planted facts."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from esa_pytest.baselines.context_plan import MOST_FACTS, NUM_TEXTS, ContextPlan
from esa_pytest.baselines.long_context import document_tokens, documents, short_windows, windows_of
from esa_pytest.baselines.retrieval import (
    Fact,
    Ids,
    depth_label,
    facts_that_fit,
    make_facts,
    plant,
)
from esa_pytest.records import Window

PLAN: dict[str, Any] = {"longest": {"cpu": 64}, "chunk_tokens": {"cpu": 16}}
contexts = st.integers(2, 32).map(lambda half: 2 * half)


def letters(text: str) -> Ids:
    return np.array([ord(letter) for letter in text], dtype=np.int64)


@given(length=st.integers(0, 400), context=contexts, slides=st.integers(1, 3), bos=st.booleans())
def test_documents_lie_behind_one_another_and_fill_all_but_less_than_one(
    *, length: int, context: int, slides: int, bos: bool
) -> None:
    found = documents(length=length, context_length=context, slides=slides, bos=bos)
    assert all(d.num_scored == document_tokens(context, slides=slides) for d in found)
    assert [d.context_begin for d in found[1:]] == [d.score_end for d in found[:-1]]
    size = document_tokens(context, slides=slides) + (not bos)
    assert len(found) == length // size


@given(begin=st.integers(0, 50), context=contexts, slides=st.integers(1, 3), bos=st.booleans())
def test_the_windows_of_a_document_score_each_of_its_tokens_once(
    *, begin: int, context: int, slides: int, bos: bool
) -> None:
    size = document_tokens(context, slides=slides) + (not bos)
    document = Window(context_begin=begin, score_begin=begin + (not bos), score_end=begin + size)
    first, *others = windows_of(document, context_length=context, bos=bos)
    scored = [t for w in (first, *others) for t in range(w.score_begin, w.score_end)]
    assert scored == list(range(document.score_begin, document.score_end))
    for window in (first, *others):
        assert window.score_end - 1 - window.context_begin + bos == context
        assert window.context_begin >= begin
    assert len(others) == slides
    # Behind the first window every target has at least half a context in front of it.
    assert all(window.score_begin - window.context_begin + bos > context // 2 for window in others)


@given(context=st.integers(4, 40), short=st.integers(2, 10), bos=st.booleans())
def test_short_windows_score_the_end_of_the_long_one_again(*, context: int, short: int, bos: bool) -> None:
    long = Window(context_begin=0, score_begin=not bos, score_end=context + (not bos))
    if context < 2 * short:
        with pytest.raises(ValueError, match="has no short windows"):
            short_windows(long, context_length=context, short_tokens=short, bos=bos)
        return
    found = short_windows(long, context_length=context, short_tokens=short, bos=bos)
    scored = [t for w in found for t in range(w.score_begin, w.score_end)]
    assert scored == list(range(scored[0], long.score_end))
    assert len(scored) == short * max(1, context // 4 // short)
    for window in found:
        assert window.score_end - 1 - window.context_begin + bos == 2 * short
        assert window.context_begin >= 0


@given(
    each=st.integers(1, 4),
    depths=st.integers(1, 3),
    seed=st.integers(0, 9),
    bos=st.none() | st.just(7),
    more=st.integers(0, 300),
)
def test_both_texts_end_alike_and_each_fact_stands_in_one(
    each: int, depths: int, seed: int, bos: int | None, more: int
) -> None:
    facts = make_facts(NUM_TEXTS * each * depths, seed=seed, tokenize=letters)
    size = 3 * sum(fact.sentence.size for fact in facts) + more
    texts = plant(facts, letters("x" * size), num_tokens=size, depths=depths, seed=seed, bos=bos)
    assert texts.ids.shape == (NUM_TEXTS, size)
    body, end = texts.ids[:, : -texts.num_asked], texts.ids[0, -texts.num_asked :]
    assert (texts.ids[:, -texts.num_asked :] == end).all()
    if bos is not None:
        assert (texts.ids[:, 0] == bos).all()
    spoken = ["".join(map(chr, row)) for row in body]
    for index, fact in enumerate(facts):
        sentence = "".join(map(chr, fact.sentence))
        here, elsewhere = texts.planted[index], 1 - texts.planted[index]
        assert (spoken[here].count(sentence), spoken[elsewhere].count(sentence)) == (1, 0)
        assert np.array_equal(end[texts.fact == index], fact.answer)
        # The range of depths is where the fact stands, to the next stretch of running text.
        share = spoken[here].index(sentence) / len(spoken[here])
        assert abs(share - (texts.depth[index] + 0.5) / depths) <= 0.5 / depths + 1 / (each * depths + 1)
    assert np.bincount(texts.depth).tolist() == [NUM_TEXTS * each] * depths


def test_facts_are_about_different_things_and_have_different_codes() -> None:
    facts = make_facts(MOST_FACTS, seed=1337, tokenize=letters)
    assert len({fact.subject.tobytes() for fact in facts}) == MOST_FACTS == len({f.answer.tobytes() for f in facts})
    assert "".join(map(chr, facts[0].sentence)) == " The code of the grey bell is 33676."
    others = make_facts(MOST_FACTS, seed=1338, tokenize=letters)
    assert [f.subject.tobytes() for f in facts] != [f.subject.tobytes() for f in others]


@pytest.mark.parametrize(("num_tokens", "expected"), [(10_000, 3), (900, 2), (300, 0)])
def test_facts_and_questions_take_half_of_a_window_at_most(num_tokens: int, expected: int) -> None:
    fact = Fact(subject=letters("s" * 20), answer=letters("a" * 5), stop=letters("."))
    assert facts_that_fit([fact] * 12, num_tokens=num_tokens, depths=2) == expected


def test_depths_are_told_in_percent() -> None:
    assert [depth_label(depth, depths=3) for depth in range(3)] == ["0-33%", "33-67%", "67-100%"]


def test_more_facts_than_there_are_things_are_refused() -> None:
    assert ContextPlan(**PLAN, depths=9, facts_a_depth=8).facts_a_depth == 8
    with pytest.raises(ValidationError, match="2 texts x 10 depths x 8 facts are more than 144"):
        ContextPlan(**PLAN, depths=10, facts_a_depth=8)
