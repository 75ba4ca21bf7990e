"""The lower bound of a KL divergence from nothing but the likeliest tokens."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.evaluation.divergence import kl_lower_bound
from esa_pytest.records import TopProbabilities

Values = npt.NDArray[np.float64]

seeds = st.integers(0, 2**32 - 1)
VOCABULARY, SAMPLE, LIKELIEST = 60, 7, 10


def log_softmax(logits: Values) -> Values:
    return np.asarray(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))


def top_of(logp: Values, *, likeliest: int = LIKELIEST) -> TopProbabilities:
    ids = np.argsort(-logp, axis=1, kind="stable")[:, :likeliest]
    return TopProbabilities(
        token=np.arange(len(logp), dtype=np.int32) * 3,
        ids=ids.astype(np.int32),
        log_probability=np.take_along_axis(logp, ids, axis=1).astype(np.float32),
    )


def full_kl(logp: Values, logq: Values) -> Values:
    return np.asarray((np.exp(logp) * (logp - logq)).sum(axis=1))


def bound_of(golden: TopProbabilities, measured: TopProbabilities) -> Values:
    found = kl_lower_bound(golden, measured)
    assert found is not None
    assert found.dtype == np.float64
    return found


@given(seeds, st.floats(0, 8), st.floats(0, 4), st.integers(LIKELIEST, VOCABULARY))
def test_bound_is_never_above_the_divergence_nor_below_zero(
    seed: int, sharpness: float, away: float, vocabulary: int
) -> None:
    generator = np.random.default_rng(seed)
    logits = sharpness * generator.standard_normal((SAMPLE, vocabulary))
    other = logits + away * generator.standard_normal(logits.shape)
    logp, logq = log_softmax(logits), log_softmax(other)
    found = bound_of(top_of(logp), top_of(logq))
    assert found.shape == (SAMPLE,)
    assert (found >= 0).all()
    # Of a large divergence, what float32 logarithms keep of it.
    assert (found <= full_kl(logp, logq) * (1 + 1e-6) + 1e-6).all()


@given(seeds, st.floats(0, 20))
def test_unrelated_distributions_are_bounded_too(seed: int, sharpness: float) -> None:
    generator = np.random.default_rng(seed)
    logp, logq = (log_softmax(sharpness * generator.standard_normal((SAMPLE, VOCABULARY))) for _ in range(2))
    found = bound_of(top_of(logp), top_of(logq))
    assert (found >= 0).all()
    # Of a large divergence, what float32 logarithms keep of it.
    assert (found <= full_kl(logp, logq) * (1 + 1e-6) + 1e-6).all()


@given(seeds, st.floats(0, 20))
def test_equal_distributions_are_nothing_apart(seed: int, sharpness: float) -> None:
    top = top_of(log_softmax(sharpness * np.random.default_rng(seed).standard_normal((SAMPLE, VOCABULARY))))
    assert bound_of(top, top).tolist() == [0.0] * SAMPLE


@given(seeds, seeds)
def test_order_of_the_ids_does_not_matter(seed: int, order: int) -> None:
    generator = np.random.default_rng(seed)
    logp, logq = (log_softmax(2 * generator.standard_normal((SAMPLE, VOCABULARY))) for _ in range(2))
    golden, measured = top_of(logp), top_of(logq)
    columns = np.random.default_rng(order).permutation(LIKELIEST)
    shuffled = replace(measured, ids=measured.ids[:, columns], log_probability=measured.log_probability[:, columns])
    np.testing.assert_allclose(bound_of(golden, shuffled), bound_of(golden, measured), atol=1e-12)


def test_whole_vocabulary_gives_the_divergence_itself() -> None:
    generator = np.random.default_rng(1)
    logits = generator.standard_normal((SAMPLE, VOCABULARY))
    logp, logq = log_softmax(logits), log_softmax(logits + 0.3 * generator.standard_normal(logits.shape))
    found = bound_of(top_of(logp, likeliest=VOCABULARY), top_of(logq, likeliest=VOCABULARY))
    np.testing.assert_allclose(found, full_kl(logp, logq), rtol=1e-4, atol=1e-6)


def test_bound_of_a_partition_that_was_worked_out_by_hand() -> None:
    def top(ids: list[int], probabilities: list[float]) -> TopProbabilities:
        return TopProbabilities(
            token=np.array([4], dtype=np.int32),
            ids=np.array([ids], dtype=np.int32),
            log_probability=np.log(np.array([probabilities])).astype(np.float32),
        )

    # Token 7 is likely in both; 8 and 9 are each in one, and lie with the others.
    found = bound_of(top([7, 8], [0.5, 0.25]), top([9, 7], [0.5, 0.25]))
    assert found[0] == pytest.approx(0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75), rel=1e-6)
    # Without any in common nothing is known.
    assert bound_of(top([1, 2], [0.5, 0.25]), top([3, 4], [0.5, 0.25])).tolist() == [0.0]


@pytest.mark.parametrize("token", [[0, 3, 6, 9, 12, 15, 19], [0, 3, 6, 9, 12, 15], [], [3, 0, 6, 9, 12, 15, 18]])
def test_other_tokens_are_not_compared(token: list[int]) -> None:
    top = top_of(log_softmax(np.random.default_rng(2).standard_normal((SAMPLE, VOCABULARY))))
    other = replace(
        top,
        token=np.array(token, dtype=np.int32),
        ids=top.ids[: len(token)],
        log_probability=top.log_probability[: len(token)],
    )
    assert kl_lower_bound(top, other) is None
    assert kl_lower_bound(other, top) is None


def test_empty_sample_has_no_divergence() -> None:
    empty = TopProbabilities(
        token=np.zeros(0, dtype=np.int32),
        ids=np.zeros((0, LIKELIEST), dtype=np.int32),
        log_probability=np.zeros((0, LIKELIEST), dtype=np.float32),
    )
    assert bound_of(empty, empty).shape == (0,)


def test_certain_token_is_no_division_by_zero() -> None:
    logits = np.zeros((1, VOCABULARY))
    logits[0, 3] = 200.0
    certain = log_softmax(logits)
    unsure = log_softmax(np.zeros((1, VOCABULARY)))
    for golden, measured in ((certain, unsure), (unsure, certain), (certain, certain)):
        found = bound_of(top_of(golden), top_of(measured))
        assert np.isfinite(found).all()
        assert (found <= full_kl(golden, measured) + 1e-6).all()
