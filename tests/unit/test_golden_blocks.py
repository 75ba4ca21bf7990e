from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.errors import GoldenError
from esa_pytest.evaluation.metrics import compute_metrics
from esa_pytest.golden.arrays import SEALED_JSON
from esa_pytest.golden.blocks import MOST_TOKENS, block_sums
from esa_pytest.golden.files import read_golden, write_packed
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.golden.packing import REMEDY, join_pair, pack, split_pair, unpack
from esa_pytest.records import Record
from tests.unit.builders import (
    NAME,
    NPZ_NAME,
    content_of,
    joined,
    npz_members,
    npz_of,
    packed,
    resealed,
    small_record,
    windowed_scores,
)

Members = dict[str, npt.NDArray[Any]]
LONG_TOKENS = windowed_scores([1024] * (MOST_TOKENS // 1024) + [1])
LONG = small_record(LONG_TOKENS)
# Few blocks, kept as those of a long run are.
TOKENS = windowed_scores([130, 64, 1])
SHORT = replace(small_record(TOKENS), scores=block_sums(TOKENS))
DOCUMENT, NPZ = packed(SHORT)
NLL_SUM = npz_members(NPZ)["nll_sum"]


def refusal(data: bytes) -> str:
    with pytest.raises(GoldenError) as caught:
        unpack(data, name=NAME)
    message = str(caught.value)
    assert message.startswith(f"The golden {NAME} ")
    return message


def test_long_run_is_read_as_its_blocks() -> None:
    found = unpack(pack(LONG, npz_name=NPZ_NAME), name=NAME)
    assert found.metrics == compute_metrics(LONG_TOKENS)
    assert content_of(found) == content_of(replace(LONG, scores=block_sums(LONG_TOKENS)))


def test_long_run_packed_again_gives_equal_bytes() -> None:
    data = pack(LONG, npz_name=NPZ_NAME)
    assert pack(unpack(data, name=NAME), npz_name=NPZ_NAME) == data


@given(st.lists(st.integers(1, 150), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_blocks_survive_being_packed(lengths: list[int], seed: int) -> None:
    tokens = windowed_scores(lengths, seed=seed)
    record = replace(small_record(tokens), scores=block_sums(tokens))
    assert content_of(unpack(pack(record, npz_name=NPZ_NAME), name=NAME)) == content_of(record)


def test_golden_of_half_a_million_tokens_stays_small(tmp_path: Path) -> None:
    lengths = [4096] * 61 + [1024] * 245
    record: Record = small_record(windowed_scores(lengths))
    assert record.metrics is not None
    assert record.metrics.num_scored_tokens > 500_000
    place = GoldenLocation(root=tmp_path, folder="tiny__standard", device="cpu", dtype="float32")
    write_packed(place.json, pack(record, npz_name=place.npz.name))
    assert place.json.stat().st_size + place.npz.stat().st_size < 1_000_000
    found = read_golden(place)
    assert found is not None
    assert found.metrics == record.metrics


@given(index=st.integers(0, len(NPZ) - 1), flip=st.integers(1, 255))
def test_flipped_byte_of_the_arrays_is_refused(index: int, flip: int) -> None:
    changed = NPZ[:index] + bytes([NPZ[index] ^ flip]) + NPZ[index + 1 :]
    assert "does not match its arrays: the field arrays.sha256 is " in refusal(joined(DOCUMENT, changed))


def test_blocks_of_another_golden_are_refused() -> None:
    _, other = split_pair(pack(LONG, npz_name=NPZ_NAME))
    text, _ = split_pair(pack(SHORT, npz_name=NPZ_NAME))
    assert "does not match its arrays" in refusal(join_pair(text, other))


def with_array(name: str, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Callable[[Members], Members]:
    return lambda members: members | {name: change(members[name])}


def without(name: str) -> Callable[[Members], Members]:
    return lambda members: {key: array for key, array in members.items() if key != name}


def with_first(value: float) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
    return lambda array: np.concatenate([np.array([value], dtype=array.dtype), array[1:]])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (with_array("nll_sum", lambda a: a.astype(np.float32)), "its array nll_sum is float32[5], expected is float64"),
        (with_array("bits", lambda a: a.astype(np.int64)), "its array bits is int64[5], expected is uint64[5]."),
        (with_array("num_tokens", lambda a: a[:4]), "its array num_tokens is int32[4], expected is int32[5]."),
        (with_array("window", lambda a: a.reshape(5, 1)), "its array window is int32[5, 1], expected is int32[5]."),
        (with_array("nll_sum", with_first(np.nan)), "its array nll_sum is nan at block 0."),
        (with_array("nll_sum", with_first(-np.inf)), "its array nll_sum is -inf at block 0."),
        (without("bits"), "it holds the arrays ['nll_sum', 'num_correct', 'num_tokens', 'position', 'window'], exp"),
        (without("nll_sum"), "it holds the arrays ['bits', 'num_correct', 'num_tokens', 'position', 'window'], exp"),
        (without(SEALED_JSON), "it holds the arrays ['bits', 'nll_sum',"),
        (lambda members: members | {"nll": members["nll_sum"]}, "it holds the arrays ['bits', 'nll', 'nll_sum',"),
    ],
)
def test_other_arrays_are_refused_though_every_hash_fits(change: Callable[[Members], Members], told: str) -> None:
    message = refusal(resealed(DOCUMENT, npz_of(change(npz_members(NPZ)))))
    assert message.startswith(f"The golden {NAME} is damaged: ")
    assert told in message


def test_arrays_without_a_block_are_refused_though_every_hash_fits() -> None:
    empty = {name: array if name == SEALED_JSON else array[:0] for name, array in npz_members(NPZ).items()}
    assert refusal(resealed(DOCUMENT, npz_of(empty))) == (f"The golden {NAME} is damaged: its arrays hold no token.")


@pytest.mark.parametrize(
    ("array", "value", "field"),
    [
        ("nll_sum", float(NLL_SUM[0]) + 1e-6, "nll_sum"),
        ("nll_sum", float(NLL_SUM[0]) - 1e-6, "nll_sum"),
        ("num_tokens", 63, "num_scored_tokens"),
        ("num_tokens", 65, "num_scored_tokens"),
        ("num_correct", 0, "num_correct_tokens"),
    ],
)
def test_sums_that_do_not_follow_from_the_blocks_are_refused(array: str, value: float, field: str) -> None:
    changed = npz_of(with_array(array, with_first(value))(npz_members(NPZ)))
    message = refusal(resealed(DOCUMENT, changed))
    assert f"contradicts itself in its field metrics.{field}: it says " in message
    assert message.endswith(f"; {REMEDY}.")
