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
        read_config(folder)
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
    assert read_config(written(tmp_path, content)) == content
