"""The drift map as Markdown: the answer, a table of what moved, and which releases share their bits."""

from collections.abc import Sequence

from benchmarks.drift_steps import Row, Step
from esa_pytest.records import Outcome, Verdict

GATE = 0.01
_LONGEST = 100
_HEADING = ("step", "model", "outcome (tier)", "reference rms", "bf16 rms", "largest token", "loss", "1 % gate", "from")
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
    return [
        "# Which release moved which model",
        "",
        _method(rows, releases, made_with),
        "",
        "![The map](drift-map.svg)",
        "",
        "## May I upgrade?",
        "",
        _upgrades_counted(rows, releases),
        "",
        *_table(("model", "from", f"to {releases[-1]}", "reference rms", "bf16 rms", "largest token", "loss"),
                [cells for row in rows for cells in _upgrade_cells(row)]),
        "",
        _legend(),
        "",
        "## Which release moved it",
        "",
        _steps_counted(rows),
        "",
        *_table(_HEADING, [_moved_cells(row, *moved) for row in rows for moved in row.moved()]),
        "",
        "## What does not run",
        "",
        *_table(("model", "releases", "reason"), [cells for row in rows for cells in _refusals(row)]),
    ]  # fmt: skip


def _upgrade_cells(row: Row) -> list[tuple[str, ...]]:
    """A line for each run of releases with equal bits, the newest's own last."""
    found: list[tuple[str, ...]] = []
    for run in row.same_bits():
        span = run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}"
        step = row.upgrades.get(run[-1])
        if step is None or step.verdict is None:
            found.append((row.name, span, "identical: yes", "0", "0", "0", "0"))
        else:
            found.append((row.name, span, _conclusion(step.verdict), *_sizes(step.verdict), f"{step.shift:+.3%}"))
    return found


def _conclusion(verdict: Verdict) -> str:
    answer = "yes" if verdict.outcome.passed else "look first"
    return f"{verdict.outcome}, tier {int(verdict.tier)}: {answer}"


def _sizes(verdict: Verdict) -> tuple[str, str, str]:
    """Reference rms, bf16 rms and largest token, in nats."""
    bits, reference = verdict.bits, verdict.reference
    return (
        "-" if reference is None else f"{reference.rms:.1e}",
        "-" if bits is None else f"{bits.rms:.1e}",
        "-" if bits is None else f"{bits.maximum:.2g}",
    )


def _moved_cells(row: Row, release: str, step: Step, verdict: Verdict) -> tuple[str, ...]:
    bits, reference = verdict.bits, verdict.reference
    begins = [] if bits is None or bits.first_position is None else [f"position {bits.first_position}"]
    if reference is not None and reference.first_moved is not None:
        begins.insert(0, f"`{reference.first_moved}`")
    return (
        f"{step.before} -> {release}",
        row.name,
        f"{verdict.outcome}, tier {int(verdict.tier)}",
        *_sizes(verdict),
        f"{step.shift:+.3%}",
        "found" if abs(step.shift) > GATE else "blind",
        ", ".join(begins),
    )


def _refusals(row: Row) -> list[tuple[str, ...]]:
    by_reason: dict[str, list[str]] = {}
    for release, reason in row.refused.items():
        by_reason.setdefault(reason, []).append(release)
    return [(row.name, ", ".join(some), _short(reason)) for reason, some in by_reason.items()]


def _short(reason: str) -> str:
    """The beginning of what a release said, as code, since it may hold anything."""
    text = reason.replace("|", "/").replace("`", "'")
    return f"`{text if len(text) <= _LONGEST else f'{text[:_LONGEST]}…'}`"


def _method(rows: Sequence[Row], releases: Sequence[str], made_with: str) -> str:
    models = len({row.model for row in rows})
    return (
        f"Written by `python -m benchmarks.drift_map`. {models} tiny trained models, {len(releases)} releases of "
        f"transformers, sdpa and eager attention, 1,024 tokens each in bf16; {made_with}. Each release is judged by "
        "the golden of the one before it that runs the family, with noise measured under that release (the other "
        "attention implementation where it computes the same, flipped last bits): a step that moved something is taken "
        "by every upgrade across it, wherever that begins."
    )


def _upgrades_counted(rows: Sequence[Row], releases: Sequence[str]) -> str:
    """How many cells an upgrade to the newest would move, and what a gate would have said."""
    cells = [(row, run, row.upgrades.get(run[-1])) for row in rows for run in row.same_bits()]
    runs = sum(len(run) for _, run, _ in cells)
    moved = [(len(run), step) for _, run, step in cells if step is not None and step.verdict is not None]
    blind = [(size, step) for size, step in moved if abs(step.shift) <= GATE]
    return (
        f"The releases of a line have equal bits in every token, so they share an answer. Of {runs} cells (a model, an "
        f"attention implementation, a release that runs it) an upgrade to {releases[-1]} moves "
        f"{sum(size for size, _ in moved)}; a gate of 1 % on the loss is blind to {sum(size for size, _ in blind)} of "
        f"these, and a check fails {sum(size for size, step in blind if not step.outcome.passed)} of those."
    )


def _steps_counted(rows: Sequence[Row]) -> str:
    """How many steps moved anything, and what a gate would have said."""
    moved = [step for row in rows for _, step, _ in row.moved()]
    blind = [step for step in moved if abs(step.shift) <= GATE]
    num_steps = sum(len(row.steps) for row in rows)
    return (
        f"Of {num_steps} steps from one release to the next {len(moved)} moved a bit, of which a check fails "
        f"{len([step for step in moved if not step.outcome.passed])}. A gate of 1 % on the loss is blind to "
        f"{len(blind)} of these, of which a check fails {len([step for step in blind if not step.outcome.passed])}."
    )


def _legend() -> str:
    meanings = "; ".join(f"`{outcome}`: {meaning}" for outcome, meaning in _MEANING.items())
    return (
        "Reference and bf16 in nats a token. The reference is the float32 evaluation of 512 tokens, with eager "
        "attention, so that a fault of the sdpa path alone leaves it as it was and is found by tier 4. "
        f"{meanings}."
    )


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (heading, ["---"] * len(heading), *rows)]
