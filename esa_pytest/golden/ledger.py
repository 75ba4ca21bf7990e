"""One entry of the ledger: what was accepted when, from what, and why; a line of JSON with a version."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from esa_pytest.errors import LedgerError
from esa_pytest.golden.schema import Count, Finite, Sha256, canonical
from esa_pytest.records import Change, Metrics, Record

LEDGER_NAME = "ledger.jsonl"
# What was accepted where there was nothing to judge by.
FIRST = "first"
UNREADABLE = "unreadable"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class AcceptedNumbers(_Strict):
    """What people quote of a golden, and the seal that tells it from every other.

    Attributes:
        mean_nll: nats a token.
        perplexity: its exponential.
        token_accuracy: a share between 0 and 1.
        num_scored_tokens: what the others rest on.
        judged_sha256: the golden's own seal.
        efficiency: what is accepted of throughput, over the run's own matrix products; None where it is not known.
        peak_bytes: peak memory over what was held at the beginning; None where it is not known.
    """

    mean_nll: Finite
    perplexity: Finite
    token_accuracy: Finite
    num_scored_tokens: Annotated[int, Field(gt=0)]
    judged_sha256: Sha256
    efficiency: Finite | None = None
    peak_bytes: Finite | None = None


class AcceptedDrift(_Strict):
    """New minus old.

    Attributes:
        mean_nll: nats a token.
        perplexity: of the whole text.
        token_accuracy: as a share.
        loss_allowed: the largest drift of `mean_nll` that would have passed; None where it was not judged.
        allowed_by: where that comes from, as `provisional`.
    """

    mean_nll: Finite
    perplexity: Finite
    token_accuracy: Finite
    loss_allowed: Finite | None
    allowed_by: str | None


class KnownNoise(_Strict):
    """What is known of the new golden's noise.

    Attributes:
        fresh_processes: in how many new processes its bits were repeated.
        distinct_bit_patterns: how many came out.
        reference_rms: of the float32 reference, nats; None where it does not suit the model.
        reference_maximum: of one token, nats.
        score_patterns: by how many bit patterns the noise of the scores was measured; 0 where it was not.
        score_rms: of the median of these, nats; None where it was not measured.
        tau: the spread of the mean shift between them, nats; None where it was not measured.
        noise_of: the date of the golden from which this was carried over; None where it was measured in the same run.
    """

    fresh_processes: Count
    distinct_bit_patterns: Annotated[int, Field(gt=0)]
    reference_rms: Finite | None
    reference_maximum: Finite | None
    score_patterns: Count
    score_rms: Finite | None
    tau: Finite | None
    noise_of: str | None


class ChangedItem(_Strict):
    """One named item that is not what it was; None stands for one that a side lacks."""

    name: str
    old: str | None
    new: str | None


class LedgerEntry(_Strict):
    """One line of the ledger.

    Attributes:
        version: of this schema.
        utc: when it was accepted.
        baseline: the baseline's id.
        device: the device class.
        dtype: of the weights.
        outcome: what the check had concluded, or `first`, or `unreadable` where the old golden was not to be trusted.
        reason: why, in the user's words.
        forced: whether it needed `--esa-force`.
        command: by which.
        git_sha: the commit it was accepted at.
        git_dirty: whether the working tree differed from it.
        old: of the golden before; None where there was none that could be read.
        new: of the golden since.
        drift: new minus old; None where there is nothing to compare, or other inputs make it another experiment.
        noise: what is known of the new golden's noise.
        inputs: what is not the same experiment any more.
        environment: what may change bits and not meaning.
    """

    version: Literal[1] = 1
    utc: str
    baseline: str
    device: str
    dtype: str
    outcome: str
    reason: str | None
    forced: bool
    command: str
    git_sha: str | None
    git_dirty: bool | None
    old: AcceptedNumbers | None
    new: AcceptedNumbers
    drift: AcceptedDrift | None
    noise: KnownNoise
    inputs: tuple[ChangedItem, ...]
    environment: tuple[ChangedItem, ...]


def numbers_of(
    metrics: Metrics, *, judged_sha256: str, efficiency: float | None = None, peak_bytes: float | None = None
) -> AcceptedNumbers:
    """What the ledger keeps of a golden."""
    return AcceptedNumbers(
        mean_nll=metrics.mean_nll,
        perplexity=metrics.perplexity,
        token_accuracy=metrics.token_accuracy,
        num_scored_tokens=metrics.num_scored_tokens,
        judged_sha256=judged_sha256,
        efficiency=efficiency,
        peak_bytes=peak_bytes,
    )


def known_noise(record: Record) -> KnownNoise:
    """What a record knows of its noise."""
    stability, probe = record.bit_stability, record.probe_noise
    drifts = [variant.drift.astype(np.float64) for variant in (record.noise.moved if record.noise else ())]
    carried = record.provenance.get("noise_of")
    return KnownNoise(
        fresh_processes=0 if stability is None else stability.fresh_processes,
        distinct_bit_patterns=1 if stability is None else stability.distinct_bit_patterns,
        reference_rms=None if probe is None else probe.rms,
        reference_maximum=None if probe is None else probe.maximum,
        score_patterns=0 if record.noise is None else record.noise.distinct_bit_patterns,
        score_rms=float(np.median([np.sqrt(np.mean(drift**2)) for drift in drifts])) if drifts else None,
        tau=float(np.sqrt(np.mean([drift.mean() ** 2 for drift in drifts]))) if drifts else None,
        noise_of=carried if isinstance(carried, str) else None,
    )


def changed_items(changes: Sequence[Change]) -> tuple[ChangedItem, ...]:
    """Changes as the ledger keeps them."""
    return tuple(ChangedItem(name=change.name, old=change.golden, new=change.measured) for change in changes)


def by_golden(entries: Sequence[LedgerEntry]) -> dict[tuple[str, str, str], list[LedgerEntry]]:
    """Entries by baseline, device and dtype, each in order of time: two branches may have been merged line by line."""
    groups: dict[tuple[str, str, str], list[LedgerEntry]] = {}
    for entry in sorted(entries, key=lambda entry: entry.utc):
        groups.setdefault((entry.baseline, entry.device, entry.dtype), []).append(entry)
    return dict(sorted(groups.items()))


def line_of(entry: LedgerEntry) -> bytes:
    """An entry as its line: sorted keys, exact floats, ASCII."""
    return canonical(entry.model_dump(mode="json")) + b"\n"


def parse(content: bytes, *, name: str) -> list[LedgerEntry]:
    """The entries of a ledger, in the order of its lines; blank lines are none.

    Args:
        content: of the whole file.
        name: what the ledger is called in a message.

    Raises:
        LedgerError: a line is not valid; the message names it and the field.
    """
    entries = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            entries.append(LedgerEntry.model_validate_json(line))
        except ValidationError as error:
            raise LedgerError(
                f"The ledger {name} is not valid in line {number}: {_cause(error)}; restore the file from version "
                f"control, or take that line out (a conflict of two branches is solved by keeping the lines of both)."
            ) from None
    return entries


def _cause(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])
