"""Goldens of another git revision, read from its objects: nothing is checked out, no filter or driver of git is run."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from esa_pytest.errors import GoldenError
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.golden.packing import join_pair, unpack
from esa_pytest.records import Record

_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Revision:
    """A commit, seen from the folder of the goldens.

    Attributes:
        name: as the user wrote it.
        sha: of the commit.
        golden_dir: the folder.
    """

    name: str
    sha: str
    golden_dir: Path

    def jsons(self) -> tuple[str, ...]:
        """The JSON files of goldens that it holds, as `<folder>/<device>-<dtype>.json`."""
        listed = _git(self.golden_dir, "ls-tree", "-r", "-z", "--name-only", self.sha, "--", ".")
        if listed is None:
            return ()
        names = [name.decode("utf-8", "replace") for name in listed.split(b"\0")]
        return tuple(name for name in names if name.count("/") == 1 and name.endswith(".json"))

    def golden(self, location: GoldenLocation) -> Record | None:
        """The golden as it was, None where it was not there.

        Raises:
            GoldenError: it is not to be trusted, or of another schema.
        """
        text, npz = (self._blob(f"{location.folder}/{path.name}") for path in (location.json, location.npz))
        if text is None:
            return None
        name = f"{self.name}:{location.folder}/{location.json.name}"
        if npz is None:
            raise GoldenError(f"The golden {name} lacks its arrays {location.npz.name}; compare with another revision.")
        return unpack(join_pair(text, npz), name=name)

    def _blob(self, path: str) -> bytes | None:
        return _git(self.golden_dir, "cat-file", "blob", f"{self.sha}:./{path}")


def revision(name: str, *, golden_dir: Path) -> Revision:
    """The commit of a name.

    Raises:
        GoldenError: there is no repository, or no such commit in it.
    """
    # git takes what begins with a dash for an option.
    if not name or name.startswith("-"):
        raise GoldenError(f"{name!r} is no git revision; give a branch, a tag or a commit, as --against main.")
    if not golden_dir.is_dir() or _git(golden_dir, "rev-parse", "--git-dir") is None:
        raise GoldenError(
            f"The folder {golden_dir} is not in a git repository (or git is not installed), so there is nothing to "
            f"compare with; leave --against out to compare with the last run."
        )
    sha = _git(golden_dir, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if sha is None:
        raise GoldenError(f"The git repository of {golden_dir} has no commit {name!r}; fetch it, or give another.")
    return Revision(name=name, sha=sha.decode().strip(), golden_dir=golden_dir)


def _git(folder: Path, *arguments: str) -> bytes | None:
    """What git prints, None where it fails or is not there."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, timeout=_SECONDS, check=True)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout
