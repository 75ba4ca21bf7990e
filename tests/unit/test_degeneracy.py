import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.baselines.degeneracy import DEGENERATE_ABOVE, NGRAM_LENGTH, repeated_ngram_share


@pytest.mark.parametrize("size", range(NGRAM_LENGTH))
def test_text_shorter_than_an_ngram_repeats_nothing(size: int) -> None:
    assert repeated_ngram_share(np.zeros(size, dtype=np.int64)) == 0.0


def test_text_of_different_tokens_repeats_nothing() -> None:
    assert repeated_ngram_share(np.arange(500, dtype=np.int64)) == 0.0


def test_share_counts_each_ngram_that_occurred_before() -> None:
    # 11 n-grams of two tokens: 01 12 20 and so on, three different ones.
    tokens = np.tile(np.arange(3, dtype=np.int64), 4)
    assert repeated_ngram_share(tokens, length=2) == pytest.approx(8 / 11)


def test_repeated_paragraph_is_far_above_the_threshold() -> None:
    assert repeated_ngram_share(np.tile(np.arange(100, dtype=np.int64), 50)) > 0.95 > DEGENERATE_ABOVE


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 5))
def test_share_is_that_of_a_plain_count(values: list[int], length: int) -> None:
    ngrams = [tuple(values[i : i + length]) for i in range(len(values) - length + 1)]
    expected = 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0
    share = repeated_ngram_share(np.array(values, dtype=np.int64), length=length)
    assert share == pytest.approx(expected)
    assert 0 <= share < 1
