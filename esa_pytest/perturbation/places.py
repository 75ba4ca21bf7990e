"""Which numbers of a tensor are meant: one, a slice, a mask, the largest, or some drawn by a seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esa_pytest.errors import PerturbationError
from esa_pytest.perturbation.amounts import index_of, refuse_no_seed

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


_Array = Tensor | np.ndarray[Any, Any]
# An index or a tuple of indices and slices; a list of indices, or whole numbers in an array, a row each; a boolean mask
# of the tensor's shape; None is all.
Place = (
    None
    | SupportsIndex
    | slice
    | tuple[SupportsIndex | slice, ...]
    | Sequence[SupportsIndex | Sequence[SupportsIndex] | _Array]
    | _Array
)
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
    if isinstance(where, Tensor | np.ndarray):
        if tuple(where.shape) == shape or not _holds_whole_numbers(where):
            return _masked(where, shape)
        where = where.tolist()
    place = (where,) if _is_basic(where) else where
    if isinstance(place, tuple) and all(_is_basic(index) for index in place):
        return _basic(place, shape)
    if isinstance(place, list | tuple):
        return _listed(place, shape)
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

    Raises:
        PerturbationError: the seed is none.
    """
    refuse_no_seed(seed)
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


def _is_basic(index: object) -> bool:
    # A truth value is refused with the others of its place, and in words of its own.
    return isinstance(index, slice | bool) or index_of(index) is not None


def _holds_whole_numbers(array: _Array) -> bool:
    return str(array.dtype).removeprefix("torch.").startswith(("int", "uint"))


def _counted(where: Largest | Drawn, values: Tensor) -> Tensor:
    count = index_of(where.count)
    if count is None or not 1 <= count <= values.numel():
        raise PerturbationError(
            f"{where.count!r} numbers are asked for of a tensor that has {values.numel()}; ask for 1 to as many."
        )
    if isinstance(where, Drawn):
        return torch.from_numpy(np.sort(drawn_positions(values.numel(), count=count, seed=where.seed)))
    magnitudes = values.detach().abs().flatten().float().cpu()
    # Equal magnitudes are common in bf16, and `topk` promises no order among them.
    return magnitudes.sort(descending=True, stable=True).indices[:count].sort().values


def _masked(mask: _Array, shape: tuple[int, ...]) -> Tensor:
    dtype = str(mask.dtype).removeprefix("torch.")
    if dtype != "bool" or tuple(mask.shape) != shape:
        raise PerturbationError(
            f"A mask of dtype {dtype} and shape {tuple(mask.shape)} is given for a tensor of shape {shape}; it has to "
            f"be bool, and of that shape."
        )
    flat = torch.as_tensor(np.ascontiguousarray(mask) if isinstance(mask, np.ndarray) else mask)
    flat = flat.flatten().nonzero()[:, 0].cpu()
    if not flat.numel():
        raise PerturbationError("A mask selects nothing; at least one number has to be True.")
    return flat


def _basic(where: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[_Basic, ...]:
    if len(where) > len(shape):
        raise PerturbationError(f"The place {where} has {len(where)} dimensions, and the tensor {len(shape)}: {shape}.")
    return tuple(
        _sliced(index, size) if isinstance(index, slice) else _indexed(index, size, where, shape)
        for index, size in zip(where, shape, strict=False)
    )


def _sliced(index: slice, size: int) -> slice:
    parts = [None if part is None else index_of(part) for part in (index.start, index.stop, index.step)]
    if parts != [index.start, index.stop, index.step]:
        raise PerturbationError(f"The slice {_spoken(index)} is given; a slice is of whole numbers, as 2:8.")
    begin, end, step = parts
    if step is not None and step < 1:
        raise PerturbationError(f"The slice {_spoken(index)} goes backwards; give it a step of 1 or more.")
    if len(range(*slice(begin, end, step).indices(size))) == 0:
        raise PerturbationError(f"The slice {_spoken(index)} of a dimension of {size} selects nothing.")
    return slice(begin, end, step)


def _indexed(index: object, size: int, where: tuple[Any, ...], shape: tuple[int, ...]) -> int:
    whole = index_of(index)
    if whole is None:
        raise PerturbationError(
            f"The place {where} holds {index}, which is no index; give whole numbers, or a boolean mask of the "
            f"shape {shape} (torch, numpy)."
        )
    if not -size <= whole < size:
        raise PerturbationError(f"The index {whole} is outside a dimension of {size}; the shape is {shape}.")
    return whole


def _listed(where: Sequence[Any], shape: tuple[int, ...]) -> Tensor:
    """A list of single numbers, each an index or one index a dimension, in its own order: values may go with it."""
    entries = [entry.tolist() if isinstance(entry, Tensor | np.ndarray) else entry for entry in where]
    rows = [tuple(entry) if isinstance(entry, list | tuple) else (entry,) for entry in entries]
    if not rows:
        raise PerturbationError("A list of places is empty; name at least one number.")
    places = []
    for row in rows:
        if len(row) != len(shape) or any(isinstance(index, slice) or not _is_basic(index) for index in row):
            raise PerturbationError(
                f"The place {row} does not name one number of a tensor of shape {shape}; give {len(shape)} whole "
                f"numbers."
            )
        places.append(tuple(_indexed(index, size, row, shape) % size for index, size in zip(row, shape, strict=True)))
    if len(set(places)) < len(places):
        twice = next(place for number, place in enumerate(places) if place in places[:number])
        raise PerturbationError(f"The place {twice} stands twice in a list of places; name each number once.")
    flat = np.ravel_multi_index(tuple(np.array(places, dtype=np.int64).T), shape)
    return torch.from_numpy(np.asarray(flat, dtype=np.int64))


def _spoken(index: slice) -> str:
    parts = (index.start, index.stop) if index.step is None else (index.start, index.stop, index.step)
    return ":".join("" if part is None else str(part) for part in parts)
