"""How a test says what is perturbed: a parameter's name and one keyword, as `zero=[(3, 17)]` or `scale=1.5, at=...`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from esa_pytest.errors import PerturbationError
from esa_pytest.perturbation.kinds import FlipBit, FlipSign, Kind, Noise, Quantise, Replace, Scale, Zero
from esa_pytest.perturbation.places import Where
from esa_pytest.perturbation.reversible import Perturbation

# Kinds without an amount: their keyword may hold the place itself.
_PLAIN: dict[str, Kind] = {"zero": Zero(), "flip_sign": FlipSign()}
_WITH_AMOUNT: dict[str, Callable[..., Kind]] = {
    "scale": Scale,
    "flip_bit": FlipBit,
    "noise": Noise,
    "replace": Replace,
    "quantise": Quantise,
}
# The kinds of numpy's dtypes that are real numbers.
_NUMBERS = "iuf"
KEYWORDS = (*_PLAIN, *_WITH_AMOUNT)


def perturbation(parameter: str, *, at: Where = None, seed: int | None = None, **kind: Any) -> Perturbation:
    """A perturbation in words.

    Args:
        parameter: the name.
        at: which of its numbers; all where nothing is said.
        seed: of `noise`.
        **kind: exactly one of `zero`, `flip_sign` (True, or the place), `scale` (a factor), `flip_bit` (its number),
            `noise` (in standard deviations of the parameter), `replace` (a value, or a list, an array or a tensor of
            them), `quantise` ("int8" or "fp8").

    Raises:
        PerturbationError: there is no such keyword, more than one, or two places.
    """
    unknown = sorted(kind.keys() - set(KEYWORDS))
    if unknown or len(kind) != 1:
        given = f"{', '.join(kind)} are given" if kind else "nothing is given"
        raise PerturbationError(
            f"A perturbation of {parameter} has one kind, and {given}; allowed are {', '.join(KEYWORDS)}, with at= for "
            f"the place."
        )
    ((name, value),) = kind.items()
    if seed is not None and name != "noise":
        raise PerturbationError(f"A seed is given for {name}, which draws nothing; seed= belongs to noise.")
    if name in _PLAIN:
        return Perturbation(parameter=parameter, kind=_PLAIN[name], where=_place(name, value, at))
    return Perturbation(parameter=parameter, kind=_with_amount(name, value, seed), where=at)


def _with_amount(name: str, value: Any, seed: int | None) -> Kind:
    if name == "noise":
        return Noise(value, 0 if seed is None else seed)
    if name == "replace" and isinstance(value, list | tuple | np.ndarray):
        return Replace(_tensor_of(value))
    return _WITH_AMOUNT[name](value)


def _tensor_of(values: Any) -> Tensor:
    """Numbers of a list, or of numpy's."""
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError):
        array = np.array(None)
    if array.dtype.kind not in _NUMBERS:
        raise PerturbationError(
            f"{values!r} is to replace what is there; give a number, or a list, an array or a tensor of numbers in the "
            f"place's shape."
        )
    return torch.from_numpy(array.astype(np.float64))


def _place(name: str, value: Any, at: Where) -> Where:
    """The place of a kind without an amount, which its keyword or `at` holds."""
    if value is True:
        return at
    if value is False or at is not None:
        raise PerturbationError(
            f"{name}={value!r} with at={at!r} does not say where; write {name}=PLACE, or {name}=True with at=PLACE."
        )
    where: Where = value
    return where
