"""Drift by position, and what the first changed position is a fingerprint of."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.drift.positions import fingerprint_of, position_drifts, stratum_drifts
from esa_pytest.golden.blocks import block_sums
from esa_pytest.records import TokenScores
from tests.unit.builders import token_scores, windowed_scores

LABELS = ("0-15", "16-63", "64-255", "256-1023", "1024-4095")


@pytest.mark.parametrize(
    ("lengths", "counts"),
    [
        ([1], [1]),
        ([16], [16]),
        ([17], [16, 1]),
        ([64, 1], [17, 48]),
        ([1024], [16, 48, 192, 768]),
        ([1025, 70], [32, 96, 198, 768, 1]),
    ],
)
def test_ranges_hold_every_token_once(lengths: list[int], counts: list[int]) -> None:
    scores = windowed_scores(lengths)
    found = position_drifts(scores, scores)
    assert [drift.label for drift in found] == list(LABELS[: len(counts)])
    assert [drift.num_tokens for drift in found] == counts
    assert {(drift.num_changed, drift.mean, drift.rms) for drift in found} == {(0, 0.0, 0.0)}


def test_ranges_without_a_token_are_left_out() -> None:
    scores = replace(windowed_scores([6]), position=np.array([3, 70, 71, 72, 300, 2000], dtype=np.int32))
    found = position_drifts(scores, scores)
    assert [(drift.label, drift.num_tokens) for drift in found] == [
        ("0-15", 1),
        ("64-255", 3),
        ("256-1023", 1),
        ("1024-4095", 1),
    ]


def test_drift_stands_where_it_is() -> None:
    golden = windowed_scores([70, 70])
    nll = golden.nll.copy()
    nll[16] += 0.5
    nll[70 + 63] -= 0.25
    drifts = {drift.label: drift for drift in position_drifts(golden, replace(golden, nll=nll))}
    assert [drifts[label].num_changed for label in LABELS[:3]] == [0, 2, 0]
    assert drifts["16-63"].mean == pytest.approx(0.25 / 96, rel=1e-5)
    assert drifts["16-63"].rms == pytest.approx(np.sqrt((0.25 + 0.0625) / 96), rel=1e-5)


def test_change_of_bits_counts_though_the_value_is_equal() -> None:
    golden, measured = token_scores([0.0, 1.0]), token_scores([-0.0, 1.0])
    (found,) = position_drifts(golden, measured)
    assert (found.num_changed, found.mean, found.rms) == (1, 0.0, 0.0)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=4), st.integers(0, 99))
def test_ranges_add_up_to_the_whole(lengths: list[int], seed: int) -> None:
    golden, measured = (windowed_scores(lengths, seed=number) for number in (seed, seed + 1))
    measured = replace(measured, nll=np.where(golden.position % 3 == 0, golden.nll, measured.nll))
    found = position_drifts(golden, measured)
    drift = measured.nll.astype(np.float64) - golden.nll
    total = sum(part.num_tokens for part in found)
    assert total == sum(lengths)
    assert sum(part.num_changed for part in found) == np.count_nonzero(measured.nll != golden.nll)
    assert sum(part.num_tokens * part.mean for part in found) == pytest.approx(drift.sum(), abs=1e-9)
    assert sum(part.num_tokens * part.rms**2 for part in found) == pytest.approx((drift**2).sum(), abs=1e-9)


def test_sums_of_blocks_have_no_positions() -> None:
    scores = windowed_scores([128])
    blocks = block_sums(scores)
    assert position_drifts(blocks, scores) == position_drifts(scores, blocks) == position_drifts(blocks, blocks) == ()


def in_strata(*numbers: int) -> TokenScores:
    return replace(token_scores([1.0] * len(numbers)), stratum=np.array(numbers, dtype=np.int32))


def test_strata_that_were_scored_are_told_each_by_itself() -> None:
    golden = in_strata(0, 2, 0, 2, 2)
    measured = replace(golden, nll=np.array([1.0, 2.0, 1.5, 1.0, 1.0], dtype=np.float32))
    prose, code = stratum_drifts(golden, measured, ("prose", "none", "code"))
    assert (prose.label, prose.num_tokens, prose.num_changed, prose.mean) == ("prose", 2, 1, 0.25)
    assert prose.rms == pytest.approx(np.sqrt(0.25 / 2))
    assert (code.label, code.num_tokens, code.num_changed) == ("code", 3, 1)
    assert code.mean == pytest.approx(1 / 3)


def test_a_single_stratum_is_the_whole_and_sums_of_blocks_have_none() -> None:
    scores, several = in_strata(1, 1), in_strata(0, 1)
    assert stratum_drifts(scores, scores, ("prose", "code")) == ()
    assert stratum_drifts(block_sums(several), several, ("prose", "code")) == ()
    assert stratum_drifts(several, block_sums(several), ("prose", "code")) == ()


FIRST = "at the very first, as another BOS, embedding, norm or head does"
SECOND = "at the second, as what mixes tokens does: RoPE, attention"
AT_WINDOW = "exactly at the model's sliding window of 16, as a fault of its mask does"


@pytest.mark.parametrize(
    ("position", "config", "told"),
    [
        (None, {}, None),
        (None, {"sliding_window": None}, None),
        (0, {}, FIRST),
        (1, {}, SECOND),
        (2, {}, None),
        (1023, {"sliding_window": 16}, None),
        (15, {"sliding_window": 16}, None),
        (16, {"sliding_window": 16}, AT_WINDOW),
        (17, {"sliding_window": 16}, None),
        (16, {"sliding_window": 16, "use_sliding_window": True}, AT_WINDOW),
        (16, {"sliding_window": 16, "use_sliding_window": False}, None),
        (16, {"sliding_window": None}, None),
        (16, {"sliding_window": "16"}, None),
        (0, {"sliding_window": 16}, FIRST),
        (1, {"sliding_window": 16}, SECOND),
        (1, {"sliding_window": True}, SECOND),
        (0, {"sliding_window": False}, FIRST),
        (0, {"sliding_window": 0}, FIRST),
        (1, {"sliding_window": 1}, SECOND),
    ],
)
def test_first_changed_position_is_a_fingerprint(
    position: int | None, config: Mapping[str, Any], told: str | None
) -> None:
    assert fingerprint_of(position, config) == told
