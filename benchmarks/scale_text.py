"""The plan as Markdown: what was measured, what is assumed, a table for each thing that is varied, what limits."""

import statistics
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from benchmarks.scale_simulation import MOST_TRIES, PARTS, Night, Revision, Site

if TYPE_CHECKING:
    from benchmarks.scale import Measured, Played

NIGHT_HOURS = 8.0
_SAID = {
    "start": "starting processes",
    "fetch": "waiting for weights",
    "load": "loading",
    "evaluate": "evaluating",
    "judge": "preparing and judging",
    "lost": "what was lost",
}
_COLUMNS = ("", "makespan", "GPU-hours held", *_SAID.values(), "idle or in repair", "retried", "given up")


def document(
    known: "Measured", revisions: Sequence[Revision], site: Site, tables: "Mapping[str, Sequence[Played]]"
) -> str:
    """The whole document."""
    varied = "\n".join(
        f"## {name[0].upper()}{name[1:]}\n\n{_table(rows)}\n\n{_said(rows)}\n" for name, rows in tables.items()
    )
    return f"""# {len(revisions):,} model revisions a night

Written by `python -m benchmarks.scale`, a discrete-event simulation. Every figure of a night is simulated; nothing here
was run on a GPU.

{_inputs(known, revisions, site)}
{varied}
{_conclusion(tables)}
"""


def _inputs(known: "Measured", revisions: Sequence[Revision], site: Site) -> str:
    parts = ", ".join(f"{part} {seconds:.2f} s" for part, seconds in known.cpu_parts.items())
    evaluate = statistics.median(revision.seconds["evaluate"] for revision in revisions)
    size = statistics.fmean(revision.size for revision in revisions)
    names = ", ".join(known.manifests)
    measured = (
        f"On the machine that wrote this: the start of a process that judges, {known.start:.2f} s of the processor "
        f"(median of three); and of {len(known.manifests)} manifests ({names}) the medians of what is done whatever "
        f"the GPU, in seconds of the clock on a busy machine: {parts}."
    )
    return f"""## What was measured

{textwrap.fill(measured, width=118, break_on_hyphens=False)}

## What is assumed

- The revisions are of pythia-1.4b, Phi-3-mini, Mistral-7B and Llama-3.1-8B in equal shares. Each is judged by its smoke
  baseline and every tenth by its standard baseline too. {size / 1e9:.1f} GB of weights each on average,
  {size * len(revisions) / 1e12:.0f} TB a night.
- A GPU evaluates as fast as was reported (`[reported]` in `esa_pytest/baselines/catalog.toml`; not measured here): the
  median revision takes {evaluate:.2f} s of it. A standard baseline that was not reported of a model goes at the
  speed of its smoke.
- Weights are read from a node's disk at 2 GB/s. One GPU a node, one revision at a time, a process each.
- Unless a table says otherwise: {site.gpus} GPUs, {site.shared_rate * 8 / 1e9:g} Gbit/s from the store of weights to
  all, {site.node_rate * 8 / 1e9:g} Gbit/s to one node, no weights there before, none fetched ahead; a GPU's node is
  lost every {site.hours_between_losses:g} hours and back after {site.repair_seconds / 60:g} minutes; a lost revision is
  tried {MOST_TRIES} times at most.
- What was measured is of baselines of 2,048 scored tokens; a standard baseline is charged the same once more, though it
  has more tokens.
"""


def _table(rows: "Sequence[Played]") -> str:
    lines = [f"| {' | '.join(_COLUMNS)} |", f"|{'---|' * len(_COLUMNS)}"]
    for row in rows:
        shares = _shares(row.night, row.site)
        cells = [
            row.label,
            f"{row.night.makespan / 3600:.2f} h",
            f"{row.night.gpu_hours(row.site):,.0f}",
            *(f"{share:.0%}" for share in shares.values()),
            f"{max(0.0, 1.0 - sum(shares.values())):.0%}",
            f"{row.night.retried:,}",
            f"{row.night.given_up:,}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _shares(night: Night, site: Site) -> dict[str, float]:
    held = night.makespan * site.gpus
    return {part: night.seconds[part] / held for part in (*PARTS, "lost")}


def _said(rows: "Sequence[Played]") -> str:
    told = []
    for row in rows:
        shares = _shares(row.night, row.site)
        part = max(shares, key=lambda name: shares[name])
        told.append(f"{row.label}: {_SAID[part]} ({shares[part]:.0%})")
    return f"What takes most of the GPUs' time: {'; '.join(told)}."


def _conclusion(tables: "Mapping[str, Sequence[Played]]") -> str:
    enough = next((row for row in tables["GPUs"] if row.night.makespan <= 3600 * NIGHT_HOURS), None)
    fits = (
        f"The least number of GPUs in the table that ends within {NIGHT_HOURS:g} hours is {enough.label}."
        if enough
        else f"No number of GPUs in the table ends within {NIGHT_HOURS:g} hours."
    )
    return f"""## What follows

{fits}

Not in the simulation: what the driver does with ten thousand answers (it writes each, some hundred kilobytes, to its
disk, one after the other), the time that a scheduler takes to place tasks, models that need several GPUs, and several
small models on one GPU at once."""
