"""Throughput and memory of runs beside their goldens', whatever was measured of them."""

from collections.abc import Sequence

from esa_pytest.records import THROUGHPUT
from esa_pytest.report.runs import Run
from esa_pytest.report.tables import NOTHING, Table

# In this order; the peaks of memory come behind, each under its own name.
_FIRST = {"throughput_tokens_per_second": "tokens/s", "efficiency": "efficiency"}


def resource_table(runs: Sequence[Run]) -> Table | None:
    """One row a run, a column a resource: measured, golden, and their ratio; None where nothing was measured."""
    measured = [run for run in runs if run.resources]
    if not measured:
        return None
    peaks = sorted({name for run in measured for name in run.resources if name.startswith("peak_")})
    columns = _FIRST | {name: f"{_spoken(name)}, GiB" for name in peaks}
    remarks = any(_remarks(run) for run in measured)
    return Table(
        caption="Measured, and beside it the golden",
        heading=("baseline", *columns.values(), *(["remarks"] if remarks else [])),
        rows=tuple(
            (run.name, *(_cell(run, name) for name in columns), *([_remarks(run) or NOTHING] if remarks else []))
            for run in measured
        ),
    )


def peak_gib(run: Run) -> float | None:
    """The peak memory in units of 2**30 bytes, of what was in use where that is told from what was reserved."""
    peaks = [
        value
        for name, value in run.resources.items()
        if name.startswith("peak_") and "reserved" not in name and isinstance(value, int | float)
    ]
    return peaks[0] / 2**30 if peaks else None


def _spoken(name: str) -> str:
    return name.removesuffix("_bytes").replace("_", " ")


def _cell(run: Run, name: str) -> str:
    now = run.resources.get(name)
    before = _golden(run, name)
    if not isinstance(now, int | float):
        return NOTHING
    if not isinstance(before, int | float):
        return _value(name, now)
    ratio = f", ×{now / before:.2f}" if before else ""  # noqa: RUF001  (a sign)
    return f"{_value(name, now)} (golden {_value(name, before)}{ratio})"


def _golden(run: Run, name: str) -> object:
    """What is accepted of a resource; of efficiency what tier 6 compares with, the mean over its rounds."""
    if name == "efficiency" and run.verdict is not None:
        for part in run.verdict.resources:
            if part.name == THROUGHPUT and part.golden is not None:
                return part.golden
    return None if run.golden is None else run.golden.resources.get(name)


def _value(name: str, value: float) -> str:
    if name.endswith("_bytes"):
        return f"{value / 2**30:.2f}"
    return f"{value:,.0f}" if name.endswith("per_second") else f"{value:.2f}"


def _remarks(run: Run) -> str:
    """What tier 6 concluded, or why it did not."""
    parts = () if run.verdict is None else run.verdict.resources
    refused: dict[str, list[str]] = {}
    for part in parts:
        if part.refusal is not None:
            refused.setdefault(part.refusal, []).append(part.name)
    beyond = [f"{part.name} is beyond what noise explains" for part in parts if part.beyond]
    return " · ".join([*beyond, *(f"{' and '.join(names)} not judged: {why}" for why, names in refused.items())])
