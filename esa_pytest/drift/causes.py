"""Differences of two environments, the likeliest cause of a drift first."""

from collections.abc import Sequence

from esa_pytest.records import Change

# What decides which kernels run, and what merely ran beside them. In front of each: names, or how they begin.
_KERNELS = (
    "cuda.device",
    "cpu.instruction_set",
    "version.torch",
    "attention",
    "torch.",
    "env.",
    "version.onednn",
    "version.mkl",
    "cuda.",
    "scoring.",
    "batch_shapes",
    "placement",
    "version.triton",
    "version.flash_attn",
    "version.kernels",
    "version.transformers",
    "version.accelerate",
    "cpu.model",
    "cpu.threads",
    "version.tokenizers",
    "version.safetensors",
    "version.numpy",
    "version.huggingface_hub",
)
# A model that means something else was built otherwise; kernels only round otherwise.
_BUILDERS = ("version.transformers", "version.tokenizers", "version.safetensors", "version.accelerate", "scoring.")


def ranked(changes: Sequence[Change], *, meaning_changed: bool) -> tuple[Change, ...]:
    """The changes in the order in which to suspect them.

    Args:
        changes: items of the environment that differ.
        meaning_changed: whether the float32 reference moved, so that kernels alone do not explain it.
    """
    order = (*_BUILDERS, *_KERNELS) if meaning_changed else _KERNELS
    return tuple(sorted(changes, key=lambda change: (_rank(change.name, order), change.name)))


def _rank(name: str, order: Sequence[str]) -> int:
    return next((rank for rank, entry in enumerate(order) if name == entry or name.startswith(entry)), len(order))
