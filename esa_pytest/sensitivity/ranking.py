"""Which perturbations moved a model most: a ranking, and the same by layer and matrix."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esa_pytest.report.columns import aligned
from esa_pytest.sensitivity.rows import Row

_HEADING = ("", "perturbation", "loss", "rms", "reference rms", "first moved")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The largest effect by decoder layer and matrix.

    Attributes:
        layers: the layers' indices, ascending.
        matrices: the names behind the layer's, in the order in which they were first met.
        values: nats, float64, shape (layers, matrices); NaN where nothing was perturbed, infinity where a run was not
            finite.
    """

    layers: tuple[int, ...]
    matrices: tuple[str, ...]
    values: npt.NDArray[np.float64]


def effect(row: Row) -> float:
    """How far a perturbation moved the loss, nats a token in either direction; infinite where a run was not finite."""
    return abs(row.mean_nll) if row.finite else math.inf


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Rows by their effect, the largest first; those of equal effect in the order of the sweep."""
    return sorted(rows, key=effect, reverse=True)


def ranking_lines(rows: Sequence[Row], *, most: int = 10) -> list[str]:
    """The perturbations that moved the loss most, as a table."""
    shown = ranked(rows)[:most]
    table = [
        (
            str(place),
            row.label,
            f"{row.mean_nll:+.3g} ±{row.mean_nll_error:.1g}" if row.finite else "not finite",
            f"{row.rms:.2g}",
            f"{row.reference_rms:.2g}",
            row.first_moved or "-",
        )
        for place, row in enumerate(shown, start=1)
    ]
    return aligned([_HEADING, *table])


def grid_of(rows: Sequence[Row]) -> Grid:
    """The largest effect of every layer and matrix that a sweep perturbed."""
    inside = [row for row in rows if row.layer >= 0]
    layers = tuple(sorted({row.layer for row in inside}))
    matrices = tuple(dict.fromkeys(_matrix(row) for row in sorted(inside, key=lambda row: row.layer)))
    values = np.full((len(layers), len(matrices)), np.nan)
    for row in inside:
        place = layers.index(row.layer), matrices.index(_matrix(row))
        values[place] = np.fmax(values[place], effect(row))
    return Grid(layers=layers, matrices=matrices, values=values)


def _matrix(row: Row) -> str:
    """A parameter's name behind its layer's number, without the `weight` that all have; else what the row calls it."""
    _, found, behind = row.parameter.partition(f".{row.layer}.")
    return behind.removesuffix(".weight") if found else row.parameter
