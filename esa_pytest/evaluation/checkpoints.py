"""From a model's entry in the catalog to a checkpoint folder on this machine, with the hashes of its content."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esa_pytest.baselines.catalog import FolderModel, HubModel, ModelSource, WheelModel
from esa_pytest.errors import CheckpointError, ModelUnavailableError
from esa_pytest.evaluation.conversion import VOLATILE_CONFIG_KEYS, converted_checkpoint
from esa_pytest.evaluation.hashing import tokenizer_sha256, weights_sha256

# Everything that is loaded, and nothing that would have to be unpickled or executed.
_HUB_FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer*",
)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint folder and what identifies its content.

    Attributes:
        folder: where config.json, the safetensors files and the tokenizer lie.
        weights_sha256: over every tensor's name, dtype, shape and bytes.
        tokenizer_sha256: over the vocabulary and merges.
        config: config.json without what names the software that wrote it.
    """

    folder: Path
    weights_sha256: str
    tokenizer_sha256: str
    config: dict[str, Any]


def locate(model: ModelSource) -> Checkpoint:
    """Find or fetch a model's checkpoint.

    Raises:
        ModelUnavailableError: it cannot be reached from here.
        CheckpointError: it is not a safetensors checkpoint with a tokenizer, or not the one that was pinned.
    """
    match model:
        case WheelModel():
            folder = converted_checkpoint(model)
        case FolderModel():
            folder = _existing(model)
        case HubModel():
            folder = _snapshot(model)
    return Checkpoint(
        folder=folder,
        weights_sha256=weights_sha256(folder),
        tokenizer_sha256=tokenizer_sha256(folder),
        config=_config(folder),
    )


def _existing(model: FolderModel) -> Path:
    if not model.path.is_dir():
        raise ModelUnavailableError(
            f"There is no checkpoint folder {model.path}; correct the path of the model in [tool.esa.models]."
        )
    return model.path


def _snapshot(model: HubModel) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = huggingface_hub.snapshot_download(
            model.repo, revision=model.revision, allow_patterns=list(_HUB_FILES), etag_timeout=2
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        cause = str(error).strip().split("\n")[0]
        raise ModelUnavailableError(
            f"The model {model.repo} at {model.revision[:12]} could not be fetched from the hub "
            f"({type(error).__name__}: {cause}); check the network, the revision, and for a gated model HF_TOKEN."
        ) from None
    return Path(folder)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"There is no config.json in {folder}; is it a transformers checkpoint?") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON ({error}); fetch it anew.") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is no JSON object but a {type(config).__name__}; fetch it anew.")
    return {key: value for key, value in config.items() if key not in VOLATILE_CONFIG_KEYS}
