"""What was accepted of a baseline, in order of time, and the warnings that follow: what `esa history` shows."""

from collections.abc import Sequence
from dataclasses import dataclass

from esa_pytest.drift.aggregate import RELATIVE_LOSS_TOLERANCE
from esa_pytest.drift.walk import Walk, run_length, walks
from esa_pytest.golden.ledger import LedgerEntry
from esa_pytest.records import Outcome
from esa_pytest.report.columns import aligned
from esa_pytest.report.layout import count
from esa_pytest.report.tables import flat

_BARS = "▁▂▃▄▅▆▇█"
HEADING = ("date", "loss", "step", "outcome", "reason")


@dataclass(frozen=True, kw_only=True)
class History:
    """What the ledger tells of one golden.

    Attributes:
        name: baseline, device and dtype.
        entries: at least one, in order of time.
        golden_sha256: the seal of the golden that is there now; None where there is none.
        wanted: whether the matrix still has the baseline.
    """

    name: str
    entries: tuple[LedgerEntry, ...]
    golden_sha256: str | None
    wanted: bool


def chronicle_lines(histories: Sequence[History]) -> list[str]:
    """Every history under its name, with a blank line between two."""
    lines: list[str] = []
    for history in histories:
        lines += [*([""] if lines else []), *_history_lines(history)]
    return lines


def sparkline(values: Sequence[float]) -> str:
    """Values as bars between their least and their largest; equal ones lie in the middle."""
    least, span = min(values), max(values) - min(values)
    if not span > 0:
        return _BARS[len(_BARS) // 2] * len(values)
    return "".join(_BARS[round((value - least) / span * (len(_BARS) - 1))] for value in values)


def steps_of(entries: Sequence[LedgerEntry]) -> list[float | None]:
    """Each accepted drift of the loss in units of what would have passed; None where nothing was compared."""
    return [_step(entry) for entry in entries]


def _step(entry: LedgerEntry) -> float | None:
    if entry.drift is None or entry.old is None:
        return None
    unit = entry.drift.loss_allowed or RELATIVE_LOSS_TOLERANCE * abs(entry.old.mean_nll)
    if unit > 0:
        return entry.drift.mean_nll / unit
    return 0.0 if entry.drift.mean_nll == 0 else None


def _history_lines(history: History) -> list[str]:
    entries = history.entries
    losses = [entry.new.mean_nll for entry in entries]
    table = aligned([HEADING, *(row_of(entry) for entry in entries)])
    return [
        f"{history.name}  {sparkline(losses)}  loss {losses[-1]:.6g}, {count(len(entries), 'acceptance')}",
        *(f"  {line}" for line in table),
        *(f"  warning: {text}" for text in warnings_of(history)),
    ]


def warnings_of(history: History) -> list[str]:
    """What a reader should look at: a loss that walks, a golden that is not the one that was accepted."""
    return [*(_walk(history.entries, walk) for walk in walks(steps_of(history.entries))), *_gaps(history)]


def walks_of(entries: Sequence[LedgerEntry]) -> tuple[int, ...]:
    """The indices of the entries that belong to a walk, ascending."""
    return tuple(index for walk in walks(steps_of(entries)) for index in range(walk.first, walk.last + 1))


def row_of(entry: LedgerEntry) -> tuple[str, ...]:
    """An entry under `HEADING`."""
    step = "" if entry.drift is None else f"{entry.drift.mean_nll:+.3g}"
    forced = " (forced)" if entry.forced else ""
    inputs = f" ({', '.join(change.name for change in entry.inputs)})" if entry.inputs else ""
    return (
        flat(entry.utc[:10]),
        f"{entry.new.mean_nll:.6g}",
        step,
        flat(f"{entry.outcome}{_resources(entry)}{forced}{inputs}"),
        flat(entry.reason or "-"),
    )


def _resources(entry: LedgerEntry) -> str:
    """From what to what efficiency or memory went, where that was what was accepted."""
    if entry.old is None:
        return ""
    figures = {
        Outcome.THROUGHPUT_DRIFT: ("efficiency", entry.old.efficiency, entry.new.efficiency, 1),
        Outcome.MEMORY_DRIFT: ("peak MiB", entry.old.peak_bytes, entry.new.peak_bytes, 2**20),
    }
    for outcome, (name, before, now, unit) in figures.items():
        if entry.outcome == outcome and before is not None and now is not None:
            return f" ({name} {before / unit:.3g} to {now / unit:.3g})"
    return ""


def _walk(entries: Sequence[LedgerEntry], walk: Walk) -> str:
    taken = entries[walk.first : walk.last + 1]
    first = taken[0]
    total = sum(entry.drift.mean_nll for entry in taken if entry.drift is not None)
    relative = f" ({total / first.old.mean_nll:+.2%})" if first.old is not None and first.old.mean_nll else ""
    return (
        f"the loss has walked {total:+.3g} nats{relative} in {count(len(taken), 'accepted step')} since "
        f"{flat(first.utc[:10])}, seen on {flat(taken[-1].utc[:10])}: each was accepted by itself, and chance alone "
        f"shows this once in {run_length(0.0):.0f} acceptances; compare with: esa diff --against {_commit(first)}"
    )


def _commit(entry: LedgerEntry) -> str:
    return flat(entry.git_sha[:12]) if entry.git_sha else "REV"


def _gaps(history: History) -> list[str]:
    """Where the ledger and the goldens have parted ways."""
    found = [
        f"the golden that was replaced on {flat(entry.utc[:10])} is not the one that was accepted on "
        f"{flat(before.utc[:10])}: in between it was changed without the ledger, or two branches were merged"
        for before, entry in zip(history.entries, history.entries[1:], strict=False)
        if entry.old is not None and entry.old.judged_sha256 != before.new.judged_sha256
    ]
    if history.wanted and history.golden_sha256 != history.entries[-1].new.judged_sha256:
        state = "is missing or cannot be read" if history.golden_sha256 is None else "is another"
        found.append(
            f"the golden that was accepted last {state}: take golden and ledger from the same commit, or record anew"
        )
    return found
