"""Torch's two ways to set the precision of float32 products, which refuse to be read where they disagree.

The older switches (`allow_tf32`, `float32_matmul_precision`) are those that every supported torch has, and that a
golden's environment names. The newer ones (`fp32_precision`, of all, of a backend, of an operation) came with 2.9.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# From the general to the particular: one that is "none" is read as the more general one in front of it.
_NEWER = (
    ("generic", "all"),
    *((backend, "all") for backend in ("cuda", "mkldnn")),
    *((backend, operation) for backend in ("cuda", "mkldnn") for operation in ("matmul", "conv", "rnn")),
)


@contextmanager
def newer_switches_aside() -> Iterator[None]:
    """Let the newer switches say nothing while the block runs, and what they said afterwards.

    The older ones may be read and written inside; whoever writes them puts them back there.
    """
    # Its properties for single operations are not all there, and one of them sets another than it reads.
    binding: Any = torch._C  # noqa: SLF001
    if not hasattr(binding, "_set_fp32_precision_setter"):
        yield
        return
    kept: dict[tuple[str, str], str] = {}
    try:
        for switch in _NEWER:
            # The more general ones are aside already: what is read is its own.
            kept[switch] = binding._get_fp32_precision_getter(*switch)  # noqa: SLF001
            binding._set_fp32_precision_setter(*switch, "none")  # noqa: SLF001
        yield
    finally:
        for switch, value in kept.items():
            binding._set_fp32_precision_setter(*switch, value)  # noqa: SLF001


def allows_tf32(owner: Any) -> bool:
    """The older switch `allow_tf32` of cuBLAS's or cuDNN's module, while the newer ones are aside or agree with it."""
    try:
        return bool(owner.allow_tf32)
    except RuntimeError:
        # Torch does not tell a switch that a newer one contradicts: one that says nothing contradicts one that is on.
        return True
