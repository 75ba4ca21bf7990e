"""The noise and the likeliest tokens in a golden: what is kept is what is read, and nothing else is accepted."""

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
from esa_pytest.records import Noise, Record, TopProbabilities
from tests.unit.builders import NAME, NPZ_NAME, content_of, joined, npz_members, npz_of, packed, resealed, small_record
from tests.unit.noise_builders import SMALL_NOISE, SMALL_TOP, comparable, noises, noisy_golden, tops
from tests.unit.trees import placed

Array = npt.NDArray[Any]
Members = dict[str, Array]
Change = Callable[[Members], Members]

PLAIN = small_record()
GOLDEN = replace(PLAIN, noise=SMALL_NOISE, top=SMALL_TOP)
DOCUMENT, NPZ = packed(GOLDEN)
DAMAGED = f"The golden {NAME} is damaged: "
NOISE_KINDS = {
    "noise_drift": "float16[2, 4]",
    "noise_nll": "float32[4]",
    "noise_position": "int32[4]",
    "noise_window": "int32[4]",
    "noise_windows": "int32[2]",
}
TOP_KINDS = {"top_ids": "int32[2, 3]", "top_log_probability": "float32[2, 3]", "top_token": "int32[2]"}
KINDS = NOISE_KINDS | TOP_KINDS


def kept(record: Record) -> Record:
    return unpack(pack(record, npz_name=NPZ_NAME), name=NAME)


def same(found: Record, record: Record) -> bool:
    return (
        content_of(found) == content_of(record)
        and comparable(found.noise) == comparable(record.noise)
        and comparable(found.top) == comparable(record.top)
    )


def refusal(data: bytes) -> str:
    with pytest.raises(GoldenError) as caught:
        unpack(data, name=NAME)
    return str(caught.value)


def refusal_of(change: Change, record: Record = GOLDEN) -> str:
    """Why a golden with other arrays is refused though every hash fits."""
    document, npz = packed(record)
    return refusal(resealed(document, npz_of(change(npz_members(npz)))))


def with_array(name: str, change: Callable[[Array], Array]) -> Change:
    return lambda members: members | {name: change(members[name])}


def part_of(name: str) -> tuple[str, list[str]]:
    return ("noise", sorted(NOISE_KINDS)) if name.startswith("noise_") else ("likeliest tokens", sorted(TOP_KINDS))


@pytest.mark.parametrize(
    "record",
    [
        PLAIN,
        GOLDEN,
        replace(PLAIN, noise=SMALL_NOISE),
        replace(PLAIN, top=SMALL_TOP),
        replace(PLAIN, noise=replace(SMALL_NOISE, variants=(), untried=())),
        noisy_golden(calibrated=True),
    ],
    ids=["none", "both", "noise", "top", "no variants", "large"],
)
def test_noise_and_top_are_read_as_they_were_kept(record: Record) -> None:
    assert same(kept(record), record)


@given(st.none() | noises(), st.none() | tops())
def test_any_noise_is_read_as_it_was_kept(noise: Noise | None, top: TopProbabilities | None) -> None:
    record = replace(PLAIN, noise=noise, top=top)
    assert same(kept(record), record)
    assert pack(kept(record), npz_name=NPZ_NAME) == pack(record, npz_name=NPZ_NAME)


def test_json_tells_of_the_noise_what_people_want_to_know() -> None:
    assert DOCUMENT["noise"] == {
        "distinct_bit_patterns": 3,
        "num_tokens": 4,
        "num_windows": 2,
        "untried": ["The instruction set avx2 could not be tried: no."],
        "variants": [
            {
                "calibration": {"ece": 0.5},
                "context": {},
                "correct_drift": -1,
                "kl_top": 1e-6,
                "name": "attention eager",
                "num_top1_flips": 1,
            },
            {
                "calibration": {"ece": 0.25},
                "context": {},
                "correct_drift": -1,
                "kl_top": None,
                "name": "last bits, seed 0",
                "num_top1_flips": 1,
            },
        ],
    }
    assert DOCUMENT["top"] == {"num_likeliest": 3, "num_tokens": 2}
    assert (packed(PLAIN)[0]["noise"], packed(PLAIN)[0]["top"]) == (None, None)


def test_noise_changes_no_other_array() -> None:
    arrays, plain = npz_members(NPZ), npz_members(packed(PLAIN)[1])
    assert arrays.keys() - plain.keys() == KINDS.keys()
    for name in plain.keys() - {"judged_json"}:
        assert arrays[name].tobytes() == plain[name].tobytes()


@pytest.mark.parametrize("name", KINDS)
def test_missing_array_is_refused(name: str) -> None:
    part, expected = part_of(name)
    assert refusal_of(lambda members: {key: array for key, array in members.items() if key != name}) == (
        f"{DAMAGED}of its {part} it holds the arrays {[key for key in expected if key != name]}, "
        f"expected are {expected}."
    )


@pytest.mark.parametrize("name", ["noise_", "noise_extra", "top_", "top_extra"])
def test_extra_array_is_refused(name: str) -> None:
    part, expected = part_of(name)
    message = refusal_of(lambda members: members | {name: members["noise_nll"]})
    assert message == (
        f"{DAMAGED}of its {part} it holds the arrays {sorted([*expected, name])}, expected are {expected}."
    )


@pytest.mark.parametrize("name", ["noise_nll", "top_token"])
def test_arrays_beside_a_json_without_them_are_refused(name: str) -> None:
    part, expected = part_of(name)
    foreign = {key: array for key, array in npz_members(NPZ).items() if key in expected}
    assert refusal_of(lambda members: members | foreign, PLAIN) == (
        f"{DAMAGED}of its {part} it holds the arrays {expected}, expected are []."
    )


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "int64", "int32", "uint8"])
def test_array_of_another_kind_is_refused(name: str, kind: str) -> None:
    was, shape = KINDS[name].split("[", 1)
    if kind == was:
        assert same(kept(GOLDEN), GOLDEN)
        return
    assert refusal_of(with_array(name, lambda array: array.astype(kind))) == (
        f"{DAMAGED}its array {name} is {kind}[{shape}, expected is {KINDS[name]}."
    )


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "change",
    [lambda a: a[:-1], lambda a: a[:0], lambda a: a[None], lambda a: np.concatenate([a, a]), lambda a: a.ravel()[0]],
    ids=["shorter", "empty", "nested", "twice", "a number"],
)
def test_array_of_another_shape_is_refused(name: str, change: Callable[[Array], Array]) -> None:
    message = refusal_of(with_array(name, change))
    assert message.startswith(f"{DAMAGED}its array {name} is {KINDS[name].split('[')[0]}[")
    assert message.endswith(f", expected is {KINDS[name]}.")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.startswith("float")])
def test_array_that_is_not_finite_is_refused(name: str, value: float) -> None:
    def changed(array: Array) -> Array:
        found = array.copy()
        found.flat[-1] = value
        return found

    assert refusal_of(with_array(name, changed)) == f"{DAMAGED}its array {name} is not finite."


@pytest.mark.parametrize("token", [[4, 1], [1, 1], [-1, 3], [1, 6], [6, 7], [-2, -1], [2**31 - 1, -(2**31)]])
def test_sampled_tokens_that_do_not_ascend_within_the_run_are_refused(token: list[int]) -> None:
    assert refusal_of(with_array("top_token", lambda _: np.array(token, dtype=np.int32))) == (
        f"{DAMAGED}its array top_token does not ascend within its tokens."
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("noise", "distinct_bit_patterns"), 4),
        (("noise", "num_tokens"), 3),
        (("noise", "untried"), []),
        (("noise", "variants"), []),
        (("noise",), None),
        (("top", "num_tokens"), 1),
        (("top", "num_likeliest"), 2),
        (("top",), None),
    ],
)
def test_edit_by_hand_is_named(path: tuple[str, ...], value: Any) -> None:
    message = refusal(joined(placed(DOCUMENT, path, value), NPZ))
    assert f"was edited by hand in its field {'.'.join(path)}" in message
    assert message.endswith(f"; {REMEDY}.")


@pytest.mark.parametrize("field", ["kl_top", "correct_drift", "num_top1_flips"])
def test_edit_of_a_variant_by_hand_is_refused(field: str) -> None:
    first, *others = DOCUMENT["noise"]["variants"]
    edited = [first | {field: first[field] + 1}, *others]
    assert f"was edited by hand in its field noise.variants.0.{field}: " in refusal(
        joined(placed(DOCUMENT, ("noise", "variants"), edited), NPZ)
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("noise", "distinct_bit_patterns"), 0),
        (("noise", "num_tokens"), 0),
        (("noise", "num_windows"), "2"),
        (("noise", "untried"), [1]),
        (("noise", "extra"), 1),
        (("top", "num_likeliest"), 0),
        (("top", "num_tokens"), -1),
        (("top", "extra"), 1),
        (("noise",), []),
        (("top",), []),
    ],
)
def test_value_of_another_kind_is_refused_by_its_field(path: tuple[str, ...], value: Any) -> None:
    message = refusal(joined(placed(DOCUMENT, path, value), NPZ))
    assert f"is not valid in its field {'.'.join(path)}" in message


@settings(max_examples=100)
@given(index=st.integers(0, len(NPZ) - 1), flip=st.integers(1, 255))
def test_flipped_byte_is_refused(index: int, flip: int) -> None:
    changed = NPZ[:index] + bytes([NPZ[index] ^ flip]) + NPZ[index + 1 :]
    assert "does not match its arrays: the field arrays.sha256 is " in refusal(joined(DOCUMENT, changed))


BROKEN = np.array([np.inf, 0, 0, 0], dtype=np.float16)


@pytest.mark.parametrize(
    "record",
    [
        replace(GOLDEN, noise=replace(SMALL_NOISE, variants=(replace(SMALL_NOISE.variants[0], **changes),)))
        for changes in ({"drift": BROKEN}, {"kl_top": np.nan}, {"kl_top": np.inf}, {"calibration": {"ece": np.nan}})
    ]
    + [
        replace(GOLDEN, noise=replace(SMALL_NOISE, nll=SMALL_NOISE.nll * np.float32(np.nan))),
        replace(GOLDEN, top=replace(SMALL_TOP, log_probability=SMALL_TOP.log_probability * np.float32(np.inf))),
    ],
)
def test_noise_that_is_not_finite_is_never_written(record: Record) -> None:
    with pytest.raises(GoldenError) as caught:
        pack(record, npz_name=NPZ_NAME)
    assert str(caught.value) == (
        "The noise of tiny-smoke is not finite, which is never a golden; find out which harmless change overflows."
    )
