"""The head on its own: whether it may be, and its logits for a few rows at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeGuard

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
    with torch.inference_mode(), _listening(body) as heard:
        whole = network(input_ids=input_ids, use_cache=False).logits
        split = head(heard[0] if len(heard) == 1 else hidden_states(network, input_ids))
    if whole.shape != split.shape or whole.dtype != split.dtype:
        return False
    return bool(torch.equal(whole, split) or not whole.isfinite().all())


@contextmanager
def _listening(body: nn.Module) -> Iterator[list[Tensor]]:
    """What the body puts out whenever it is asked as `hidden_states` asks it: a pass that need not be done twice."""
    heard: list[Tensor] = []

    def note(_body: nn.Module, positional: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        told = {name for name, value in named.items() if value is not None}
        if len(positional) < 2 and told <= {"input_ids", "use_cache"}:
            heard.append(output.last_hidden_state)

    handle = body.register_forward_hook(note, with_kwargs=True)
    try:
        yield heard
    finally:
        handle.remove()


def head_path(network: PreTrainedModel, *, split: bool) -> str:
    """How the head is applied, as a golden's environment has it: `whole`, `split`, or `split, in float32`."""
    if not split:
        return "whole"
    return "split, in float32" if is_widened(network.get_output_embeddings()) else "split"


def logits_of(head: nn.Module) -> Logits:
    """The way in which a separable head is applied to a few rows: a plain matrix's product, or the head itself.

    What it returns is good until it is asked again.
    """
    if not _is_plain(head):
        return head
    return _Product(head)


class _Product:
    """The product of a plain head, put where the one before was: fresh memory takes as long as the product itself."""

    def __init__(self, head: nn.Linear) -> None:
        self._weight: Tensor = head.weight
        self._bias: Tensor | None = head.bias
        self._wide = WideLinear() if is_widened(head) else None
        self._room = head.weight.new_empty(0, len(head.weight))

    def __call__(self, hidden: Tensor) -> Tensor:
        if len(self._room) < len(hidden):
            self._room = hidden.new_empty(len(hidden), len(self._weight))
        room = self._room[: len(hidden)]
        if self._wide is not None:
            return self._wide(hidden, self._weight, self._bias, out=room)
        if self._bias is None:
            return torch.mm(hidden, self._weight.t(), out=room)
        return torch.addmm(self._bias, hidden, self._weight.t(), out=room)


def is_widened(head: nn.Module) -> bool:
    """Whether a head's product runs in float32: a plain bf16 matrix on a processor that cannot multiply those."""
    return _is_plain(head) and can_widen(head.weight)


def _is_plain(head: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether a head is a matrix and nothing more.

    With a hook, a class or a `forward` of its own (as accelerate gives it) more may happen in it than a product, and
    its matrix may lie elsewhere or on several ranks.
    """
    return (
        type(head) is nn.Linear
        and "forward" not in vars(head)
        and not (head._forward_hooks or head._forward_pre_hooks)  # noqa: SLF001  (torch has no other way to ask)
        and not is_split(head)
    )
