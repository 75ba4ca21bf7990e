"""The head on its own: whether it may be, and its logits for a few rows at a time."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from esa_pytest.evaluation.ranks import is_split
from esa_pytest.evaluation.widening import WideLinear, can_widen

_PROBE_TOKENS = 16

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
    return partial(WideLinear(), weight=head.weight, bias=head.bias)


def is_widened(head: nn.Module) -> bool:
    """Whether a head's product runs in float32: a plain bf16 matrix on a processor that cannot multiply those.

    A head with a hook or of a class of its own is left to itself, since more may happen in it than a product; so is one
    whose matrix lies on several ranks.
    """
    return (
        type(head) is nn.Linear
        and can_widen(head.weight)
        and not (head._forward_hooks or head._forward_pre_hooks)  # noqa: SLF001  (torch has no other way to ask)
        and not is_split(head)
    )
