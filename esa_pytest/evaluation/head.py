"""The head on its own: whether it may be, and its logits for a few rows at a time.

Where a processor has no bf16 arithmetic torch multiplies bf16 matrices a number at a time, several times slower than
float32 ones. There the head's product runs in float32, a few rows of its weights widened at a time, and is rounded to
bf16 at the end: the products of two bf16 numbers are exact in float32, so that this is the same sum in another order.
"""

import platform
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from esa_pytest.evaluation.ranks import is_split

_PROBE_TOKENS = 16
# Widened weights stay in a processor's cache from the copy to the product.
_WIDENED_ENTRIES = 4096
# Fewer are filled up: float32 products of a row or two take other kernels, whose sums round otherwise.
_LEAST_ROWS = 16
_WITHOUT_BF16 = ("AVX2", "NO AVX", "DEFAULT")
_X86 = ("x86_64", "amd64", "i386", "i686")

# Hidden states (rows, hidden) to logits (rows, vocabulary).
Logits = Callable[[Tensor], Tensor]


def hidden_states(network: PreTrainedModel, input_ids: Tensor) -> Tensor:
    """What the head receives, shape (windows, context_length, hidden)."""
    body = getattr(network, network.base_model_prefix)
    hidden = body(input_ids=input_ids, use_cache=False).last_hidden_state
    assert isinstance(hidden, Tensor)  # noqa: S101  (every transformers body returns one)
    return hidden


def head_is_separable(network: PreTrainedModel, *, device: torch.device) -> bool:
    """Whether the model's logits are its head applied to its body's output, and nothing more.

    A soft-cap, a scale or a slice after the head would be lost when the head is applied on its own, so a short
    input is put through both ways; they must agree bit for bit, since both do the same operations.
    """
    head, body = network.get_output_embeddings(), getattr(network, network.base_model_prefix, None)
    if not isinstance(head, nn.Module) or body is None or body is network:
        return False
    vocabulary = network.get_input_embeddings().weight.shape[0]
    input_ids = (torch.arange(_PROBE_TOKENS, device=device) * 7919 % vocabulary)[None]
    with torch.inference_mode():
        whole = network(input_ids=input_ids, use_cache=False).logits
        hidden = hidden_states(network, input_ids)
        split = head(hidden)
    if whole.shape != split.shape or whole.dtype != split.dtype:
        return False
    return bool(torch.equal(whole, split) or not whole.isfinite().all())


def head_path(network: PreTrainedModel, *, split: bool) -> str:
    """How the head is applied, as a golden's environment has it: `whole`, `split`, or `split, in float32`."""
    if not split:
        return "whole"
    return "split, in float32" if is_widened(network.get_output_embeddings()) else "split"


def logits_of(head: nn.Module) -> Logits:
    """The way in which a separable head is applied to a few rows: itself, or its product in float32."""
    if not is_widened(head):
        return head
    assert isinstance(head, nn.Linear)  # noqa: S101  (`is_widened` asked)
    return _WidenedProduct(head)


def is_widened(head: nn.Module) -> bool:
    """Whether a head's product runs in float32: a plain bf16 matrix on a processor that cannot multiply those.

    A head with a hook or of a class of its own is left to itself, since more may happen in it than a product; so is one
    whose matrix lies on several ranks.
    """
    return (
        type(head) is nn.Linear
        and head.weight.dtype is torch.bfloat16
        and head.weight.device.type == "cpu"
        and not (head._forward_hooks or head._forward_pre_hooks)  # noqa: SLF001  (torch has no other way to ask)
        and not is_split(head)
        and not multiplies_bf16()
    )


def multiplies_bf16() -> bool:
    """Whether torch hands products of bf16 matrices to kernels made for them; on x86 from AVX-512 on."""
    return platform.machine().lower() not in _X86 or torch.backends.cpu.get_cpu_capability() not in _WITHOUT_BF16


class _WidenedProduct:
    """`functional.linear` of bf16 numbers, multiplied and summed in float32, in buffers that are used again."""

    def __init__(self, head: nn.Linear) -> None:
        self._weight = head.weight
        self._bias: Tensor | None = head.bias
        self._widened = torch.empty(_WIDENED_ENTRIES, head.in_features, dtype=torch.float32)

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits in bf16, shape (rows, vocabulary), of hidden states in bf16, shape (rows, hidden)."""
        num_rows = len(hidden)
        wide = functional.pad(hidden.float(), (0, 0, 0, max(0, _LEAST_ROWS - num_rows)))
        logits = torch.empty(num_rows, len(self._weight), dtype=hidden.dtype)
        for begin in range(0, len(self._weight), _WIDENED_ENTRIES):
            chunk = self._weight[begin : begin + _WIDENED_ENTRIES]
            bias = None if self._bias is None else self._bias[begin : begin + _WIDENED_ENTRIES].float()
            weights = self._widened[: len(chunk)].copy_(chunk)
            logits[:, begin : begin + len(chunk)] = functional.linear(wide, weights, bias)[:num_rows]
        return logits
