import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.baselines.degeneracy import DEGENERATE_ABOVE, ngram_length, repeated_ngram_share

LENGTH = 8


@pytest.mark.parametrize("size", range(LENGTH))
def test_text_shorter_than_an_ngram_repeats_nothing(size: int) -> None:
    assert repeated_ngram_share(np.zeros(size, dtype=np.int64), length=LENGTH) == 0.0


def test_text_of_different_tokens_repeats_nothing() -> None:
    assert repeated_ngram_share(np.arange(500, dtype=np.int64), length=LENGTH) == 0.0


def test_share_counts_each_ngram_that_occurred_before() -> None:
    # 11 n-grams of two tokens: 01 12 20 and so on, three different ones.
    tokens = np.tile(np.arange(3, dtype=np.int64), 4)
    assert repeated_ngram_share(tokens, length=2) == pytest.approx(8 / 11)


@pytest.mark.parametrize("length", [8, 32])
def test_repeated_paragraph_is_far_above_the_threshold(length: int) -> None:
    tokens = np.tile(np.arange(100, dtype=np.int64), 50)
    assert repeated_ngram_share(tokens, length=length) > 0.95 > DEGENERATE_ABOVE


def plain_share(values: list[int], length: int) -> float:
    ngrams = [tuple(values[i : i + length]) for i in range(len(values) - length + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


# Few tokens repeat themselves; tokens of any size meet every carry of the hash.
tokens_of_few_kinds = st.lists(st.integers(0, 3), max_size=120)
any_tokens = st.lists(st.integers(0, 2**31 - 1) | st.sampled_from([0, 1, 2**16, 2**31 - 1]), max_size=60)


@given(tokens_of_few_kinds | any_tokens, st.integers(1, 40))
def test_share_is_that_of_a_plain_count(values: list[int], length: int) -> None:
    share = repeated_ngram_share(np.array(values, dtype=np.int64), length=length)
    assert share == pytest.approx(plain_share(values, length))
    assert 0 <= share < 1


def test_order_of_the_tokens_makes_another_ngram() -> None:
    assert repeated_ngram_share(np.array([1, 2, 3, 2, 1], dtype=np.int64), length=2) == 0.0


@pytest.mark.parametrize("pattern", [[0, 1], [1, 0], [0, 2**20], [5, 50_000]])
def test_strings_that_are_hard_to_hash_are_told_apart(pattern: list[int]) -> None:
    # Thue-Morse strings and their complements collide in polynomials modulo a power of two, once they are long.
    bits = [index.bit_count() % 2 for index in range(32)]
    values = [pattern[bit] for bit in bits] + [pattern[1 - bit] for bit in bits]
    share = repeated_ngram_share(np.array(values, dtype=np.int64), length=32)
    assert share == pytest.approx(plain_share(values, 32))


@pytest.mark.parametrize(
    ("characters_a_token", "length"), [(1.0, 32), (4.0, 8), (4.3, 7), (2.0, 16), (32.0, 1), (1000.0, 1)]
)
def test_ngram_is_of_some_32_characters(characters_a_token: float, length: int) -> None:
    assert ngram_length(characters_a_token) == length
