"""Which numbers of a tensor are meant: one, a slice, a mask, the largest, or some drawn by a seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esa_pytest.errors import PerturbationError

# What indexes a tensor and gives a view of it.
_Basic = int | slice
# What a place comes to: a basic index, or flat positions in row-major order, int64, shape (numbers,).
Selection = tuple[_Basic, ...] | Tensor


@dataclass(frozen=True, kw_only=True)
class Largest:
    """The numbers of largest magnitude; of equal ones those that come first."""

    count: int


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Distinct numbers drawn evenly by a seed; the same on every machine and under every release of torch."""

    count: int
    seed: int


# An index or a tuple of indices and slices, a list of indices, a boolean mask of the tensor's shape; None is all.
Place = None | int | slice | tuple[int | slice, ...] | Sequence[int | Sequence[int]] | Tensor | np.ndarray[Any, Any]
Where = Place | Largest | Drawn


def select(where: Where, values: Tensor) -> Selection:
    """What a place comes to in one tensor.

    Raises:
        PerturbationError: it lies outside, is empty, or is none of what is understood.
    """
    shape = tuple(values.shape)
    if where is None:
        return (slice(None),) * values.dim()
    if isinstance(where, Largest | Drawn):
        return _counted(where, values)
    if isinstance(where, np.ndarray):
        where = torch.from_numpy(np.ascontiguousarray(where))
    if isinstance(where, Tensor):
        return _masked(where, shape)
    if isinstance(where, int | slice):
        where = (where,)
    if isinstance(where, tuple) and all(isinstance(index, int | slice) for index in where):
        return _basic(where, shape)
    if isinstance(where, list | tuple):
        return _listed(where, shape)
    raise PerturbationError(
        f"A place is given as {where!r}; allowed are an index, a slice, a tuple of these, a list of indices, a boolean "
        f"mask, Largest(count=...) and Drawn(count=..., seed=...)."
    )


def drawn_positions(size: int, *, count: int, seed: int) -> npt.NDArray[np.int64]:
    """Distinct numbers below `size`, drawn evenly, in the order of the draw.

    From the raw stream of a bit generator, which numpy keeps for ever; those of its distributions it does not.

    Args:
        size: there are so many.
        count: how many of them, at most all.
        seed: of the draw.
    """
    stream = np.random.PCG64(seed)
    wanted = min(count, size - count)
    chosen: dict[int, None] = {}
    while len(chosen) < wanted:
        for position in (stream.random_raw(wanted - len(chosen)) % np.uint64(size)).tolist():
            chosen[position] = None
    drawn = np.fromiter(chosen, dtype=np.int64, count=len(chosen))
    # Of more than half, those that are left out are drawn.
    return drawn if wanted == count else np.setdiff1d(np.arange(size), drawn, assume_unique=True)


def read(values: Tensor, selection: Selection) -> Tensor:
    """A copy of the selected numbers."""
    if isinstance(selection, Tensor):
        return values[_unravelled(selection, values)].clone()
    return values[selection].clone()


def write(values: Tensor, selection: Selection, new: Tensor) -> None:
    """Put numbers where `read` took them from."""
    if isinstance(selection, Tensor):
        values[_unravelled(selection, values)] = new
    else:
        values[selection] = new


def _unravelled(flat: Tensor, values: Tensor) -> tuple[Tensor, ...]:
    return torch.unravel_index(flat.to(values.device), values.shape)


def _counted(where: Largest | Drawn, values: Tensor) -> Tensor:
    if not 1 <= where.count <= values.numel():
        raise PerturbationError(
            f"{where.count} numbers are asked for of a tensor that has {values.numel()}; ask for 1 to as many."
        )
    if isinstance(where, Drawn):
        return torch.from_numpy(np.sort(drawn_positions(values.numel(), count=where.count, seed=where.seed)))
    magnitudes = values.detach().abs().flatten().float().cpu()
    # Equal magnitudes are common in bf16, and `topk` promises no order among them.
    return magnitudes.sort(descending=True, stable=True).indices[: where.count].sort().values


def _masked(mask: Tensor, shape: tuple[int, ...]) -> Tensor:
    if mask.dtype != torch.bool or tuple(mask.shape) != shape:
        raise PerturbationError(
            f"A mask of dtype {str(mask.dtype).removeprefix('torch.')} and shape {tuple(mask.shape)} is given for a "
            f"tensor of shape {shape}; it has to be bool, and of that shape."
        )
    flat = mask.flatten().nonzero()[:, 0].cpu()
    if not flat.numel():
        raise PerturbationError("A mask selects nothing; at least one number has to be True.")
    return flat


def _basic(where: tuple[_Basic, ...], shape: tuple[int, ...]) -> tuple[_Basic, ...]:
    if len(where) > len(shape):
        raise PerturbationError(f"The place {where} has {len(where)} dimensions, and the tensor {len(shape)}: {shape}.")
    for index, size in zip(where, shape, strict=False):
        if isinstance(index, bool):
            raise PerturbationError(
                f"The place {where} holds {index}, which is no index; give whole numbers, or a boolean mask of the "
                f"shape {shape} (torch, numpy)."
            )
        if isinstance(index, slice):
            if len(range(*index.indices(size))) == 0:
                raise PerturbationError(f"The slice {_spoken(index)} of a dimension of {size} selects nothing.")
            if index.step is not None and index.step < 1:
                raise PerturbationError(f"The slice {_spoken(index)} goes backwards; give it a step of 1 or more.")
        elif not -size <= index < size:
            raise PerturbationError(f"The index {index} is outside a dimension of {size}; the shape is {shape}.")
    return where


def _listed(where: Sequence[Any], shape: tuple[int, ...]) -> Tensor:
    """A list of single numbers, each an index or one index a dimension, in its own order: values may go with it."""
    rows = [tuple(entry) if isinstance(entry, list | tuple) else (entry,) for entry in where]
    if not rows:
        raise PerturbationError("A list of places is empty; name at least one number.")
    for row in rows:
        if len(row) != len(shape) or not all(isinstance(index, int) for index in row):
            raise PerturbationError(
                f"The place {row} does not name one number of a tensor of shape {shape}; give {len(shape)} whole "
                f"numbers."
            )
        _basic(row, shape)
    counted = [tuple(index % size for index, size in zip(row, shape, strict=True)) for row in rows]
    if len(set(counted)) < len(counted):
        twice = next(place for number, place in enumerate(counted) if place in counted[:number])
        raise PerturbationError(f"The place {twice} stands twice in a list of places; name each number once.")
    flat = np.ravel_multi_index(tuple(np.array(counted, dtype=np.int64).T), shape)
    return torch.from_numpy(np.asarray(flat, dtype=np.int64))


def _spoken(index: slice) -> str:
    parts = (index.start, index.stop) if index.step is None else (index.start, index.stop, index.step)
    return ":".join("" if part is None else str(part) for part in parts)
