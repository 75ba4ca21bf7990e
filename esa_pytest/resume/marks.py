"""The marks of what was judged: one file a test, written last of all that its check leaves, replaced whole.

A mark says that everything beside it (record, summary, manifest) is complete, what the verdict was, and everything
that decided it. Nothing stands without the manifest that it vouches for. A run without `--esa-resume` forgets the marks
of the tests that it selects.
"""

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from esa_pytest.evaluation.cache import remove_partials, write_atomically
from esa_pytest.report.documents import MANIFEST

PREFIX = "judged-"


class Mark(BaseModel):
    """One test that was judged, or whose golden was recorded.

    Attributes:
        nodeid: of the test, without what a plugin put behind it.
        run: names the run that judged it.
        utc: when.
        key: everything that decided the verdict, by name.
        reports: of its phases, as pytest serialises them.
        checked: whether its baseline had been checked by all rules by then, and not for a perturbation alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    version: Literal[1] = 1
    nodeid: str
    run: str
    utc: str
    key: dict[str, str]
    reports: tuple[dict[str, Any], ...]
    checked: bool = False


def mark_path(folder: Path, nodeid: str) -> Path:
    """Where the mark of a test lies, in the output folder of its baseline."""
    return folder / f"{PREFIX}{hashlib.sha256(nodeid.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}.json"


def write_mark(folder: Path, mark: Mark) -> None:
    """Put a mark in its place, whole."""
    path = mark_path(folder, mark.nodeid)
    remove_partials(path)
    write_atomically(path, (mark.model_dump_json(indent=1) + "\n").encode())


def read_mark(folder: Path, nodeid: str) -> Mark | None:
    """The mark of a test; None where there is none, or where it is damaged or of another test."""
    try:
        mark = Mark.model_validate_json(mark_path(folder, nodeid).read_bytes())
    except (OSError, ValidationError):
        return None
    return mark if mark.nodeid == nodeid else None


def standing_mark(folder: Path, nodeid: str) -> Mark | None:
    """The mark of a test; None also where the manifest that it vouches for is not there."""
    return read_mark(folder, nodeid) if (folder / MANIFEST).is_file() else None


def forget_mark(folder: Path, nodeid: str, *, unless_of: str | None = None) -> None:
    """Remove the mark of a test, unless it is of the named run (another worker of it may have begun already)."""
    path = mark_path(folder, nodeid)
    if path.exists():
        mark = read_mark(folder, nodeid)
        if mark is None or mark.run != unless_of:
            path.unlink(missing_ok=True)


def forget_marks(folder: Path) -> None:
    """Remove the marks of all tests of a baseline, whose documents are about to be replaced by none of them."""
    for path in folder.glob(f"{PREFIX}*.json"):
        path.unlink(missing_ok=True)
