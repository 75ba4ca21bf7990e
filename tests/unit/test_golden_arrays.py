import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esa_pytest.errors import GoldenError
from esa_pytest.golden.arrays import SEALED_JSON, pack_arrays, unpack_arrays
from esa_pytest.golden.packing import REMEDY, unpack
from tests.unit.builders import (
    NAME,
    NPZ_NAME,
    joined,
    npz_members,
    npz_of,
    packed,
    resealed,
    small_record,
    token_scores,
)

ARRAY_NAMES = tuple(vars(small_record().scores))
Members = dict[str, npt.NDArray[Any]]
DOCUMENT, NPZ = packed(small_record())
OTHER_DOCUMENT, OTHER_NPZ = packed(replace(small_record(token_scores([1.0, 2.0])), baseline="tiny-standard"))


def refusal(data: bytes) -> str:
    with pytest.raises(GoldenError) as caught:
        unpack(data, name=NAME)
    message = str(caught.value)
    assert message.startswith(f"The golden {NAME} ")
    return message


def mismatch(npz: bytes) -> str:
    message = refusal(joined(DOCUMENT, npz))
    assert f"The golden {NAME} does not match its arrays: the field arrays.sha256 is " in message
    assert f"{NPZ_NAME} has " in message
    assert f"({len(npz)} bytes); {REMEDY}." in message
    return message


@settings(max_examples=1000)
@given(index=st.integers(0, len(NPZ) - 1), flip=st.integers(1, 255))
def test_flipped_byte_is_refused(index: int, flip: int) -> None:
    mismatch(NPZ[:index] + bytes([NPZ[index] ^ flip]) + NPZ[index + 1 :])


def test_arrays_cut_short_anywhere_are_refused() -> None:
    for length in range(len(NPZ)):
        mismatch(NPZ[:length])


@pytest.mark.parametrize("npz", [NPZ + b"\0", NPZ + NPZ, b"\0" + NPZ, OTHER_NPZ])
def test_longer_and_swapped_arrays_are_refused(npz: bytes) -> None:
    mismatch(npz)


def test_arrays_and_hash_of_another_golden_are_refused_by_what_differs() -> None:
    assert "edited by hand in its field baseline: it says 'tiny-smoke', recorded was 'tiny-standard'" in refusal(
        resealed(DOCUMENT, OTHER_NPZ)
    )


def test_arrays_of_another_run_under_the_own_seal_are_refused() -> None:
    other = npz_members(OTHER_NPZ) | {SEALED_JSON: npz_members(NPZ)[SEALED_JSON]}
    assert "contradicts itself in its field metrics.nll_sum: it says 12.0, its arrays give 3.0" in refusal(
        resealed(DOCUMENT, npz_of(other))
    )


def with_array(name: str, array: npt.NDArray[Any]) -> Callable[[Members], Members]:
    return lambda members: members | {name: array}


def without(name: str) -> Callable[[Members], Members]:
    return lambda members: {key: array for key, array in members.items() if key != name}


NLL = npz_members(NPZ)["nll"]
OBJECTS = np.array([{"an": "object"}] * NLL.size, dtype=object)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (with_array("nll", NLL.astype(np.float64)), "its array nll is float64[6], expected is float32[6]."),
        (with_array("nll", NLL.astype(np.float16)), "its array nll is float16[6], expected is float32[6]."),
        (with_array("nll", NLL.astype(">f4")), "its array nll is >f4[6], expected is float32[6]."),
        (with_array("argmax", np.arange(6)), "its array argmax is int64[6], expected is int32[6]."),
        (with_array("target", NLL), "its array target is float32[6], expected is int32[6]."),
        (with_array("window", np.zeros(5, np.int32)), "its array window is int32[5], expected is int32[6]."),
        (with_array("window", np.zeros((3, 2), np.int32)), "its array window is int32[3, 2], expected is int32[6]."),
        (with_array("nll", NLL.reshape(2, 3)), "expected is"),
        (with_array("nll", np.array(1.0, dtype=np.float32)), "expected is"),
        (with_array("nll", NLL * np.float32("nan")), "its array nll is nan at token 0."),
        (with_array("nll", np.where(NLL == 3, np.float32("inf"), NLL)), "its array nll is inf at token 2."),
        (with_array("nll", np.where(NLL == 0.5, np.float32("-inf"), NLL)), "its array nll is -inf at token 4."),
        (with_array("nll", OBJECTS), "its arrays cannot be read (Object arrays cannot be loaded"),
        (with_array("extra", NLL), "it holds the arrays ['argmax', 'extra', 'nll', 'position',"),
        (without("position"), "it holds the arrays ['argmax', 'nll', 'stratum', 'target', 'window'], expected are"),
        (without(SEALED_JSON), "it holds the arrays"),
        (with_array(SEALED_JSON, NLL), "it holds the arrays"),
        (lambda _: {}, "it holds the arrays [], expected are"),
    ],
)
def test_other_arrays_are_refused_though_every_hash_fits(change: Callable[[Members], Members], expected: str) -> None:
    message = refusal(resealed(DOCUMENT, npz_of(change(npz_members(NPZ)))))
    assert message.startswith(f"The golden {NAME} is damaged: ")
    assert expected in message


def test_arrays_without_a_token_are_refused_though_every_hash_fits() -> None:
    empty = {name: array[:0] for name, array in npz_members(NPZ).items() if name in ARRAY_NAMES}
    refusal(resealed(DOCUMENT, npz_of(empty | {SEALED_JSON: npz_members(NPZ)[SEALED_JSON]})))


@pytest.mark.parametrize("sealed", [b"", b"no JSON", b"[]", b"{}", b"\xff"])
def test_damaged_seal_is_refused_though_every_hash_fits(sealed: bytes) -> None:
    refusal(resealed(DOCUMENT, pack_arrays(small_record().scores, sealed, {})))


def npy(array: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize("data", [b"", b"PK", b"no zip", b"\x80\x04]\x94.", pytest.param(npy(NLL), id="npy")])
def test_file_that_is_no_npz_is_refused_though_every_hash_fits(data: bytes) -> None:
    assert "is damaged" in refusal(resealed(DOCUMENT, data))


def outcome_of(npz: bytes) -> str:
    """What unpacking did: refused, gave the arrays that were packed, or something that it must not do."""
    expected, expected_seal, _ = unpack_arrays(NPZ, name=NAME)
    try:
        scores, seal, probe = unpack_arrays(npz, name=NAME)
    except GoldenError:
        return "refused"
    except Exception as error:  # noqa: BLE001  (whatever it is, it is the finding)
        return repr(error)
    equal = all(np.array_equal(getattr(scores, name), getattr(expected, name)) for name in ARRAY_NAMES)
    return "unchanged" if equal and seal == expected_seal and not probe else "other arrays"


def test_flipped_byte_that_no_hash_covers_is_refused_or_changes_nothing() -> None:
    outcomes = {
        outcome_of(NPZ[:index] + bytes([NPZ[index] ^ flip]) + NPZ[index + 1 :])
        for index in range(len(NPZ))
        for flip in (0x01, 0xFF)
    }
    assert outcomes == {"refused", "unchanged"}


def test_sums_that_do_not_follow_from_the_arrays_are_refused() -> None:
    record = small_record()
    assert record.metrics is not None
    wrong = replace(record, metrics=replace(record.metrics, num_correct_tokens=4))
    document, npz = packed(wrong)
    assert refusal(joined(document, npz)) == (
        f"The golden {NAME} contradicts itself in its field metrics.num_correct_tokens: it says 4, "
        f"its arrays give 3; {REMEDY}."
    )


def test_arrays_carry_no_clock() -> None:
    with zipfile.ZipFile(io.BytesIO(NPZ)) as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
