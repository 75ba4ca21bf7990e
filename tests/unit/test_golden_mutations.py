import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esa_pytest.errors import GoldenError
from esa_pytest.golden.packing import REMEDY, join_pair, unpack
from esa_pytest.records import ResourceNoise, ResourceRound
from tests.unit.builders import (
    CALIBRATION,
    IDENTITY,
    NAME,
    PROVEN,
    content_of,
    joined,
    keys,
    leaf_values,
    nested,
    packed,
    scalars,
    small_record,
    texts,
)
from tests.unit.probe_builders import NOISE, PROBE, probed
from tests.unit.trees import leaf_paths, mapping_paths, placed, removed, value_at

Place = tuple[str, ...]
RESOURCE_NOISE = ResourceNoise(
    rounds=(
        ResourceRound(efficiency=0.5, peak_bytes=2**20, disturbance=None),
        ResourceRound(efficiency=None, peak_bytes=None, disturbance="it was busy"),
    )
)
RECORD = probed(replace(small_record(), calibration=CALIBRATION, resource_noise=RESOURCE_NOISE), PROBE, NOISE)
DOCUMENT, NPZ = packed(RECORD)
TEXT = json.dumps(DOCUMENT)
UNJUDGED = ("provenance",)
LEAVES = [path for path in leaf_paths(DOCUMENT) if path[0] not in UNJUDGED]
MAPPINGS = [path for path in mapping_paths(DOCUMENT) if path[:1] not in [(part,) for part in UNJUDGED]]
# The hash of the arrays seals them, and has its own tests below.
EDITABLE = [path for path in LEAVES if path[0] != "arrays"]


def refusal(data: bytes) -> str:
    with pytest.raises(GoldenError) as caught:
        unpack(data, name=NAME)
    message = str(caught.value)
    assert message.startswith(f"The golden {NAME} ")
    return message


def refusal_of(document: Mapping[str, Any]) -> str:
    return refusal(joined(document, NPZ))


def refusal_of_literal(path: Place, literal: str) -> str:
    text = json.dumps(placed(DOCUMENT, path, "@literal@")).replace('"@literal@"', literal)
    return refusal(join_pair(text.encode(), NPZ))


def dotted(path: Place) -> str:
    return ".".join(path)


def lookalikes(value: Any) -> list[Any]:
    """What a careless comparison, or a careless eye, takes for the same value."""
    if isinstance(value, bool):
        return [int(value), float(value), str(value).lower(), not value]
    if isinstance(value, int):
        return [float(value), str(value), bool(value), value + 1, -value, 10**400]
    if isinstance(value, float):
        return [int(value), str(value), math.nextafter(value, math.inf), -value, 10**400, [value]]
    if isinstance(value, str):
        return [f"{value} ", value.upper(), value[:-1], [value], ""]
    if isinstance(value, list):
        return [value[:-1], value[::-1], [*value, None], dict.fromkeys(map(str, value)), str(value)]
    return [0, False, "", "null", []]


@st.composite
def edits(draw: st.DrawFn) -> tuple[Place, Any]:
    path = draw(st.sampled_from(EDITABLE))
    old = value_at(DOCUMENT, path)
    new = draw(st.sampled_from(lookalikes(old)) | leaf_values | nested(scalars))
    return path, new


def test_unedited_golden_is_accepted() -> None:
    assert content_of(unpack(joined(DOCUMENT, NPZ), name=NAME)) == content_of(RECORD)


@settings(max_examples=1000)
@given(edits().filter(lambda edit: json.dumps(value_at(DOCUMENT, edit[0])) != json.dumps(edit[1])))
def test_edited_leaf_is_refused_by_its_name(edit: tuple[Place, Any]) -> None:
    path, value = edit
    assert f"field {dotted(path)}" in refusal_of(placed(DOCUMENT, path, value))


@pytest.mark.parametrize("path", LEAVES, ids=dotted)
def test_deleted_leaf_is_refused_by_its_name(path: Place) -> None:
    assert f"field {dotted(path)}" in refusal_of(removed(DOCUMENT, path))


@pytest.mark.parametrize("path", [path for path in MAPPINGS if path], ids=dotted)
def test_deleted_part_is_refused_by_its_name(path: Place) -> None:
    assert f"field {dotted(path)}" in refusal_of(removed(DOCUMENT, path))


@settings(max_examples=300)
@given(path=st.sampled_from(MAPPINGS), key=keys, value=leaf_values | nested(scalars, min_size=1))
def test_added_key_is_refused_by_its_name(path: Place, key: str, value: Any) -> None:
    name = key if key not in value_at(DOCUMENT, path) else f"{key}'"
    assert f"field {dotted((*path, name))}" in refusal_of(placed(DOCUMENT, (*path, name), value))


def test_added_empty_object_is_refused_by_its_name() -> None:
    path = ("identity", "checkpoint", "config", "rope_scaling")
    assert f"field {dotted(path)}" in refusal_of(placed(DOCUMENT, path, {}))


def test_object_split_into_a_dotted_key_is_refused() -> None:
    flattened = removed(DOCUMENT, ("identity", "tokenizer"))
    refusal_of(placed(flattened, ("identity", "tokenizer.sha256"), "b" * 64))


def test_edited_name_of_the_arrays_is_refused_by_its_name() -> None:
    assert "field arrays.file" in refusal_of(placed(DOCUMENT, ("arrays", "file"), "other.npz"))


@pytest.mark.parametrize("value", ["0" * 64, "", None, 1, "g" * 64])
def test_edited_hash_of_the_arrays_is_refused_by_its_name(value: Any) -> None:
    assert "field arrays.sha256" in refusal_of(placed(DOCUMENT, ("arrays", "sha256"), value))


def test_message_of_an_edit_says_what_was_and_what_is() -> None:
    edited = placed(DOCUMENT, ("identity", "checkpoint", "config", "hidden"), 8.0)
    assert refusal_of(edited) == (
        f"The golden {NAME} was edited by hand in its field identity.checkpoint.config.hidden: "
        f"it says 8.0, recorded was 8; {REMEDY}."
    )


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("path", list(leaf_paths(DOCUMENT)), ids=dotted)
def test_constant_that_is_no_number_is_refused_anywhere(path: Place, constant: str) -> None:
    assert refusal_of_literal(path, constant) == (
        f"The golden {NAME} is not finite in its field {dotted(path)}; {REMEDY}."
    )


@pytest.mark.parametrize("literal", ["1e999", "-1e999", "[1e999]"])
@pytest.mark.parametrize(
    "path",
    [
        ("schema_version",),
        ("metrics", "nll_sum"),
        ("metrics", "num_scored_tokens"),
        ("bit_stability", "fresh_processes"),
        ("environment", "cpu.threads"),
        ("identity", "checkpoint", "config", "theta"),
    ],
    ids=dotted,
)
def test_number_too_large_for_a_float_is_refused_by_its_name(path: Place, literal: str) -> None:
    assert f"field {dotted(path)}" in refusal_of_literal(path, literal)


@pytest.mark.parametrize("path", [("baseline",), ("identity", "model", "dtype")], ids=dotted)
def test_lone_surrogate_is_refused_by_its_name(path: Place) -> None:
    assert f"field {dotted(path)}" in refusal_of_literal(path, '"\\ud800"')


@pytest.mark.parametrize("path", list(leaf_paths(DOCUMENT)), ids=dotted)
@pytest.mark.parametrize("same", [True, False])
def test_field_that_is_there_twice_is_refused_by_its_name(path: Place, *, same: bool) -> None:
    *parent, key = path
    second = value_at(DOCUMENT, path) if same else "other"
    document = placed(DOCUMENT, (*parent, "@twice@"), second)
    text = json.dumps(document).replace('"@twice@"', json.dumps(key))
    assert refusal(join_pair(text.encode(), NPZ)) == f"The golden {NAME} has the field {key!r} twice; {REMEDY}."


@pytest.mark.parametrize("version", [1, 2, 3, 4, 6, 99, 0, -1, "5", 2.5, 5.0, True, None, [1], {"major": 1}])
def test_other_schema_is_refused(version: Any) -> None:
    assert "field schema_version" in refusal_of(placed(DOCUMENT, ("schema_version",), version))


def test_golden_of_a_later_release_is_told_what_to_install() -> None:
    document = placed(DOCUMENT, ("schema_version",), 6) | {"kl_divergence": 0.1}
    assert refusal_of(document) == (
        f"The golden {NAME} has the field schema_version 6; this release reads 5, so install the release that wrote "
        "it, or record it anew with --snapshot-update."
    )


def reordered(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: reordered(value[key]) for key in reversed(value)}
    return value


@pytest.mark.parametrize("indent", [None, 1, 7, "\t"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_layout_of_the_json_does_not_matter(indent: int | str | None, *, ascii_only: bool) -> None:
    text = json.dumps(reordered(DOCUMENT), indent=indent, ensure_ascii=ascii_only)
    record = unpack(join_pair(f" \n{text}\r\n".encode(), NPZ), name=NAME)
    assert content_of(record) == content_of(RECORD)


@given(provenance=st.dictionaries(texts, st.none() | st.booleans() | texts, max_size=3))
def test_provenance_may_be_edited(provenance: dict[str, Any]) -> None:
    record = unpack(joined({**DOCUMENT, "provenance": provenance}, NPZ), name=NAME)
    assert record.provenance == provenance
    assert record.identity == IDENTITY
    assert record.bit_stability == PROVEN


def test_json_cut_short_anywhere_is_refused() -> None:
    whole = TEXT.encode()
    for length in range(len(whole)):
        assert "is no JSON, it may be cut short" in refusal(join_pair(whole[:length], NPZ))


@pytest.mark.parametrize("text", ["[]", "null", "1", '"text"', "true"])
def test_json_that_is_no_object_is_refused(text: str) -> None:
    assert "is no JSON object but a" in refusal(join_pair(text.encode(), NPZ))


@pytest.mark.parametrize(
    "text",
    [
        b"\xff\xfe\x00",
        b"\x89PNG\r\n",
        pytest.param(b"[" * 100_000, id="nested too deeply"),
        b"{",
        pytest.param(b"1" * 5000, id="too many digits"),
        b"<<<<<<< ours",
    ],
)
def test_bytes_that_are_no_json_are_refused(text: bytes) -> None:
    assert "is no JSON, it may be cut short" in refusal(join_pair(text, NPZ))


@pytest.mark.parametrize("depth", [100, 900, 1100, 1500, 5000])
def test_deeply_nested_field_is_refused(depth: int) -> None:
    refusal_of_literal(("identity", "tokens", "sha256"), '{"a":' * depth + "1" + "}" * depth)
