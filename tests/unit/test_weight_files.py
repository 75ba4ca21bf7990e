"""Which files are a checkpoint's weights: those that transformers loads, and no second copy beside them."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from esa_pytest.errors import CheckpointError
from esa_pytest.evaluation.hashing import INDEX_FILE, count_parameters, weight_files, weights_sha256


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESA_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    shards = {"model-00001-of-00002.safetensors": "first", "model-00002-of-00002.safetensors": "second"}
    for number, (name, tensor) in enumerate(shards.items()):
        save_file({tensor: np.full((2, 3), number, dtype=np.float32)}, tmp_path / name)
    index = {"weight_map": {tensor: name for name, tensor in shards.items()}}
    (tmp_path / INDEX_FILE).write_text(json.dumps(index), encoding="utf-8")
    return tmp_path


def test_a_copy_in_another_layout_changes_nothing(sharded: Path) -> None:
    before = weights_sha256(sharded), count_parameters(sharded)
    save_file({"everything": np.zeros(100, dtype=np.float32)}, sharded / "consolidated.safetensors")
    assert (weights_sha256(sharded), count_parameters(sharded)) == before
    assert before[1] == 12


def test_a_single_file_is_taken_alone(tmp_path: Path) -> None:
    save_file({"a": np.zeros(5, dtype=np.float32)}, tmp_path / "model.safetensors")
    save_file({"b": np.zeros(7, dtype=np.float32)}, tmp_path / "consolidated.safetensors")
    assert weight_files(tmp_path) == [tmp_path / "model.safetensors"]
    assert count_parameters(tmp_path) == 5


def test_of_a_single_file_and_an_index_the_single_file_is_taken(sharded: Path) -> None:
    """As transformers takes it: an older, sharded checkpoint may have lain there before."""
    before = weights_sha256(sharded)
    save_file({"first": np.zeros(5, dtype=np.float32)}, sharded / "model.safetensors")
    assert weight_files(sharded) == [sharded / "model.safetensors"]
    assert count_parameters(sharded) == 5
    assert weights_sha256(sharded) != before
    # What the index names is then no matter.
    (sharded / "model-00002-of-00002.safetensors").unlink()
    assert weight_files(sharded) == [sharded / "model.safetensors"]


def test_shards_hold_the_same_weights_as_one_file(sharded: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    whole = tmp_path_factory.mktemp("whole")
    tensors = {"first": np.full((2, 3), 0, dtype=np.float32), "second": np.full((2, 3), 1, dtype=np.float32)}
    save_file(tensors, whole / "model.safetensors")
    assert weights_sha256(whole) == weights_sha256(sharded)


def test_a_missing_shard_is_named(sharded: Path) -> None:
    (sharded / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError) as refusal:
        weights_sha256(sharded)
    assert str(refusal.value) == (
        f"{sharded / 'model-00002-of-00002.safetensors'} is missing, which {INDEX_FILE} names; "
        f"fetch the checkpoint anew."
    )


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": [1]}', '{"weight_map": {"a": 1}}'])
def test_a_damaged_index_is_told(sharded: Path, text: str) -> None:
    (sharded / INDEX_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"is no index of safetensors files, or is damaged; fetch it anew\.$"):
        weight_files(sharded)


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "v2/model-00001-of-00002.safetensors",
        "../model.safetensors",
        "..",
        "first.bin",
    ],
)
def test_an_index_names_safetensors_beside_it_alone(sharded: Path, name: str) -> None:
    """Transformers joins the whole name to the folder, and what is no safetensors file it unpickles."""
    for path in (sharded / "v2" / "model-00001-of-00002.safetensors", sharded / "first.bin"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((sharded / "model-00001-of-00002.safetensors").read_bytes())
    (sharded / INDEX_FILE).write_text(json.dumps({"weight_map": {"first": name}}), encoding="utf-8")
    with pytest.raises(CheckpointError) as refusal:
        weight_files(sharded)
    assert str(refusal.value) == (
        f"{sharded / INDEX_FILE} names {name!r}, where the name of a .safetensors file beside it is expected, without "
        f"a folder; fetch it anew, or put the files there and correct it."
    )


def test_shards_are_found_by_their_index_alone(sharded: Path) -> None:
    """As transformers finds them; without it they may be a part of the weights, or of two checkpoints."""
    (sharded / INDEX_FILE).unlink()
    with pytest.raises(CheckpointError) as refusal:
        weight_files(sharded)
    assert str(refusal.value) == (
        f"There is neither model.safetensors nor {INDEX_FILE} in {sharded}, one of which says what the weights are; "
        f"fetch the checkpoint anew."
    )


def test_parts_that_ranks_saved_are_refused_beside_whole_weights(sharded: Path) -> None:
    save_file({"first": np.ones((2, 3), dtype=np.float32)}, sharded / "shard-00000-model-00001-of-00001.safetensors")
    with pytest.raises(CheckpointError) as refusal:
        weight_files(sharded)
    assert str(refusal.value) == (
        f"The checkpoint {sharded} holds the parts of several ranks (shard-00000-model-00001-of-00001.safetensors), "
        f"which transformers 5 loads in place of whole weights; save it whole (save_pretrained without "
        f"distributed_checkpoint), or remove them."
    )
    assert len(list(sharded.glob("*.safetensors"))) == 3


def test_another_name_that_begins_alike_is_no_part_of_a_rank(sharded: Path) -> None:
    before = weights_sha256(sharded)
    (sharded / "shard-00000-notes.safetensors").touch()
    assert weights_sha256(sharded) == before
