import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.drift.statistics import bit_drift, num_tokens
from esa_pytest.golden.blocks import block_sums
from esa_pytest.records import BitDrift, TokenScores
from tests.unit.builders import score_arrays, token_scores, windowed_scores, with_flipped_bit


@given(score_arrays())
def test_equal_scores_have_no_bit_drift(scores: TokenScores) -> None:
    assert bit_drift(scores, scores) == BitDrift(
        num_tokens=scores.nll.size,
        num_compared=scores.nll.size,
        num_changed=0,
        mean=0.0,
        rms=0.0,
        maximum=0.0,
        first_position=None,
        num_top1_flips=0,
    )


def test_bit_drift_counts_and_sizes_what_changed() -> None:
    golden = token_scores([1.0, 2.0, 3.0, 4.0])
    measured = token_scores([1.0, 2.5, 3.0, 2.5], argmax=[9, 0, 2, 2])
    assert bit_drift(golden, measured) == BitDrift(
        num_tokens=4,
        num_compared=4,
        num_changed=3,
        mean=-0.25,
        rms=math.sqrt((0.25 + 2.25) / 4),
        maximum=1.5,
        first_position=0,
        num_top1_flips=1,
    )


def test_first_position_is_the_smallest_of_the_changed_in_their_windows() -> None:
    golden, measured = token_scores([1.0, 2.0, 3.0, 4.0]), token_scores([1.0, 2.5, 3.0, 4.5])
    assert bit_drift(golden, measured).first_position == 1


@pytest.mark.parametrize("factor", [0.5, 3, 32])
def test_factor_is_named_where_every_nll_was_multiplied_by_it(factor: float) -> None:
    golden = windowed_scores([40, 24])
    found = bit_drift(golden, replace(golden, nll=(golden.nll * factor).astype(np.float32)))
    assert found.factor == pytest.approx(factor, rel=1e-6)


def test_no_factor_is_named_where_one_token_went_another_way_or_few_are_compared() -> None:
    golden, few = windowed_scores([40, 24]), windowed_scores([31])
    nll = golden.nll * 2
    nll[7] *= 1.001
    assert bit_drift(golden, replace(golden, nll=nll)).factor is None
    assert bit_drift(golden, golden).factor is None
    assert bit_drift(few, replace(few, nll=few.nll * 2)).factor is None


def test_bits_are_compared_and_not_values() -> None:
    drift = bit_drift(token_scores([0.0, 1.0]), token_scores([-0.0, 1.0]))
    assert (drift.num_changed, drift.maximum) == (1, 0.0)


def test_differences_are_taken_wider_than_the_values() -> None:
    small = float(np.float32(2.0**-23))
    assert bit_drift(token_scores([1.0]), token_scores([1.0 + small])).mean == small
    wide = bit_drift(token_scores([3e38]), token_scores([-3e38]))
    assert wide.maximum == pytest.approx(6e38)


@st.composite
def pairs_of_runs(draw: st.DrawFn) -> tuple[TokenScores, TokenScores]:
    """Two runs over the same windows, some of whose NLLs and argmaxes differ."""
    lengths = draw(st.lists(st.integers(1, 150), min_size=1, max_size=4))
    golden = measured = windowed_scores(lengths, seed=draw(st.integers(0, 2**32 - 1)))
    # The lowest bits of an NLL keep it finite.
    for name, token, bit in draw(
        st.lists(
            st.tuples(st.sampled_from(["nll", "argmax"]), st.integers(0, sum(lengths) - 1), st.integers(0, 22)),
            max_size=5,
        )
    ):
        measured = with_flipped_bit(measured, name, token, bit)
    return golden, measured


def changed_tokens(golden: TokenScores, measured: TokenScores) -> list[int]:
    other_nll = golden.nll.view(np.uint32) != measured.nll.view(np.uint32)
    return np.flatnonzero(other_nll | (golden.argmax != measured.argmax)).tolist()


@given(pairs_of_runs())
def test_blocks_have_the_mean_drift_of_their_tokens(pair: tuple[TokenScores, TokenScores]) -> None:
    golden, measured = pair
    of_blocks = bit_drift(block_sums(golden), measured)
    assert of_blocks.mean == pytest.approx(bit_drift(golden, measured).mean, abs=1e-9)
    assert of_blocks.num_tokens == golden.nll.size


@given(pairs_of_runs())
def test_blocks_with_a_changed_token_are_counted(pair: tuple[TokenScores, TokenScores]) -> None:
    golden, measured = pair
    blocks = block_sums(golden)
    ends = np.cumsum(blocks.num_tokens)
    changed = {int(np.searchsorted(ends, token, side="right")) for token in changed_tokens(golden, measured)}
    drift = bit_drift(blocks, measured)
    assert (drift.num_compared, drift.num_changed) == (len(ends), len(changed))
    assert drift.first_position == (min(int(blocks.position[index]) for index in changed) if changed else None)


@given(pairs_of_runs())
def test_drift_of_a_block_never_exceeds_that_of_its_tokens(pair: tuple[TokenScores, TokenScores]) -> None:
    golden, measured = pair
    of_blocks, of_tokens = bit_drift(block_sums(golden), measured), bit_drift(golden, measured)
    assert of_blocks.maximum <= of_tokens.maximum + 1e-9
    assert abs(of_blocks.mean) <= of_blocks.maximum + 1e-9


@given(pairs_of_runs())
def test_tokens_are_compared_with_blocks_from_either_side(pair: tuple[TokenScores, TokenScores]) -> None:
    golden, measured = pair
    expected = bit_drift(block_sums(golden), block_sums(measured))
    assert bit_drift(golden, block_sums(measured)) == bit_drift(block_sums(golden), measured) == expected


def test_drift_of_blocks_is_that_of_their_means() -> None:
    golden, measured = windowed_scores([66]), windowed_scores([66])
    golden.nll[:], measured.nll[:] = 1.0, 1.0
    measured.nll[64] = 1.5
    assert bit_drift(block_sums(golden), measured) == BitDrift(
        num_tokens=66,
        num_compared=2,
        num_changed=1,
        mean=0.5 / 66,
        rms=math.sqrt(0.25**2 / 2),
        maximum=0.25,
        first_position=64,
        num_top1_flips=None,
    )


def test_changes_that_cancel_in_a_block_are_changes_still() -> None:
    golden, measured = windowed_scores([4]), windowed_scores([4])
    golden.nll[:], measured.nll[:] = 1.0, [1.5, 0.5, 1.0, 1.0]
    drift = bit_drift(block_sums(golden), measured)
    assert (drift.num_changed, drift.mean, drift.maximum) == (1, 0.0, 0.0)


def test_unit_is_what_was_compared() -> None:
    scores = windowed_scores([66])
    assert bit_drift(scores, scores).unit == "token"
    assert bit_drift(block_sums(scores), scores).unit == "block"


@given(st.lists(st.integers(1, 150), min_size=1, max_size=4))
def test_tokens_are_counted_through_their_blocks(lengths: list[int]) -> None:
    scores = windowed_scores(lengths)
    assert num_tokens(block_sums(scores)) == num_tokens(scores) == sum(lengths)
