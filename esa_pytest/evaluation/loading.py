"""Load a checkpoint as it will be scored: bf16, the asked attention and device; in evaluation mode, no gradients."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from esa_pytest.baselines.sources import DeviceType
from esa_pytest.errors import CheckpointError, DeviceError, EsaError, InsufficientMemoryError
from esa_pytest.evaluation.architectures import refuse_foreign_code
from esa_pytest.evaluation.attention import attention_of
from esa_pytest.evaluation.capacity import available_bytes, needed_bytes, refuse_too_large
from esa_pytest.evaluation.checkpoints import Checkpoint
from esa_pytest.evaluation.quiet import quiet_transformers
from esa_pytest.evaluation.random_weights import shaped_network
from esa_pytest.evaluation.rope import rope_notes
from esa_pytest.evaluation.splitting import WHOLE, Split

DTYPE = torch.bfloat16
_INVENTED = ("missing_keys", "mismatched_keys")


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model ready to be scored, and its tokenizer.

    Attributes:
        network: in evaluation mode, without gradients.
        tokenizer: its tokenizer.
        device: where inputs go; the whole model lies there unless it was too large for one GPU.
        placement: the devices its parameters lie on, as `cuda` or `cuda:0 cuda:1`.
        notes: what a reader should know of how it was loaded.
        ranks: over how many ranks of torchrun its matrices are split.
    """

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    placement: str
    notes: tuple[str, ...] = ()
    ranks: int = 1


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
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_fast=True
            )
        except Exception as error:  # noqa: BLE001  (tokenizers raises plain Exception)
            raise CheckpointError(f"The tokenizer in {folder} cannot be loaded: {_first_line(error)}.") from None
    if not tokenizer.is_fast:
        raise CheckpointError(
            f"The tokenizer in {folder} is a slow one ({type(tokenizer).__name__}), which may split a text otherwise "
            f"than the fast one; save its fast version there (tokenizer.json)."
        )
    return tokenizer


def load_model(
    name: str,
    checkpoint: Checkpoint,
    *,
    device: torch.device,
    attention: str = "sdpa",
    split: Split = WHOLE,
    alone: bool = False,
) -> LoadedModel:
    """Load a checkpoint in bf16.

    Args:
        name: the model, for messages.
        checkpoint: its folder and hashes.
        device: where it goes. A model too large for one GPU is spread over all visible ones.
        attention: the attention implementation.
        split: how it is spread over devices or ranks.
        alone: whether only this device may be used: others belong to other workers.

    Raises:
        CheckpointError: transformers cannot read it, or lacks the attention implementation.
        RemoteCodeError: it wants code of its own.
        InsufficientMemoryError: it does not fit.
    """
    refuse_foreign_code(name, checkpoint.folder / "config.json")
    with quiet_transformers(), _explained(name, checkpoint, device):
        devices = _devices_for(name, checkpoint, device, split, alone=alone)
        tokenizer = load_tokenizer(checkpoint.folder)
        network = _network(checkpoint, devices, attention, split)
    network = network.eval().requires_grad_(requires_grad=False)
    _refuse_other_attention(name, network, attention)
    return LoadedModel(
        network=network,
        tokenizer=tokenizer,
        device=device,
        placement=split.placement(_placement(name, network), getattr(network, "hf_device_map", None)),
        notes=rope_notes(checkpoint.config, network),
        ranks=split.ranks,
    )


@contextmanager
def _explained(name: str, checkpoint: Checkpoint, device: torch.device) -> Iterator[None]:
    """Give each failure to load a model its sentence."""
    try:
        yield
    except EsaError:
        raise
    except (MemoryError, torch.OutOfMemoryError):
        raise InsufficientMemoryError(
            f"The device {device} ran out of memory while the model {name} was loaded; free some, or use a larger "
            f"device (--esa-device)."
        ) from None
    except Exception as error:  # noqa: BLE001  (a damaged config leads transformers to raise anything)
        cause = f"{type(error).__name__}: {_first_line(error)}"
        raise CheckpointError(
            f"The checkpoint {checkpoint.folder} of the model {name} cannot be loaded: {cause}; correct its "
            f"config, or its entry in [tool.esa.models], or fetch it anew."
        ) from None


def _devices_for(
    name: str, checkpoint: Checkpoint, device: torch.device, split: Split, *, alone: bool
) -> list[torch.device]:
    """The device alone where the model fits, all visible GPUs where it does not, or is to be spread, and may be."""
    if split.ranks > 1:
        return [device]
    count = torch.cuda.device_count() if device.type == "cuda" and not alone else 0
    if count > 1 and (split.device_map is not None or needed_bytes(checkpoint) > available_bytes(device)):
        every = [torch.device("cuda", index) for index in range(count)]
        refuse_too_large(name, checkpoint, every)
        return every
    refuse_too_large(name, checkpoint, [device])
    return [device]


def _network(checkpoint: Checkpoint, devices: list[torch.device], attention: str, split: Split) -> Any:
    if checkpoint.random_seed is not None:
        return shaped_network(
            checkpoint.folder, seed=checkpoint.random_seed, attention=attention, dtype=DTYPE, device=devices[0]
        )
    network, report = transformers.AutoModelForCausalLM.from_pretrained(
        checkpoint.folder,
        dtype=DTYPE,
        attn_implementation=attention,
        **(split.options() or _mapped(devices, split)),
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are refused below, by name
    )
    _refuse_invented_weights(checkpoint.folder, report)
    return network


def _mapped(devices: list[torch.device], split: Split) -> dict[str, Any]:
    """Accelerate places the model, on these devices and nowhere else."""
    free = {"cpu" if device.type == "cpu" else device.index: available_bytes(device) for device in devices}
    return {"device_map": split.device_map or "auto", "max_memory": free}


def _placement(name: str, network: PreTrainedModel) -> str:
    devices = {parameter.device for parameter in network.parameters()}
    placed = sorted(map(str, devices))
    if "meta" in placed or ("cpu" in placed and len(placed) > 1):
        raise DeviceError(
            f"The model {name} was offloaded in part ({' '.join(placed)}), which no baseline is measured on; free "
            f"memory on the device, or use a larger one."
        )
    # Which of several GPUs it is changes nothing; the environment names their kind.
    return " ".join(placed) if len(devices) > 1 else devices.pop().type


def _refuse_other_attention(name: str, network: PreTrainedModel, asked: str) -> None:
    used = attention_of(network)
    if used != asked:
        raise CheckpointError(
            f"The model {name} runs with the attention implementation {used!r} and was asked to use {asked!r}; set "
            f"attention in [tool.esa.models] to one that its architecture has."
        )


def _refuse_invented_weights(folder: Path, report: dict[str, Any]) -> None:
    """Transformers fills what a checkpoint lacks with random numbers and a log line."""
    invented = sorted(str(key[0] if isinstance(key, tuple) else key) for kind in _INVENTED for key in report[kind])
    if invented:
        raise CheckpointError(
            f"The checkpoint {folder} does not fit its config.json: transformers would make up "
            f"{len(invented)} of its tensors, {invented[0]} first; fetch it anew, or mend the config."
        )


def dtype_of(network: PreTrainedModel) -> str:
    """The dtype of the parameters, as `bfloat16`; several are joined by `+`."""
    return "+".join(sorted({str(parameter.dtype).removeprefix("torch.") for parameter in network.parameters()}))


def _first_line(error: Exception) -> str:
    """The first line that says something: one that ends with a colon is told with the next."""
    first, *others = str(error).strip().splitlines() or [""]
    return (f"{first} {others[0].strip()}" if first.endswith(":") and others else first).rstrip(".")
