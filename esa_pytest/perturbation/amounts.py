"""Numbers as users give them: Python's, numpy's or torch's, never truth values, and never texts."""

import math
import operator
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from esa_pytest.errors import PerturbationError

# What torch's generators take.
_SEEDS = 1 << 64


def is_number(value: object) -> bool:
    """Whether a value is one number, be it NaN or infinite."""
    if isinstance(value, Tensor):
        return value.dim() == 0 and value.dtype != torch.bool and not value.is_complex()
    return isinstance(value, Real) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    """Whether a value is one finite number."""
    try:
        return is_number(value) and math.isfinite(value)
    except OverflowError:
        return False


def index_of(value: Any) -> int | None:
    """The whole number that a value is; None where it is none."""
    if isinstance(value, bool) or (isinstance(value, Tensor) and value.dtype == torch.bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def refuse_no_seed(seed: object) -> None:
    """Refuse what no generator can begin with.

    Raises:
        PerturbationError: it is no whole number, or out of range.
    """
    index = index_of(seed)
    if index is None or not 0 <= index < _SEEDS:
        raise PerturbationError(f"The seed {seed!r} is given; a seed is a whole number from 0 to 2 ** 64 - 1.")
