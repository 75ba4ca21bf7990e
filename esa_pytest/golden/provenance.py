"""When a record was made, from which commit, by which command; for people, never judged."""

import datetime
import subprocess
import sys
from pathlib import Path

import esa_pytest


def provenance(root: Path, *, reason: str | None) -> dict[str, str | bool | None]:
    """The provenance of a record made now.

    Args:
        root: the folder whose git state is told.
        reason: why a golden is recorded, in the user's words.
    """
    status = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {
        "utc": datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds"),
        "git_sha": _git(root, "rev-parse", "HEAD"),
        "git_dirty": None if status is None else bool(status),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "reason": reason,
        "esa_pytest": esa_pytest.__version__,
    }


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints, or None outside a repository and where there is no git."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
