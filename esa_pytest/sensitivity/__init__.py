"""Sweeps: how much each of many perturbations moves a guarded model, kept row by row, ranked and drawn."""

from esa_pytest.sensitivity.plans import LargestWeights, Layers, Listed, Matrices, Plan, SingleWeights, Trial
from esa_pytest.sensitivity.ranking import ranking_lines
from esa_pytest.sensitivity.rows import Row
from esa_pytest.sensitivity.sweeps import Sweep, sweep

__all__ = [
    "LargestWeights",
    "Layers",
    "Listed",
    "Matrices",
    "Plan",
    "Row",
    "SingleWeights",
    "Sweep",
    "Trial",
    "ranking_lines",
    "sweep",
]
