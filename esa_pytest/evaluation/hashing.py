"""Hashes of a checkpoint's content, computed once for each state of its files.

The weights are hashed tensor by tensor (name, dtype, shape, bytes), so that sharding a checkpoint otherwise, or
another safetensors release that pads its header otherwise, does not make another model of it.
"""

import hashlib
import json
import math
import mmap
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from esa_pytest.errors import CheckpointError
from esa_pytest.evaluation.kept_hashes import once_per_state

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
# As transformers 5 names the files of a checkpoint that each rank saved its part of, and by which it finds one.
_PART_OF_A_RANK = re.compile(r"shard-[0-9]{5}-model-[0-9]{5}-of-[0-9]{5}\.safetensors$")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt")
_READ_SUFFIXES = (".json", ".txt", ".model")
# Of sampling and of prompts: no text is generated, and none is put into a template.
_UNREAD = ("generation_config.json", "chat_template.json")


def weights_sha256(folder: Path, *, anew: bool = False) -> str:
    """sha256 over every tensor of a checkpoint folder's safetensors files, in the order of their names.

    Args:
        folder: of the checkpoint.
        anew: whether to read the files even if a hash of their state is kept.

    Raises:
        CheckpointError: there are no safetensors files, or one is damaged.
    """
    return once_per_state(weight_files(folder), _hash_tensors, kind="tensors", anew=anew)


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers loads: the single one, or those of the index, whatever lies beside them.

    Raises:
        CheckpointError: there are no such safetensors files, the index is damaged or names what it must not, a file
            that it names is missing, or transformers would load others.
    """
    _refuse_parts_of_ranks(folder)
    single, index = folder / SINGLE_FILE, folder / INDEX_FILE
    if single.is_file():
        # Of both, as an older, sharded checkpoint may have left them, transformers takes this one.
        return [single]
    if index.is_file():
        return _shards(folder, index)
    if any(folder.glob("*.safetensors")):
        raise CheckpointError(
            f"There is neither {SINGLE_FILE} nor {INDEX_FILE} in {folder}, one of which says what the weights are; "
            f"fetch the checkpoint anew."
        )
    raise CheckpointError(
        f"There are no safetensors weights in {folder}; pickled weights are never loaded, so convert them with "
        f"save_pretrained(..., safe_serialization=True)."
    )


def _refuse_parts_of_ranks(folder: Path) -> None:
    """Transformers 5 takes such parts before all other files."""
    part = next((path.name for path in sorted(folder.glob("shard-*")) if _PART_OF_A_RANK.match(path.name)), None)
    if part is not None:
        raise CheckpointError(
            f"The checkpoint {folder} holds the parts of several ranks ({part}), which transformers 5 loads in place "
            f"of whole weights; save it whole (save_pretrained without distributed_checkpoint), or remove them."
        )


def _shards(folder: Path, index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        files = [folder / name for name in names]
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise CheckpointError(f"{index} is no index of safetensors files, or is damaged; fetch it anew.") from None
    for name, path in zip(names, files, strict=True):
        if path.name != name or path.suffix != ".safetensors":
            raise CheckpointError(
                f"{index} names {name!r}, where the name of a .safetensors file beside it is expected, without a "
                f"folder; fetch it anew, or put the files there and correct it."
            )
        if not path.is_file():
            raise CheckpointError(f"{path} is missing, which {index.name} names; fetch the checkpoint anew.")
    return files


def count_parameters(folder: Path) -> int:
    """How many numbers the tensors of a checkpoint folder hold, by the headers of its files.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    entries = (entry for path in weight_files(folder) for entry in _safetensors_header(path).values())
    return sum(math.prod(entry["shape"]) for entry in entries)


def tokenizer_sha256(folder: Path, *, anew: bool = False) -> str:
    """sha256 over the tokenizer's vocabulary and merges; the layout of its JSON does not matter.

    Args:
        folder: of the checkpoint.
        anew: whether to read the files even if a hash of their state is kept.

    Raises:
        CheckpointError: the folder holds no tokenizer.
    """
    files = tokenizer_files(folder)
    # tokenizer.json says everything by itself; the older files only together.
    told = files[:1] if files[0].name == "tokenizer.json" else files
    return once_per_state(told, _hash_texts, kind="texts", anew=anew)


def tokenizer_files(folder: Path) -> list[Path]:
    """The files of a checkpoint folder that hold the tokenizer's vocabulary and merges.

    Raises:
        CheckpointError: there are none.
    """
    files = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    if not files:
        raise CheckpointError(
            f"There is no tokenizer in {folder}; one of {', '.join(TOKENIZER_FILES)} is needed, "
            f"as tokenizer.save_pretrained writes it."
        )
    return files


def read_files_sha256(folder: Path, *, anew: bool = False) -> str:
    """sha256 over the bytes of every file beside the weights that a config or a tokenizer may be read from.

    Which of them transformers reads, and what a BOS is by them, differs between its releases and its classes of
    tokenizers; so each counts, and so does what else lies there with such an ending.

    Args:
        folder: of the checkpoint.
        anew: whether to read the files even if a hash of their state is kept.
    """
    files = (path for path in folder.iterdir() if path.suffix in _READ_SUFFIXES and path.name not in _UNREAD)
    # What nobody may read here is read by transformers neither.
    found = sorted(path for path in files if path.is_file() and os.access(path, os.R_OK))
    return once_per_state(found, _hash_bytes, kind="bytes", anew=anew)


def _hash_tensors(files: Sequence[Path]) -> str:
    tensors = {name: (path, entry) for path in files for name, entry in _safetensors_header(path).items()}
    digest = hashlib.sha256()
    for name in sorted(tensors):
        path, entry = tensors[name]
        begin, end = entry["data_offsets"]
        digest.update(f"{name}\0{entry['dtype']}\0{entry['shape']}\0".encode())
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            start = 8 + int.from_bytes(content[:8], "little")
            with memoryview(content) as view:
                digest.update(view[start + begin : start + end])
    return digest.hexdigest()


def _safetensors_header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        size = path.stat().st_size
        try:
            header = json.loads(file.read(length) if length < size else b"")
            header.pop("__metadata__", None)
            end = max(_end_of(entry) for entry in header.values())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise CheckpointError(f"{path} is no safetensors file, or its header is damaged; fetch it anew.") from None
    if 8 + length + end != size:
        raise CheckpointError(
            f"{path} is cut short: {size} bytes, its header promises {8 + length + end}; fetch it anew."
        )
    return dict(header)


def _end_of(entry: dict[str, Any]) -> int:
    """Where a tensor's bytes end; raises whatever a malformed entry leads to."""
    begin, end = entry["data_offsets"]
    if not (isinstance(entry["dtype"], str) and isinstance(entry["shape"], list) and 0 <= begin <= end):
        raise ValueError(entry)
    # Neither 2.0 nor true is a size, though both are equal to one.
    if not all(type(number) is int for number in (begin, end, *entry["shape"])):
        raise TypeError(entry)
    return int(end)


def _hash_bytes(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(path.name.encode("utf-8", "surrogateescape") + b"\0" + size.to_bytes(8, "little"))
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def _hash_texts(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        data = path.read_bytes()
        if path.suffix == ".json":
            try:
                data = json.dumps(json.loads(data), sort_keys=True, ensure_ascii=False).encode()
            except (ValueError, RecursionError):
                raise CheckpointError(f"{path} is no JSON, or is damaged; fetch it anew.") from None
        digest.update(path.name.encode() + b"\0" + data)
    return digest.hexdigest()
