"""A model of random weights is the same for the same shape and seed, and is loaded and scored as any other."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from esa_pytest.baselines.sources import RandomModel
from esa_pytest.errors import CheckpointError
from esa_pytest.evaluation.availability import Availability, availability
from esa_pytest.evaluation.checkpoints import Checkpoint, locate
from esa_pytest.evaluation.fresh import bits_of
from esa_pytest.evaluation.hub import Hub
from esa_pytest.evaluation.loading import LoadedModel, dtype_of, load_model
from esa_pytest.evaluation.random_weights import parameters_of_shape
from tests.model.tiny import evaluate_tiny, tiny_baseline

pytestmark = pytest.mark.usefixtures("own_cache")
CPU = torch.device("cpu")
SHAPE: dict[str, Any] = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "vocab_size": 258,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "bos_token_id": 256,
    "eos_token_id": 257,
}


@pytest.fixture
def shape(tmp_path: Path) -> Path:
    path = tmp_path / "shape.json"
    path.write_text(json.dumps(SHAPE), encoding="utf-8")
    return path


def _located(shape: Path, *, seed: int) -> Checkpoint:
    return locate(RandomModel(config=shape, seed=seed), hub=Hub())


def _loaded(shape: Path, *, seed: int) -> LoadedModel:
    return load_model("random", _located(shape, seed=seed), device=CPU)


def _weights(shape: Path, *, seed: int) -> dict[str, Tensor]:
    return dict(_loaded(shape, seed=seed).network.named_parameters())


def test_the_same_seed_gives_the_same_bits(shape: Path) -> None:
    first, second = _weights(shape, seed=3), _weights(shape, seed=3)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_seed_gives_other_bits_in_every_matrix(shape: Path) -> None:
    first, second = _weights(shape, seed=3), _weights(shape, seed=4)
    matrices = [name for name, weight in first.items() if weight.dim() == 2]
    assert matrices
    assert not any(torch.equal(first[name], second[name]) for name in matrices)


def test_seed_and_shape_name_the_weights(shape: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps(SHAPE | {"num_hidden_layers": 3}), encoding="utf-8")
    checkpoints = [_located(shape, seed=3), _located(shape, seed=4), _located(other, seed=3)]
    assert len({checkpoint.weights_sha256 for checkpoint in checkpoints}) == 3
    assert _located(shape, seed=3) == checkpoints[0]
    assert [checkpoint.random_seed for checkpoint in checkpoints] == [3, 4, 3]
    assert checkpoints[2].config["num_hidden_layers"] == 3


def test_making_the_weights_leaves_the_random_state_alone(shape: Path) -> None:
    before = torch.get_rng_state()
    _loaded(shape, seed=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_it_is_loaded_as_any_other_model(shape: Path) -> None:
    folder, network = _located(shape, seed=3).folder, _loaded(shape, seed=3).network
    assert type(network).__name__ == "MistralForCausalLM"
    assert dtype_of(network) == "bfloat16"
    assert network.config._attn_implementation == "sdpa"
    assert not network.training
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters_of_shape(folder)


@pytest.mark.parametrize("bos", ["none", "window"])
def test_it_is_scored_as_any_other_model(shape: Path, corpus: Path, bos: str) -> None:
    model = _loaded(shape, seed=3)
    baseline = tiny_baseline(Path(), corpus).model_copy(
        update={"model": RandomModel(config=shape, seed=3, bos="window" if bos == "window" else "none")}
    )
    prepared, done = evaluate_tiny(model, baseline)
    # Small random weights know nothing: each of the 258 tokens is as likely as the others.
    assert float(done.scores.nll.mean()) == pytest.approx(float(torch.tensor(258.0).log()), abs=0.2)
    assert done.non_finite is None
    assert bool((prepared.batches[0].input_ids[:, 0] == 256).all()) is (bos == "window")
    again = evaluate_tiny(_loaded(shape, seed=3), baseline)[1]
    assert bits_of(again.scores) == bits_of(done.scores)


def test_it_needs_no_hub_and_no_folder(shape: Path) -> None:
    assert availability(RandomModel(config=shape), hub=Hub()) == Availability(state="made on the device")


def test_a_shape_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        _located(tmp_path / "gone.json", seed=3)
    assert str(caught.value) == (
        f"There is no config {tmp_path / 'gone.json'} (No such file or directory); correct the config of the model in "
        f"[tool.esa.models]."
    )


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"model_type": None}, "Should have a `model_type` key in its config.json"),
        ({"model_type": ["mistral"]}, "TypeError: unhashable type: 'list'"),
        ({"model_type": "vit"}, "for this kind of AutoModel: AutoModelForCausalLM"),
        ({"hidden_size": "x"}, "'hidden_size': TypeError: Field 'hidden_size' expected int, got str"),
        ({"num_attention_heads": 0}, "ZeroDivisionError: "),
    ],
)
def test_a_shape_that_is_none_is_told_in_a_sentence(tmp_path: Path, changes: dict[str, Any], cause: str) -> None:
    path = tmp_path / "shape.json"
    content = {key: value for key, value in (SHAPE | changes).items() if value is not None}
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        _loaded(path, seed=3)
    sentence = str(caught.value)
    assert sentence.startswith(f"The checkpoint {_located(path, seed=3).folder} of the model random cannot be loaded: ")
    assert cause in sentence
    assert sentence.endswith("; correct its config, or its entry in [tool.esa.models], or fetch it anew.")
    assert "\n" not in sentence


def test_a_shape_that_is_no_json_is_told_by_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "shape.json"
    path.write_text("[1]", encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        _located(path, seed=3)
    assert str(caught.value) == f"{path} is no JSON object but a list; fetch it anew."
