"""The verdict of each run as a card: what it is, which tier decided, why, what it rests on, and what to do."""

from collections.abc import Sequence
from dataclasses import dataclass

from esa_pytest.report.advice import Advice
from esa_pytest.report.documents import State
from esa_pytest.report.lines import SPOKEN
from esa_pytest.report.runs import ChangePart, Run, Unreadable, VerdictPart
from esa_pytest.report.tables import NOTHING, Table, number

_LONGEST = 120


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a run stands, told by a mark and a word and not by a colour alone."""

    slug: str
    mark: str
    word: str


FAILED = Standing(slug="failed", mark="✗", word="failed")
BROKEN = Standing(slug="broken", mark="!", word="broken")
SKIPPED = Standing(slug="skipped", mark="–", word="not judged")  # noqa: RUF001  (a mark)
RECORDED = Standing(slug="recorded", mark="●", word="recorded")
PASSED = Standing(slug="passed", mark="✓", word="passed")
# In the order of what a reader must know first.
STANDINGS = (FAILED, BROKEN, SKIPPED, RECORDED, PASSED)
_OF_STATE = {
    State.FAILED: FAILED,
    State.ERROR: BROKEN,
    State.SKIPPED: SKIPPED,
    State.RECORDED: RECORDED,
    State.PASSED: PASSED,
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """One verdict.

    Attributes:
        name: the baseline and its device.
        standing: how it stands.
        outcome: the verdict's word, or the class of an error.
        decided: the tier that decided; None where none did.
        reason: one sentence; None where there is none.
        advice: what to do.
        facts: what else there is to know, a label and a text each.
        tables: what it rests on.
    """

    name: str
    standing: Standing
    outcome: str
    decided: str | None
    reason: str | None
    advice: tuple[Advice, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()


def standing_of(run: Run | Unreadable) -> Standing:
    """How a run stands; what cannot be read is broken."""
    return BROKEN if isinstance(run, Unreadable) else _OF_STATE[run.state]


def cards(runs: Sequence[Run | Unreadable]) -> tuple[Card, ...]:
    """A card a run, failures first."""
    made = [_unreadable(run) if isinstance(run, Unreadable) else _card(run) for run in runs]
    return tuple(sorted(made, key=lambda card: (STANDINGS.index(card.standing), card.name)))


def tally(made: Sequence[Card]) -> tuple[tuple[Standing, int], ...]:
    """How many runs stand how, failures first; those that occur."""
    counted = [(standing, sum(card.standing is standing for card in made)) for standing in STANDINGS]
    return tuple((standing, number) for standing, number in counted if number)


def _unreadable(run: Unreadable) -> Card:
    return Card(
        name=run.folder,
        standing=BROKEN,
        outcome="unreadable",
        decided=None,
        reason=f"Its manifest cannot be read ({run.cause}); run the baseline again, or fetch its folder anew.",
    )


def _card(run: Run) -> Card:
    verdict = run.verdict
    decided = verdict is not None and run.outcome != "identical"
    return Card(
        name=run.name,
        standing=standing_of(run),
        outcome=run.outcome,
        decided=verdict.tier_name if verdict is not None and decided else None,
        reason=_sentence(run.reason),
        advice=run.told,
        facts=_facts(run),
        tables=() if verdict is None else _tables(run, verdict),
    )


def _sentence(reason: str | None) -> str | None:
    """A clause as a sentence of its own."""
    if not reason:
        return None
    end = "" if reason.endswith((".", "!", "?", '"')) else "."
    return f"{reason[0].upper()}{reason[1:]}{end}"


def _facts(run: Run) -> tuple[tuple[str, str], ...]:
    versions = [f"{name} {version}" for name in ("torch", "transformers") if (version := _version(run, name))]
    return tuple(
        (label, text)
        for label, text in (
            *(_verdict_facts(run.verdict) if run.verdict is not None else ()),
            ("ran", " · ".join([*([run.utc] if run.utc else []), *versions])),
            ("golden", "" if run.golden is None or run.golden.utc is None else f"of {run.golden.utc}"),
            *(("note", note) for note in run.notes),
            ("alone", run.test_command if run.state in (State.FAILED, State.ERROR) else ""),
        )
        if text
    )


def _verdict_facts(verdict: VerdictPart) -> tuple[tuple[str, str], ...]:
    bits, reference = verdict.bits, verdict.reference
    moved = "" if reference is None or reference.first_moved is None else f"; first moved {reference.first_moved}"
    return (
        (
            "bits",
            ""
            if bits is None or not bits.num_changed
            else f"{bits.num_changed} of {bits.num_compared} changed · mean {number(bits.mean, '{:+.2e}')} · "
            f"rms {number(bits.rms, '{:.2e}')} · max {number(bits.maximum, '{:.2e}')} nats",
        ),
        (
            "reference",
            f"not judged by: {verdict.reference_refusal}"
            if verdict.reference_refusal is not None
            else ""
            if reference is None
            else f"rms {number(reference.rms, '{:.1e}')} (allowed {number(reference.allowed_rms, '{:.1e}')}) nats"
            f"{moved}",
        ),
        ("would have caught", " · ".join(verdict.would_have_caught)),
    )


def _version(run: Run, name: str) -> str | None:
    return run.environment.get(f"version.{name}")


def _tables(run: Run, verdict: VerdictPart) -> tuple[Table, ...]:
    metrics = Table(
        caption="Metrics",
        heading=("metric", "golden", "measured", "drift", "allowed"),
        rows=tuple(
            (
                SPOKEN.get(row.name, row.name),
                number(row.golden, "{:.6g}"),
                number(row.measured, "{:.6g}"),
                number(row.drift, "{:+.3g}"),
                "not gated" if row.allowed is None else f"±{row.allowed:.3g} ({row.source})",
            )
            for row in verdict.rows
        ),
    )
    found = (
        *([metrics, _strata(verdict)] if run.state is State.FAILED else []),
        _changes("Changed inputs, the likeliest cause first", verdict.changes),
        _changes("Differences of the environment, the likeliest cause first", verdict.environment),
    )
    return tuple(table for table in found if table.rows)


def _strata(verdict: VerdictPart) -> Table:
    parts = () if verdict.paired is None else verdict.paired.strata
    return Table(
        caption="Drift by stratum of the text, nats",
        heading=("stratum", "tokens", "changed", "mean", "rms"),
        rows=tuple(
            (part.label, str(part.num_tokens), str(part.num_changed), *_sizes(part.mean, part.rms)) for part in parts
        ),
    )


def _sizes(mean: float | None, rms: float | None) -> tuple[str, str]:
    return number(mean, "{:+.1e}"), number(rms, "{:.1e}")


def _changes(caption: str, changes: Sequence[ChangePart]) -> Table:
    return Table(
        caption=caption,
        heading=("item", "golden", "measured"),
        rows=tuple((change.name, _value(change.golden), _value(change.measured)) for change in changes),
    )


def _value(value: str | None) -> str:
    if value is None:
        return NOTHING
    text = value.strip('"')
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
