"""A bf16 head on a processor without bf16 arithmetic: multiplied in float32, the same logits but for their rounding."""

import platform
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from esa_pytest.evaluation import widening
from esa_pytest.evaluation.byte_tokenizer import VOCABULARY
from esa_pytest.evaluation.head import head_path, is_widened, logits_of
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.scoring import score_batch
from tests.model.oracle import oracle_scores, random_windows
from tests.model.tiny import build_network

# A bf16 number has eight significant bits.
ULP = 2.0**-7
HIDDEN = 48


@pytest.fixture(autouse=True)
def without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor of AVX2 alone."""
    monkeypatch.setattr(widening, "multiplies_bf16", lambda: False)


def _head(entries: int, *, bias: bool = False) -> nn.Linear:
    draw = torch.Generator().manual_seed(5)
    head = nn.Linear(HIDDEN, entries, bias=bias).bfloat16()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw))
    return head


def _hidden(rows: int) -> Tensor:
    return torch.randn(rows, HIDDEN, generator=torch.Generator().manual_seed(3)).bfloat16()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("entries", [7, 4096, 4097, 9000])
def test_each_logit_is_the_exact_sum_rounded_once(entries: int, *, bias: bool) -> None:
    head, hidden = _head(entries, bias=bias), _hidden(33)
    with torch.inference_mode():
        found = logits_of(head)(hidden)
        exact = functional.linear(*(value.double() for value in (hidden, *head.parameters())))
    assert (found.dtype, found.shape) == (torch.bfloat16, exact.shape)
    # Half a step of bf16, and the float32 sum's own error where the terms cancel.
    torch.testing.assert_close(found.double(), exact, rtol=ULP / 2 * 1.001, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(begin=st.integers(0, 127), rows=st.integers(1, 128))
def test_a_row_has_the_same_bits_whatever_rows_are_beside_it(begin: int, rows: int) -> None:
    head, hidden = _head(300), _hidden(128)
    with torch.inference_mode():
        logits = logits_of(head)
        whole = logits(hidden).clone()
        assert torch.equal(logits(hidden[begin : begin + rows]), whole[begin : begin + rows])


def test_scores_are_those_of_the_model_but_for_rounding(tiny_model: LoadedModel) -> None:
    input_ids, targets = random_windows(4, 32, vocabulary=VOCABULARY)
    scores = score_batch(tiny_model.network, input_ids, targets, split_head=True)
    nll, argmax = oracle_scores(tiny_model.network, input_ids, targets)
    largest = float(nll.max()) + 1.0
    torch.testing.assert_close(scores.nll.double(), nll, rtol=0.0, atol=2 * ULP * largest)
    assert float((scores.nll.double() - nll).abs().median()) < 1e-3
    assert (scores.argmax.long() == argmax).float().mean() > 0.95
    assert head_path(tiny_model.network, split=True) == "split, in float32"
    assert head_path(tiny_model.network, split=False) == "whole"


def test_a_change_of_the_weights_is_seen() -> None:
    """The widened copy is made anew with every product: an experiment changes weights in place."""
    network = build_network("llama")
    input_ids, targets = random_windows(1, 32, vocabulary=VOCABULARY)
    before = score_batch(network, input_ids, targets, split_head=True)
    with torch.no_grad():
        network.get_output_embeddings().weight[int(targets[0, 0])] *= -1.0
    after = score_batch(network, input_ids, targets, split_head=True)
    assert float((after.nll - before.nll).abs().max()) > 0.01


def _on_several_ranks(head: nn.Linear) -> nn.Linear:
    # As a DTensor has it.
    head.weight.placements = ()  # type: ignore[attr-defined]
    return head


def _with_hook(head: nn.Linear) -> nn.Linear:
    head.register_forward_hook(lambda _module, _inputs, output: output * 2)
    return head


class _Scaled(nn.Linear):
    def forward(self, hidden: Tensor) -> Tensor:
        return super().forward(hidden) * 2


def _compiled(head: nn.Linear) -> nn.Linear:
    # As `compile()` leaves it, which takes seconds to import.
    head._compiled_call_impl = head._call_impl
    return head


class _Packed(Tensor):
    """As a quantiser leaves the weights of a module whose class it keeps."""


def _quantised(head: nn.Linear) -> nn.Linear:
    head.weight = nn.Parameter(head.weight.detach().as_subclass(_Packed))
    return head


def _with_forward(head: nn.Linear) -> nn.Linear:
    head.forward = lambda hidden: nn.Linear.forward(head, hidden) * 2  # type: ignore[method-assign,assignment]
    return head


@pytest.mark.parametrize(
    "make",
    [
        lambda: _with_hook(_head(30)),
        lambda: _on_several_ranks(_head(30)),
        lambda: _Scaled(HIDDEN, 30).bfloat16(),
        lambda: _compiled(_head(30)),
        lambda: _quantised(_head(30)),
        lambda: _with_forward(_head(30)),
        lambda: nn.Sequential(_head(30)),
    ],
    ids=[
        "hooked",
        "split over ranks",
        "of a class of its own",
        "compiled",
        "quantised",
        "as accelerate has it",
        "no matrix",
    ],
)
def test_what_may_be_more_than_a_bf16_product_is_left_to_itself(make: Callable[[], Any]) -> None:
    head = make()
    assert not is_widened(head)
    assert logits_of(head) is head


def test_a_hook_on_every_module_is_one_on_the_head() -> None:
    head = _head(30)
    with nn.modules.module.register_module_forward_hook(lambda _module, _inputs, output: output * 2):
        assert logits_of(head) is head
    assert logits_of(head) is not head


def test_under_autocast_a_head_is_left_to_it() -> None:
    head = _head(30)
    with torch.autocast("cpu", dtype=torch.float16):
        assert logits_of(head) is head


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_head_is_multiplied_in_its_own_precision_where_the_processor_can(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, *, bias: bool
) -> None:
    monkeypatch.setattr(widening, "multiplies_bf16", lambda: True)
    head, hidden = _head(300, bias=bias).to(dtype), _hidden(33).to(dtype)
    assert not is_widened(head)
    logits = logits_of(head)
    assert logits is not head
    with torch.inference_mode():
        assert torch.equal(logits(hidden), head(hidden))
        # Room for more is there by now.
        assert torch.equal(logits(hidden[:16]), head(hidden[:16]))


def test_a_processor_that_multiplies_bf16_does_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert not is_widened(_head(30))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert is_widened(_head(30))
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert not is_widened(_head(30))
