import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from esa_pytest.errors import GoldenError
from esa_pytest.golden.files import read_golden, write_packed
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.golden.packing import join_pair, pack, split_pair, unpack
from esa_pytest.records import BitStability, NonFinite, Record
from tests.unit.builders import NAME, NPZ_NAME, content_of, packed, records, small_record


def location(root: Path) -> GoldenLocation:
    return GoldenLocation(root=root, folder="tiny__smoke", device="cpu", dtype="float32")


@settings(max_examples=300)
@given(records())
def test_unpacked_record_is_the_packed_one(record: Record) -> None:
    assert content_of(unpack(pack(record, npz_name=NPZ_NAME), name=NAME)) == content_of(record)


@given(records())
def test_equal_content_gives_equal_bytes(record: Record) -> None:
    data = pack(record, npz_name=NPZ_NAME)
    reversed_keys = replace(record, identity={key: record.identity[key] for key in reversed(list(record.identity))})
    assert pack(reversed_keys, npz_name=NPZ_NAME) == data
    assert pack(unpack(data, name=NAME), npz_name=NPZ_NAME) == data


@settings(max_examples=30)
@given(records())
def test_record_survives_its_files(tmp_path_factory: pytest.TempPathFactory, record: Record) -> None:
    place = location(tmp_path_factory.mktemp("goldens"))
    record = replace(record, device=place.device)
    write_packed(place.json, pack(record, npz_name=place.npz.name))
    found = read_golden(place)
    assert found is not None
    assert content_of(found) == content_of(record)


def test_pair_of_files_holds_what_was_packed(tmp_path: Path) -> None:
    place = location(tmp_path)
    data = pack(small_record(), npz_name=place.npz.name)
    write_packed(place.json, data)
    assert join_pair(place.json.read_bytes(), place.npz.read_bytes()) == data
    assert sorted(path.name for path in place.json.parent.iterdir()) == ["cpu-float32.json", "cpu-float32.npz"]


def test_json_is_made_for_people_and_diffs() -> None:
    record = replace(small_record(), provenance={"reason": "weil es größer ist"})
    text = split_pair(pack(record, npz_name=NPZ_NAME))[0].decode()
    assert '"reason": "weil es größer ist"' in text
    assert text.endswith("}\n")
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def test_provenance_changes_no_array() -> None:
    record = small_record()
    other = replace(record, provenance={"reason": "later"})
    assert packed(other)[1] == packed(record)[1]


def test_plain_run_is_read_as_one_that_proves_nothing() -> None:
    plain = replace(small_record(), bit_stability=None)
    found = unpack(pack(plain, npz_name=NPZ_NAME), name=NAME)
    assert found.bit_stability == BitStability(fresh_processes=0, distinct_bit_patterns=1)
    assert not found.bit_stability.proven


@pytest.mark.parametrize(
    "record",
    [
        replace(small_record(), non_finite=NonFinite(what="nll")),
        replace(small_record(), metrics=None),
    ],
)
def test_run_that_is_not_finite_is_never_packed(record: Record) -> None:
    with pytest.raises(GoldenError) as caught:
        pack(record, npz_name=NPZ_NAME)
    assert str(caught.value) == "A run of tiny-smoke that is not finite is never a golden."
