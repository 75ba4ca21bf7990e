"""Amounts, seeds and places as users give them: understood whosever numbers they are, or refused in a sentence."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from esa_pytest.errors import PerturbationError
from esa_pytest.perturbation import (
    Drawn,
    FlipBit,
    Largest,
    Noise,
    Perturbation,
    Perturbed,
    Replace,
    Scale,
    Zero,
    perturbation,
)
from esa_pytest.sensitivity import LargestWeights, Layers, Listed, Matrices, SingleWeights, Trial, sweep
from tests.model.guards import guarded_of
from tests.model.tiny import NUM_LAYERS, build_network

MATRIX = "model.layers.1.mlp.down_proj.weight"
PLACES = [(0, 3), (9, 4)]


@cache
def network() -> PreTrainedModel:
    return build_network("llama")


def perturbed(asked: Perturbation) -> torch.Tensor:
    """The matrix as a perturbation makes it."""
    with Perturbed(network(), [asked]):
        changed: torch.Tensor = network().get_parameter(MATRIX).detach().clone()
        return changed


@pytest.mark.parametrize(
    "values",
    [
        [1.0, 2.0],
        (1, 2),
        np.array([1.0, 2.0]),
        np.array([1, 2]),
        np.array([2.0, 1.0])[::-1],
        np.array([1.0, 2.0], dtype=">f4"),
        [np.float32(1), 2.0],
        torch.tensor([1.0, 2.0]),
    ],
)
def test_values_of_a_list_of_places_may_be_anybodys(values: Any) -> None:
    found = perturbed(perturbation(MATRIX, replace=values, at=PLACES))
    assert [float(found[place]) for place in PLACES] == [1.0, 2.0]


@pytest.mark.parametrize(
    "words",
    [
        {"scale": np.float32(2.0)},
        {"scale": torch.tensor(2.0)},
        {"scale": 2},
        {"flip_bit": np.int64(15)},
        {"noise": np.float64(0.5), "seed": np.int64(7)},
        {"replace": np.float32(0.5)},
        {"zero": Drawn(count=np.int64(5), seed=np.int64(1))},  # type: ignore[arg-type]
        {"zero": Largest(count=np.int64(5))},  # type: ignore[arg-type]
    ],
)
def test_numbers_of_numpy_and_torch_do_what_pythons_do(words: dict[str, Any]) -> None:
    plain = {name: value.item() if hasattr(value, "item") else value for name, value in words.items()}
    assert torch.equal(perturbed(perturbation(MATRIX, **words)), perturbed(perturbation(MATRIX, **plain)))


@pytest.mark.parametrize(
    "found",
    [
        lambda mask: np.argwhere(mask),
        lambda mask: list(np.argwhere(mask)),
        lambda mask: [tuple(place) for place in np.argwhere(mask)],
        lambda mask: np.argwhere(mask).astype(np.uint16),
        lambda mask: torch.from_numpy(mask).nonzero(),
        lambda mask: list(torch.from_numpy(mask).nonzero()),
        lambda mask: mask,
    ],
)
def test_places_are_taken_as_numpy_and_torch_find_them(found: Callable[[Any], Any]) -> None:
    mask = network().get_parameter(MATRIX).detach().float().numpy() > 0.5
    assert mask.sum() > 1
    changed = perturbed(Perturbation(parameter=MATRIX, kind=Zero(), where=found(mask))) == 0
    np.testing.assert_array_equal(changed.numpy(), mask)


@pytest.mark.parametrize(
    ("where", "plain"),
    [
        (np.int64(3), 3),
        (np.array(3), 3),
        (torch.tensor(3), 3),
        ((np.int64(3), torch.tensor(4)), (3, 4)),
        ((slice(np.int64(2), np.int64(8)), np.int64(1)), (slice(2, 8), 1)),
    ],
)
def test_index_of_numpy_or_torch_is_one(where: Any, plain: Any) -> None:
    given, meant = (Perturbation(parameter=MATRIX, kind=Zero(), where=each) for each in (where, plain))
    assert torch.equal(perturbed(given), perturbed(meant))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"replace": np.ones(3), "at": PLACES}, r"shape \(3,\) are to replace a place of shape \(2,\)"),
        ({"replace": [1.0, 2.0], "at": (0, 3)}, "give one a number, in the same shape"),
        ({"replace": [[1.0], [1.0, 2.0]]}, "is to replace what is there; give a number, or a list"),
        ({"replace": ["1.5", "2.5"], "at": PLACES}, "is to replace what is there; give a number, or a list"),
        ({"replace": [torch.ones(2), None], "at": PLACES}, "is to replace what is there"),
        ({"replace": [True, False], "at": PLACES}, "is to replace what is there"),
        ({"replace": "1.5"}, "'1.5' is to replace what is there; give a number"),
        ({"replace": None}, "None is to replace"),
        ({"replace": True}, "True is to replace"),
        ({"scale": "1.5"}, "A scale by '1.5' is asked for; a factor has to be finite"),
        ({"scale": None}, "A scale by None"),
        ({"scale": True}, "A scale by True"),
        ({"scale": 1j}, "A scale by 1j"),
        ({"scale": 10**400}, "a factor has to be finite"),
        ({"scale": torch.ones(2)}, "a factor has to be finite"),
        ({"flip_bit": "14"}, "Bit '14' is asked for; bits are whole numbers"),
        ({"flip_bit": 1.5}, "Bit 1.5 is asked for"),
        ({"flip_bit": True}, "Bit True is asked for"),
        ({"noise": "0.1"}, "Noise of '0.1' is asked for; give noise 0 or more"),
        ({"noise": 0.1, "seed": 1.5}, "The seed 1.5 is given; a seed is a whole number from 0"),
        ({"noise": 0.1, "seed": -1}, "The seed -1 is given"),
        ({"noise": 0.1, "seed": 2**64}, "The seed 18446744073709551616 is given"),
        ({"noise": 0.1, "seed": ""}, "The seed '' is given"),
        ({"zero": Drawn(count=3, seed=-1)}, "The seed -1 is given"),
        ({"zero": Drawn(count=3, seed=None)}, "The seed None is given"),  # type: ignore[arg-type]
        ({"zero": Drawn(count=2.5, seed=1)}, "2.5 numbers are asked for"),  # type: ignore[arg-type]
        ({"zero": Largest(count="3")}, "'3' numbers are asked for"),  # type: ignore[arg-type]
        ({"zero": slice("a", None)}, "The slice a: is given; a slice is of whole numbers"),
        ({"zero": slice(0, 3.5)}, "The slice 0:3.5 is given"),
        ({"zero": slice(0, 3, 0)}, "give it a step of 1 or more"),
        ({"zero": [(0.0, 3)]}, r"The place \(0.0, 3\) does not name one number"),
        ({"zero": [(slice(1), 3)]}, "does not name one number"),
        ({"zero": np.array(["a"])}, r"it has to be bool, and of that shape"),
        ({"zero": np.ones((64, 96), dtype=np.int64)}, r"it has to be bool, and of that shape"),
        ({"zero": np.argwhere(np.zeros((64, 96)))}, "list of places is empty"),
    ],
)
def test_what_is_no_number_is_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(PerturbationError, match=message):
        Perturbed(network(), [perturbation(MATRIX, **words)])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (MATRIX, "'model.layers.1.mlp.down_proj.weight' is given in the place of a perturbation"),
        (Perturbation(parameter=3, kind=Zero()), "has no parameter 3"),  # type: ignore[arg-type]
        (Perturbation(parameter=MATRIX, kind="zero"), "given as 'zero'; allowed are Zero, Scale, "),  # type: ignore[arg-type]
        (Perturbation(parameter=MATRIX, kind=Replace([1.0])), r"\[1.0\] is to replace"),  # type: ignore[arg-type]
        (Perturbation(parameter=MATRIX, kind=Scale("2")), "A scale by '2'"),  # type: ignore[arg-type]
        (Perturbation(parameter=MATRIX, kind=Noise(0.1, seed=-1)), "The seed -1"),
    ],
)
def test_what_is_no_perturbation_is_refused(asked: Any, message: str) -> None:
    with pytest.raises(PerturbationError, match=message):
        Perturbed(network(), [asked])


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (SingleWeights(count=3, seed=-1), "The seed -1 is given"),
        (SingleWeights(count=3, seed=1.5), "The seed 1.5 is given"),  # type: ignore[arg-type]
        (SingleWeights(count=2.5, seed=1), "2.5 single weights are asked for"),  # type: ignore[arg-type]
        (SingleWeights(count=1, seed=1, kind=Scale("1.5")), "A scale by '1.5'"),  # type: ignore[arg-type]
        (LargestWeights(per_matrix=1.5), "1.5 numbers are asked for"),  # type: ignore[arg-type]
        (LargestWeights(per_matrix=1, matrices=["up.weight", "down.weight"]), "ends with up.weight or down.weight;"),
        (LargestWeights(per_matrix=1, matrices="up.weight"), "ends with up.weight; the first is"),
        (LargestWeights(per_matrix=1, matrices=[3]), "ends with 3; the first is"),  # type: ignore[list-item]
        (Matrices(kind=FlipBit("14")), "Bit '14' is asked for"),  # type: ignore[arg-type]
        (Layers(kind="zero"), "given as 'zero'; allowed are"),  # type: ignore[arg-type]
        (Listed("name"), "'n' is given in the place of a perturbation"),  # type: ignore[arg-type]
    ],
)
def test_plans_of_what_is_no_number_are_refused(plan: Any, message: str) -> None:
    with pytest.raises(PerturbationError, match=message):
        plan.trials(network())


class Own:
    """A plan of a user's own."""

    def trials(self, _network: PreTrainedModel) -> list[Trial]:
        senseless = Perturbation(parameter=MATRIX, kind=Scale("1.5"))  # type: ignore[arg-type]
        return [Trial(label="mine", perturbations=(senseless,))]


def test_sweep_of_a_plan_of_ones_own_is_refused_before_it_has_a_file(tmp_path: Path) -> None:
    with pytest.raises(PerturbationError, match="A scale by '1"):
        sweep(guarded_of("llama"), Own(), tmp_path / "rows.csv")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "matrices", ["down_proj.weight", ["down_proj.weight"], ("mlp.down_proj.weight", "layers.1.mlp.down_proj.weight")]
)
def test_matrices_are_named_by_one_ending_or_several(matrices: Any) -> None:
    trials = LargestWeights(per_matrix=1, matrices=matrices).trials(network())
    assert len(trials) == NUM_LAYERS


def test_plans_of_a_model_without_matrices_are_refused_and_layers_without_them_left_out() -> None:
    bare = build_network("llama")
    for layer in bare.model.layers:
        layer.self_attn, layer.mlp = torch.nn.Identity(), torch.nn.Identity()
    for plan in (SingleWeights(count=1, seed=0), LargestWeights(per_matrix=1)):
        with pytest.raises(PerturbationError, match="no decoder layers with matrices to draw from"):
            plan.trials(bare)
    assert Layers().trials(bare) == []
