"""What the parts of a golden share: the check of their arrays in the side file."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from esa_pytest.errors import GoldenError

Arrays = dict[str, npt.NDArray[Any]]
# By name: the kind of number, and the shape.
Expected = Mapping[str, tuple[type[np.generic], tuple[int, ...]]]


def refuse_malformed(arrays: Arrays, expected: Expected, *, part: str, name: str) -> None:
    """Refuse arrays that are not exactly what is expected.

    Args:
        arrays: those of the side file that belong to the part.
        expected: what they should be.
        part: what the part is called in a message.
        name: what the golden is called in a message.

    Raises:
        GoldenError: one is missing, too many, of another kind or shape, or not finite.
    """
    if set(arrays) != set(expected):
        raise GoldenError(
            f"The golden {name} is damaged: of its {part} it holds the arrays {sorted(arrays)}, "
            f"expected are {sorted(expected)}."
        )
    for key, (kind, shape) in expected.items():
        array = arrays[key]
        if array.dtype != np.dtype(kind) or array.shape != shape:
            raise GoldenError(
                f"The golden {name} is damaged: its array {key} is {array.dtype}{list(array.shape)}, "
                f"expected is {np.dtype(kind)}{list(shape)}."
            )
        if not np.isfinite(array).all():
            raise GoldenError(f"The golden {name} is damaged: its array {key} is not finite.")
