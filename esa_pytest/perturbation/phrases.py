"""How a test says what is perturbed: a parameter's name and one keyword, as `zero=[(3, 17)]` or `scale=1.5, at=...`."""

from typing import Any

from esa_pytest.errors import PerturbationError
from esa_pytest.perturbation.kinds import FlipBit, FlipSign, Kind, Noise, Quantise, Replace, Scale, Zero
from esa_pytest.perturbation.places import Where
from esa_pytest.perturbation.reversible import Perturbation

# Kinds without an amount: their keyword may hold the place itself.
_PLAIN: dict[str, Kind] = {"zero": Zero(), "flip_sign": FlipSign()}
_WITH_AMOUNT = {"scale": Scale, "flip_bit": FlipBit, "noise": Noise, "replace": Replace, "quantise": Quantise}
KEYWORDS = (*_PLAIN, *_WITH_AMOUNT)


def perturbation(parameter: str, *, at: Where = None, seed: int | None = None, **kind: Any) -> Perturbation:
    """A perturbation in words.

    Args:
        parameter: the name.
        at: which of its numbers; all where nothing is said.
        seed: of `noise`.
        **kind: exactly one of `zero`, `flip_sign` (True, or the place), `scale` (a factor), `flip_bit` (its number),
            `noise` (in standard deviations of the parameter), `replace` (a value or a tensor), `quantise` ("int8" or
            "fp8").

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
    amount = _WITH_AMOUNT[name]
    return Perturbation(
        parameter=parameter,
        kind=Noise(value, seed or 0) if amount is Noise else amount(value),
        where=at,
    )


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
