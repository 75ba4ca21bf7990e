"""How a test says what is perturbed."""

from typing import Any

import pytest

from esa_pytest.errors import PerturbationError
from esa_pytest.perturbation.kinds import FlipBit, FlipSign, Kind, Noise, Quantise, Replace, Scale, Zero, describe_kind
from esa_pytest.perturbation.phrases import perturbation
from esa_pytest.perturbation.reversible import Applied, Perturbation

NAME = "model.norm.weight"


@pytest.mark.parametrize(
    ("words", "kind", "where"),
    [
        ({"zero": True}, Zero(), None),
        ({"zero": [(3, 17)]}, Zero(), [(3, 17)]),
        ({"zero": True, "at": 3}, Zero(), 3),
        ({"flip_sign": slice(2)}, FlipSign(), slice(2)),
        ({"scale": 1.5, "at": (0, 1)}, Scale(1.5), (0, 1)),
        ({"flip_bit": 14, "at": 0}, FlipBit(14), 0),
        ({"noise": 0.01}, Noise(0.01, 0), None),
        ({"noise": 0.01, "seed": 7}, Noise(0.01, 7), None),
        ({"replace": 0.0, "at": 1}, Replace(0.0), 1),
        ({"quantise": "int8"}, Quantise("int8"), None),
    ],
)
def test_words_become_a_perturbation(words: dict[str, Any], kind: Kind, where: Any) -> None:
    assert perturbation(NAME, **words) == Perturbation(parameter=NAME, kind=kind, where=where)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({}, "has one kind, and nothing is given"),
        ({"zero": True, "scale": 2.0}, "and zero, scale are given"),
        ({"erase": True}, "and erase are given; allowed are zero, flip_sign, scale"),
        ({"zero": False}, "zero=False with at=None does not say where"),
        ({"zero": [(0, 0)], "at": 3}, "does not say where"),
        ({"scale": 2.0, "seed": 1}, "seed= belongs to noise"),
    ],
)
def test_words_without_sense_are_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(PerturbationError, match=message):
        perturbation(NAME, **words)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Zero(), "zero"),
        (Scale(1.5), "scale 1.5"),
        (FlipSign(), "flip sign"),
        (FlipBit(14), "flip bit 14"),
        (Noise(0.01, 3), "noise 0.01 (seed 3)"),
        (Replace(0.5), "replace by 0.5"),
        (Quantise("fp8"), "quantise to fp8"),
    ],
)
def test_kind_is_told_in_words(kind: Kind, text: str) -> None:
    assert describe_kind(kind) == text


def test_what_was_done_reads_as_a_phrase() -> None:
    done = Applied(parameter=NAME, also_known_as=(), kind="zero", num_numbers=1, num_changed=1)
    assert str(done) == f"zero, 1 number of {NAME}"
