"""What turns a run into a golden: the entry of the ledger that tells of it, and the record kept of every run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from esa_pytest.drift.acceptance import why_refused
from esa_pytest.drift.resource_rounds import golden_efficiency, golden_peak
from esa_pytest.errors import AcceptanceError, GoldenError
from esa_pytest.golden.files import read_golden, write_run
from esa_pytest.golden.ledger import (
    FIRST,
    UNREADABLE,
    AcceptedDrift,
    AcceptedNumbers,
    LedgerEntry,
    by_golden,
    changed_items,
    known_noise,
    numbers_of,
)
from esa_pytest.golden.ledger_files import judged_sha256_of, read_ledger, seal_at
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.golden.packing import pack
from esa_pytest.records import Outcome, Record, Verdict

RECORD_PREFIX = "record-"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What lies at the place of a golden: its record, or why it is not to be trusted, and the seal that it bears."""

    record: Record | None = None
    refusal: GoldenError | None = None
    seal: str | None = None


def found_at(location: GoldenLocation, *, sealed: bool) -> Found:
    """A golden; `sealed` with its seal, by which it is known when it is to be replaced."""
    # Before the golden itself: what another process writes in between is then refused, and not replaced unseen.
    seal = seal_at(location) if sealed else None
    try:
        return Found(record=read_golden(location), seal=seal)
    except GoldenError as error:
        return Found(refusal=error, seal=seal)


def why_not_replaced(found: Found, measured: Record, *, location: GoldenLocation, limit: float) -> str | None:
    """Why a run may not take the place of what was found, as `why_refused` says it.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    last_loss = _last_accepted_loss(location, measured.baseline)
    # One that was taken away on purpose is not there to be compared with.
    return why_refused(found.record, measured, limit=limit, last_loss=None if found.refusal is None else last_loss)


def entry_of(
    golden: Record | None,
    measured: Record,
    verdict: Verdict | None,
    *,
    location: GoldenLocation,
    replaces: str | None,
    provenance: Mapping[str, str | bool | None],
    forced: bool,
) -> LedgerEntry:
    """The line of the ledger for a run that is about to take the place of a golden.

    Args:
        golden: what it replaces; None where there is nothing that can be read.
        measured: the complete record of the run.
        verdict: the run's, None without a golden.
        location: of the golden.
        replaces: the seal that the golden bore when it was read, as `seal_at` tells it.
        provenance: when, by which command, at which commit, and why it is accepted.
        forced: whether it is only accepted because of `--esa-force`.
    """
    old = None if golden is None else _numbers(golden, replaces)
    return LedgerEntry(
        utc=str(provenance["utc"]),
        baseline=measured.baseline,
        device=location.device,
        dtype=location.dtype,
        outcome=str(verdict.outcome) if verdict is not None else UNREADABLE if location.json.exists() else FIRST,
        reason=_text(provenance, "reason"),
        forced=forced,
        command=str(provenance["command"]),
        git_sha=_text(provenance, "git_sha"),
        git_dirty=None if provenance["git_dirty"] is None else bool(provenance["git_dirty"]),
        old=old,
        new=_numbers(measured, judged_sha256_of(pack(measured, npz_name=location.npz.name))),
        drift=_drift(verdict),
        noise=known_noise(measured),
        inputs=() if verdict is None else changed_items(verdict.changes),
        environment=() if verdict is None else changed_items(verdict.environment),
    )


def keep_record(folder: Path, measured: Record) -> None:
    """Keep a run's record beside its manifest, so that it can be accepted elsewhere.

    One that is not finite is not kept; nor is then the record of the run before, which would be taken for this run's.
    """
    path = folder / f"{RECORD_PREFIX}{measured.device}-{measured.identity['model']['dtype']}.json"
    try:
        data = pack(measured, npz_name=path.with_suffix(".npz").name)
    except GoldenError:
        path.unlink(missing_ok=True)
        path.with_suffix(".npz").unlink(missing_ok=True)
        return
    write_run(path, data)


def _drift(verdict: Verdict | None) -> AcceptedDrift | None:
    """The signed drift of what people quote; None where nothing was compared."""
    rows = {} if verdict is None or verdict.outcome is Outcome.INPUTS_CHANGED else {r.name: r for r in verdict.rows}
    if "mean_nll" not in rows:
        return None
    loss = rows["mean_nll"]
    return AcceptedDrift(
        mean_nll=loss.drift,
        perplexity=rows["perplexity"].drift,
        token_accuracy=rows["token_accuracy"].drift,
        loss_allowed=loss.allowed,
        allowed_by=None if loss.allowed is None else loss.source,
    )


def _last_accepted_loss(location: GoldenLocation, baseline: str) -> float | None:
    """The mean NLL, in nats, that the ledger accepted last for a golden; None where it never told of it."""
    entries = by_golden(read_ledger(location.root)).get((baseline, location.device, location.dtype))
    return entries[-1].new.mean_nll if entries else None


def _numbers(record: Record, seal: str | None) -> AcceptedNumbers:
    if seal is None or record.metrics is None:
        raise AcceptanceError(f"The golden of {record.baseline} was changed while it was read; run it once more.")
    return numbers_of(
        record.metrics,
        judged_sha256=seal,
        efficiency=golden_efficiency(record),
        peak_bytes=golden_peak(record),
    )


def _text(provenance: Mapping[str, str | bool | None], name: str) -> str | None:
    value = provenance[name]
    return None if value is None else str(value)
