"""The head on its own: whether it may be, and its logits for a few rows at a time."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules import module
from transformers import PreTrainedModel

from esa_pytest.evaluation.ranks import is_split
from esa_pytest.evaluation.widening import PLAIN_TENSORS, WideLinear, can_widen

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
    whole, split = _both_ways(network, input_ids)
    if whole.isnan().all():
        # Attention hands a NaN of one token to all others of its window; alone, each token has but its own.
        whole, split = _both_ways(network, input_ids.T)
    return whole.dtype == split.dtype and whole.shape == split.shape and _is_same(whole, split)


def _both_ways(network: PreTrainedModel, input_ids: Tensor) -> tuple[Tensor, Tensor]:
    """The logits of the model, and those of its head applied to what its body put out."""
    head, body = network.get_output_embeddings(), getattr(network, network.base_model_prefix)
    with torch.inference_mode():
        with _listening(body, input_ids) as heard:
            whole = network(input_ids=input_ids, use_cache=False).logits
        hidden = heard[0] if len(heard) == 1 else hidden_states(network, input_ids)
        # A product in float32 rounds otherwise: there it is the head itself that is asked.
        split = head(hidden) if is_widened(head) else logits_of(head)(hidden.flatten(0, 1))
    # Of a model over several GPUs, accelerate brings only the whole model's output back to the first.
    return whole, split.reshape(*input_ids.shape, -1).to(whole.device)


def _is_same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same, NaN where the other holds NaN."""
    return bool(((one == other) | (one.isnan() & other.isnan())).all())


@contextmanager
def _listening(body: nn.Module, input_ids: Tensor) -> Iterator[list[Tensor]]:
    """What the body puts out each time that it is asked as `hidden_states` asks it: a pass that is not done twice."""
    heard: list[Tensor] = []

    def note(_body: nn.Module, positional: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        told = {name: value for name, value in named.items() if value is not None and name != "use_cache"}
        given = (*positional, *told.values())
        if told.keys() <= {"input_ids"} and len(given) == 1 and torch.equal(given[0], input_ids):
            # What comes behind the body may change it in place.
            heard.append(output.last_hidden_state.clone())

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
        self._wide = WideLinear() if can_widen(head.weight) else None
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

    With a hook, a class or a `forward` of its own (as accelerate gives it), compiled, or under autocast, more may
    happen in it than a product; its matrix may be quantised, lie elsewhere, or on several ranks.
    """
    return (
        type(head) is nn.Linear
        and all(type(parameter) in PLAIN_TENSORS for parameter in head.parameters())
        and not any(name in vars(head) and vars(head)[name] for name in ("forward", "_compiled_call_impl"))
        and not any(hooks for hooks in (head._forward_hooks, head._forward_pre_hooks, *_hooks_of_all()))  # noqa: SLF001
        and not torch.is_autocast_enabled(head.weight.device.type)
        and not is_split(head)
    )


def _hooks_of_all() -> tuple[Mapping[int, object], Mapping[int, object]]:
    """Hooks on every module there is; torch has no other way to ask for them, nor for a module's own."""
    return module._global_forward_hooks, module._global_forward_pre_hooks  # noqa: SLF001
