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
    read_files_sha256,
    tokenizer_sha256,
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


def tokenizer(folder: Path, files: Mapping[str, str]) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_layout_of_the_tokenizer_does_not_matter(tmp_path: Path) -> None:
    dense = tokenizer(tmp_path / "dense", {"tokenizer.json": '{"b":{"y":1,"x":"é"},"a":[1,2]}'})
    airy = tokenizer(tmp_path / "airy", {"tokenizer.json": '{\n "a": [1, 2],\n "b": {"x": "\\u00e9", "y": 1}}\n'})
    assert tokenizer_sha256(dense) == tokenizer_sha256(airy)


@pytest.mark.parametrize("text", ['{"vocab": {"b": 0, "a": 1}}', '{"vocab": {"a": 0, "b": 2}}', '{"vocab": {}}'])
def test_other_vocabulary_is_another_tokenizer(tmp_path: Path, text: str) -> None:
    old = tokenizer(tmp_path / "old", {"tokenizer.json": '{"vocab": {"a": 0, "b": 1}}'})
    assert tokenizer_sha256(old) != tokenizer_sha256(tokenizer(tmp_path / "new", {"tokenizer.json": text}))


def test_other_merges_are_another_tokenizer_where_they_have_a_file_of_their_own(tmp_path: Path) -> None:
    old = tokenizer(tmp_path / "old", {"vocab.json": '{"a": 0}', "merges.txt": "a b\n"})
    new = tokenizer(tmp_path / "new", {"vocab.json": '{"a": 0}', "merges.txt": "b a\n"})
    assert tokenizer_sha256(old) != tokenizer_sha256(new)


def test_files_beside_a_whole_tokenizer_do_not_matter(tmp_path: Path) -> None:
    alone = tokenizer(tmp_path / "alone", {"tokenizer.json": "{}"})
    more = tokenizer(tmp_path / "more", {"tokenizer.json": "{}", "merges.txt": "a b\n", "README.md": "words"})
    assert tokenizer_sha256(alone) == tokenizer_sha256(more)


def test_folder_without_a_tokenizer_is_told_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        tokenizer_sha256(tmp_path)
    assert str(caught.value) == (
        f"There is no tokenizer in {tmp_path}; one of tokenizer.json, tokenizer.model, vocab.json, merges.txt, "
        "vocab.txt is needed, as tokenizer.save_pretrained writes it."
    )


@pytest.mark.parametrize("text", ["", '{"vocab": ', "<html>"])
def test_damaged_tokenizer_is_told_with_its_file(tmp_path: Path, text: str) -> None:
    folder = tokenizer(tmp_path / "model", {"tokenizer.json": text})
    with pytest.raises(CheckpointError) as caught:
        tokenizer_sha256(folder)
    assert "tokenizer.json" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tekken.json", "spiece.model"]
)
def test_file_that_a_tokenizer_may_be_read_from_counts(tmp_path: Path, name: str) -> None:
    folder = tokenizer(tmp_path / "model", {"tokenizer.json": "{}"})
    seen = [read_files_sha256(folder)]
    for text in ('{"bos_token": "a"}', '{"bos_token": "b"}'):
        (folder / name).write_text(text, encoding="utf-8")
        seen.append(read_files_sha256(folder))
    (folder / name).unlink()
    assert len(set(seen)) == 3
    assert read_files_sha256(folder) == seen[0]


@pytest.mark.parametrize("name", ["README.md", "generation_config.json", "chat_template.jinja", "chat_template.json"])
def test_file_that_decides_nothing_does_not_count(tmp_path: Path, name: str) -> None:
    folder = tokenizer(tmp_path / "model", {"tokenizer.json": "{}"})
    before = read_files_sha256(folder)
    (folder / name).write_text("{}", encoding="utf-8")
    assert read_files_sha256(folder) == before


def test_file_that_may_not_be_read_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tokenizer(tmp_path / "model", {"tokenizer.json": "{}"})
    before = read_files_sha256(folder)
    (folder / "private.json").write_text("{}", encoding="utf-8")
    # Permissions hold nobody back who runs the tests as root.
    monkeypatch.setattr("os.access", lambda path, _mode: path.name != "private.json")
    assert read_files_sha256(folder) == before
