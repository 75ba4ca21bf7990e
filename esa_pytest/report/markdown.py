"""Pairs of records as Markdown for a pull request: one table, and what is too long for it folded away below."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from esa_pytest.records import MEMORY, THROUGHPUT, BitDrift, Change, Metrics, Outcome, Record, ReferenceDrift, Verdict
from esa_pytest.report.layout import count
from esa_pytest.report.resources import resource_ratio

_NOTHING = "-"
_HEADING = (
    "baseline",
    "outcome",
    "loss",
    "perplexity",
    "token accuracy",
    "tokens changed",
    "drift of a token, nats",
    "reference rms, nats",
    "efficiency",
    "memory over start",
)
_METRICS = (("mean_nll", "{:.6g}"), ("perplexity", "{:.6g}"), ("token_accuracy", "{:.4%}"))
_LONGEST = 120


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One row of the table.

    Attributes:
        name: the baseline and its device.
        old: what it was; None where it was not there, or cannot be read.
        new: what it is; None likewise.
        verdict: the new one judged by the old; None where one is missing.
        troubles: why a side cannot be read, a sentence each.
    """

    name: str
    old: Record | None
    new: Record | None
    verdict: Verdict | None
    troubles: tuple[str, ...]


def markdown_lines(compared: Sequence[Comparison], *, old: str, new: str) -> list[str]:
    """The table and its details.

    Args:
        compared: a row each.
        old: what the left side is called.
        new: what the right side is called.
    """
    lines = [f"### Baselines: {escaped(old)} -> {escaped(new)}", ""]
    if not compared:
        return [*lines, "No golden on either side."]
    lines += [row(_HEADING), row(["---"] * len(_HEADING))]
    lines += [row(_cells(one)) for one in compared]
    for one in compared:
        lines += _details(one, old=old, new=new)
    return lines


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, also inside a table: no markup, no new cell, no new line."""
    shown = in_html(text)
    for character in "\\`*_[]|~":
        shown = shown.replace(character, f"\\{character}")
    return shown


def in_html(text: str) -> str:
    """Text that a line of HTML shows as it is, where Markdown reads nothing, and no backslash either."""
    flat = "".join(character if character.isprintable() else " " for character in text)
    return flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def row(cells: Sequence[str]) -> str:
    """The cells of one line of a table, escaped already."""
    return f"| {' | '.join(cells)} |"


def _cells(one: Comparison) -> tuple[str, ...]:
    verdict = one.verdict
    return (
        escaped(one.name),
        _outcome(one),
        *_metric_cells(one),
        _changed(None if verdict is None else verdict.bits),
        _token_drift(None if verdict is None else verdict.bits),
        _reference(None if verdict is None else verdict.reference),
        *(_ratio(verdict, name) for name in (THROUGHPUT, MEMORY)),
    )


def _outcome(one: Comparison) -> str:
    if one.troubles:
        return "not to be trusted"
    if one.verdict is None:
        return "new" if one.old is None else "removed"
    return str(one.verdict.outcome)


def _metric_cells(one: Comparison) -> list[str]:
    """Each metric old -> new with its signed drift; without it where the inputs make it another experiment."""
    old, new = (None if record is None else record.metrics for record in (one.old, one.new))
    same = one.verdict is not None and one.verdict.outcome is not Outcome.INPUTS_CHANGED
    return [_metric_cell(name, layout, old, new, same=same) for name, layout in _METRICS]


def _metric_cell(name: str, layout: str, old: Metrics | None, new: Metrics | None, *, same: bool) -> str:
    before, now = (None if metrics is None else float(getattr(metrics, name)) for metrics in (old, new))
    sides = " -> ".join(_NOTHING if value is None else layout.format(value) for value in (before, now))
    if before is None or now is None or not same:
        return sides
    relative = f", {(now - before) / before:+.3%}" if before else ""
    return f"{sides} ({now - before:+.3g}{relative})"


def _changed(bits: BitDrift | None) -> str:
    return _NOTHING if bits is None else f"{bits.num_changed} of {bits.num_compared} {bits.unit}s"


def _token_drift(bits: BitDrift | None) -> str:
    if bits is None or not bits.num_changed:
        return _NOTHING
    return f"mean {bits.mean:+.2e} · rms {bits.rms:.2e} · max {bits.maximum:.2e}"


def _reference(reference: ReferenceDrift | None) -> str:
    return _NOTHING if reference is None else f"{reference.rms:.1e} (allowed {reference.allowed_rms:.1e})"


def _ratio(verdict: Verdict | None, name: str) -> str:
    """A resource as a multiple of the golden's, marked where noise does not explain it or nothing judged it."""
    ratio = resource_ratio(verdict, name)
    if verdict is None or ratio is None:
        return _NOTHING
    drift = next(drift for drift in verdict.resources if drift.name == name)
    return f"{ratio:.2f} x{' (not judged)' if drift.refusal else ', drifted' if drift.beyond else ''}"


def _details(one: Comparison, *, old: str, new: str) -> list[str]:
    """Why, and which items differ; nothing where there is nothing to tell."""
    verdict = one.verdict
    changes = () if verdict is None else verdict.changes
    environment = () if verdict is None else verdict.environment
    told = [*one.troubles]
    if verdict is not None and verdict.outcome is not Outcome.IDENTICAL:
        told.append(f"Decided by tier {verdict.tier} ({verdict.tier.name.lower()}): {verdict.reason}.")
    context = _context_table(one, old=old, new=new)
    if not told and not environment and not context:
        return []
    reason = None if one.new is None else one.new.provenance.get("reason")
    if isinstance(reason, str):
        told.append(f"Reason given: {reason}")
    summary = f"{in_html(one.name)}: {_outcome(one)}, {count(len(environment), 'difference')} in environment"
    return [
        "",
        f"<details><summary>{summary}</summary>",
        "",
        *[line for text in told for line in (escaped(text), "")],
        *context,
        *_change_table("input", changes, old=old, new=new),
        *_change_table("environment", environment, old=old, new=new),
        "</details>",
    ]


def _context_table(one: Comparison, *, old: str, new: str) -> list[str]:
    """The metrics of a long context on both sides, in nats."""
    before, now = (None if r is None or r.context is None else r.context.metrics for r in (one.old, one.new))
    names = list(dict.fromkeys((*(before or {}), *(now or {}))))
    if not names:
        return []
    heading = [row(["long context, nats", escaped(old), escaped(new)]), row(["---"] * 3)]
    cells = [[_nats(side, name) for side in (before, now)] for name in names]
    return [*heading, *(row([escaped(name), *sides]) for name, sides in zip(names, cells, strict=True)), ""]


def _nats(metrics: Mapping[str, float] | None, name: str) -> str:
    value = (metrics or {}).get(name)
    return _NOTHING if value is None else f"{value:.4g}"


def _change_table(what: str, changes: Sequence[Change], *, old: str, new: str) -> list[str]:
    if not changes:
        return []
    heading = [row([what, escaped(old), escaped(new)]), row(["---"] * 3)]
    return [*heading, *(row([escaped(c.name), _value(c.golden), _value(c.measured)]) for c in changes), ""]


def _value(value: str | None) -> str:
    if value is None:
        return "(none)"
    text = value.strip('"')
    return escaped(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")
