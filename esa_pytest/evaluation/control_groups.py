"""How much memory the control groups of Linux leave this process: those of a container, a job or a service."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_MOUNT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_STAT = "memory.stat"


@dataclass(frozen=True, kw_only=True)
class _Names:
    """What a version of control groups calls a limit, what is used, and the page cache in that."""

    limit: str
    used: str
    cache: tuple[str, str]


_FIRST = _Names(
    limit="memory.limit_in_bytes",
    used="memory.usage_in_bytes",
    cache=("total_inactive_file", "total_active_file"),
)
_SECOND = _Names(limit="memory.max", used="memory.current", cache=("inactive_file", "active_file"))


def memory_left(mount: Path = _MOUNT, own: Path = _OWN) -> int | None:
    """Bytes that this process may still take, None where no group limits it.

    Args:
        mount: where the groups lie.
        own: the file that tells which of them this process is in.
    """
    try:
        text = own.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    left = [_left(folder, names) for folder, names in _groups(text, mount)]
    return min((each for each in left if each is not None), default=None)


def _groups(text: str, mount: Path) -> Iterator[tuple[Path, _Names]]:
    """Every group around the process, the outermost first: each may have a limit, and the least one holds."""
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, names = (mount / "memory", _FIRST) if controllers else (mount, _SECOND)
        parts = PurePosixPath(path).parts[1:]
        # A container may see its own group as the root, under a path that is known outside alone.
        inside = () if ".." in parts else parts
        for depth in range(len(inside) + 1):
            yield root.joinpath(*inside[:depth]), names


def _left(group: Path, names: _Names) -> int | None:
    try:
        limit, used, stat = ((group / name).read_text(encoding="ascii") for name in (names.limit, names.used, _STAT))
        return max(0, int(limit) - int(used) + _cached(stat, names.cache))
    except (OSError, ValueError):  # there is no such group, or it says "max"
        return None


def _cached(stat: str, names: tuple[str, str]) -> int:
    """The page cache of files, which counts as used and is given back as soon as somebody wants memory."""
    entries = (line.split() for line in stat.splitlines())
    return sum(int(value) for name, value in entries if name in names)
