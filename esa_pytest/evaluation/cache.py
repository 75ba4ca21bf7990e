"""The user's cache folder: files and folders appear in it whole or not at all."""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock

PARTIAL = ".partial-"


def cache_root() -> Path:
    """`ESA_CACHE`, or the platform's cache folder of the user."""
    override = os.environ.get("ESA_CACHE")
    return Path(override).expanduser() if override else Path(platformdirs.user_cache_dir("esa-pytest"))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the machine-wide lock of a path; the lock files live in the cache, never beside the path."""
    locks = cache_root() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    name = str(path.resolve()).strip(os.sep).replace(os.sep, "+")
    with FileLock(locks / f"{name[-200:]}.lock"):
        yield


def build_folder(target: Path, build: Callable[[Path], None]) -> Path:
    """Make a folder once: `build` fills a partial one, which is then renamed into place.

    Two processes at once are safe: the second waits and finds the folder. What a killed process left is removed
    by the next, which holds the lock, so nobody can be filling it.

    Args:
        target: the folder to make; returned.
        build: fills the folder it is given, or raises.
    """
    if target.is_dir():
        return target
    with locked(target):
        if target.is_dir():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        for leftover in target.parent.glob(f"{PARTIAL}{target.name}-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        partial = target.parent / f"{PARTIAL}{target.name}-{secrets.token_hex(4)}"
        partial.mkdir()
        try:
            build(partial)
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return target


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file with new content that is on the disk before it takes the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{PARTIAL}{path.name}-{secrets.token_hex(4)}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove_partials(path: Path) -> None:
    """Remove what killed writers of a file left beside it; the caller holds the lock of the file."""
    for leftover in path.parent.glob(f"{PARTIAL}{path.name}-*"):
        leftover.unlink(missing_ok=True)
