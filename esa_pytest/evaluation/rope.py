"""Does a model run with the rotary embedding that its config.json describes?

transformers 5 keeps the base and the kind in `rope_parameters` alone. An older release that reads such a file falls
back to a base of 10000 without a word: the weights load, and the numbers are those of another model.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

# A base recovered from float32 frequencies is not exact.
_RELATIVE_TOLERANCE = 1e-3


def rope_notes(config: Mapping[str, Any], network: PreTrainedModel) -> tuple[str, ...]:
    """A sentence for each way in which the network's rotary embedding is not that of config.json.

    Args:
        config: the checkpoint's config.json.
        network: what transformers made of it.
    """
    held = config.get("rope_parameters")
    # Models with a base for each kind of layer nest them; nothing is known of an older release reading those wrong.
    if not isinstance(held, Mapping) or not isinstance(held.get("rope_theta"), int | float):
        return ()
    rotary = next((module for module in network.modules() if hasattr(module, "inv_freq")), None)
    if rotary is None:
        return ()
    kind, runs_with_kind = str(held.get("rope_type", "default")), str(getattr(rotary, "rope_type", "default"))
    base, runs_with_base = float(held["rope_theta"]), _base_of(rotary, runs_with_kind)
    release = f"transformers {transformers.__version__}"
    notes = []
    if runs_with_base is not None and not math.isclose(base, runs_with_base, rel_tol=_RELATIVE_TOLERANCE):
        notes.append(
            f"config.json holds the RoPE base in rope_parameters ({base:g}), and this {release} runs with "
            f"{runs_with_base:g}; write it as rope_theta too, or use the release that saved it."
        )
    if kind != runs_with_kind:
        notes.append(
            f"config.json holds the RoPE kind in rope_parameters ({kind}), and this {release} runs with "
            f"{runs_with_kind}; write it as rope_scaling too, or use the release that saved it."
        )
    return tuple(notes)


def _base_of(rotary: Any, kind: str) -> float | None:
    """The base that a rotary embedding computes with, told from its frequencies; None where they do not tell it."""
    frequencies = rotary.inv_freq
    # Other kinds stretch the frequencies, and a rounded one is too far from its base.
    if kind != "default" or frequencies.dtype != torch.float32 or frequencies.numel() < 2:
        return None
    slower = float(frequencies[1])
    # Frequency i is base ** (-i / numel); to as many digits as float32 has.
    return float(f"{slower ** -frequencies.numel():.4g}") if 0 < slower < 1 else None
