"""Hashes of files, kept in the cache for as long as it is certain that the files are what they were.

The state of a file is its path, device, inode, size, and the times at which its content and its status changed last.
Whoever changes the content moves one of them, but for these, which are therefore never relied on:

- a second change within one tick of the file system's clock: a file counts once it has been left alone for a while;
- a clock that was set back: neither a hash from the future nor a file from the future counts;
- a store through a writable mapping into a page that was not yet written out: files are written out before they are
  hashed, and every later store is told;
- such stores on a file system in memory, which tells of none of them: nothing that lies there counts.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from time import time_ns

from esa_pytest.errors import CacheError
from esa_pytest.evaluation.cache import cache_root, locked, write_atomically

# The coarsest clock of a file system in use, FAT's.
SETTLED_NS = 2_000_000_000
_MOUNTS = Path("/proc/self/mountinfo")
_IN_MEMORY = ("tmpfs", "ramfs")
_SHA256 = re.compile(r"[0-9a-f]{64}")

# Path, device, inode, size, and in nanoseconds the times of the last change of content and of status.
FileState = list[str | int]


def once_per_state(
    files: Sequence[Path], compute: Callable[[Sequence[Path]], str], *, kind: str, anew: bool = False
) -> str:
    """The hash of some files, computed once by all processes together for each state of the files.

    Args:
        files: what is hashed.
        compute: hashes them.
        kind: of the hash, a name.
        anew: whether what was kept is to be ignored, and replaced.

    Raises:
        Exception: whatever `compute` raises.
    """
    names = json.dumps([kind, *(str(path.resolve()) for path in files)])
    entry = cache_root() / "hashes" / f"{hashlib.sha256(names.encode()).hexdigest()}.json"
    if not anew and (known := _kept(entry, files)) is not None:
        return known
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(entry))
        except CacheError:
            # The hash is what is asked for; that it cannot be kept only costs the time to hash again.
            return compute(files)
        # Another process may have hashed them while this one waited.
        if not anew and (known := _kept(entry, files)) is not None:
            return known
        return _computed(entry, files, compute)


def _kept(entry: Path, files: Sequence[Path]) -> str | None:
    """The hash in an entry of the cache, None where it may not be that of the files as they are now."""
    try:
        found = json.loads(entry.read_bytes())
        state, hashed_at, digest = found["state"], int(found["hashed_at"]), str(found["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not _SHA256.fullmatch(digest) or hashed_at > time_ns():
        return None
    return digest if state == [_state(path) for path in files] else None


def _computed(entry: Path, files: Sequence[Path], compute: Callable[[Sequence[Path]], str]) -> str:
    """Hash the files now, and keep the hash if they will show whatever is done to them from now on."""
    now, state = time_ns(), [_state(path) for path in files]
    if not all(_tells(file, now) for file in state):
        return compute(files)
    for path in files:
        _write_out(path)
    digest = compute(files)
    if state == [_state(path) for path in files]:
        content = {"state": state, "hashed_at": now, "sha256": digest}
        with contextlib.suppress(OSError):  # a cache that is full, or can no longer be written, keeps nothing
            write_atomically(entry, json.dumps(content).encode())
    return digest


def _state(path: Path) -> FileState:
    # Of an open file: a network file system asks its server anew when a file is opened, and not for each stat.
    with path.open("rb") as file:
        stat = os.fstat(file.fileno())
    return [str(path.resolve()), stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _write_out(path: Path) -> None:
    with path.open("rb") as file, contextlib.suppress(OSError):  # not every file system can
        os.fsync(file.fileno())


def _tells(state: FileState, now: int) -> bool:
    """Whether any change of a file from now on will move its state."""
    _, device, _, _, changed, status_changed = state
    settled = now - max(int(changed), int(status_changed)) >= SETTLED_NS
    return settled and not _lies_in_memory(int(device))


def _lies_in_memory(device: int) -> bool:
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    # Behind the dash stand the kind of file system and what is mounted.
    return any(
        mount.split()[2] == number and mount.partition(" - ")[2].split()[0] in _IN_MEMORY for mount in mounts if mount
    )
