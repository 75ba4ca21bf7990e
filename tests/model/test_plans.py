"""What a sweep perturbs: plans cover what they say, whatever the shape of the matrices, and the same at every call."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from esa_pytest.errors import PerturbationError
from esa_pytest.perturbation import Perturbed, Quantise, Scale
from esa_pytest.perturbation.guard import Guarded
from esa_pytest.sensitivity import LargestWeights, Layers, Listed, Matrices, SingleWeights, sweep
from tests.model.guards import guarded_of
from tests.model.tiny import NUM_LAYERS, build_network

EXPERTS = "model.layers.1.mlp.experts.gate_up_proj"


@pytest.fixture
def guarded() -> Guarded:
    return guarded_of("llama")


@pytest.fixture
def with_experts() -> PreTrainedModel:
    """A model one of whose layers holds all its experts in one parameter, as transformers 5 builds them."""
    network = build_network("llama")
    experts = torch.nn.Module()
    drawn = torch.randn((3, 16, 8), generator=torch.Generator().manual_seed(5)).bfloat16()
    experts.register_parameter("gate_up_proj", torch.nn.Parameter(drawn, requires_grad=False))
    network.get_submodule("model.layers.1.mlp").add_module("experts", experts)
    return network


def test_plans_cover_what_they_say(guarded: Guarded) -> None:
    network = guarded.model.network
    matrices = Matrices().trials(network)
    assert len(matrices) == 7 * NUM_LAYERS
    layers = Layers(kind=Scale(0.5)).trials(network)
    assert [trial.label for trial in layers] == [f"scale 0.5 model.layers.{n}" for n in range(NUM_LAYERS)]
    assert sum(len(trial.perturbations) for trial in layers) == len(matrices)
    singles = SingleWeights(count=500, seed=1).trials(network)
    assert len({trial.label for trial in singles}) == 500
    assert singles == SingleWeights(count=500, seed=1).trials(network)
    assert singles[:5] != SingleWeights(count=500, seed=2).trials(network)[:5]
    down = LargestWeights(per_matrix=3, matrices=("down_proj.weight",)).trials(network)
    assert len(down) == 3 * NUM_LAYERS
    largest = network.get_parameter("model.layers.0.mlp.down_proj.weight").abs().max()
    places: Any = [trial.perturbations[0].where for trial in down[:3]]
    assert max(network.get_parameter("model.layers.0.mlp.down_proj.weight")[p[0]].abs() for p in places) == largest


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Listed([]), "no perturbation to try"),
        (SingleWeights(count=0, seed=0), "0 single weights are asked for"),
        (SingleWeights(count=10**9, seed=0), "and the layers have"),
        (LargestWeights(per_matrix=1, matrices=("up.weight",)), "name that ends with up.weight"),
    ],
)
def test_plans_that_are_impossible_are_refused(plan: Any, message: str, guarded: Guarded, tmp_path: Path) -> None:
    with pytest.raises(PerturbationError, match=message):
        sweep(guarded, plan, tmp_path / "rows.csv")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("family", "labels"),
    [
        (
            "llama",
            [
                "zero model.layers.0.mlp.down_proj.weight[36, 40]",
                "zero model.layers.2.self_attn.q_proj.weight[7, 53]",
                "zero model.layers.0.self_attn.o_proj.weight[55, 0]",
            ],
        ),
        (
            "gpt-neox",
            [
                "zero gpt_neox.layers.2.attention.dense.weight[22, 40]",
                "zero gpt_neox.layers.2.mlp.dense_4h_to_h.weight[5, 21]",
                "zero gpt_neox.layers.0.attention.query_key_value.weight[183, 0]",
            ],
        ),
    ],
)
def test_seed_draws_the_same_weights_in_every_release(family: str, labels: list[str]) -> None:
    assert [trial.label for trial in SingleWeights(count=3, seed=5).trials(build_network(family))] == labels


def test_experts_are_drawn_as_likely_as_any_other_weight(with_experts: PreTrainedModel) -> None:
    size = sum(p.numel() for name, p in with_experts.named_parameters() if ".layers." in name and p.dim() > 1)
    drawn = SingleWeights(count=size // 4, seed=2).trials(with_experts)
    places = [trial.perturbations[0].where for trial in drawn if trial.perturbations[0].parameter == EXPERTS]
    experts = with_experts.get_parameter(EXPERTS)
    assert len(places) == pytest.approx(experts.numel() / 4, rel=0.3)
    with Perturbed(with_experts, [each for trial in drawn for each in trial.perturbations]):
        assert int((experts == 0).sum()) == len(places)
    with pytest.raises(PerturbationError, match=f"and the layers have {size}"):
        SingleWeights(count=size + 1, seed=0).trials(with_experts)


def test_largest_weight_of_experts_is_found(with_experts: PreTrainedModel) -> None:
    experts = with_experts.get_parameter(EXPERTS).data
    experts[2, 11, 3] = -50.0
    (trial,) = LargestWeights(per_matrix=1, matrices=("experts.gate_up_proj",)).trials(with_experts)
    assert trial.label == f"zero {EXPERTS}[2, 11, 3]"
    assert trial.perturbations[0].where == [(2, 11, 3)]


def test_experts_are_matrices_and_belong_to_their_layer(with_experts: PreTrainedModel) -> None:
    assert [trial.label for trial in Matrices().trials(with_experts) if "experts" in trial.label] == [f"zero {EXPERTS}"]
    layer = Layers().trials(with_experts)[1]
    assert EXPERTS in [each.parameter for each in layer.perturbations]


def test_sweep_of_a_mixture_of_experts_moves_every_matrix(tmp_path: Path) -> None:
    guarded = guarded_of("mixtral")
    found = sweep(guarded, Matrices(), tmp_path / "shared.csv")
    assert {name for name, p in guarded.model.network.named_parameters() if ".layers." in name and p.dim() > 1} == {
        row.parameter for row in found.rows
    }
    assert all(row.rms > 0 for row in found.rows)
    whole = sweep(guarded, Matrices(), tmp_path / "whole.csv", shared=False)
    assert str(whole.rows) == str(found.rows)


@pytest.mark.parametrize("shape", [(40,), (6, 40), (3, 6, 40)])
def test_rows_of_int8_are_those_of_the_last_dimension(shape: tuple[int, ...]) -> None:
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(1)).reshape(-1, 40)
    # Of very different size, which one scale would not hold.
    rows *= torch.logspace(0, 4, len(rows))[:, None]
    rounded = Quantise("int8").changed(rows.reshape(shape), (slice(None),) * len(shape))
    steps = rounded.reshape(-1, 40) / (rows.abs().amax(dim=1, keepdim=True) / 127)
    torch.testing.assert_close(steps, (127 * rows / rows.abs().amax(dim=1, keepdim=True)).round())
