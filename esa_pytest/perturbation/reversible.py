"""Change weights for the length of a block, and prove afterwards that every bit is what it was."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from weakref import WeakSet

import torch
from torch import Tensor
from transformers import PreTrainedModel

from esa_pytest.errors import PerturbationError, RestorationError
from esa_pytest.perturbation.interrupts import DelayedInterrupt
from esa_pytest.perturbation.kinds import Kind, as_integers, describe_kind, refuse_senseless
from esa_pytest.perturbation.places import Selection, Where, read, select, write
from esa_pytest.perturbation.targets import find_tensor, names_of, storage_of

# So many bytes of a tensor are copied from its device at once to be hashed.
_HASHED_BYTES = 1 << 26


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """One change of one parameter.

    Attributes:
        parameter: its name, as `model.layers.1.mlp.down_proj.weight`; a buffer's name as well.
        kind: what is done.
        where: to which of its numbers; None is all of them.
    """

    parameter: str
    kind: Kind
    where: Where = None


def refuse_malformed(asked: object) -> None:
    """Refuse what is no perturbation, or one whose amount is none, before anything is changed.

    Raises:
        PerturbationError: it is such.
    """
    if not isinstance(asked, Perturbation):
        raise PerturbationError(
            f"{asked!r} is given in the place of a perturbation; give each as Perturbation(parameter=..., kind=...)."
        )
    refuse_senseless(asked.kind)


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What a perturbation did.

    Attributes:
        parameter: the name.
        also_known_as: further names of the same weights, where they are tied.
        kind: what was done.
        num_numbers: to how many numbers.
        num_changed: how many of these have other bits now.
        before: the number as it was, where it is a single one.
        after: the number as it is now, where it is a single one.
    """

    parameter: str
    also_known_as: tuple[str, ...]
    kind: str
    num_numbers: int
    num_changed: int
    before: float | None = None
    after: float | None = None

    def __str__(self) -> str:
        """As `zero 1 number of lm_head.weight (tied to model.embed_tokens.weight)`."""
        noun = "number" if self.num_numbers == 1 else "numbers"
        tied = f" (tied to {', '.join(self.also_known_as)})" if self.also_known_as else ""
        return f"{self.kind}, {self.num_numbers} {noun} of {self.parameter}{tied}"


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """What brings one perturbation back."""

    name: str
    tensor: Tensor
    selection: Selection
    before: Tensor
    sha256: str


class Perturbed:
    """A context: inside it the weights are perturbed, behind it they are what they were, bit for bit.

    Several perturbations are applied in order, and undone in reverse. Leaving by return, exception or Ctrl-C is all the
    same; a sha256 over each tensor, taken before and after, proves it.

    Attributes:
        applied: what was done, once the block has been entered.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        perturbations: Sequence[Perturbation],
        *,
        if_broken: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing is changed yet.

        Args:
            network: whose weights are perturbed.
            perturbations: applied in order.
            if_broken: called where the weights turn out not to be restored, or may not be, before the error is raised.

        Raises:
            PerturbationError: there is no such parameter or place, or nothing to do.
        """
        if not perturbations:
            raise PerturbationError("No perturbation is given; name at least one parameter and what is done to it.")
        self._network = network
        self._perturbations = tuple(perturbations)
        for perturbation in self._perturbations:
            refuse_malformed(perturbation)
            tensor = find_tensor(network, perturbation.parameter)
            # Refused here and not when half of them are applied.
            perturbation.kind.changed(tensor, select(perturbation.where, tensor))
        self.applied: tuple[Applied, ...] = ()
        self._kept: list[_Kept] = []
        _BLOCKS.add(self)
        self._if_broken = if_broken
        self._interrupt = DelayedInterrupt(self, type(self).__enter__.__code__, type(self).__exit__.__code__)

    @property
    def active(self) -> bool:
        """Whether the weights are perturbed at the moment."""
        return bool(self._kept)

    def names_in(self, network: PreTrainedModel) -> set[str]:
        """Every name of the weights of a network that this block has perturbed at the moment."""
        if self._network is not network:
            return set()
        return {name for kept in self._kept for name in names_of(network, kept.tensor)}

    def __enter__(self) -> Self:
        if self._kept:
            raise PerturbationError("A perturbation is entered a second time; make another one for a block inside it.")
        self._interrupt.install()
        try:
            with torch.no_grad():
                self.applied = tuple(self._apply(perturbation) for perturbation in self._perturbations)
            self._interrupt.deliver()
        except BaseException:
            try:
                self._restore()
            finally:
                self._interrupt.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._restore()
        finally:
            self._interrupt.release()

    def _apply(self, perturbation: Perturbation) -> Applied:
        tensor = find_tensor(self._network, perturbation.parameter)
        selection = select(perturbation.where, tensor)
        before = read(tensor, selection)
        new = perturbation.kind.changed(tensor, selection)
        kept = _Kept(
            name=perturbation.parameter, tensor=tensor, selection=selection, before=before, sha256=sha256_of(tensor)
        )
        # Before the first bit is touched: whatever happens then is undone.
        self._kept.append(kept)
        write(tensor, selection, new)
        after = read(tensor, selection)
        is_single = before.numel() == 1
        return Applied(
            parameter=perturbation.parameter,
            also_known_as=tuple(n for n in names_of(self._network, tensor) if n != perturbation.parameter),
            kind=describe_kind(perturbation.kind),
            num_numbers=before.numel(),
            num_changed=int((as_integers(before) != as_integers(after)).sum()),
            before=float(before) if is_single else None,
            after=float(after) if is_single else None,
        )

    def _restore(self) -> None:
        try:
            with torch.no_grad():
                for kept in reversed(self._kept):
                    write(kept.tensor, kept.selection, kept.before)
            # What was found first is what the weights were before all of them; tied ones may have been named otherwise.
            first = {storage_of(kept.tensor): kept for kept in reversed(self._kept)}
            for kept in first.values():
                _prove_restored(self._network, kept)
        except BaseException:
            # Whatever it was, a device without memory or a timeout: nobody knows what the weights are now.
            self._if_broken()
            raise
        finally:
            self._kept = []


# All that anybody holds.
_BLOCKS: WeakSet[Perturbed] = WeakSet()


def perturbed_names(network: PreTrainedModel) -> set[str]:
    """Every name of the weights that blocks have perturbed at the moment."""
    return {name for block in _BLOCKS for name in block.names_in(network)}


def _prove_restored(network: PreTrainedModel, kept: _Kept) -> None:
    held = find_tensor(network, kept.name)
    if held.data_ptr() != kept.tensor.data_ptr() or sha256_of(held) != kept.sha256:
        raise RestorationError(
            f"{kept.name} is not what it was before it was perturbed: what was perturbed has been put back, and "
            f"something else within the block has changed this parameter; load the model anew before it is used."
        )


def sha256_of(tensor: Tensor) -> str:
    """sha256 over the bytes of a tensor in row-major order, wherever it lies."""
    digest = hashlib.sha256()
    flat = tensor.detach().reshape(-1)
    step = max(1, _HASHED_BYTES // flat.element_size())
    for begin in range(0, flat.numel(), step):
        digest.update(as_integers(flat[begin : begin + step]).cpu().numpy().data)
    return digest.hexdigest()
