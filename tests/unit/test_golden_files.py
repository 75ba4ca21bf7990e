import os
from dataclasses import replace
from pathlib import Path

import pytest

from esa_pytest.errors import GoldenError
from esa_pytest.golden.files import read_golden, read_packed, write_packed
from esa_pytest.golden.location import GoldenLocation, unwanted_goldens
from esa_pytest.golden.packing import REMEDY, pack
from esa_pytest.records import Record
from tests.unit.builders import content_of, small_record, token_scores
from tests.unit.killing import KilledError, Killer

OLD = small_record()
NEW = replace(small_record(token_scores([9.0, 8.0])), provenance={"reason": "accepted"})
NEWEST = replace(small_record(token_scores([7.0])), provenance={"reason": "accepted again"})
# Equal arrays, so that even the old npz fits the new JSON.
RETOLD = replace(OLD, provenance={"reason": "told otherwise"})


def place(root: Path, device: str = "cpu", dtype: str = "float32") -> GoldenLocation:
    return GoldenLocation(root=root, folder="tiny__smoke", device=device, dtype=dtype)


def write(location: GoldenLocation, record: Record) -> None:
    write_packed(location.json, pack(record, npz_name=location.npz.name))


def read(location: GoldenLocation) -> object:
    record = read_golden(location)
    return None if record is None else content_of(record)


def killed_write(location: GoldenLocation, record: Record, *, survived: int) -> bool:
    """Whether the kill came before the write was done."""
    data = pack(record, npz_name=location.npz.name)
    with pytest.MonkeyPatch.context() as patch:
        Killer(patch, survived=survived)
        try:
            write_packed(location.json, data)
        except KilledError:
            return True
    return False


def test_a_golden_under_the_name_of_another_device_is_not_believed(tmp_path: Path) -> None:
    write(place(tmp_path), OLD)
    other = place(tmp_path, device="cuda-sm90")
    other.json.write_bytes(place(tmp_path).json.read_bytes())
    other.npz.write_bytes(place(tmp_path).npz.read_bytes())
    with pytest.raises(GoldenError) as caught:
        read_golden(other)
    assert str(caught.value) == (
        f"The golden {other.json} is of the device cpu, and its name says cuda-sm90; {REMEDY}."
    )


def assert_only_the_pair_is_left(location: GoldenLocation) -> None:
    assert sorted(location.json.parent.iterdir()) == sorted([location.json, location.npz])


# Two files are opened, synced and renamed, and the pending JSON is renamed at the end.
STEPS = 7


@pytest.mark.parametrize("new", [NEW, RETOLD])
@pytest.mark.parametrize("old", [None, OLD])
@pytest.mark.parametrize("survived", range(STEPS))
def test_kill_at_any_step_leaves_the_old_golden_or_the_new(
    tmp_path: Path, survived: int, old: Record | None, new: Record
) -> None:
    location = place(tmp_path)
    if old is not None:
        write(location, old)
    assert killed_write(location, new, survived=survived)
    assert read(location) in (old if old is None else content_of(old), content_of(new))
    write(location, NEWEST)
    assert read(location) == content_of(NEWEST)
    assert_only_the_pair_is_left(location)


@pytest.mark.parametrize("first", range(STEPS))
@pytest.mark.parametrize("second", range(STEPS + 3))
def test_two_kills_in_a_row_lose_nothing(tmp_path: Path, first: int, second: int) -> None:
    location = place(tmp_path)
    write(location, OLD)
    assert killed_write(location, NEW, survived=first)
    before = read(location)
    # Three steps more: the second writer reads what the first had left, and may have to rename it first.
    killed_write(location, NEWEST, survived=second)
    assert read(location) in (before, content_of(NEWEST))
    write(location, RETOLD)
    assert read(location) == content_of(RETOLD)
    assert_only_the_pair_is_left(location)


def test_kill_comes_after_the_last_step_only_once_the_write_is_done(tmp_path: Path) -> None:
    location = place(tmp_path)
    assert not killed_write(location, NEW, survived=STEPS)
    assert read(location) == content_of(NEW)
    assert_only_the_pair_is_left(location)


@pytest.mark.parametrize("reads", [0, 1, 2])
def test_reader_during_a_write_finds_the_old_golden_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: int
) -> None:
    location = place(tmp_path)
    write(location, OLD)
    data = pack(NEW, npz_name=location.npz.name)
    read_bytes = Path.read_bytes
    done: list[Path] = []

    def read_and_be_overtaken(path: Path) -> bytes:
        if len(done) == reads:
            monkeypatch.setattr(Path, "read_bytes", read_bytes)
            write_packed(location.json, data)
        done.append(path)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", read_and_be_overtaken)
    assert read(location) in (content_of(OLD), content_of(NEW))


def test_disk_that_is_full_leaves_the_old_golden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = place(tmp_path)
    write(location, OLD)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(location, NEW)
    assert read(location) == content_of(OLD)
    assert_only_the_pair_is_left(location)


def test_no_golden_is_none(tmp_path: Path) -> None:
    assert read_golden(place(tmp_path)) is None
    assert read_packed(place(tmp_path)) is None


def test_json_without_its_arrays_is_refused(tmp_path: Path) -> None:
    location = place(tmp_path)
    write(location, OLD)
    location.npz.unlink()
    with pytest.raises(GoldenError) as caught:
        read_golden(location)
    assert str(caught.value) == f"The golden {location.json} lacks its arrays cpu-float32.npz; {REMEDY}."


def test_arrays_without_their_json_are_no_golden(tmp_path: Path) -> None:
    location = place(tmp_path)
    write(location, OLD)
    location.json.unlink()
    assert read_golden(location) is None


@pytest.mark.parametrize(
    "pending",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"arrays": 1}',
        b'{"arrays": {}}',
        b"\xff",
        pytest.param(b"[" * 100_000, id="nested too deeply"),
    ],
)
def test_damaged_pending_json_does_not_hide_the_golden(tmp_path: Path, pending: bytes) -> None:
    location = place(tmp_path)
    write(location, OLD)
    location.json.with_name(".pending-cpu-float32.json").write_bytes(pending)
    assert read(location) == content_of(OLD)
    write(location, NEW)
    assert read(location) == content_of(NEW)
    assert_only_the_pair_is_left(location)


def test_refusal_of_a_file_names_its_path(tmp_path: Path) -> None:
    location = place(tmp_path)
    write(location, OLD)
    location.json.write_bytes(location.json.read_bytes()[:-10])
    with pytest.raises(GoldenError) as caught:
        read_golden(location)
    assert str(caught.value).startswith(f"The golden {location.json} is no JSON, it may be cut short (")


def test_place_is_named_by_baseline_device_and_dtype(tmp_path: Path) -> None:
    location = place(tmp_path, "cuda-sm90", "bfloat16")
    assert location.json == tmp_path / "tiny__smoke" / "cuda-sm90-bfloat16.json"
    assert location.npz == tmp_path / "tiny__smoke" / "cuda-sm90-bfloat16.npz"


def test_other_devices_are_those_of_the_same_dtype(tmp_path: Path) -> None:
    for device, dtype in [
        ("cpu", "float32"),
        ("cuda-sm90", "float32"),
        ("cuda-sm80", "float32"),
        ("cuda-sm70", "float16"),
    ]:
        write(place(tmp_path, device, dtype), OLD)
    assert place(tmp_path).other_devices() == ("cuda-sm80", "cuda-sm90")
    assert place(tmp_path, "cuda-sm90").other_devices() == ("cpu", "cuda-sm80")
    assert place(tmp_path, "cpu", "bfloat16").other_devices() == ()


@pytest.mark.parametrize(
    ("own", "order"),
    [
        ("cuda-sm90", ["cpu", "cuda-sm89", "cuda-sm80", "cuda-sm100"]),
        ("cuda-sm100", ["cpu", "cuda-sm89", "cuda-sm80"]),
        ("cpu", ["cuda-sm80", "cuda-sm89", "cuda-sm100"]),
    ],
)
def test_the_golden_of_the_nearest_device_is_asked_first(tmp_path: Path, own: str, order: list[str]) -> None:
    """Whatever goldens of newer devices join: as text sm100 would come before sm80."""
    for device in ("cpu", "cuda-sm100", "cuda-sm80", "cuda-sm89"):
        write(place(tmp_path, device), OLD)
    assert [found.device for found in place(tmp_path, own).elsewhere()] == order


def test_what_a_killed_writer_left_is_no_other_device(tmp_path: Path) -> None:
    assert killed_write(place(tmp_path), NEW, survived=STEPS - 1)
    assert place(tmp_path, "cuda-sm90").other_devices() == ()


def test_goldens_that_nobody_wants_are_told_and_kept(tmp_path: Path) -> None:
    for folder in ("b__smoke", "a__smoke", "wanted__smoke", "unrelated"):
        (tmp_path / folder).mkdir()
    (tmp_path / "a__file").touch()
    assert unwanted_goldens(tmp_path, {"wanted__smoke"}) == (tmp_path / "a__smoke", tmp_path / "b__smoke")
    assert (tmp_path / "a__smoke").is_dir()


def test_missing_folder_holds_no_unwanted_golden(tmp_path: Path) -> None:
    assert unwanted_goldens(tmp_path / "gone", set()) == ()
