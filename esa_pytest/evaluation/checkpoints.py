"""From a model's entry in the catalog to a checkpoint folder on this machine, with the hashes of its content."""

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from esa_pytest.baselines.sources import FolderModel, HubModel, ModelSource, RandomModel, WheelModel
from esa_pytest.errors import CheckpointError, CheckpointMissingError
from esa_pytest.evaluation.cache import build_folder, cache_root
from esa_pytest.evaluation.config_file import read_config
from esa_pytest.evaluation.conversion import converted_checkpoint
from esa_pytest.evaluation.hashing import read_files_sha256, tokenizer_sha256, weights_sha256
from esa_pytest.evaluation.hub import Hub

# Raised when the same seed and shape could give other weights.
_RANDOM_RECIPE = 1
_ADAPTER = "adapter_config.json"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint folder and what identifies its content.

    Attributes:
        folder: where config.json, the safetensors files and the tokenizer lie.
        weights_sha256: over every tensor's name, dtype, shape and bytes; over their recipe where they are random.
        tokenizer_sha256: over the vocabulary and merges.
        read_files_sha256: over the bytes of every file that the config or the tokenizer may be read from; of no golden,
            since the same model may come with others.
        config: config.json without what names the software that wrote it.
        random_seed: of the weights, where they are made and not read.
        hash_seconds: how long the hashes took; next to nothing where they were kept.
    """

    folder: Path
    weights_sha256: str
    tokenizer_sha256: str
    read_files_sha256: str
    config: dict[str, Any]
    random_seed: int | None = None
    hash_seconds: float = field(default=0.0, compare=False)


def locate(model: ModelSource, *, hub: Hub, rehash: bool = False) -> Checkpoint:
    """Find or fetch a model's checkpoint.

    Args:
        model: its entry in the catalog.
        hub: where models of the hub come from.
        rehash: whether files are hashed even if a hash of their state is kept.

    Raises:
        ModelUnavailableError: it cannot be reached from here.
        CheckpointError: it is no safetensors checkpoint with a tokenizer, or not the one that was pinned, or its path
            leads nowhere.
    """
    match model:
        case WheelModel():
            return _pinned(model, _checkpoint(converted_checkpoint(model), rehash=rehash))
        case FolderModel():
            return _checkpoint(_existing(model), rehash=rehash)
        case HubModel():
            return _checkpoint(hub.snapshot(model), rehash=rehash)
        case RandomModel():
            return _random_checkpoint(model)


def _checkpoint(folder: Path, *, rehash: bool) -> Checkpoint:
    _refuse_adapter(folder)
    config = read_config(folder / "config.json")
    begin = time.perf_counter()
    weights, tokenizer = weights_sha256(folder, anew=rehash), tokenizer_sha256(folder, anew=rehash)
    read_files = read_files_sha256(folder, anew=rehash)
    return Checkpoint(
        folder=folder,
        weights_sha256=weights,
        tokenizer_sha256=tokenizer,
        read_files_sha256=read_files,
        config=config,
        hash_seconds=time.perf_counter() - begin,
    )


def _pinned(model: WheelModel, found: Checkpoint) -> Checkpoint:
    """What was converted some time ago may have been damaged since, and a recording would make a golden of it."""
    for what, seen, expected in (
        ("weights", found.weights_sha256, model.weights_sha256),
        ("tokenizer", found.tokenizer_sha256, model.tokenizer_sha256),
    ):
        if seen != expected:
            raise CheckpointError(
                f"The checkpoint {found.folder} in the cache is not the one that {model.package}=={model.version} was "
                f"converted to: the sha256 of its {what} is {seen}, the catalog pins {expected}; delete this folder, "
                f"and it is converted anew."
            )
    return found


def _refuse_adapter(folder: Path) -> None:
    """Transformers lays an adapter over the weights where peft is installed: another model, of the same hashes."""
    if (folder / _ADAPTER).is_file():
        raise CheckpointError(
            f"The checkpoint {folder} holds an adapter ({_ADAPTER}), which is laid over the weights only where peft is "
            f"installed; merge it into them (merge_and_unload() and save_pretrained), or remove it."
        )


def _existing(model: FolderModel) -> Path:
    if not model.path.is_dir():
        raise CheckpointMissingError(
            f"There is no checkpoint folder {model.path}; correct the path of the model in [tool.esa.models]."
        )
    return model.path


def _random_checkpoint(model: RandomModel) -> Checkpoint:
    """A folder with the shape and a byte tokenizer; the weights are made when the model is loaded."""
    try:
        text = model.config.read_bytes()
    except OSError as error:
        raise CheckpointMissingError(
            f"There is no config {model.config} ({error.strerror}); correct the config of the model in "
            f"[tool.esa.models]."
        ) from None
    digest = hashlib.sha256(text).hexdigest()

    def build(folder: Path) -> None:
        from esa_pytest.evaluation.byte_tokenizer import write_byte_tokenizer

        (folder / "config.json").write_bytes(text)
        write_byte_tokenizer(folder)

    folder = build_folder(cache_root() / "shapes" / digest[:24], build)
    recipe = f"random weights {_RANDOM_RECIPE}, shape {digest}, seed {model.seed}"
    return Checkpoint(
        folder=folder,
        weights_sha256=hashlib.sha256(recipe.encode()).hexdigest(),
        tokenizer_sha256=tokenizer_sha256(folder),
        read_files_sha256=read_files_sha256(folder),
        config=read_config(model.config),
        random_seed=model.seed,
    )
