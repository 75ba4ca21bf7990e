"""A cache that cannot be written is told in a sentence where it is needed, and missed by nobody where it is not."""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from esa_pytest.errors import CacheError
from esa_pytest.evaluation import kept_hashes
from esa_pytest.evaluation.cache import build_folder, cache_root, locked
from esa_pytest.evaluation.kept_hashes import once_per_state
from esa_pytest.evaluation.leases import lease_gpu


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ESA_CACHE names a regular file, below which nobody can write, not even root."""
    path = tmp_path / "a-file"
    path.write_text("no folder", encoding="utf-8")
    monkeypatch.setenv("ESA_CACHE", str(path))
    return path


def refuse(*_: Any, **__: Any) -> None:
    raise OSError(30, "Read-only file system")


def sentence(folder: Path, cause: str) -> str:
    return (
        f"The folder {folder} of the cache cannot be written ({cause}); let it be written, or set ESA_CACHE to a "
        f"folder that can be."
    )


def take_lock() -> None:
    with locked(cache_root() / "anything"):
        pytest.fail("it is locked")


@pytest.mark.parametrize(
    ("name", "ask"),
    [
        ("locks", take_lock),
        ("locks", lambda: build_folder(cache_root() / "models" / "tiny", lambda _: pytest.fail("it is built"))),
        ("gpus", lambda: lease_gpu(["GPU-aaaa"])),
    ],
)
def test_what_needs_the_cache_says_that_it_cannot_be_written(cache: Path, name: str, ask: Callable[[], None]) -> None:
    with pytest.raises(CacheError) as caught:
        ask()
    assert str(caught.value) == sentence(cache / name, "Not a directory")


def test_a_folder_beside_locks_that_can_be_held_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESA_CACHE", str(tmp_path))
    (tmp_path / "models").write_text("no folder", encoding="utf-8")
    with pytest.raises(CacheError) as caught:
        build_folder(tmp_path / "models" / "tiny", lambda _: pytest.fail("it is built"))
    assert str(caught.value) == sentence(tmp_path / "models", "File exists")


def test_a_lock_on_a_read_only_file_system_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESA_CACHE", str(tmp_path))
    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(CacheError) as caught:
        take_lock()
    assert str(caught.value) == sentence(tmp_path / "locks", "Read-only file system")


def test_what_a_build_itself_fails_by_is_not_laid_to_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESA_CACHE", str(tmp_path))
    with pytest.raises(OSError, match="Read-only"):
        build_folder(tmp_path / "tiny", refuse)


def hashed(files: Sequence[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose hash would be kept: it has been left alone for a while, and lies on a disk."""
    path = tmp_path / "weights"
    path.write_bytes(b"a" * 100)
    monkeypatch.setattr(kept_hashes, "time_ns", lambda: time.time_ns() + 10**10)
    monkeypatch.setattr(kept_hashes, "_MOUNTS", Path(os.devnull))
    return path


@pytest.mark.parametrize("anew", [True, False])
def test_a_hash_that_cannot_be_locked_is_computed_and_not_kept(cache: Path, weights: Path, *, anew: bool) -> None:
    assert once_per_state([weights], hashed, kind="test", anew=anew) == hashed([weights])


def test_a_hash_that_cannot_be_written_is_computed_and_not_kept(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESA_CACHE", str(tmp_path / "cache"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        assert once_per_state([weights], hashed, kind="test") == hashed([weights])
    assert list((tmp_path / "cache" / "hashes").iterdir()) == []
    once_per_state([weights], hashed, kind="test")
    assert len(list((tmp_path / "cache" / "hashes").iterdir())) == 1


def test_what_hashing_itself_fails_by_is_told(cache: Path, weights: Path) -> None:
    calls = []

    def fail(files: Sequence[Path]) -> str:
        calls.append(files)
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        once_per_state([weights], fail, kind="test")
    assert len(calls) == 1
