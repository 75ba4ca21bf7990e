import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.golden.blocks import BLOCK_TOKENS, MOST_TOKENS, block_sums, kept
from esa_pytest.records import BlockScores, TokenScores
from tests.unit.builders import windowed_scores, with_flipped_bit

# Windows below, of and above one block, and of several.
lengths = st.integers(1, 200) | st.sampled_from([1, 63, 64, 65, 128, 129])
any_scores = st.builds(windowed_scores, st.lists(lengths, min_size=1, max_size=6), seed=st.integers(0, 2**32 - 1))


def spans(blocks: BlockScores) -> list[slice]:
    """Which tokens each block holds, by their numbers alone."""
    ends = np.cumsum(blocks.num_tokens).tolist()
    return [slice(begin, end) for begin, end in zip([0, *ends], ends, strict=False)]


@given(any_scores)
def test_blocks_cover_each_token_once(scores: TokenScores) -> None:
    blocks = block_sums(scores)
    assert int(blocks.num_tokens.sum()) == scores.nll.size
    assert blocks.num_tokens.min() >= 1
    assert blocks.num_tokens.max() <= BLOCK_TOKENS


@given(any_scores)
def test_block_never_crosses_a_window(scores: TokenScores) -> None:
    blocks = block_sums(scores)
    for index, span in enumerate(spans(blocks)):
        assert set(scores.window[span].tolist()) == {int(blocks.window[index])}
        assert blocks.position[index] == scores.position[span][0]


@given(any_scores)
def test_only_the_last_block_of_a_window_is_short(scores: TokenScores) -> None:
    blocks = block_sums(scores)
    short = blocks.num_tokens < BLOCK_TOKENS
    last = np.append(blocks.window[1:] != blocks.window[:-1], True)
    assert not (short & ~last).any()


@given(any_scores)
def test_sums_and_counts_are_those_of_the_tokens(scores: TokenScores) -> None:
    blocks = block_sums(scores)
    for index, span in enumerate(spans(blocks)):
        assert float(blocks.nll_sum[index]).hex() == math.fsum(scores.nll[span].tolist()).hex()
        assert blocks.num_correct[index] == sum(scores.argmax[span] == scores.target[span])


@given(any_scores, st.sampled_from(["nll", "argmax"]), st.integers(0, 31), st.data())
def test_any_changed_bit_changes_the_hash_of_its_block_alone(
    scores: TokenScores, name: str, bit: int, data: st.DataObject
) -> None:
    token = data.draw(st.integers(0, scores.nll.size - 1))
    before, after = block_sums(scores), block_sums(with_flipped_bit(scores, name, token, bit))
    changed = np.flatnonzero(before.bits != after.bits)
    assert [token in range(span.start, span.stop) for span in spans(before)].index(True) == changed.item()


@given(any_scores)
def test_equal_tokens_make_equal_blocks(scores: TokenScores) -> None:
    one, other = block_sums(scores), block_sums(replace(scores, nll=scores.nll.copy()))
    assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in vars(one))


def test_blocks_of_one_window_follow_each_other() -> None:
    blocks = block_sums(windowed_scores([130, 64, 1]))
    assert blocks.num_tokens.tolist() == [64, 64, 2, 64, 1]
    assert blocks.window.tolist() == [0, 0, 0, 1, 2]
    assert blocks.position.tolist() == [0, 64, 128, 0, 0]


def test_arrays_are_of_the_kinds_that_a_golden_keeps() -> None:
    assert {name: str(array.dtype) for name, array in vars(block_sums(windowed_scores([70]))).items()} == {
        "nll_sum": "float64",
        "num_correct": "int32",
        "num_tokens": "int32",
        "window": "int32",
        "position": "int32",
        "bits": "uint64",
    }


def test_hash_of_a_block_never_changes_between_releases() -> None:
    scores = TokenScores(
        nll=np.array([0.5, 1.5], dtype=np.float32),
        argmax=np.array([1, 2], dtype=np.int32),
        **{name: np.zeros(2, dtype=np.int32) for name in ("target", "position", "window", "stratum")},
    )
    assert [f"{bits:016x}" for bits in block_sums(scores).bits.tolist()] == ["9ab3a9a1ede300b4"]


@pytest.mark.parametrize("size", [1, MOST_TOKENS])
def test_single_tokens_are_kept_of_a_short_run(size: int) -> None:
    scores = windowed_scores([size])
    assert kept(scores) is scores


def test_blocks_are_kept_of_a_longer_run() -> None:
    scores = windowed_scores([MOST_TOKENS, 1])
    found = kept(scores)
    assert isinstance(found, BlockScores)
    assert found.num_tokens.tolist() == [BLOCK_TOKENS] * (MOST_TOKENS // BLOCK_TOKENS) + [1]


def test_blocks_stay_what_they_are() -> None:
    blocks = block_sums(windowed_scores([3]))
    assert kept(blocks) is blocks
