"""What a node sends is checked before it is written."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from esa_pytest.check.accepting import entry_of
from esa_pytest.cluster.arrivals import bring_home
from esa_pytest.cluster.jobs import Answer
from esa_pytest.errors import ClusterError, GoldenError
from esa_pytest.golden.files import read_golden
from esa_pytest.golden.ledger import line_of
from esa_pytest.golden.ledger_files import judged_sha256_of, read_ledger
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.golden.packing import pack, split_pair
from esa_pytest.records import Record
from esa_pytest.resume.marks import mark_path
from tests.unit.builders import small_record

FOLDER = "tiny__smoke"
TEST = "tests/test_it.py::test_baseline[tiny-smoke]"
MARK = mark_path(Path(), TEST).name
NOW = {
    "utc": "2026-11-24T12:00:00+00:00",
    "git_sha": None,
    "git_dirty": None,
    "command": "pytest",
    "reason": "a node's",
    "esa_pytest": "0",
}


def location(root: Path) -> GoldenLocation:
    return GoldenLocation(root=root, folder=FOLDER, device="cpu", dtype="bfloat16")


def recorded(root: Path, measured: Record, golden: Record | None = None) -> Answer:
    """What a node answers that recorded a golden against one that it knew of."""
    place = location(root)
    data = pack(measured, npz_name=place.npz.name)
    replaced = None if golden is None else judged_sha256_of(pack(golden, npz_name=place.npz.name))
    entry = entry_of(golden, measured, None, location=place, replaces=replaced, provenance=NOW, forced=False)
    text, npz = split_pair(data)
    return Answer(node="n", goldens={place.json.name: text, place.npz.name: npz}, ledger=line_of(entry))


def home(answer: Answer, root: Path) -> None:
    bring_home(answer, nodeid=TEST, folder=FOLDER, output_dir=root / "outputs", golden_dir=root / "goldens")


@pytest.mark.parametrize("name", ["../manifest.json", "a/b.json", ".hidden", "", "a\nb", "..", "/etc/passwd"])
def test_a_name_that_could_leave_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ClusterError, match="is no file of ours; nothing of it was kept"):
        home(Answer(node="n", outputs={name: b"x"}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_outputs_are_written_with_the_mark_last_and_no_old_manifest_beside_a_new_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "outputs" / FOLDER
    home(Answer(node="n", outputs={"manifest.json": b"old"}), tmp_path)
    outputs = {MARK: b"{}", "manifest.json": b"new", "a.txt": b"a"}
    written: list[str] = []

    def write(path: Path, data: bytes) -> None:
        assert path.name != "a.txt" or not (folder / "manifest.json").exists()
        written.append(path.name)
        path.write_bytes(data)

    monkeypatch.setattr("esa_pytest.cluster.arrivals.write_atomically", write)
    home(Answer(node="n", outputs=outputs), tmp_path)
    assert written == ["a.txt", "manifest.json", MARK]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == outputs


def test_a_node_that_resumed_leaves_the_documents_alone(tmp_path: Path) -> None:
    home(Answer(node="n", outputs={"manifest.json": b"old"}), tmp_path)
    home(Answer(node="n", outputs={MARK: b"{}"}), tmp_path)
    names = {path.name for path in (tmp_path / "outputs" / FOLDER).iterdir()}
    assert names == {"manifest.json", MARK}


def test_a_mark_goes_with_the_documents_that_it_vouched_for(tmp_path: Path) -> None:
    home(Answer(node="n", outputs={"manifest.json": b"old", MARK: b"{}", "judged-other.json": b"{}"}), tmp_path)
    home(Answer(node="n", outputs={"manifest.json": b"an error"}), tmp_path)
    names = {path.name for path in (tmp_path / "outputs" / FOLDER).iterdir()}
    assert names == {"manifest.json", "judged-other.json"}
    # A test that began anew and left nothing has no verdict either.
    home(Answer(node="n", outputs={MARK: b"{}"}), tmp_path)
    home(Answer(node="n"), tmp_path)
    assert not (tmp_path / "outputs" / FOLDER / MARK).exists()


def test_a_model_of_several_dtypes_comes_home(tmp_path: Path) -> None:
    home(Answer(node="n", outputs={"record-cpu-bfloat16+float32.json": b"{}"}), tmp_path)
    assert (tmp_path / "outputs" / FOLDER / "record-cpu-bfloat16+float32.json").read_bytes() == b"{}"


def test_a_golden_comes_home_with_its_line(tmp_path: Path) -> None:
    measured = small_record()
    home(recorded(tmp_path / "goldens", measured), tmp_path)
    found = read_golden(location(tmp_path / "goldens"))
    assert found is not None
    assert found.metrics == measured.metrics
    assert [entry.reason for entry in read_ledger(tmp_path / "goldens")] == ["a node's"]


def test_a_golden_that_changed_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    answer = recorded(tmp_path / "goldens", small_record())
    home(answer, tmp_path)
    with pytest.raises(ClusterError, match=r"about to replace it; record the baseline once more"):
        home(answer, tmp_path)
    assert len(read_ledger(tmp_path / "goldens")) == 1


def cut_short(place: GoldenLocation) -> None:
    place.npz.write_bytes(place.npz.read_bytes()[:-20])


def edited(place: GoldenLocation) -> None:
    text = place.json.read_text(encoding="utf-8")
    other = re.sub(r'("mean_nll":\s*)[0-9.]+', r"\g<1>9.5", text, count=1)
    assert other != text
    place.json.write_text(other, encoding="utf-8")


@pytest.mark.parametrize("damage", [cut_short, edited])
def test_what_a_node_could_not_read_is_recorded_anew_unless_somebody_mended_it(
    tmp_path: Path, damage: Callable[[GoldenLocation], None]
) -> None:
    place = location(tmp_path / "goldens")
    home(recorded(tmp_path / "goldens", small_record()), tmp_path)
    damage(place)
    with pytest.raises(GoldenError):
        read_golden(place)
    anew = recorded(tmp_path / "goldens", small_record())
    home(anew, tmp_path)
    assert read_golden(place) is not None
    with pytest.raises(ClusterError, match="was changed while this run was about to replace it"):
        home(anew, tmp_path)
    assert [entry.outcome for entry in read_ledger(tmp_path / "goldens")] == ["first", "unreadable"]


def test_a_damaged_golden_is_refused(tmp_path: Path) -> None:
    answer = recorded(tmp_path / "goldens", small_record())
    cut = {name: data[:-20] if name.endswith(".npz") else data for name, data in answer.goldens.items()}
    for goldens in (cut, {}, {name: data for name, data in cut.items() if name.endswith(".json")}):
        broken = answer.model_copy(update={"goldens": goldens or {"cpu-bfloat16.npz": b""}})
        with pytest.raises(ClusterError, match="What the node n recorded was not kept"):
            home(broken, tmp_path)
    assert not (tmp_path / "goldens").exists()
