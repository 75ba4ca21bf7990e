"""Write a golden and its line of the ledger as one, and read the ledger.

Neither may be there without the other. So the line is put beside the golden as a pending file first, with the hash of
the golden it belongs to; then the golden is written; then the line joins the ledger. After a kill in between, the
golden on the disk tells whether it happened: a reader counts a pending line whose golden is there, the next writer adds
it to the ledger, and one whose golden never came is dropped.

A line joins by replacing the whole file under its lock. Lines appended in place could be cut short by a kill, and every
reader would have to guess what a torn line meant; a ledger is some kilobytes, so replacing it costs nothing.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from esa_pytest.errors import AcceptanceError, GoldenError, LedgerError
from esa_pytest.evaluation.cache import locked, remove_partials, write_atomically
from esa_pytest.golden.files import read_golden, read_pair, write_packed
from esa_pytest.golden.ledger import LEDGER_NAME, UNREADABLE, LedgerEntry, by_golden, line_of, parse
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.golden.packing import split_pair

_PENDING = ".pending-ledger-"
# What to do about a golden that somebody else has changed meanwhile.
AGAIN = "; run it once more."


def read_ledger(golden_dir: Path) -> list[LedgerEntry]:
    """Every entry of a project's ledger, in the order of its lines; none where there is no file.

    Raises:
        LedgerError: the file cannot be read, or a line is not valid.
    """
    # The pending lines first: one that joins the ledger meanwhile is then found there.
    pending = [_line_that_happened(path) for path in sorted(golden_dir.glob(f"*/{_PENDING}*"))]
    content = _content(golden_dir / LEDGER_NAME)
    return parse(_joined(content, [line for line in pending if line is not None]), name=str(golden_dir / LEDGER_NAME))


def write_accepted(location: GoldenLocation, data: bytes, entry: LedgerEntry) -> None:
    """Write a golden and its line of the ledger; a kill at any moment leaves both or neither to every reader.

    Args:
        location: of the golden.
        data: the golden, as `pack` makes it.
        entry: its line.

    Raises:
        LedgerError: the ledger cannot be read; the golden is then untouched.
        AcceptanceError: the golden is not the one that the entry says it replaces; it is untouched.
    """
    pending = location.json.with_name(f"{_PENDING}{location.json.name}")
    # Its own lock, for the writers of this golden; those of the golden and of the ledger are taken inside, briefly.
    with locked(pending):
        _settle(pending, location.root)
        read_ledger(location.root)
        _refuse_changed(location, entry)
        remove_partials(pending)
        write_atomically(pending, f"{_seal(data)}\n".encode() + line_of(entry))
        write_packed(location.json, data)
        _settle(pending, location.root)


def _refuse_changed(location: GoldenLocation, entry: LedgerEntry) -> None:
    """What was judged, and told of in the entry, is the golden that was there when the run began."""
    if entry.outcome == UNREADABLE:
        # A damaged one is what is to be replaced, whatever seal it bears.
        changed = _is_sound(location)
    else:
        changed = seal_at(location) != (None if entry.old is None else entry.old.judged_sha256)
    if changed:
        raise AcceptanceError(f"The golden {location.json} was changed while this run was about to replace it{AGAIN}")


def _is_sound(location: GoldenLocation) -> bool:
    try:
        return read_golden(location) is not None
    except GoldenError:
        return False


def unaccepted_goldens(golden_dir: Path, folders: Mapping[str, str]) -> list[Path]:
    """The goldens that are not those which the ledger accepted last; one that it never told of is none of them.

    Args:
        golden_dir: of the project.
        folders: of its baselines, by their ids.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    found = []
    for (baseline, device, dtype), entries in by_golden(read_ledger(golden_dir)).items():
        if baseline not in folders:
            continue
        location = GoldenLocation(root=golden_dir, folder=folders[baseline], device=device, dtype=dtype)
        if location.json.exists() and seal_at(location) != entries[-1].new.judged_sha256:
            found.append(location.json)
    return found


def lacks_ledger(golden_dir: Path, folders: Iterable[str]) -> bool:
    """Whether there are goldens in these folders and no ledger that tells of any, as where it was not committed.

    Raises:
        LedgerError: there is one, and it cannot be read.
    """
    is_there = any(any((golden_dir / folder).glob("[!.]*.json")) for folder in folders)
    return is_there and not read_ledger(golden_dir)


def seal_at(location: GoldenLocation) -> str | None:
    """The seal that the golden at a place bears; None where there is none, or it is too damaged to bear one."""
    try:
        data = read_pair(location.json)
    except GoldenError:
        return None
    return None if data is None else judged_sha256_of(data)


def judged_sha256_of(data: bytes) -> str | None:
    """The seal that a golden's bytes bear; None where they are too damaged to bear one."""
    try:
        found = json.loads(split_pair(data)[0])["judged_sha256"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def _settle(pending: Path, golden_dir: Path) -> None:
    """Let a pending line join the ledger if its golden is there, and drop it if not."""
    if not pending.exists():
        return
    ledger = golden_dir / LEDGER_NAME
    line = _line_that_happened(pending)
    if line is not None:
        with locked(ledger):
            remove_partials(ledger)
            before = _content(ledger)
            after = _joined(before, [line])
            if after != before:
                write_atomically(ledger, after)
    pending.unlink(missing_ok=True)


def _joined(content: bytes, lines: list[bytes]) -> bytes:
    """A ledger with further lines; one that it has already (its writer was killed before tidying up) is not doubled."""
    if content and not content.endswith(b"\n"):
        content += b"\n"
    known = set(content.splitlines(keepends=True))
    return content + b"".join(line for line in lines if line not in known)


def _line_that_happened(pending: Path) -> bytes | None:
    """The line of a pending file whose golden was written; None where it was not, or the file is gone by now."""
    try:
        seal, _, line = pending.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    try:
        golden = read_pair(pending.with_name(pending.name.removeprefix(_PENDING)))
    except GoldenError:
        return None
    return line if golden is not None and _seal(golden).encode() == seal else None


def _seal(data: bytes) -> str:
    """Tells one writing of a golden from every other: its JSON bears the time, and the hash of the arrays."""
    return hashlib.sha256(split_pair(data)[0]).hexdigest()


def _content(ledger: Path) -> bytes:
    try:
        return ledger.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise LedgerError(f"The ledger {ledger} cannot be read ({error}); see to its permissions.") from None
