"""Change weights, measure, restore bit for bit.

In a script:

    from esa_pytest.perturbation import Perturbed, perturbation

    with Perturbed(network, [perturbation("model.layers.1.mlp.down_proj.weight", zero=[(3, 17)])]):
        ...
"""

from esa_pytest.perturbation.guard import Guarded, guard
from esa_pytest.perturbation.kinds import FlipBit, FlipSign, Noise, Quantise, Replace, Scale, Zero
from esa_pytest.perturbation.phrases import perturbation
from esa_pytest.perturbation.places import Drawn, Largest
from esa_pytest.perturbation.reversible import Perturbation, Perturbed
from esa_pytest.perturbation.run import Drift, PerturbedRun

__all__ = [
    "Drawn",
    "Drift",
    "FlipBit",
    "FlipSign",
    "Guarded",
    "Largest",
    "Noise",
    "Perturbation",
    "Perturbed",
    "PerturbedRun",
    "Quantise",
    "Replace",
    "Scale",
    "Zero",
    "guard",
    "perturbation",
]
