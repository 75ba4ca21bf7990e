"""The drift map as Markdown: the answer, a table of what moved, and which releases share their bits."""

from collections.abc import Sequence

from benchmarks.drift_steps import Row, Step
from esa_pytest.records import Outcome, Verdict

GATE = 0.01
_MEANING = {
    Outcome.WITHIN_NOISE: "rounding, as harmless changes do",
    Outcome.NUMERIC_DRIFT: "bf16 alone, beyond noise",
    Outcome.SEMANTIC_DRIFT: "the model computes something else",
    Outcome.METRIC_DRIFT: "a quoted number",
    Outcome.NON_FINITE: "no numbers",
}


def lines(rows: Sequence[Row], releases: Sequence[str], *, made_with: str) -> list[str]:
    """The document.

    Args:
        rows: what was measured.
        releases: of transformers, in order.
        made_with: torch and processor.
    """
    moved = [(row, release, step, verdict) for row in rows for release, step, verdict in row.moved()]
    unseen = [step for _, _, step, _ in moved if abs(step.shift) <= GATE]
    num_steps = sum(len(row.steps) for row in rows)
    return [
        "# Which release moved which model",
        "",
        "Written by `python -m benchmarks.drift_map`. "
        f"{len({row.model for row in rows})} tiny trained models, {len(releases)} releases of transformers, sdpa and "
        f"eager attention, 1,024 tokens each in bf16; {made_with}. Each release is judged by the golden of the one "
        "before it that runs the family, with noise measured under that release: a step that moved something is taken "
        "by every upgrade across it, wherever that begins.",
        "",
        "![The map](drift-map.svg)",
        "",
        "## May I upgrade?",
        "",
        f"Of {num_steps} steps {len(moved)} moved a bit, and {num_steps - len(moved)} moved none. A gate of 1 % on the "
        f"loss would have shown {len(moved) - len(unseen)} of them and been blind to {len(unseen)}.",
        "",
        *_answers(rows),
        "",
        "## What moved",
        "",
        *_table(
            (
                "step",
                "model",
                "outcome (tier)",
                "reference rms",
                "bf16 rms",
                "largest token",
                "loss",
                "1 % gate",
                "begins",
            ),
            [_moved_cells(row, release, step, verdict) for row, release, step, verdict in moved],
        ),
        "",
        "Reference and bf16 in nats a token; the reference is the float32 evaluation of 512 tokens, with eager attention, "
        "so that a fault of the sdpa path alone leaves it as it was and is found by tier 4. " + _legend(),
        "",
        "## Releases with equal bits",
        "",
        *_table(("model", "runs of releases with the same bits in every token"), [_run_cells(row) for row in rows]),
        "",
        "## What does not run",
        "",
        *_table(("model", "releases", "reason"), [cells for row in rows for cells in _refusals(row)]),
    ]


def _answers(rows: Sequence[Row]) -> list[str]:
    """A sentence a model: since which release nothing moved, and what an upgrade to the newest brings."""
    found = []
    for row in rows:
        runs = row.same_bits()
        if not runs:
            continue
        last = runs[-1]
        since = f"bit-identical from {last[0]} on" if len(last) > 1 else f"moved with {last[0]} again"
        failed = [release for release, step, _ in row.moved() if not step.outcome.passed]
        steps = f"; steps that a check fails: {', '.join(failed)}" if failed else "; no step that a check fails"
        found.append(f"- {row.name}: {since}{steps}.")
    return found


def _moved_cells(row: Row, release: str, step: Step, verdict: Verdict) -> tuple[str, ...]:
    bits, reference = verdict.bits, verdict.reference
    begins = [] if bits is None or bits.first_position is None else [f"position {bits.first_position}"]
    if reference is not None and reference.first_moved is not None:
        begins.insert(0, f"`{reference.first_moved}`")
    return (
        f"{step.before} -> {release}",
        row.name,
        f"{verdict.outcome} ({verdict.tier})",
        "-" if reference is None else f"{reference.rms:.1e}",
        "-" if bits is None else f"{bits.rms:.1e}",
        "-" if bits is None else f"{bits.maximum:.2g}",
        f"{step.shift:+.3%}",
        "found" if abs(step.shift) > GATE else "blind",
        ", ".join(begins),
    )


def _run_cells(row: Row) -> tuple[str, ...]:
    runs = [run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in row.same_bits()]
    return row.name, " · ".join(runs) or "none"


def _refusals(row: Row) -> list[tuple[str, ...]]:
    by_reason: dict[str, list[str]] = {}
    for release, reason in row.refused.items():
        by_reason.setdefault(reason, []).append(release)
    return [(row.name, ", ".join(some), reason.replace("|", "/")) for reason, some in by_reason.items()]


def _legend() -> str:
    return "; ".join(f"`{outcome}`: {meaning}" for outcome, meaning in _MEANING.items()) + "."


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (heading, ["---"] * len(heading), *rows)]
