"""A wheel's checkpoint in the cache is the one that the catalog pins, whatever happened to it since its conversion."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from esa_pytest.baselines.sources import FolderModel, WheelModel
from esa_pytest.errors import CheckpointError
from esa_pytest.evaluation.checkpoints import locate
from esa_pytest.evaluation.conversion import converted_folder
from esa_pytest.evaluation.hub import Hub
from tests.model.fake_wheel import write_fake_wheel

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def converted(own_checkpoint: Path, tmp_path: Path) -> WheelModel:
    """A model whose checkpoint lies converted in the cache."""
    found = locate(FolderModel(path=own_checkpoint), hub=Hub())
    pins = {"weights_sha256": found.weights_sha256, "tokenizer_sha256": found.tokenizer_sha256}
    model = write_fake_wheel(tmp_path / "links").model_copy(update=pins)
    shutil.copytree(own_checkpoint, converted_folder(model))
    return model


def _change_weights(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] *= 2
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _change_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"added_tokens": []}), encoding="utf-8")


def test_what_was_converted_is_found(converted: WheelModel) -> None:
    found = locate(converted, hub=Hub())
    assert found.folder == converted_folder(converted)
    assert found.weights_sha256 == converted.weights_sha256


@pytest.mark.parametrize(
    ("what", "change"), [("weights", _change_weights), ("tokenizer", _change_tokenizer)], ids=["weights", "tokenizer"]
)
def test_what_was_changed_since_is_refused(what: str, change: Callable[[Path], None], converted: WheelModel) -> None:
    folder = converted_folder(converted)
    change(folder)
    seen, pinned = (
        getattr(model, f"{what}_sha256") for model in (locate(FolderModel(path=folder), hub=Hub()), converted)
    )
    with pytest.raises(CheckpointError) as caught:
        locate(converted, hub=Hub())
    assert str(caught.value) == (
        f"The checkpoint {folder} in the cache is not the one that fake-esa-model==0.0.1 was converted to: the sha256 "
        f"of its {what} is {seen}, the catalog pins {pinned}; delete this folder, and it is converted anew."
    )
