"""A rotary embedding that is not the one of config.json is told: the weights load, and the model is another one."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import PreTrainedModel

from esa_pytest.baselines.sources import FolderModel
from esa_pytest.evaluation.checkpoints import locate
from esa_pytest.evaluation.hub import Hub
from esa_pytest.evaluation.loading import load_model
from esa_pytest.evaluation.rope import rope_notes
from tests.model.tiny import FAMILIES, build_network, load_folder, save_tiny

RELEASE = f"transformers {transformers.__version__}"
LLAMA3: dict[str, Any] = {
    "rope_type": "llama3",
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 64,
    "rope_theta": 500000.0,
}


def float32(family: str = "llama", **changes: Any) -> PreTrainedModel:
    """A network whose frequencies are float32, as a loaded one's are; `build_network` rounds them with the weights."""
    config = build_network(family, **changes).config
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_runs_with_its_own_base_has_no_note(family: str) -> None:
    network = float32(family)
    assert rope_notes(json.loads(network.config.to_json_string()), network) == ()


@pytest.mark.parametrize(
    "parameters", [LLAMA3, {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5}, {"rope_theta": 1e5}]
)
def test_a_kind_that_is_held_and_used_has_no_note(parameters: dict[str, Any]) -> None:
    assert rope_notes({"rope_parameters": parameters}, float32(rope_parameters=parameters)) == ()


def test_another_base_is_told_with_both() -> None:
    """What a release before 5 does with a file that only has rope_parameters."""
    config = {"rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"}}
    (note,) = rope_notes(config, float32())
    assert note == (
        f"config.json holds the RoPE base in rope_parameters (100000), and this {RELEASE} runs with 10000; write it as "
        f"rope_theta too, or use the release that saved it."
    )


def test_a_lost_kind_is_told_as_well() -> None:
    assert [note.split(";")[0] for note in rope_notes({"rope_parameters": LLAMA3}, float32())] == [
        f"config.json holds the RoPE base in rope_parameters (500000), and this {RELEASE} runs with 10000",
        f"config.json holds the RoPE kind in rope_parameters (llama3), and this {RELEASE} runs with default",
    ]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"rope_parameters": None},
        {"rope_parameters": {"rope_type": "default"}},
        {"rope_parameters": {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}},
    ],
)
def test_a_file_that_says_nothing_or_many_things_has_no_note(config: dict[str, Any]) -> None:
    assert rope_notes(config, float32()) == ()


def test_frequencies_rounded_with_the_weights_tell_no_base() -> None:
    assert rope_notes({"rope_parameters": {"rope_theta": 1e5}}, build_network("llama")) == ()


def test_a_loaded_model_brings_its_notes(tmp_path: Path) -> None:
    save_tiny("llama", tmp_path)
    assert load_folder(tmp_path).notes == ()
    checkpoint = locate(FolderModel(path=tmp_path), hub=Hub())
    # As an older release reads a file that holds its base in rope_parameters alone.
    other = {"rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"}}
    model = load_model("tiny", replace(checkpoint, config=checkpoint.config | other), device=torch.device("cpu"))
    assert model.notes == rope_notes(other, model.network)
    assert [note.split(";")[0] for note in model.notes] == [
        f"config.json holds the RoPE base in rope_parameters (100000), and this {RELEASE} runs with 10000"
    ]
