"""docs/incidents.md, written by the run that replayed the incidents."""

from collections.abc import Mapping, Sequence

from tests.incidents.catalog import Incident
from tests.incidents.controls import Control
from tests.incidents.found import GATES, Found

_LEARNED = """## What they teach

- A gate on the loss sees what is gross. What moves single tokens and leaves their mean passes
  it, at any percentage.
- bf16 alone sees that something changed and not whether it matters: RoPE frequencies rounded to bf16 (I06) move a token
  hardly further than another kernel does (I05). The float32 reference tells the two apart.
- A fault of the sdpa path alone leaves a reference that computes with eager attention as it was. Tier 4 is there:
  [Qwen2's window under sdpa](drift-map.md), which it lacked up to 4.38, was such.
- The first changed position is a fingerprint: a lost window begins exactly at the window, RoPE at the first positions.
- A fault may improve the numbers (a mask that was skipped: perplexity 5 instead of 16, transformers #48748), so every
  gate has two sides.

Users reported the magnitudes in the first column, of their own models; all others were measured by this run. The golden
is that of the good release, with its noise and that of its reference measured under that very release: the other
attention implementation, a smaller instruction set, flipped last bits. The scorer for releases older than this project
supports stands alone (`tests/incidents/score.py`); what it writes is judged by tiers 0 to 5 as a run of our own is.
"""


def document(incidents: Mapping[str, Found], controls: Sequence[tuple[Control, Found]], *, catalog: Sequence[Incident],
             made_with: str) -> str:  # fmt: skip
    """The whole document.

    Args:
        incidents: what was found, by id.
        controls: what was found of each.
        catalog: the incidents.
        made_with: torch and processor.
    """
    found = [incidents[incident.id] for incident in catalog]
    lines = [
        "# Incidents of the past, replayed",
        "",
        _method(made_with),
        "",
        *_table(
            ("", "what happened", "replayed", "loss", "1 % gate", "5 % gate", "found by", "largest token",
             "reference rms", "named cause"),
            [_incident_cells(incident, incidents[incident.id]) for incident in catalog],
        ),
        "",
        _gates(found),
        "",
        *(f"- {incident.id}: {incident.source}" for incident in catalog),
        "",
        "## Negative controls",
        "",
        "They change nothing, or nothing that matters, and pass.",
        "",
        *_table(
            ("changed", "outcome", "loss", "largest token", "reference rms"),
            [_control_cells(control, one) for control, one in controls],
        ),
        "",
        _LEARNED,
    ]  # fmt: skip
    return "\n".join(lines)


def _method(made_with: str) -> str:
    return (
        "Written by `tox -e incidents`. Each silently changed a language model's numbers for its users, and is "
        "replayed with the versions that had it, or by one line that does the same; on tiny trained models, "
        f"{made_with}."
    )


def _gates(found: Sequence[Found]) -> str:
    passed = [sum(one.passes_gate(gate) for one in found) for gate in GATES]
    return (
        f"A gate of 1 % on the loss passes {passed[0]} of {len(found)}, one of 5 % {passed[1]}. Largest token and "
        "reference in nats."
    )


def _incident_cells(incident: Incident, found: Found) -> tuple[str, ...]:
    gates = ["blind" if found.passes_gate(gate) else "found" for gate in GATES]
    return (
        incident.id,
        incident.happened,
        incident.replayed,
        f"{found.shift:+.3%}",
        *gates,
        f"tier {int(found.tier)} ({found.outcome})",
        _nats(found.maximum),
        _nats(found.reference_rms),
        found.named,
    )


def _control_cells(control: Control, found: Found) -> tuple[str, ...]:
    return (
        control.changed, str(found.outcome), f"{found.shift:+.4%}", _nats(found.maximum), _nats(found.reference_rms)
    )  # fmt: skip


def _nats(value: float | None) -> str:
    return "-" if value is None else "0" if value == 0 else f"{value:.2g}"


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(cells)} |" for cells in (heading, ["---"] * len(heading), *escaped)]
