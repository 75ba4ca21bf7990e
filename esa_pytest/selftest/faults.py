"""Faults drawn by a seed, whose strength can be given any value."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from esa_pytest.perturbation import Drawn, FlipBit, Noise, Perturbation, Replace, Scale
from esa_pytest.selftest.ladder import Instrument
from esa_pytest.selftest.material import Material

_FEW = 16
_START = 0.05


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault without its strength.

    Attributes:
        what: for people.
        at: the perturbation at a strength.
        start: a strength to begin with.
    """

    what: str
    at: Callable[[float], Perturbation]
    start: float = _START


def fault_of(instrument: Instrument, seed: int, draw: int, material: Material) -> Fault:
    """The fault of a seed: another place, and other random numbers, for each seed and draw.

    `reference` is tried with few weights, as little damage does; `mean` with a token made likelier that the text never
    has, which shifts many tokens by little and in one direction; `rms` with noise on a whole matrix; `maximum` with the
    embedding of one token, which few positions of the text feel; `bits` with one last bit.

    Args:
        instrument: whose ladder it is for.
        seed: of the trial.
        draw: counted up where a fault could not be given its size.
        material: where faults can be put.
    """
    random = np.random.default_rng([list(Instrument).index(instrument), seed, draw])
    matrix = material.matrices[int(random.integers(len(material.matrices)))]
    number = int(random.integers(2**31))
    match instrument:
        case Instrument.BITS:
            return _last_bit(matrix, number)
        case Instrument.REFERENCE:
            return _one_weight(matrix, number) if seed % 2 else _few_weights(matrix, number)
        case Instrument.MEAN:
            return _likelier(material, int(random.choice(material.absent)))
        case Instrument.RMS:
            return _whole_matrix(matrix, number)
        case Instrument.MAXIMUM:
            return _one_token(material.embedding, int(random.choice(material.rare)), number)


def _last_bit(matrix: str, number: int) -> Fault:
    perturbation = Perturbation(parameter=matrix, kind=FlipBit(0), where=Drawn(count=1, seed=number))
    return Fault(what=f"last bit of a weight of {matrix}", at=lambda _: perturbation)


def _one_weight(matrix: str, number: int) -> Fault:
    place = Drawn(count=1, seed=number)
    return Fault(
        what=f"a weight of {matrix} scaled",
        at=lambda strength: Perturbation(parameter=matrix, kind=Scale(1 + strength), where=place),
    )


def _few_weights(matrix: str, number: int) -> Fault:
    place = Drawn(count=_FEW, seed=number)
    return Fault(
        what=f"noise on {_FEW} weights of {matrix}",
        at=lambda strength: Perturbation(parameter=matrix, kind=Noise(strength, number), where=place),
    )


def _whole_matrix(matrix: str, number: int) -> Fault:
    return Fault(
        what=f"noise on {matrix}",
        at=lambda strength: Perturbation(parameter=matrix, kind=Noise(strength, number)),
    )


def _one_token(embedding: str, token: int, number: int) -> Fault:
    return Fault(
        what=f"noise on the embedding of token {token}",
        at=lambda strength: Perturbation(parameter=embedding, kind=Noise(strength, number), where=(token,)),
        start=1.0,
    )


def _likelier(material: Material, token: int) -> Fault:
    """The token's logit grows by the strength where the state is the mean one, by about as much elsewhere."""
    state = material.mean_state
    direction = state / state.square().sum()

    def at(strength: float) -> Perturbation:
        row = material.head_rows[token].float() + strength * direction
        return Perturbation(parameter=material.head, kind=Replace(row.to(material.head_rows.dtype)), where=(token,))

    return Fault(what=f"token {token}, which the text never has, made likelier", at=at, start=2.0)
