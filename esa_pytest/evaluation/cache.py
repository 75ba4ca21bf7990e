"""The user's cache folder: files and folders appear in it whole or not at all."""

import glob
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock

from esa_pytest.errors import CacheError
from esa_pytest.homes import expanded

PARTIAL = ".partial-"


def cache_root() -> Path:
    """`ESA_CACHE`, or the platform's cache folder of the user."""
    override = os.environ.get("ESA_CACHE")
    return expanded(override, origin="ESA_CACHE") if override else Path(platformdirs.user_cache_dir("esa-pytest"))


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Give each failure of the block to write into a folder of the cache its sentence.

    Raises:
        CacheError: in place of the OSError.
    """
    try:
        yield
    except OSError as error:
        raise CacheError(
            f"The folder {folder} of the cache cannot be written ({error.strerror or error}); let it be written, or "
            f"set ESA_CACHE to a folder that can be."
        ) from None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the machine-wide lock of a path; the lock files live in the cache, never beside the path.

    Raises:
        CacheError: the cache cannot be written.
    """
    locks = cache_root() / "locks"
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
    with writing(locks):
        locks.mkdir(parents=True, exist_ok=True)
        held = FileLock(locks / f"{name}.lock").acquire()
    with held:
        yield


def build_folder(target: Path, build: Callable[[Path], None]) -> Path:
    """Make a folder once: `build` fills a partial one, which is then renamed into place.

    Two processes at once are safe: the second waits and finds the folder. What a killed process left is removed
    by the next, which holds the lock, so nobody can be filling it.

    Args:
        target: the folder to make; returned.
        build: fills the folder it is given, or raises.

    Raises:
        CacheError: the cache cannot be written.
    """
    if target.is_dir():
        return target
    with locked(target):
        if target.is_dir():
            return target
        partial = _new_partial(target)
        with writing(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            for leftover in _partials(target):
                shutil.rmtree(leftover, ignore_errors=True)
            partial.mkdir()
        try:
            build(partial)
            with writing(target.parent):
                partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return target


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file with new content that is on the disk before it takes the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _new_partial(path)
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
    for leftover in _partials(path):
        leftover.unlink(missing_ok=True)


def _new_partial(target: Path) -> Path:
    return target.with_name(f"{PARTIAL}{target.name}-{secrets.token_hex(4)}")


def _partials(target: Path) -> list[Path]:
    """Every partial of a target, and of no other whose name only begins alike."""
    return list(target.parent.glob(f"{PARTIAL}{glob.escape(target.name)}-{'[0-9a-f]' * 8}"))
