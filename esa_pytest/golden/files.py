"""Read and write the pair of files of a golden; a write replaces both as one."""

import hashlib
import json
from pathlib import Path

from esa_pytest.errors import CacheError, GoldenError
from esa_pytest.evaluation.cache import locked, remove_partials, write_atomically
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.golden.packing import REMEDY, join_pair, split_pair, unpack
from esa_pytest.records import Record

_READ_TRIES = 3


def read_packed(location: GoldenLocation) -> bytes | None:
    """The pair of files as one byte string, or None where there is no golden.

    Raises:
        GoldenError: the JSON is there and its arrays are not.
    """
    return read_pair(location.json)


def read_pair(json_path: Path) -> bytes | None:
    """A record's pair of files as one byte string, or None where there is none; it may lie anywhere.

    Raises:
        GoldenError: the JSON is there and its arrays are not.
    """
    npz_path = json_path.with_suffix(".npz")
    for _ in range(_READ_TRIES):
        text, npz, pending = (_content(path) for path in (json_path, npz_path, _pending(json_path)))
        if npz is not None and pending is not None and _names(pending, npz):
            # A writer was killed between its two renames; the arrays are already those of the pending JSON.
            return join_pair(pending, npz)
        if text is None or npz is None or _names(text, npz):
            break
        # A whole write may have happened between two of these reads: look again before anyone is blamed.
    if text is None:
        return None
    if npz is None:
        raise GoldenError(f"The golden {json_path} lacks its arrays {npz_path.name}; {REMEDY}.")
    return join_pair(text, npz)


def read_golden(location: GoldenLocation) -> Record | None:
    """The golden at a place, or None where there is none.

    Raises:
        GoldenError: there is one, and it is not to be trusted; the message names the file and the field.
    """
    data = read_packed(location)
    if data is None:
        return None
    record = unpack(data, name=str(location.json))
    if record.device != location.device:
        of, called = record.device, location.device
        raise GoldenError(f"The golden {location.json} is of the device {of}, and its name says {called}; {REMEDY}.")
    return record


def write_packed(json_path: Path, data: bytes) -> None:
    """Replace a golden's pair of files as one.

    The complete new JSON is put beside the old one first; then the npz takes its name, which is the moment at which
    the golden changes: a reader that finds new arrays takes the pending JSON. A kill at any point leaves the old
    golden or the new one.

    Raises:
        CacheError: the cache, where the lock lies, cannot be written.
    """
    with locked(json_path):
        _replace(json_path, data)


def write_run(json_path: Path, data: bytes) -> None:
    """Replace the pair of files of a run's record, which the run itself writes: a lock only keeps other runs away.

    Where the cache has no place for the lock it does without, since a run is judged without a cache too.
    """
    try:
        write_packed(json_path, data)
    except CacheError:
        _replace(json_path, data)


def _replace(json_path: Path, data: bytes) -> None:
    text, npz = split_pair(data)
    npz_path, pending = json_path.with_suffix(".npz"), _pending(json_path)
    for path in (json_path, npz_path, pending):
        remove_partials(path)
    if pending.exists() and npz_path.exists() and _names(pending.read_bytes(), npz_path.read_bytes()):
        pending.replace(json_path)
    write_atomically(pending, text)
    write_atomically(npz_path, npz)
    pending.replace(json_path)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _pending(json_path: Path) -> Path:
    return json_path.with_name(f".pending-{json_path.name}")


def _names(text: bytes, npz: bytes) -> bool:
    """Whether a JSON is tied to these arrays."""
    try:
        return bool(json.loads(text)["arrays"]["sha256"] == hashlib.sha256(npz).hexdigest())
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
