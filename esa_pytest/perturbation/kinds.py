"""What is done to the selected numbers of a tensor; every kind is a pure function of the tensor as it was."""

import operator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from esa_pytest.errors import PerturbationError
from esa_pytest.perturbation.amounts import index_of, is_finite, is_number, refuse_no_seed
from esa_pytest.perturbation.places import Selection, read

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
QuantisedFormat = Literal["int8", "fp8"]
_FP8 = torch.float8_e4m3fn


@dataclass(frozen=True)
class Zero:
    """Set to zero."""

    def changed(self, values: Tensor, selection: Selection) -> Tensor:
        """The selected numbers as they become."""
        return torch.zeros_like(read(values, selection))


@dataclass(frozen=True)
class Scale:
    """Multiply by a factor, rounded to the tensor's dtype."""

    factor: float

    def changed(self, values: Tensor, selection: Selection) -> Tensor:
        """The selected numbers as they become."""
        before = read(values, selection)
        return (before.double() * self.factor).to(before.dtype)


@dataclass(frozen=True)
class FlipSign:
    """Change the sign."""

    def changed(self, values: Tensor, selection: Selection) -> Tensor:
        """The selected numbers as they become."""
        return -read(values, selection)


@dataclass(frozen=True)
class FlipBit:
    """Flip one bit of the stored number: 0 is the last of the mantissa; of bf16, 7 to 14 the exponent, 15 the sign."""

    bit: int

    def changed(self, values: Tensor, selection: Selection) -> Tensor:
        """The selected numbers as they become.

        Raises:
            PerturbationError: the dtype has no such bit.
        """
        before = read(values, selection)
        bits, bit = 8 * before.element_size(), operator.index(self.bit)
        if not 0 <= bit < bits:
            raise PerturbationError(
                f"Bit {bit} of a {_name(before.dtype)} is asked for, which has the bits 0 to {bits - 1}."
            )
        integers = as_integers(before)
        # The highest bit of a signed integer is its sign.
        mask = 1 << bit if integers.dtype is torch.uint8 or bit < bits - 1 else -(1 << bit)
        return (integers ^ mask).view(before.dtype)


@dataclass(frozen=True)
class Noise:
    """Add Gaussian noise of so many standard deviations of the whole tensor."""

    size: float
    seed: int = 0

    def changed(self, values: Tensor, selection: Selection) -> Tensor:
        """The selected numbers as they become.

        Raises:
            PerturbationError: the tensor is a single number, which has no standard deviation.
        """
        if values.numel() < 2:
            raise PerturbationError("Noise is measured by a tensor's standard deviation, and a single number has none.")
        before = read(values, selection)
        generator = torch.Generator().manual_seed(operator.index(self.seed))
        drawn = torch.randn(before.shape, generator=generator, dtype=torch.float32)
        sigma = float(values.float().std())
        return (before.float() + drawn.to(before.device) * (self.size * sigma)).to(before.dtype)


@dataclass(frozen=True)
class Replace:
    """Put one value, or a tensor of them, in place of what was there."""

    value: float | Tensor

    def changed(self, values: Tensor, selection: Selection) -> Tensor:
        """The selected numbers as they become.

        Raises:
            PerturbationError: the values have another shape than the place.
        """
        before = read(values, selection)
        if not isinstance(self.value, Tensor):
            return torch.full_like(before, float(self.value))
        if self.value.shape != before.shape:
            raise PerturbationError(
                f"Values of shape {tuple(self.value.shape)} are to replace a place of shape {tuple(before.shape)}; "
                f"give one a number, in the same shape."
            )
        return self.value.to(before.device, before.dtype)


@dataclass(frozen=True)
class Quantise:
    """Round to a narrower format and back, as a quantised copy of the weights would be read.

    `int8` has a scale for each row (along the last dimension), its largest magnitude at 127; `fp8` is e4m3 with one
    scale for the tensor, its largest magnitude at the format's.
    """

    format: QuantisedFormat

    def changed(self, values: Tensor, selection: Selection) -> Tensor:
        """The selected numbers as they become.

        Raises:
            PerturbationError: the format is none of those above.
        """
        if self.format == "int8":
            rounded = _as_int8(values.float())
        elif self.format == "fp8":
            rounded = _as_fp8(values.float())
        else:
            raise PerturbationError(f"The format {self.format!r} is none of int8 and fp8.")
        return read(rounded.to(values.dtype), selection)


Kind = Zero | Scale | FlipSign | FlipBit | Noise | Replace | Quantise


def as_integers(values: Tensor) -> Tensor:
    """The bits of numbers as integers: a NaN equals itself, and zero differs from minus zero."""
    return values.view(_INTEGERS[values.element_size()])


def describe_kind(kind: Kind) -> str:
    """What is done, as `scale 1.1` or `zero`."""
    match kind:
        case Zero():
            return "zero"
        case Scale(factor):
            return f"scale {factor:g}"
        case FlipSign():
            return "flip sign"
        case FlipBit(bit):
            return f"flip bit {bit}"
        case Noise(size, seed):
            return f"noise {size:g} (seed {seed})"
        case Replace(value):
            return f"replace by {value:g}" if not isinstance(value, Tensor) else "replace"
        case Quantise(format):
            return f"quantise to {format}"


def refuse_senseless(kind: object) -> None:
    """Refuse amounts that are none, before anything is changed.

    Raises:
        PerturbationError: a factor or a size is not finite, a bit or a seed is no whole number, or the like.
    """
    match kind:
        case Scale(factor) if not is_finite(factor):
            raise PerturbationError(
                f"A scale by {factor!r} is asked for; a factor has to be finite, as 1.5 is (to plant a NaN or an "
                f"infinity, replace by it)."
            )
        case FlipBit(bit) if index_of(bit) is None:
            raise PerturbationError(f"Bit {bit!r} is asked for; bits are whole numbers, 0 the last of the mantissa.")
        case Noise(size, seed):
            if not is_finite(size) or size < 0:
                raise PerturbationError(f"Noise of {size!r} is asked for; give noise 0 or more, and finite.")
            refuse_no_seed(seed)
        case Replace(value) if not isinstance(value, Tensor) and not is_number(value):
            raise PerturbationError(f"{value!r} is to replace what is there; give a number, or a tensor of numbers.")
        case Zero() | Scale() | FlipSign() | FlipBit() | Replace() | Quantise():
            pass
        case _:
            raise PerturbationError(
                f"What is done is given as {kind!r}; allowed are {', '.join(each.__name__ for each in get_args(Kind))} "
                f"of esa_pytest.perturbation."
            )


def _as_int8(values: Tensor) -> Tensor:
    rows = values.reshape(-1, values.shape[-1] if values.dim() else 1)
    scale = rows.abs().amax(dim=1, keepdim=True) / 127
    scale = torch.where(scale > 0, scale, 1.0)
    return (rows / scale).round().mul(scale).reshape(values.shape)


def _as_fp8(values: Tensor) -> Tensor:
    largest = float(values.abs().max())
    scale = largest / torch.finfo(_FP8).max if largest > 0 else 1.0
    return (values / scale).to(_FP8).float() * scale


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
