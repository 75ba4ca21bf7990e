"""The weights that are loaded are those that were hashed: a checkpoint that leads transformers elsewhere is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from esa_pytest.errors import CheckpointError
from esa_pytest.evaluation.checkpoints import locate
from esa_pytest.evaluation.hub import Hub
from tests.model.fake_hub import MODEL, FakeHub, twin_files
from tests.model.tiny import load_folder

pytestmark = pytest.mark.usefixtures("own_cache")
NORM = "model.norm.weight"
WEIGHTS = "model.safetensors"


def _scaled(folder: Path) -> dict[str, torch.Tensor]:
    """Weights of the same names and shapes, which make another model."""
    tensors = load_file(folder / WEIGHTS)
    return tensors | {NORM: 2 * tensors[NORM]}


def _add_weights(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    save_file(_scaled(folder), folder / name, metadata={"format": "pt"})


def _configure(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def _another_file(folder: Path) -> None:
    _add_weights(folder, "other.safetensors")
    _configure(folder, transformers_weights="other.safetensors")


def _a_pickle(folder: Path) -> None:
    torch.save(_scaled(folder), folder / "adapter_model.bin")
    _configure(folder, transformers_weights="adapter_model.bin")


def _another_name_for_the_entry(folder: Path) -> None:
    _add_weights(folder, "other.safetensors")
    _configure(folder, attribute_map={"transformers_weights": "note"}, note="other.safetensors")


def _another_config(folder: Path) -> None:
    _another_file(folder)
    (folder / "config.json").rename(folder / "config.4.0.0.json")
    plain = json.loads((folder / "config.4.0.0.json").read_text(encoding="utf-8"))
    del plain["transformers_weights"]
    (folder / "config.json").write_text(json.dumps(plain | {"configuration_files": ["config.4.0.0.json"]}), "utf-8")


def _a_folder_in_the_index(folder: Path) -> None:
    _add_weights(folder, f"v2/{WEIGHTS}")
    index = {"metadata": {}, "weight_map": dict.fromkeys(load_file(folder / WEIGHTS), "v2/model-1.safetensors")}
    (folder / f"v2/{WEIGHTS}").rename(folder / "v2/model-1.safetensors")
    (folder / WEIGHTS).rename(folder / "model-1.safetensors")
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index), encoding="utf-8")


LEADS_ELSEWHERE: dict[str, Callable[[Path], None]] = {
    "another-file": _another_file,
    "a-pickle": _a_pickle,
    "another-name-for-the-entry": _another_name_for_the_entry,
    "another-config": _another_config,
    "a-folder-in-the-index": _a_folder_in_the_index,
}


@pytest.mark.parametrize("lead", LEADS_ELSEWHERE)
def test_a_folder_that_leads_elsewhere_is_refused(lead: str, own_checkpoint: Path) -> None:
    LEADS_ELSEWHERE[lead](own_checkpoint)
    with pytest.raises(CheckpointError):
        load_folder(own_checkpoint)


def test_a_repository_that_leads_elsewhere_is_refused_before_its_weights_are_fetched(fake_hub: FakeHub) -> None:
    files = twin_files("llama-3.1-8b@tiny")
    config = json.loads(files["config.json"]) | {"transformers_weights": "adapter_model.bin"}
    fake_hub.files = files | {"config.json": json.dumps(config).encode(), "adapter_model.bin": b"a pickle"}
    with pytest.raises(CheckpointError, match=r"config\.json holds 'transformers_weights': 'adapter_model\.bin'"):
        locate(MODEL, hub=Hub())
    assert not [question for question in fake_hub.asked if question.endswith((".safetensors", ".bin"))]
