from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.resume.key import why_again
from esa_pytest.resume.marks import Mark, forget_mark, mark_path, read_mark, standing_mark, write_mark
from esa_pytest.resume.states import golden_state, source_state

TEST = "tests/test_it.py::test_baseline[tiny-smoke]"
KEYS = st.dictionaries(st.sampled_from(["golden", "code", "version.torch", "env.A"]), st.text(max_size=3))


def mark(**changes: object) -> Mark:
    fields = {"nodeid": TEST, "run": "r1", "utc": "now", "key": {"golden": "a"}, "reports": ({"when": "call"},)}
    return Mark.model_validate(fields | changes)


def test_a_mark_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = mark(reports=({"when": "call", "user_properties": [["x", float("inf")]]},))
    write_mark(tmp_path, written)
    assert read_mark(tmp_path, TEST) == written
    assert read_mark(tmp_path, f"{TEST}!") is None
    assert [path.name for path in tmp_path.iterdir()] == [mark_path(tmp_path, TEST).name]


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b"\xff", b'{"version": 2}'])
def test_a_damaged_mark_and_one_of_another_test_are_none(tmp_path: Path, damage: bytes) -> None:
    mark_path(tmp_path, TEST).write_bytes(damage)
    assert read_mark(tmp_path, TEST) is None
    mark_path(tmp_path, TEST).write_text(mark(nodeid="another").model_dump_json(), encoding="utf-8")
    assert read_mark(tmp_path, TEST) is None


def test_a_run_forgets_the_marks_of_others_and_not_its_own(tmp_path: Path) -> None:
    write_mark(tmp_path, mark())
    forget_mark(tmp_path, TEST, unless_of="r1")
    assert read_mark(tmp_path, TEST) is not None
    forget_mark(tmp_path, TEST, unless_of="r2")
    assert not list(tmp_path.iterdir())
    forget_mark(tmp_path, TEST, unless_of="r2")


def test_a_mark_stands_beside_its_manifest_alone(tmp_path: Path) -> None:
    write_mark(tmp_path, mark())
    assert standing_mark(tmp_path, TEST) is None
    (tmp_path / "manifest.json").write_bytes(b"{}")
    assert standing_mark(tmp_path, TEST) == mark()
    forget_mark(tmp_path, TEST)
    assert standing_mark(tmp_path, TEST) is None


@given(KEYS, KEYS)
def test_a_verdict_stands_under_the_very_same_key_alone(old: dict[str, str], new: dict[str, str]) -> None:
    assert (why_again(old, new) is None) == (old == new)


def test_the_changes_are_told_with_what_lies_in_files_first() -> None:
    old = {"version.torch": "2.13.0", "golden": "a", "env.A": "1"}
    new = {"version.torch": "2.14.0", "golden": "b", "setting.rounds": "2"}
    assert why_again(old, new) == (
        "golden changed; env.A 1 -> (none); setting.rounds (none) -> 2; version.torch 2.13.0 -> 2.14.0"
    )


def test_a_golden_of_any_device_and_any_conftest_above_a_test_count(tmp_path: Path) -> None:
    folder, below = tmp_path / "goldens", tmp_path / "root/tests"
    folder.mkdir()
    below.mkdir(parents=True)
    (folder / "cpu.json").write_bytes(b"1")
    before = golden_state(folder)
    (folder / ".pending-cpu.json").write_bytes(b"2")
    assert golden_state(folder) == before
    (folder / "cuda.json").write_bytes(b"2")
    assert golden_state(folder) != before

    states = [source_state(below / "test_it.py", tmp_path / "root")]
    for path in (below / "test_it.py", below / "conftest.py", tmp_path / "root/conftest.py"):
        path.write_text("# changed", encoding="utf-8")
        states.append(source_state(below / "test_it.py", tmp_path / "root"))
    assert len(set(states)) == 4
    (tmp_path / "conftest.py").write_text("# beyond the rootdir", encoding="utf-8")
    assert source_state(below / "test_it.py", tmp_path / "root") == states[-1]
