"""The last runs of all baselines, beside what others reported of them: what `esa report` shows."""

from collections.abc import Mapping, Sequence
from typing import Any

from esa_pytest.report.columns import aligned
from esa_pytest.report.layout import count
from esa_pytest.report.reported import REMARK

_NOTHING = "-"
_HEADING = ("baseline", "outcome", "loss", "perplexity", "accuracy", "tok/s", "peak GiB")


def comparison_lines(summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    """One row a run, and below it one of what was reported, where anything was.

    Args:
        summaries: contents of results_summary.json, one a baseline.
    """
    rows: list[tuple[str, ...]] = [_HEADING]
    for summary in summaries:
        rows.append(_measured_row(summary))
        if summary.get("reported"):
            rows.append(_reported_row(summary["reported"]))
    lines = aligned(rows, right=frozenset(range(2, len(_HEADING))))
    if any(summary.get("reported") for summary in summaries):
        lines += ["", f"reported: {REMARK}"]
    return [*lines, f"esa: {count(len(summaries), 'baseline')}"]


def _measured_row(summary: Mapping[str, Any]) -> tuple[str, ...]:
    metrics, resources = summary.get("metrics") or {}, summary["resources"]
    peak = next(
        (value for name, value in resources.items() if name.startswith("peak_") and "reserved" not in name), None
    )
    return (
        f"{summary['baseline']} ({summary['device']})",
        str(summary["outcome"]),
        _number(metrics.get("mean_nll"), "{:.4f}"),
        _number(metrics.get("perplexity"), "{:.4f}"),
        _number(metrics.get("token_accuracy"), "{:.2%}"),
        _number(resources.get("throughput_tokens_per_second"), "{:,.0f}"),
        _number(None if peak is None else peak / 2**30, "{:.2f}"),
    )


def _reported_row(reported: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        "  reported",
        "",
        _number(reported.get("loss"), "{:.4f}"),
        _number(reported.get("perplexity"), "{:.4f}"),
        _number(reported.get("token_accuracy"), "{:.2%}"),
        _number(reported.get("tokens_per_second"), "{:,.0f}"),
        _number(reported.get("peak_vram_gib"), "{:.2f}"),
    )


def _number(value: float | None, layout: str) -> str:
    return _NOTHING if value is None else layout.format(value)
