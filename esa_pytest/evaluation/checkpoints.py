"""From a model's entry in the catalog to a checkpoint folder on this machine, with the hashes of its content."""

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from esa_pytest.baselines.sources import FolderModel, HubModel, ModelSource, RandomModel, WheelModel
from esa_pytest.errors import CheckpointError
from esa_pytest.evaluation.cache import build_folder, cache_root
from esa_pytest.evaluation.conversion import VOLATILE_CONFIG_KEYS, converted_checkpoint
from esa_pytest.evaluation.hashing import tokenizer_sha256, weights_sha256
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
        config: config.json without what names the software that wrote it.
        random_seed: of the weights, where they are made and not read.
        hash_seconds: how long the hashes took; next to nothing where they were kept.
    """

    folder: Path
    weights_sha256: str
    tokenizer_sha256: str
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
            return _checkpoint(converted_checkpoint(model), rehash=rehash)
        case FolderModel():
            return _checkpoint(_existing(model), rehash=rehash)
        case HubModel():
            return _checkpoint(hub.snapshot(model), rehash=rehash)
        case RandomModel():
            return _random_checkpoint(model)


def _checkpoint(folder: Path, *, rehash: bool) -> Checkpoint:
    _refuse_adapter(folder)
    begin = time.perf_counter()
    weights, tokenizer = weights_sha256(folder, anew=rehash), tokenizer_sha256(folder, anew=rehash)
    return Checkpoint(
        folder=folder,
        weights_sha256=weights,
        tokenizer_sha256=tokenizer,
        config=_config(folder),
        hash_seconds=time.perf_counter() - begin,
    )


def _refuse_adapter(folder: Path) -> None:
    """Transformers lays an adapter over the weights where peft is installed: another model, of the same hashes."""
    if (folder / _ADAPTER).is_file():
        raise CheckpointError(
            f"The checkpoint {folder} holds an adapter ({_ADAPTER}), which is laid over the weights only where peft is "
            f"installed; merge it into them (merge_and_unload() and save_pretrained), or remove it."
        )


def _existing(model: FolderModel) -> Path:
    if not model.path.is_dir():
        raise CheckpointError(
            f"There is no checkpoint folder {model.path}; correct the path of the model in [tool.esa.models]."
        )
    return model.path


def _random_checkpoint(model: RandomModel) -> Checkpoint:
    """A folder with the shape and a byte tokenizer; the weights are made when the model is loaded."""
    try:
        text = model.config.read_bytes()
    except OSError as error:
        raise CheckpointError(
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
        config=_config(folder),
        random_seed=model.seed,
    )


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        # Some models' limits are Infinity there, which the JSON of a golden has no number for.
        config = json.loads(path.read_text(encoding="utf-8"), parse_constant=str)
    except FileNotFoundError:
        raise CheckpointError(f"There is no config.json in {folder}; is it a transformers checkpoint?") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON ({error}); fetch it anew.") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is no JSON object but a {type(config).__name__}; fetch it anew.")
    return {key: value for key, value in config.items() if key not in VOLATILE_CONFIG_KEYS}
