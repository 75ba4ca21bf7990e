"""The reference probe in a golden: what is kept is what is read, and nothing else is accepted."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esa_pytest.errors import GoldenError
from esa_pytest.golden.packing import REMEDY, pack, unpack
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
from tests.unit.probe_builders import NOISE, POINTS, PROBE, moved, probed
from tests.unit.trees import placed

Members = dict[str, npt.NDArray[Any]]
Change = Callable[[Members], Members]
NLL, PRINTS, NAMES, NOISE_PRINTS = "probe_nll", "probe_fingerprints", "probe_points", "probe_noise"
PLAIN = small_record()
MEASURED = probed(PLAIN)
GOLDEN = probed(PLAIN, PROBE, NOISE)
DOCUMENT, NPZ = packed(GOLDEN)
DAMAGED = f"The golden {NAME} is damaged: "


def refusal(data: bytes) -> str:
    with pytest.raises(GoldenError) as caught:
        unpack(data, name=NAME)
    message = str(caught.value)
    assert message.startswith(f"The golden {NAME} ")
    assert message.endswith(".")
    return message


def refusal_of(change: Change, record: Record = GOLDEN) -> str:
    """Why a golden with other arrays is refused though every hash fits."""
    document, npz = packed(record)
    return refusal(resealed(document, npz_of(change(npz_members(npz)))))


def with_array(name: str, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Change:
    return lambda members: members | {name: change(members[name])}


def without(*names: str) -> Change:
    return lambda members: {key: array for key, array in members.items() if key not in names}


def with_one(value: float) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
    def changed(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        changed = array.copy()
        changed.flat[-1] = value
        return changed

    return changed


def as_bytes(text: bytes) -> npt.NDArray[Any]:
    return np.frombuffer(text, dtype=np.uint8)


@pytest.mark.parametrize("record", [PLAIN, MEASURED, GOLDEN], ids=["none", "no noise", "noise"])
def test_probe_is_read_as_it_was_kept(record: Record) -> None:
    assert content_of(unpack(pack(record, npz_name=NPZ_NAME), name=NAME)) == content_of(record)


def test_golden_of_blocks_keeps_its_probe() -> None:
    record = probed(small_record(windowed_scores([1024] * 33)), PROBE, NOISE)
    found = unpack(pack(record, npz_name=NPZ_NAME), name=NAME)
    assert content_of(probed(PLAIN, found.probe, found.probe_noise)) == content_of(GOLDEN)


def test_json_tells_of_the_probe_what_people_want_to_know() -> None:
    assert DOCUMENT["probe"] == {
        "noise": {
            "distinct_bit_patterns": 9,
            "maximum": 4e-6,
            "rms": 1e-6,
            "varied": ["attention sdpa", "last bit of inv_freq"],
        },
        "num_points": 5,
        "num_tokens": 4,
        "rounded": False,
        "version": 1,
        "window": 0,
    }
    assert packed(MEASURED)[0]["probe"] == DOCUMENT["probe"] | {"noise": None}
    assert packed(PLAIN)[0]["probe"] is None


def test_probe_changes_no_other_array() -> None:
    arrays, plain = npz_members(NPZ), npz_members(packed(PLAIN)[1])
    assert arrays.keys() - plain.keys() == {NLL, PRINTS, NAMES, NOISE_PRINTS}
    for name in plain.keys() - {"judged_json"}:
        assert arrays[name].tobytes() == plain[name].tobytes()


def test_noise_without_a_probe_is_not_kept() -> None:
    assert pack(probed(PLAIN, None, NOISE), npz_name=NPZ_NAME) == pack(PLAIN, npz_name=NPZ_NAME)


EXPECTED = "['probe_fingerprints', 'probe_nll', 'probe_noise', 'probe_points']"


@pytest.mark.parametrize("name", [NLL, PRINTS, NAMES, NOISE_PRINTS])
def test_missing_array_is_refused(name: str) -> None:
    message = refusal_of(without(name))
    assert message.startswith(f"{DAMAGED}of its probe it holds the arrays [")
    assert message.endswith(f"expected are {EXPECTED}.")


@pytest.mark.parametrize("name", ["probe_", "probe_extra", "probe_nll2"])
def test_extra_array_is_refused(name: str) -> None:
    message = refusal_of(lambda members: members | {name: members[NLL]})
    assert f"'{name}'" in message
    assert message.endswith(f"expected are {EXPECTED}.")


def test_probe_of_another_golden_beside_a_json_without_one_is_refused() -> None:
    foreign = {name: array for name, array in npz_members(NPZ).items() if name.startswith("probe_")}
    assert refusal_of(lambda members: members | foreign, PLAIN) == (
        f"{DAMAGED}of its probe it holds the arrays {EXPECTED}, expected are []."
    )


def test_noise_beside_a_json_without_it_is_refused() -> None:
    noise = npz_members(NPZ)[NOISE_PRINTS]
    message = refusal_of(lambda members: members | {NOISE_PRINTS: noise}, MEASURED)
    assert message.endswith("expected are ['probe_fingerprints', 'probe_nll', 'probe_points'].")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (with_array(NLL, lambda a: a.astype(np.float32)), "probe_nll is float32[4], expected is float64[4]"),
        (with_array(NLL, lambda a: a.astype(">f8")), "probe_nll is >f8[4], expected is float64[4]"),
        (with_array(NLL, lambda a: a[:3]), "probe_nll is float64[3], expected is float64[4]"),
        (with_array(NLL, lambda a: a.reshape(2, 2)), "probe_nll is float64[2, 2], expected is float64[4]"),
        (with_array(NLL, lambda a: a.reshape(4, 1)), "probe_nll is float64[4, 1], expected is float64[4]"),
        (with_array(NLL, lambda a: a[0]), "probe_nll is float64[], expected is float64[4]"),
        (with_array(NLL, lambda a: np.append(a, 1.0)), "probe_nll is float64[5], expected is float64[4]"),
        (
            with_array(PRINTS, lambda a: a.astype(np.float64)),
            "probe_fingerprints is float64[5, 3], expected is float32[5, any]",
        ),
        (with_array(PRINTS, lambda a: a[:4]), "probe_fingerprints is float32[4, 3], expected is float32[5, any]"),
        (with_array(PRINTS, lambda a: a.T), "probe_fingerprints is float32[3, 5], expected is float32[5, any]"),
        (with_array(PRINTS, lambda a: a[:, 0]), "probe_fingerprints is float32[5], expected is float32[5, any]"),
        (with_array(NOISE_PRINTS, lambda a: a.astype(np.float64)), "probe_noise is float64[5], expected is float32[5]"),
        (with_array(NOISE_PRINTS, lambda a: a[1:]), "probe_noise is float32[4], expected is float32[5]"),
        (with_array(NOISE_PRINTS, lambda a: a[:, None]), "probe_noise is float32[5, 1], expected is float32[5]"),
        (with_array(NAMES, lambda a: a.astype(np.int8)), "probe_points is int8[51], expected is uint8[any]"),
        (with_array(NAMES, lambda a: a[:, None]), "probe_points is uint8[51, 1], expected is uint8[any]"),
    ],
)
def test_array_of_another_kind_or_size_is_refused(change: Change, told: str) -> None:
    message = refusal_of(change)
    assert message == f"{DAMAGED}its array {told}."


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [NLL, PRINTS, NOISE_PRINTS])
def test_array_that_is_not_finite_is_refused(name: str, value: float) -> None:
    assert refusal_of(with_array(name, with_one(value))) == f"{DAMAGED}its array {name} is not finite."


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n".join(name.encode() for name in POINTS[:-1]),
        b"\n".join(name.encode() for name in (*POINTS, "")),
        b"\0".join(name.encode() for name in POINTS),
        b"\xff" * 48,
        b"a\nb\nc\nd\n\xe4",
    ],
)
def test_names_that_do_not_fit_are_refused(text: bytes) -> None:
    assert refusal_of(with_array(NAMES, lambda _: as_bytes(text))) == (
        f"{DAMAGED}its array probe_points does not name 5 modules."
    )


def test_arrays_of_objects_are_refused() -> None:
    objects = np.array([{"an": "object"}] * 4, dtype=object)
    assert "its arrays cannot be read (Object arrays" in refusal_of(with_array(NLL, lambda _: objects))


@settings(max_examples=300)
@given(index=st.integers(0, len(NPZ) - 1), flip=st.integers(1, 255))
def test_flipped_byte_is_refused(index: int, flip: int) -> None:
    changed = NPZ[:index] + bytes([NPZ[index] ^ flip]) + NPZ[index + 1 :]
    assert "does not match its arrays: the field arrays.sha256 is " in refusal(joined(DOCUMENT, changed))


def test_flipped_byte_that_no_hash_covers_is_refused_or_changes_nothing() -> None:
    kept = content_of(GOLDEN)
    for index in range(len(NPZ)):
        changed = NPZ[:index] + bytes([NPZ[index] ^ 0xFF]) + NPZ[index + 1 :]
        try:
            found = unpack(resealed(DOCUMENT, changed), name=NAME)
        except GoldenError:
            continue
        assert content_of(found) == kept


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), 2),
        (("num_tokens",), 3),
        (("num_points",), 4),
        (("noise", "rms"), 1e-5),
        (("noise", "maximum"), 4.0000000000000001e-5),
        (("noise", "distinct_bit_patterns"), 10),
        (("noise", "varied"), ["attention sdpa"]),
        (("noise",), None),
        ((), None),
    ],
)
def test_edit_by_hand_is_named(path: tuple[str, ...], value: Any) -> None:
    message = refusal(joined(placed(DOCUMENT, ("probe", *path), value), NPZ))
    assert "was edited by hand in its field probe" in message
    assert ".".join(("probe", *path)) in message
    assert message.endswith(f"; {REMEDY}.")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), 1.0),
        (("version",), None),
        (("num_tokens",), 0),
        (("num_tokens",), -1),
        (("num_points",), 0),
        (("num_points",), True),
        (("noise", "rms"), None),
        (("noise", "rms"), "1e-6"),
        (("noise", "distinct_bit_patterns"), 0),
        (("noise", "varied"), "attention sdpa"),
        (("noise", "varied"), [1]),
        (("noise", "extra"), 1),
        (("extra",), 1),
        (("noise",), []),
        ((), {}),
        ((), []),
    ],
)
def test_value_of_another_kind_is_refused_by_its_field(path: tuple[str, ...], value: Any) -> None:
    message = refusal(joined(placed(DOCUMENT, ("probe", *path), value), NPZ))
    assert f"is not valid in its field {'.'.join(('probe', *path))}" in message


def test_probe_given_to_a_golden_without_one_is_named() -> None:
    document, npz = packed(PLAIN)
    assert "edited by hand in its field probe" in refusal(joined({**document, "probe": DOCUMENT["probe"]}, npz))


def test_golden_of_the_schema_before_the_probe_is_refused() -> None:
    before = {key: value for key, value in DOCUMENT.items() if key != "probe"} | {"schema_version": 2}
    assert "has the field schema_version 2; this release reads 5" in refusal(joined(before, NPZ))


NOT_FINITE = (
    "The float32 reference of tiny-smoke is not finite, which is never a golden; find out what overflows in float32 "
    "and not in bf16."
)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_noise_that_is_not_finite_is_never_written(value: float) -> None:
    with pytest.raises(GoldenError) as caught:
        pack(probed(PLAIN, PROBE, replace(NOISE, rms=value)), npz_name=NPZ_NAME)
    assert str(caught.value) == NOT_FINITE


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_probe_that_is_not_finite_is_never_written(value: float) -> None:
    with pytest.raises(GoldenError) as caught:
        pack(probed(PLAIN, moved(value), NOISE), npz_name=NPZ_NAME)
    assert str(caught.value) == NOT_FINITE
