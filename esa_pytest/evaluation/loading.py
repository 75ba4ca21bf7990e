"""Load a checkpoint as it will be scored: the asked dtype, attention, device; in evaluation mode, no gradients."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from esa_pytest.baselines.catalog import DeviceType
from esa_pytest.errors import CheckpointError, DeviceError
from esa_pytest.evaluation.quiet import quiet_transformers
from esa_pytest.records import Batch

DTYPE = torch.bfloat16
ATTENTION = "sdpa"
_INVENTED = ("missing_keys", "mismatched_keys")


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model ready to be scored, and its tokenizer."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device


def resolve_device(name: str) -> torch.device:
    """The device of a setting: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        DeviceError: the device is not there.
    """
    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = device.index or 0
        if index >= count:
            raise DeviceError(
                f"The device {name} is not there: torch {torch.__version__} sees {count} CUDA devices; "
                f"use --esa-device cpu, or check CUDA_VISIBLE_DEVICES and the installed torch."
            )
        return torch.device("cuda", index)
    return device


def device_type(device: torch.device) -> DeviceType:
    """The kind of device that a baseline type sizes itself by."""
    return "cuda" if device.type == "cuda" else "cpu"


def device_class(device: torch.device) -> str:
    """What names a golden's file: `cpu`, or `cuda-sm90` and the like."""
    if device.type == "cpu":
        return "cpu"
    major, minor = torch.cuda.get_device_capability(device)
    return f"cuda-sm{major}{minor}"


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint folder.

    Raises:
        CheckpointError: transformers cannot read it.
    """
    with quiet_transformers():
        try:
            return transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_fast=True
            )
        except Exception as error:  # noqa: BLE001  (tokenizers raises plain Exception)
            raise CheckpointError(f"The tokenizer in {folder} cannot be loaded: {_first_line(error)}.") from None


def load_model(folder: Path, *, device: torch.device) -> LoadedModel:
    """Load a checkpoint folder in bf16.

    Raises:
        CheckpointError: transformers cannot read it, or it wants code of its own.
    """
    tokenizer = load_tokenizer(folder)
    with quiet_transformers():
        try:
            network, report = transformers.AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=DTYPE,
                attn_implementation=ATTENTION,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
            )
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # noqa: BLE001  (a damaged config leads transformers to raise anything)
            raise CheckpointError(f"The checkpoint {folder} cannot be loaded: {_first_line(error)}.") from None
    _refuse_invented_weights(folder, report)
    network = network.to(device).eval().requires_grad_(requires_grad=False)
    return LoadedModel(network=network, tokenizer=tokenizer, device=device)


def _refuse_invented_weights(folder: Path, report: dict[str, Any]) -> None:
    """Transformers fills what a checkpoint lacks with random numbers and a log line."""
    invented = sorted(str(key[0] if isinstance(key, tuple) else key) for kind in _INVENTED for key in report[kind])
    if invented:
        raise CheckpointError(
            f"The checkpoint {folder} does not fit its config.json: transformers would make up "
            f"{len(invented)} of its tensors, {invented[0]} first; fetch it anew, or mend the config."
        )


def refuse_unknown_tokens(network: PreTrainedModel, batches: Sequence[Batch]) -> None:
    """Check that every token has an embedding.

    Raises:
        CheckpointError: the tokenizer gives ids that the model does not know.
    """
    known = network.get_input_embeddings().weight.shape[0]
    largest = max(int(max(batch.input_ids.max(), batch.targets.max())) for batch in batches)
    if largest >= known:
        raise CheckpointError(
            f"The tokenizer does not fit the model: it gives the token {largest} and the model has {known} embeddings; "
            f"use the tokenizer that the model was trained with."
        )


def dtype_of(network: PreTrainedModel) -> str:
    """The dtype of the parameters, as `bfloat16`; several are joined by `+`."""
    return "+".join(sorted({str(parameter.dtype).removeprefix("torch.") for parameter in network.parameters()}))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
