"""What the parts of a golden share: the check of their arrays in the side file."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from esa_pytest.errors import GoldenError

Arrays = dict[str, npt.NDArray[Any]]
# None where any size will do.
Shape = tuple[int | None, ...]
# By name: the kind of number, and the shape.
Expected = Mapping[str, tuple[type[np.generic], Shape]]


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
        if array.dtype != np.dtype(kind) or not _fits(array.shape, shape):
            raise GoldenError(
                f"The golden {name} is damaged: its array {key} is {array.dtype}{_shown(array.shape)}, "
                f"expected is {np.dtype(kind)}{_shown(shape)}."
            )
        if not np.isfinite(array).all():
            raise GoldenError(f"The golden {name} is damaged: its array {key} is not finite.")


def _fits(found: tuple[int, ...], expected: Shape) -> bool:
    return len(found) == len(expected) and all(
        wanted in (None, size) for size, wanted in zip(found, expected, strict=True)
    )


def _shown(shape: Shape) -> str:
    return f"[{', '.join('any' if size is None else str(size) for size in shape)}]"
