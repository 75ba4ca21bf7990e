"""The drift map as a picture: a row a model, a column a release, a colour an outcome, a number the loss."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.drift_steps import Row, Step
from esa_pytest.records import Outcome

_COLOURS = {
    Outcome.IDENTICAL: "#e3efe3",
    Outcome.WITHIN_NOISE: "#9ecae1",
    Outcome.NUMERIC_DRIFT: "#fdae61",
    Outcome.METRIC_DRIFT: "#f6d55c",
    Outcome.SEMANTIC_DRIFT: "#d7191c",
    Outcome.NON_FINITE: "#542788",
}
_FIRST, _ABSENT = "#c4c4c4", "#ffffff"
_DARK = (Outcome.SEMANTIC_DRIFT, Outcome.NON_FINITE)


def draw(rows: Sequence[Row], releases: Sequence[str], path: Path) -> None:
    """Write the picture; the same measurements give the same file."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update(
        {"svg.hashsalt": "drift-map", "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 9}
    )
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(1.6 + 0.72 * len(releases), 1.6 + 0.42 * len(rows)))
    for y, row in enumerate(rows):
        for x, release in enumerate(releases):
            _cell(axes, x, y, row, release)
    axes.set_xlim(-0.5, len(releases) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks(range(len(releases)), releases)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    _legend(axes)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)


def _cell(axes: Any, x: int, y: int, row: Row, release: str) -> None:
    from matplotlib.patches import Rectangle

    colour, text, ink = _appearance(row, release)
    axes.add_patch(Rectangle((x - 0.47, y - 0.44), 0.94, 0.88, facecolor=colour, edgecolor="#dddddd", linewidth=0.5))
    axes.text(x, y, text, ha="center", va="center", color=ink, fontsize=7)


def _appearance(row: Row, release: str) -> tuple[str, str, str]:
    """Colour, text and ink of a cell."""
    if release in row.refused:
        return _ABSENT, "does\nnot run", "#999999"
    step = row.steps.get(release)
    if step is None:
        return _FIRST, "first", "#333333"
    return _COLOURS[step.outcome], _text(step), "#ffffff" if step.outcome in _DARK else "#222222"


def _text(step: Step) -> str:
    """The tier, and below it the shift of the loss; nothing where nothing moved."""
    if step.verdict is None:
        return ""
    shift = f"{step.shift:+.2%}" if abs(step.shift) < 0.1 else f"{step.shift:+.0%}"
    return f"tier {int(step.verdict.tier)}\n{shift}"


def _legend(axes: Any) -> None:
    from matplotlib.patches import Patch

    used = [Outcome.IDENTICAL, Outcome.WITHIN_NOISE, Outcome.NUMERIC_DRIFT, Outcome.SEMANTIC_DRIFT]
    patches = [Patch(facecolor=_COLOURS[outcome], edgecolor="#dddddd", label=str(outcome)) for outcome in used]
    patches.append(Patch(facecolor=_FIRST, label="nothing to compare with"))
    axes.legend(
        handles=patches, loc="upper left", bbox_to_anchor=(0, -0.02), ncols=len(patches), frameon=False, fontsize=9,
        title="each release judged by the one before it; below the tier, the shift of the loss",
    )  # fmt: skip
