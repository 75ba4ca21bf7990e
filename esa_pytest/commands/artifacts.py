"""`esa accept`: the record of a run, from here or from another machine, takes the place of a golden.

A record comes from outside: nothing of it is believed, or becomes part of a path, before it was checked.
"""

import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from esa_pytest.check.accepting import RECORD_PREFIX, entry_of, found_at, why_not_replaced
from esa_pytest.drift.acceptance import adds_noise, with_noise_of
from esa_pytest.drift.judge import judge
from esa_pytest.errors import AcceptanceError, EsaError, GoldenError, sentence_of
from esa_pytest.golden.files import read_pair
from esa_pytest.golden.ledger_files import read_ledger, write_accepted
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.golden.packing import REMEDY, join_pair, pack, unpack
from esa_pytest.golden.provenance import provenance
from esa_pytest.records import Outcome, Record, Verdict
from esa_pytest.report.layout import count
from esa_pytest.settings import Settings

_DEVICE = re.compile(r"cpu|cuda-sm\d{2,3}")
# Several are joined, as they are where a model keeps some of its weights in float32.
_DTYPE = re.compile(r"(bfloat16|float16|float32)(\+(bfloat16|float16|float32)){0,2}")
# A record is below a megabyte; what unpacks to more than this was not written by a run.
_MOST_BYTES = 64 * 2**20


def accepted_lines(settings: Settings, paths: Sequence[Path]) -> Iterator[str]:
    """Accept each record by itself, and tell what became of it.

    Args:
        settings: the session's; their reason, limit and force are those of the acceptance.
        paths: records, or folders that hold some.

    Raises:
        EsaError: at the end, if any was refused; at once, where a path holds no record or the ledger cannot be read.
    """
    found = [record for path in paths for record in _records_at(path)]
    read_ledger(settings.golden_dir)
    num_refused = 0
    for path in found:
        try:
            yield _accept(path, settings)
        except (EsaError, OSError) as error:
            num_refused += 1
            yield f"refused    {path}: {sentence_of(error)}"
    if num_refused:
        raise AcceptanceError(
            f"{num_refused} of {count(len(found), 'record')} refused for the reason above; those goldens are unchanged."
        )


def _records_at(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(path.rglob(f"{RECORD_PREFIX}*.json"))
        if not found:
            raise AcceptanceError(
                f"The folder {path} holds no {RECORD_PREFIX}*.json; give the output folder of a run, or its record."
            )
        return found
    if path.suffix != ".json" or not path.name.startswith(RECORD_PREFIX) or not path.is_file():
        raise AcceptanceError(
            f"There is no record {path}; give a {RECORD_PREFIX}<device>-<dtype>.json that a run left in its output "
            f"folder (its .npz lies beside it), or a folder that holds some."
        )
    return [path]


def _accept(path: Path, settings: Settings) -> str:
    measured = read_record(path)
    location = _location(measured, settings)
    # One that is not to be trusted is replaced, as by an update.
    found = found_at(location, sealed=True)
    golden = found.record
    verdict = None if golden is None else judge(golden, measured, settings.rules)
    name = f"{measured.baseline} ({location.device}, {location.dtype})"
    if golden is not None and verdict is not None and verdict.nothing_to_accept and not adds_noise(golden, measured):
        return f"unchanged  {name}: equal bits in an equal environment, so there is nothing to accept"
    refused = why_not_replaced(found, measured, location=location, limit=settings.accept_limit)
    if refused is not None and not settings.force:
        raise AcceptanceError(refused)
    complete = with_noise_of(golden, measured, settings.rules)
    now = provenance(settings.root, reason=settings.reason)
    told = {**complete.provenance, "reason": settings.reason, "accepted_utc": now["utc"]}
    complete = replace(complete, provenance=told)
    entry = entry_of(
        golden,
        complete,
        verdict,
        location=location,
        replaces=found.seal,
        provenance=now,
        forced=refused is not None,
    )
    write_accepted(location, pack(complete, npz_name=location.npz.name), entry)
    return f"accepted   {name}: {_change(golden, complete, verdict)}{_source(complete)}"


def read_record(path: Path) -> Record:
    """The record that a run left, every part of it checked.

    Raises:
        AcceptanceError: it is not to be trusted, and why.
    """
    try:
        _refuse_large(path)
        data = read_pair(path)
        record = unpack(join_pair(b"", b"") if data is None else data, name=str(path))
        # JSON can hold text that is no UTF-8, and a golden cannot.
        pack(record, npz_name=path.with_suffix(".npz").name)
    except (GoldenError, OSError, UnicodeError) as error:
        cause = str(error).removesuffix(f"; {REMEDY}.").rstrip(".")
        raise AcceptanceError(f"{cause}; fetch the record anew from the run that wrote it.") from None
    return record


def _refuse_large(path: Path) -> None:
    """Refuse what no run wrote, before it is read or unpacked into memory."""
    npz = path.with_suffix(".npz")
    for part in (path, npz):
        if part.exists() and (size := part.stat().st_size) > _MOST_BYTES:
            raise GoldenError(f"The record {part} has {size} bytes, at most {_MOST_BYTES} are read.")
    try:
        with zipfile.ZipFile(npz) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except Exception:  # noqa: BLE001  (zipfile raises whatever damaged bytes lead it to; `unpack` tells of them)
        return
    if unpacked > _MOST_BYTES:
        raise GoldenError(f"The record {npz} unpacks to {unpacked} bytes, at most {_MOST_BYTES} are read.")


def _location(measured: Record, settings: Settings) -> GoldenLocation:
    """Where the golden of a record lies, by names that were checked."""
    known = {baseline.id: baseline for baseline in settings.baselines}
    if measured.baseline not in known:
        raise AcceptanceError(
            f"The record is of the baseline {_short(measured.baseline)}, which the matrix of this project lacks; "
            f"valid baselines are {', '.join(known)}."
        )
    model = measured.identity.get("model")
    dtype = model.get("dtype") if isinstance(model, dict) else None
    if not _DEVICE.fullmatch(measured.device):
        raise AcceptanceError(
            f"The record is of the device {_short(measured.device)}; valid devices are cpu and cuda-smNN."
        )
    if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
        raise AcceptanceError(
            f"The record is of the dtype {_short(dtype)}; valid are bfloat16, float16 and float32, "
            f"or several joined by +."
        )
    return GoldenLocation(
        root=settings.golden_dir, folder=known[measured.baseline].folder, device=measured.device, dtype=dtype
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _change(golden: Record | None, measured: Record, verdict: Verdict | None) -> str:
    assert measured.metrics is not None  # noqa: S101  (unpack refuses a record without)
    now = measured.metrics.mean_nll
    if golden is None or golden.metrics is None or verdict is None:
        return f"loss {now:.6g}, where no golden could be read before"
    if verdict.outcome is Outcome.INPUTS_CHANGED:
        return f"loss {now:.6g} of other inputs ({', '.join(change.name for change in verdict.changes)})"
    before = golden.metrics.mean_nll
    return f"loss {before:.6g} -> {now:.6g} ({now - before:+.3g}), which was {verdict.outcome}"


def _source(record: Record) -> str:
    source = record.provenance.get("noise_of")
    return "" if source is None else f"; its noise is that of the golden of {source}"
