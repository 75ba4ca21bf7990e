"""What is done to the selected numbers of a tensor; every kind is a pure function of the tensor as it was."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from esa_pytest.errors import PerturbationError
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
        bits = 8 * before.element_size()
        if not 0 <= self.bit < bits:
            raise PerturbationError(
                f"Bit {self.bit} of a {_name(before.dtype)} is asked for, which has the bits 0 to {bits - 1}."
            )
        integers = as_integers(before)
        # The highest bit of a signed integer is its sign.
        mask = 1 << self.bit if integers.dtype is torch.uint8 or self.bit < bits - 1 else -(1 << self.bit)
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
        drawn = torch.randn(before.shape, generator=torch.Generator().manual_seed(self.seed), dtype=torch.float32)
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
            return torch.full_like(before, self.value)
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


def refuse_senseless(kind: Kind) -> None:
    """Refuse amounts that are no numbers, before anything is changed.

    Raises:
        PerturbationError: a factor or a size is NaN or infinite, or a size is negative.
    """
    amount = kind.factor if isinstance(kind, Scale) else kind.size if isinstance(kind, Noise) else 0.0
    if not math.isfinite(amount) or (isinstance(kind, Noise) and amount < 0):
        raise PerturbationError(
            f"{describe_kind(kind)!r} is asked for; a factor has to be finite, and noise 0 or more. "
            f"To plant a NaN or an infinity, replace by it."
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
