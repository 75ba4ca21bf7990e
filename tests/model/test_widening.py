"""Products of bf16 matrices in float32, where a baseline says so: the same sums but for their rounding."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from esa_pytest.evaluation import widening
from esa_pytest.evaluation.byte_tokenizer import VOCABULARY
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.widening import WideLinear, can_widen, widened_products
from esa_pytest.golden.environment import environment_of
from tests.model.operations import Operations
from tests.model.oracle import random_windows
from tests.model.tiny import evaluate_tiny, tiny_baseline

# A bf16 number has eight significant bits.
ULP = 2.0**-7


def _random(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


@pytest.fixture(autouse=True)
def without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor of AVX2 alone."""
    monkeypatch.setattr(widening, "multiplies_bf16", lambda: False)


@pytest.mark.parametrize("shape", [(48,), (1, 48), (5, 7, 48), (2, 20, 48), (0, 48)])
@pytest.mark.parametrize("bias", [None, _random(9000)])
def test_a_module_within_the_block_gives_the_exact_sums_rounded_once(
    shape: tuple[int, ...], bias: Tensor | None
) -> None:
    values, weight = _random(*shape), _random(9000, 48, seed=3)
    module = nn.Linear(48, 9000, bias=bias is not None)
    module.weight = nn.Parameter(weight)
    if bias is not None:
        module.bias = nn.Parameter(bias)
    with torch.inference_mode():
        with widened_products(wanted=True):
            found = module(values)
        exact = functional.linear(values.double(), weight.double(), None if bias is None else bias.double())
    assert (found.dtype, found.shape) == (torch.bfloat16, exact.shape)
    # Half a step of bf16, and the float32 sum's own error where the terms cancel.
    torch.testing.assert_close(found.double(), exact, rtol=ULP / 2 * 1.001, atol=1e-5)


class Products(Operations):
    """The precision of every matrix product that is done."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: set[torch.dtype] = set()

    def seen(self, name: str, args: Sequence[Any], output: Any) -> None:
        if any(product in name for product in ("mm.", "linear", "matmul")):
            self.dtypes.add(args[-1].dtype)


@pytest.mark.parametrize("how", [torch.matmul, Tensor.matmul, lambda a, b: a @ b])
def test_products_of_batches_too(how: Callable[..., Tensor]) -> None:
    left, right = _random(2, 3, 20, 48), _random(2, 3, 48, 30, seed=3)
    with widened_products(wanted=True), Products() as done:
        found = how(left, right)
    assert found.dtype is torch.bfloat16
    assert done.dtypes == {torch.float32}
    torch.testing.assert_close(found.double(), left.double() @ right.double(), rtol=ULP / 2 * 1.001, atol=1e-5)


@pytest.mark.parametrize("how", [torch.bmm, torch.baddbmm, torch.addmm])
def test_products_by_the_names_that_older_models_use(how: Callable[..., Tensor]) -> None:
    """GPT-2 multiplies by `addmm`."""
    shape = () if how is torch.addmm else (3,)
    left, right, more = _random(*shape, 20, 48), _random(*shape, 48, 30, seed=3), _random(*shape, 20, 30, seed=4)
    arguments = (left, right) if how is torch.bmm else (more, left, right)
    with widened_products(wanted=True), Products() as done:
        found = how(*arguments)
    assert found.dtype is torch.bfloat16
    assert done.dtypes == {torch.float32}
    exact = how(*(value.double() for value in arguments))
    torch.testing.assert_close(found.double(), exact, rtol=ULP / 2 * 1.001, atol=1e-5)


def test_a_product_that_is_scaled_is_left_to_torch() -> None:
    more, left, right = _random(20, 30), _random(20, 48), _random(48, 30)
    with widened_products(wanted=True), Products() as done:
        found = torch.addmm(more, left, right, beta=0.5, alpha=2.0)
    assert done.dtypes == {torch.bfloat16}
    assert torch.equal(found, torch.addmm(more, left, right, beta=0.5, alpha=2.0))


@settings(max_examples=50, deadline=None)
@given(begin=st.integers(0, 127), rows=st.integers(1, 128), outputs=st.integers(1, 300))
def test_a_row_has_the_same_bits_whatever_rows_are_beside_it(begin: int, rows: int, outputs: int) -> None:
    values, weight, linear = _random(128, 96), _random(outputs, 96, seed=3), WideLinear()
    with torch.inference_mode():
        whole = linear(values, weight)
        assert torch.equal(linear(values[begin : begin + rows], weight), whole[begin : begin + rows])


@pytest.mark.parametrize("inputs", [576, 1536, 4096])
def test_rows_of_real_models_have_the_same_bits_whatever_is_beside_them(inputs: int) -> None:
    """Hidden and intermediate sizes, as many rows as a chunk has and as a chunk of a long context has."""
    values, weight, linear = _random(1024, inputs), _random(200, inputs, seed=3), WideLinear()
    with torch.inference_mode():
        whole = linear(values, weight)
        for rows in (1, 15, 16, 17, 128, 500, 512):
            for begin in (0, 3, 512):
                assert torch.equal(linear(values[begin : begin + rows], weight), whole[begin : begin + rows])


def test_other_products_are_left_to_torch() -> None:
    single, half = torch.randn(20, 48), _random(20, 48)
    with widened_products(wanted=True):
        assert torch.equal(functional.linear(single, single), single @ single.T)
        assert torch.equal(torch.relu(half), half.clamp(min=0))
        # By name is not how a module calls it: torch does it, and its own answer to nothing at all is heard.
        assert functional.linear(input=half, weight=half).dtype is torch.bfloat16
        with pytest.raises(TypeError):
            torch.matmul()  # type: ignore[call-arg]
    assert not can_widen(single)
    assert not can_widen(half, single)
    assert can_widen(half, nn.Parameter(half))


def test_behind_the_block_torch_multiplies_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Tensor:
        raise AssertionError

    values = _random(20, 48)
    monkeypatch.setattr(WideLinear, "__call__", refuse)
    with widened_products(wanted=True), pytest.raises(AssertionError):
        functional.linear(values, values)
    functional.linear(values, values)
    with widened_products(wanted=False):
        functional.linear(values, values)


def test_a_processor_with_bf16_arithmetic_does_them_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(widening, "multiplies_bf16", lambda: True)
    values = _random(20, 48)
    assert not can_widen(values)
    monkeypatch.setattr(WideLinear, "__call__", lambda *_: pytest.fail("widened"))
    with widened_products(wanted=True):
        functional.linear(values, values)


def test_the_whole_model_computes_the_same_but_for_rounding(tiny_model: LoadedModel) -> None:
    inputs, _ = random_windows(3, 40, vocabulary=VOCABULARY)
    with torch.inference_mode():
        plain = tiny_model.network(input_ids=inputs).logits
        with widened_products(wanted=True):
            wide = tiny_model.network(input_ids=inputs).logits
    difference = (wide.double() - plain.double()).abs()
    assert float(difference.max()) <= 16 * ULP * float(plain.abs().max())
    assert float((difference == 0).double().mean()) > 0.5


@pytest.mark.parametrize("widened", [False, True])
def test_a_baseline_says_whether_and_its_environment_tells(
    llama_checkpoint: Path, corpus: Path, llama: LoadedModel, *, widened: bool
) -> None:
    _, done = evaluate_tiny(llama, tiny_baseline(llama_checkpoint, corpus, widened_products=widened))
    assert done.widened is widened
    assert environment_of(llama, done).get("scoring.products") == ("in float32" if widened else None)
