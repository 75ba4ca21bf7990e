"""A config.json is read as it is, or refused where it would lead transformers to other files than are hashed."""

import json
from pathlib import Path
from typing import Any

import pytest

from esa_pytest.errors import CheckpointError
from esa_pytest.evaluation.config_file import read_config


def written(folder: Path, content: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_config(folder / "config.json")
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        ({"transformers_weights": "other.safetensors"}, "'transformers_weights': 'other.safetensors'"),
        ({"transformers_weights": "adapter_model.bin"}, "'transformers_weights': 'adapter_model.bin'"),
        ({"text_config": {"transformers_weights": "a.safetensors"}}, "'transformers_weights': 'a.safetensors'"),
        ({"configs": [{"transformers_weights": "a.safetensors"}]}, "'transformers_weights': 'a.safetensors'"),
        (
            {"attribute_map": {"transformers_weights": "other"}, "other": "a.safetensors"},
            "'transformers_weights': 'other'",
        ),
        (
            {"attribute_map": {"other": "transformers_weights"}, "other": "a.safetensors"},
            "'other': 'transformers_weights'",
        ),
        ({"configuration_files": ["config.4.0.0.json"]}, "'configuration_files': ['config.4.0.0.json']"),
    ],
)
def test_what_leads_to_other_files_is_refused(tmp_path: Path, content: dict[str, Any], seen: str) -> None:
    assert refusal(written(tmp_path, {"model_type": "llama"} | content)) == (
        f"{tmp_path / 'config.json'} holds {seen}, by which transformers may load other files than those that are "
        f"hashed here; remove it, and let the weights be model.safetensors."
    )


def test_what_leads_nowhere_is_read(tmp_path: Path) -> None:
    content = {"model_type": "llama", "transformers_weights": None, "attribute_map": {"width": "hidden_size"}}
    assert read_config(written(tmp_path, content) / "config.json") == content


def test_a_folder_in_its_place_is_told(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.mkdir()
    assert refusal(tmp_path) == f"{path} cannot be read (Is a directory); put the model's config there."


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_one_that_is_nested_too_deep_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    assert refusal(tmp_path).startswith(f"{path} is no JSON (maximum recursion depth exceeded")
