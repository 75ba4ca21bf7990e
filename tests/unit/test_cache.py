import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from esa_pytest.evaluation.cache import build_folder, cache_root, locked, remove_partials, write_atomically


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_folder_is_built_whole_and_once(tmp_path: Path) -> None:
    target, builds = tmp_path / "models" / "tiny", []

    def build(partial: Path) -> None:
        builds.append(partial)
        assert not target.exists()
        (partial / "weights").write_text("all", encoding="ascii")

    assert build_folder(target, build) == build_folder(target, build) == target
    assert (target / "weights").read_text(encoding="ascii") == "all"
    assert len(builds) == 1
    assert listing(target.parent) == ["tiny"]


def test_two_builders_at_once_build_once_and_the_second_waits(tmp_path: Path) -> None:
    target, builds = tmp_path / "tiny", []
    begun, may_end = threading.Event(), threading.Event()

    def build(partial: Path) -> None:
        builds.append(partial)
        begun.set()
        assert may_end.wait(60)
        (partial / "weights").write_text("all", encoding="ascii")

    def build_and_read() -> str:
        return (build_folder(target, build) / "weights").read_text(encoding="ascii")

    with ThreadPoolExecutor() as pool:
        first = pool.submit(build_and_read)
        assert begun.wait(60)
        second = pool.submit(build_and_read)
        with pytest.raises(TimeoutError):
            second.result(timeout=0.2)
        may_end.set()
        assert first.result(60) == second.result(60) == "all"
    assert len(builds) == 1


def test_many_builders_of_two_folders_build_each_once(tmp_path: Path) -> None:
    builds: list[str] = []

    def build(partial: Path) -> None:
        builds.append(partial.name.split("-")[1])
        (partial / "weights").touch()

    targets = [tmp_path / name for name in ("one", "two")] * 8
    with ThreadPoolExecutor(max_workers=16) as pool:
        assert list(pool.map(lambda target: build_folder(target, build), targets)) == targets
    assert sorted(builds) == ["one", "two"]
    assert listing(tmp_path) == ["one", "two"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failing_build_leaves_nothing_and_can_be_repeated(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "tiny"

    def fail(partial: Path) -> None:
        (partial / "weights").write_text("half", encoding="ascii")
        raise error

    with pytest.raises(error):
        build_folder(target, fail)
    assert listing(tmp_path) == []
    build_folder(target, lambda partial: (partial / "weights").touch())
    assert listing(target) == ["weights"]


def test_leftovers_of_killed_builds_are_removed_and_no_others(tmp_path: Path) -> None:
    for name in (".partial-tiny-0a1b2c3d", ".partial-tiny-2c3d4e5f", ".partial-large-4e5f6071"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "weights").write_text("half", encoding="ascii")
    build_folder(tmp_path / "tiny", lambda partial: (partial / "weights").touch())
    assert listing(tmp_path) == [".partial-large-4e5f6071", "tiny"]
    assert listing(tmp_path / "tiny") == ["weights"]


def test_leftover_of_a_longer_name_may_be_a_build_in_progress_and_is_kept(tmp_path: Path) -> None:
    (tmp_path / ".partial-tiny-instruct-0a1b2c3d").mkdir()
    build_folder(tmp_path / "tiny", lambda partial: (partial / "weights").touch())
    assert ".partial-tiny-instruct-0a1b2c3d" in listing(tmp_path)


def test_file_appears_with_its_folders_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "document.json"
    write_atomically(path, b"first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert listing(path.parent) == ["document.json"]


@pytest.mark.parametrize(("owner", "step"), [(os, "fsync"), (Path, "replace")])
def test_write_that_fails_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str
) -> None:
    path = tmp_path / "document.json"
    write_atomically(path, b"old")

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(owner, step, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["document.json"]


def test_content_is_on_the_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def noted(name: str, action: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any) -> Any:
            order.append(name)
            return action(*arguments)

        return act

    monkeypatch.setattr(os, "fsync", noted("fsync", os.fsync))
    monkeypatch.setattr(Path, "replace", noted("replace", Path.replace))
    write_atomically(tmp_path / "document.json", b"content")
    assert order == ["fsync", "replace"]


def test_partials_of_one_file_are_removed_and_no_others(tmp_path: Path) -> None:
    for name in (".partial-a.json-00000000", ".partial-a.json-ffffffff", ".partial-b.json-00000000", "a.json"):
        (tmp_path / name).touch()
    remove_partials(tmp_path / "a.json")
    assert listing(tmp_path) == [".partial-b.json-00000000", "a.json"]


def test_lock_lies_in_the_cache_and_not_beside_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESA_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "goldens" / "a.json"
    path.parent.mkdir()
    with locked(path):
        assert listing(path.parent) == []
        assert len(listing(tmp_path / "cache" / "locks")) == 1


def test_lock_of_a_path_with_a_very_long_name_can_be_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESA_CACHE", str(tmp_path / "cache"))
    with locked(tmp_path.joinpath(*["ä" * 60] * 6)):
        assert len(listing(tmp_path / "cache" / "locks")) == 1


def test_cache_is_where_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESA_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ESA_CACHE", "~/models")
    assert cache_root() == tmp_path / "models"


@pytest.mark.parametrize("value", [None, ""])
def test_cache_is_the_users_own_without_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("ESA_CACHE") if value is None else monkeypatch.setenv("ESA_CACHE", value)
    assert cache_root().name == "esa-pytest"
