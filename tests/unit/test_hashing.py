import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file

from esa_pytest.errors import CheckpointError
from esa_pytest.evaluation import kept_hashes
from esa_pytest.evaluation.hashing import (
    INDEX_FILE,
    count_parameters,
    weights_sha256,
)

Tensors = Mapping[str, npt.NDArray[Any]]
TENSORS: Tensors = {
    "embed": np.arange(6, dtype=np.float32).reshape(2, 3),
    "norm": np.ones(3, dtype=np.float32),
    "bias": np.zeros(0, dtype=np.float16),
}
NAMES = {"float32": "F32", "float16": "F16", "int32": "I32"}


def checkpoint(folder: Path, *shards: Tensors) -> Path:
    folder.mkdir()
    for index, tensors in enumerate(shards):
        add_shard(folder, f"model-{index}.safetensors", tensors)
    return folder


def add_shard(folder: Path, name: str, tensors: Tensors) -> None:
    save_file(dict(tensors), folder / name)
    index = folder / INDEX_FILE
    known = json.loads(index.read_text(encoding="utf-8"))["weight_map"] if index.exists() else {}
    index.write_text(json.dumps({"weight_map": known | dict.fromkeys(tensors, name)}), encoding="utf-8")


def laid_out(folder: Path, order: Sequence[str], *, padding: str = "", metadata: bool = False) -> Path:
    """A checkpoint whose header and data are written by hand, in an order of its own."""
    header: dict[str, Any] = {"__metadata__": {"format": "np"}} if metadata else {}
    data = b""
    for name in order:
        tensor = TENSORS[name]
        offsets = [len(data), len(data) + tensor.nbytes]
        header[name] = {"dtype": NAMES[str(tensor.dtype)], "shape": list(tensor.shape), "data_offsets": offsets}
        data += tensor.tobytes()
    text = (json.dumps(header) + padding).encode()
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        weights_sha256(folder)
    return str(caught.value)


def test_hash_does_not_depend_on_sharding(tmp_path: Path) -> None:
    whole = checkpoint(tmp_path / "whole", TENSORS)
    shards = checkpoint(tmp_path / "shards", *({name: TENSORS[name]} for name in ("norm", "bias", "embed")))
    assert weights_sha256(whole) == weights_sha256(shards)
    assert len(weights_sha256(whole)) == 64


@pytest.mark.parametrize("order", [("bias", "embed", "norm"), ("norm", "embed", "bias")])
@pytest.mark.parametrize("padding", ["", " " * 64])
@pytest.mark.parametrize("metadata", [True, False])
def test_hash_does_not_depend_on_the_layout(
    tmp_path: Path, order: tuple[str, ...], padding: str, *, metadata: bool
) -> None:
    mine = laid_out(tmp_path / "mine", order, padding=padding, metadata=metadata)
    assert weights_sha256(mine) == weights_sha256(checkpoint(tmp_path / "theirs", TENSORS))


def one_bit_off(tensor: npt.NDArray[Any], byte: int) -> npt.NDArray[Any]:
    data = bytearray(tensor.tobytes())
    data[byte] ^= 1
    return np.frombuffer(bytes(data), dtype=tensor.dtype).reshape(tensor.shape)


@pytest.mark.parametrize(
    "changed",
    [
        *({**TENSORS, "embed": one_bit_off(TENSORS["embed"], byte)} for byte in range(24)),
        *({**TENSORS, "norm": one_bit_off(TENSORS["norm"], byte)} for byte in range(12)),
        {**TENSORS, "embed": TENSORS["embed"].view(np.int32)},
        {**TENSORS, "embed": TENSORS["embed"].reshape(3, 2)},
        {**TENSORS, "bias": TENSORS["bias"].reshape(0, 5)},
        {"embedding": TENSORS["embed"], "norm": TENSORS["norm"], "bias": TENSORS["bias"]},
        {"embed": TENSORS["embed"], "norm": TENSORS["norm"]},
        {**TENSORS, "more": TENSORS["norm"]},
    ],
)
def test_hash_changes_with_whatever_makes_another_model(tmp_path: Path, changed: Tensors) -> None:
    old, new = checkpoint(tmp_path / "old", TENSORS), checkpoint(tmp_path / "new", changed)
    assert weights_sha256(old) != weights_sha256(new)


def test_swapped_tensors_make_another_model(tmp_path: Path) -> None:
    one, two = np.ones(3, dtype=np.float32), np.zeros(3, dtype=np.float32)
    there, back = ({"a": one, "b": two}, {"a": two, "b": one})
    assert weights_sha256(checkpoint(tmp_path / "1", there)) != weights_sha256(checkpoint(tmp_path / "2", back))


def test_file_cut_short_is_told_with_its_sizes(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "model", TENSORS) / "model-0.safetensors"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-5])
    assert refusal(path.parent) == (
        f"{path} is cut short: {size - 5} bytes, its header promises {size}; fetch it anew."
    )


def test_file_cut_short_anywhere_is_told(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "model", TENSORS) / "model-0.safetensors"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert str(path) in refusal(path.parent)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 8,
        b"\xff" * 200,
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        (2).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (8).to_bytes(8, "little") + b'{"a": 1}',
        *(
            len(header).to_bytes(8, "little") + header + b"....."
            for header in (
                b'{"a":{"dtype":"U8","shape":["a"],"data_offsets":[0,5]}}',
                b'{"a":{"dtype":"U8","shape":[5.0],"data_offsets":[0,5]}}',
                b'{"a":{"dtype":"U8","shape":"","data_offsets":[0,5]}}',
                b'{"a":{"dtype":"U8","shape":[5],"data_offsets":[0,5.0]}}',
                b'{"a":{"dtype":"U8","shape":[5],"data_offsets":[false,5]}}',
            )
        ),
    ],
)
def test_file_that_is_no_safetensors_is_told(tmp_path: Path, content: bytes) -> None:
    path = checkpoint(tmp_path / "model", TENSORS) / "model-0.safetensors"
    path.write_bytes(content)
    assert refusal(path.parent) == f"{path} is no safetensors file, or its header is damaged; fetch it anew."
    with pytest.raises(CheckpointError):
        count_parameters(path.parent)


def outcome_of(folder: Path) -> str:
    try:
        return f"hashed as {weights_sha256(folder)}"
    except CheckpointError:
        return "refused"
    except Exception as error:  # noqa: BLE001  (whatever it is, it is the finding)
        return repr(error)


def test_flipped_bit_of_the_header_is_refused_or_makes_another_model(tmp_path: Path) -> None:
    path = laid_out(tmp_path / "model", ("embed", "norm")) / "model.safetensors"
    whole, unflipped = path.read_bytes(), outcome_of(path.parent)
    outcomes = set()
    for index in range(8 + int.from_bytes(whole[:8], "little")):
        for bit in range(8):
            path.write_bytes(whole[:index] + bytes([whole[index] ^ 1 << bit]) + whole[index + 1 :])
            outcomes.add(outcome_of(path.parent))
    assert unflipped not in outcomes
    assert [outcome for outcome in sorted(outcomes) if outcome != "refused" and "hashed" not in outcome] == []


def test_folder_without_safetensors_is_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickled")
    assert refusal(tmp_path) == (
        f"There are no safetensors weights in {tmp_path}; pickled weights are never loaded, so convert them with "
        "save_pretrained(..., safe_serialization=True)."
    )


def test_unchanged_files_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoint(tmp_path / "model", TENSORS)
    # It has been left alone for a while, and lies on a disk.
    monkeypatch.setattr(kept_hashes, "time_ns", lambda: time.time_ns() + 10**10)
    monkeypatch.setattr(kept_hashes, "_MOUNTS", Path(os.devnull))
    digest = weights_sha256(folder)
    monkeypatch.delattr("mmap.mmap")
    assert weights_sha256(folder) == digest
    with pytest.raises(AttributeError):
        weights_sha256(folder, anew=True)


def test_changed_file_is_hashed_anew(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "model", TENSORS) / "model-0.safetensors"
    before, stat = weights_sha256(path.parent), path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert weights_sha256(path.parent) != before


def test_replaced_file_of_equal_time_and_size_is_hashed_anew(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "model", TENSORS) / "model-0.safetensors"
    before, stat = weights_sha256(path.parent), path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    other = tmp_path / "other"
    other.write_bytes(bytes(content))
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(path)
    assert weights_sha256(path.parent) != before


def test_added_shard_is_hashed_anew(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model", TENSORS)
    before = weights_sha256(folder)
    add_shard(folder, "model-1.safetensors", {"more": np.ones(1, dtype=np.float32)})
    assert weights_sha256(folder) != before
