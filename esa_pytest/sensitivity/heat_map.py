"""A sweep as a picture: the largest effect by decoder layer and matrix."""

import io
from pathlib import Path

import numpy as np

from esa_pytest.errors import SweepError
from esa_pytest.evaluation.cache import write_atomically
from esa_pytest.sensitivity.ranking import Grid

_INCHES_A_CELL = (0.75, 0.26)
_NOT_FINITE = "#b2182b"


def write_heat_map(grid: Grid, path: Path, *, title: str) -> None:
    """Draw a grid into an image file; its suffix says which kind (svg, png, pdf).

    Raises:
        SweepError: matplotlib is not installed, or there is nothing to draw.
    """
    if not grid.layers:
        raise SweepError("A heat map shows decoder layers, and this sweep perturbed none; perturb some of theirs.")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.colors import LogNorm
        from matplotlib.figure import Figure
    except ImportError:
        raise SweepError("A heat map needs matplotlib: pip install 'esa-pytest[plots]'.") from None
    finite = np.ma.masked_invalid(grid.values)
    positive = finite[finite > 0].compressed()
    low, high = (float(positive.min()), float(positive.max())) if positive.size else (1e-9, 1e-8)
    width = 2.5 + _INCHES_A_CELL[0] * len(grid.matrices)
    height = 2.2 + _INCHES_A_CELL[1] * len(grid.layers)
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    norm = LogNorm(vmin=low, vmax=max(high, low * 1.01))
    image = axes.imshow(np.ma.clip(finite, low, None), norm=norm, cmap="viridis", aspect="auto")
    axes.set_facecolor("#eeeeee")
    for row, column in np.argwhere(np.isinf(grid.values)):
        axes.text(column, row, "NaN", ha="center", va="center", color=_NOT_FINITE, fontsize=7, weight="bold")
    axes.set_xticks(range(len(grid.matrices)), grid.matrices, rotation=40, ha="right", fontsize=8)
    axes.set_yticks(range(len(grid.layers)), [str(layer) for layer in grid.layers], fontsize=8)
    axes.set_ylabel("decoder layer")
    axes.set_title(title, fontsize=10)
    bar = figure.colorbar(image, ax=axes)
    bar.set_label("largest |drift of the loss|, nats a token", fontsize=8)
    buffer = io.BytesIO()
    kind = path.suffix.removeprefix(".") or "svg"
    if kind not in figure.canvas.get_supported_filetypes():
        raise SweepError(f"A heat map cannot be written as {path.name}; name a .svg, .png or .pdf file.")
    figure.savefig(buffer, format=kind, dpi=150)
    write_atomically(path, buffer.getvalue())
