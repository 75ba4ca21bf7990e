"""The baselines of a project as a table: what `esa list` shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from esa_pytest.report.columns import aligned
from esa_pytest.report.layout import count
from esa_pytest.report.reported import REMARK, reported_text


@dataclass(frozen=True, kw_only=True)
class ListedBaseline:
    """One line of the table.

    Attributes:
        id: as `llama-3.1-8b-smoke`.
        golden: the date of its golden for this device, or what is wrong with it.
        weights: in a few words.
        reason: why the weights cannot be had; None where they can.
        reported: what others reported of it; None where nobody did.
    """

    id: str
    golden: str
    weights: str
    reason: str | None
    reported: Mapping[str, Any] | None


def listing_lines(matrix: Sequence[ListedBaseline], others: Sequence[ListedBaseline], *, device: str) -> list[str]:
    """The table, the reasons behind it, and the remark on reported figures.

    Args:
        matrix: the baselines of the project.
        others: those of the catalog that the project leaves out.
        device: the device class whose goldens are shown.
    """
    every = [*matrix, *others]
    heading = ("baseline", f"golden ({device})", "weights", "reported")
    table = aligned([heading, *(_row(baseline) for baseline in every)])
    lines = table[: 1 + len(matrix)]
    if others:
        lines += ["", "in the catalog, and not in the matrix of this project:", *table[1 + len(matrix) :]]
    for reason in dict.fromkeys(baseline.reason for baseline in every if baseline.reason):
        number = sum(baseline.reason == reason for baseline in every)
        lines += ["", f"unreachable ({count(number, 'baseline')}): {reason}"]
    if any(baseline.reported for baseline in every):
        lines += ["", f"reported: {REMARK}"]
    return lines


def _row(baseline: ListedBaseline) -> tuple[str, str, str, str]:
    reported = "-" if baseline.reported is None else reported_text(baseline.reported)
    return baseline.id, baseline.golden, baseline.weights, reported
