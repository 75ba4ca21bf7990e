"""What a sweep perturbs: weights drawn by a seed, the largest of each matrix, whole matrices, whole layers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from esa_pytest.errors import PerturbationError
from esa_pytest.evaluation.finiteness import decoder_layers
from esa_pytest.perturbation.amounts import index_of
from esa_pytest.perturbation.kinds import Kind, Zero, describe_kind, refuse_senseless
from esa_pytest.perturbation.places import Largest, drawn_positions, select
from esa_pytest.perturbation.reversible import Perturbation, refuse_malformed


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One row of a sweep: perturbations that are applied together.

    Attributes:
        label: what a row is known by; no two of a sweep have the same.
        perturbations: applied in order.
    """

    label: str
    perturbations: tuple[Perturbation, ...]


class Plan(Protocol):
    """Something that says which trials a sweep of a network consists of."""

    def trials(self, network: PreTrainedModel) -> Sequence[Trial]:
        """The trials, in order; the same at every call."""


@dataclass(frozen=True, kw_only=True)
class SingleWeights:
    """Single weights of the decoder layers' matrices, one a trial, each as likely as any other.

    Attributes:
        count: how many.
        seed: of the draw, which is the same on every machine.
        kind: what is done to each.
    """

    count: int
    seed: int
    kind: Kind = field(default_factory=Zero)

    def trials(self, network: PreTrainedModel) -> list[Trial]:
        """The trials, in the order in which they were drawn.

        Raises:
            PerturbationError: there are not so many weights, or the seed or the kind is none.
        """
        matrices = _matrices_to_choose_from(network)
        ends = np.cumsum([matrix.numel() for _, matrix in matrices])
        count = index_of(self.count)
        if count is None or not 1 <= count <= ends[-1]:
            raise PerturbationError(
                f"{self.count!r} single weights are asked for, and the layers have {ends[-1]}; ask for 1 to as many."
            )
        found = []
        for position in drawn_positions(int(ends[-1]), count=count, seed=self.seed).tolist():
            number = int(np.searchsorted(ends, position, side="right"))
            name, matrix = matrices[number]
            found.append(_single(name, matrix, position - int(ends[number]) + matrix.numel(), self.kind))
        return found


@dataclass(frozen=True, kw_only=True)
class LargestWeights:
    """The weights of largest magnitude of every matrix of the decoder layers, one a trial.

    Attributes:
        per_matrix: how many of each.
        kind: what is done to each.
        matrices: only those whose name ends so, as `mlp.down_proj.weight`, or with one of several; empty for all.
    """

    per_matrix: int
    kind: Kind = field(default_factory=Zero)
    matrices: str | Sequence[str] = ()

    def trials(self, network: PreTrainedModel) -> list[Trial]:
        """The trials, in the order of the layers.

        Raises:
            PerturbationError: no matrix has such a name, or none of this size.
        """
        all_matrices = _matrices_to_choose_from(network)
        endings = (self.matrices,) if isinstance(self.matrices, str) else tuple(map(str, self.matrices))
        wanted = [(name, m) for name, m in all_matrices if not endings or name.endswith(endings)]
        if not wanted:
            raise PerturbationError(
                f"No matrix of the decoder layers has a name that ends with {' or '.join(endings)}; the first is "
                f"{all_matrices[0][0]}."
            )
        found = []
        for name, matrix in wanted:
            flat = select(Largest(count=self.per_matrix), matrix)
            assert isinstance(flat, Tensor)  # noqa: S101  (a count always comes to positions)
            found += [_single(name, matrix, position, self.kind) for position in flat.tolist()]
        return found


@dataclass(frozen=True, kw_only=True)
class Matrices:
    """Every matrix of the decoder layers as a whole, one a trial."""

    kind: Kind = field(default_factory=Zero)

    def trials(self, network: PreTrainedModel) -> list[Trial]:
        """The trials, in the order of the layers."""
        return [_whole(name, [name], self.kind) for name, _ in layer_matrices(network)]


@dataclass(frozen=True, kw_only=True)
class Layers:
    """All matrices of a decoder layer together, one layer a trial."""

    kind: Kind = field(default_factory=Zero)

    def trials(self, network: PreTrainedModel) -> list[Trial]:
        """The trials, in the order of the layers."""
        names = [name for name, _ in layer_matrices(network)]
        layers = [layer for layer, _ in decoder_layers(network)]
        found = {layer: [name for name in names if name.startswith(f"{layer}.")] for layer in layers}
        return [_whole(layer, of_layer, self.kind) for layer, of_layer in found.items() if of_layer]


@dataclass(frozen=True)
class Listed:
    """Perturbations of one's own, one a trial."""

    perturbations: Sequence[Perturbation]

    def trials(self, _network: PreTrainedModel) -> list[Trial]:
        """The trials, numbered, since two of them may read alike.

        Raises:
            PerturbationError: one of them is none.
        """
        for each in self.perturbations:
            refuse_malformed(each)
        return [
            Trial(label=f"{number}: {describe_kind(each.kind)} {each.parameter}", perturbations=(each,))
            for number, each in enumerate(self.perturbations)
        ]


def layer_matrices(network: PreTrainedModel) -> list[tuple[str, Tensor]]:
    """The parameters of the decoder layers that hold matrices, one or one an expert, by name, in order."""
    layers = tuple(f"{name}." for name, _ in decoder_layers(network))
    return [(name, p.data) for name, p in network.named_parameters() if p.dim() >= 2 and name.startswith(layers)]


def _matrices_to_choose_from(network: PreTrainedModel) -> list[tuple[str, Tensor]]:
    matrices = layer_matrices(network)
    if not matrices:
        raise PerturbationError(
            f"{type(network).__name__} has no decoder layers with matrices to draw from; give a list of perturbations."
        )
    return matrices


def _single(name: str, matrix: Tensor, position: int, kind: Kind) -> Trial:
    """A weight by its position in row-major order."""
    place = tuple(int(index) for index in np.unravel_index(position, tuple(matrix.shape)))
    one = Perturbation(parameter=name, kind=kind, where=[place])
    return _trial(f"{name}[{', '.join(map(str, place))}]", (one,), kind)


def _whole(label: str, names: Sequence[str], kind: Kind) -> Trial:
    return _trial(label, tuple(Perturbation(parameter=name, kind=kind) for name in names), kind)


def _trial(what: str, perturbations: tuple[Perturbation, ...], kind: Kind) -> Trial:
    # An amount that is none has no words.
    refuse_senseless(kind)
    return Trial(label=f"{describe_kind(kind)} {what}", perturbations=perturbations)
