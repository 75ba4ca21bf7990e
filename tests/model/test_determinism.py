"""An evaluation gives the same bits again, and leaves every global state as it was."""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from esa_pytest.evaluation.determinism import deterministic, torch_flags
from esa_pytest.evaluation.evaluate import evaluate
from esa_pytest.evaluation.fresh import bits_of
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.precision import newer_switches_aside
from tests.model.tiny import evaluate_tiny, tiny_baseline

UTILS: Any = torch.utils.deterministic
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"

STATES: dict[str, Callable[[], object]] = {
    "python": random.getstate,
    "numpy": lambda: [np.asarray(part).tolist() for part in np.random.get_state()],
    "torch": lambda: torch.get_rng_state().tolist(),
    "algorithms": torch.are_deterministic_algorithms_enabled,
    "warn-only": torch.is_deterministic_algorithms_warn_only_enabled,
    "cudnn-deterministic": lambda: torch.backends.cudnn.deterministic,
    "cudnn-benchmark": lambda: torch.backends.cudnn.benchmark,
    "fill": lambda: UTILS.fill_uninitialized_memory,
    "workspace": lambda: os.environ.get(WORKSPACE),
    "threads": torch.get_num_threads,
    "gradients": torch.is_grad_enabled,
    "inference": torch.is_inference_mode_enabled,
    "flags": torch_flags,
}


CUDA = torch.backends.cuda
ATTENTION_KERNELS: tuple[tuple[Callable[[], bool], Callable[[bool], object]], ...] = (
    (CUDA.flash_sdp_enabled, CUDA.enable_flash_sdp),
    (CUDA.mem_efficient_sdp_enabled, CUDA.enable_mem_efficient_sdp),
    (CUDA.math_sdp_enabled, CUDA.enable_math_sdp),
    (CUDA.cudnn_sdp_enabled, CUDA.enable_cudnn_sdp),
)
REDUCED_PRECISION: tuple[tuple[Any, str], ...] = (
    (torch.backends.cudnn, "allow_tf32"),
    (CUDA.matmul, "allow_bf16_reduced_precision_reduction"),
    (CUDA.matmul, "allow_fp16_reduced_precision_reduction"),
)


def _states() -> dict[str, object]:
    return {name: read() for name, read in STATES.items()}


@pytest.fixture(params=["as-torch-starts", "all-otherwise"])
def start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """Two starting points: torch's defaults, and the opposite of each; the defaults come back afterwards."""
    other = request.param == "all-otherwise"
    mode = torch.get_deterministic_debug_mode()
    cudnn = torch.backends.cudnn
    torch.set_deterministic_debug_mode("error" if other else "default")
    monkeypatch.setattr(cudnn, "deterministic", other)
    monkeypatch.setattr(cudnn, "benchmark", other)
    monkeypatch.setattr(UTILS, "fill_uninitialized_memory", not other)
    if other:
        monkeypatch.setenv(WORKSPACE, ":16:8")
    else:
        monkeypatch.delenv(WORKSPACE, raising=False)
    with _switches_turned() if other else nullcontext():
        yield _states()
    torch.set_deterministic_debug_mode(mode)


@contextmanager
def _switches_turned() -> Iterator[None]:
    """Those of the kernels and their precision, each to what a run does not have."""
    precision = torch.get_float32_matmul_precision()
    attention = [is_on() for is_on, _ in ATTENTION_KERNELS]
    products = [getattr(owner, name) for owner, name in REDUCED_PRECISION]
    torch.set_float32_matmul_precision("medium")
    for (_, switch), on in zip(ATTENTION_KERNELS, attention, strict=True):
        switch(not on)
    for owner, name in REDUCED_PRECISION:
        setattr(owner, name, True)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        for (_, switch), on in zip(ATTENTION_KERNELS, attention, strict=True):
            switch(on)
        for (owner, name), value in zip(REDUCED_PRECISION, products, strict=True):
            setattr(owner, name, value)


def test_every_state_is_what_it_was_after_an_evaluation(
    start: dict[str, object], llama: LoadedModel, corpus: Path
) -> None:
    evaluate_tiny(llama, tiny_baseline(Path(), corpus))
    assert _states() == start


def test_every_state_is_what_it_was_after_a_model_that_raises(
    start: dict[str, object], llama: LoadedModel, corpus: Path
) -> None:
    def draw_and_fail(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        random.random()
        np.random.random()
        torch.rand(1)
        if len(inputs[0]) > 1:
            raise ArithmeticError

    llama.network.get_submodule("model.layers.1").register_forward_pre_hook(draw_and_fail)
    with pytest.raises(ArithmeticError):
        evaluate_tiny(llama, tiny_baseline(Path(), corpus))
    assert _states() == start


@pytest.mark.parametrize("seed", [0, 1337, 2**32 + 5, -1, 2**70])
def test_any_seed_of_a_baseline_type_seeds_every_source(seed: int) -> None:
    before = _states()
    with deterministic(seed=seed):
        first = (random.random(), np.random.random(), float(torch.rand(1)))
    with deterministic(seed=seed):
        second = (random.random(), np.random.random(), float(torch.rand(1)))
    assert first == second
    assert _states() == before


def test_other_seeds_give_other_draws() -> None:
    with deterministic(seed=1):
        first = (random.random(), np.random.random(), float(torch.rand(1)))
    with deterministic(seed=2):
        second = (random.random(), np.random.random(), float(torch.rand(1)))
    assert not set(first) & set(second)


def test_within_the_block_algorithms_are_deterministic() -> None:
    with deterministic(seed=1):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.benchmark
        assert not UTILS.fill_uninitialized_memory
        assert os.environ[WORKSPACE]


def test_a_run_has_the_same_switches_wherever_it_starts(
    start: dict[str, object], llama: LoadedModel, corpus: Path
) -> None:
    flags = evaluate_tiny(llama, tiny_baseline(Path(), corpus))[1].flags
    workspace = start["workspace"] or ":4096:8"
    assert flags == {
        "torch.autocast.cpu": "False",
        "torch.autocast.cuda": "False",
        "torch.bf16_reduced_precision_reduction": "False",
        "torch.cublas_workspace": workspace,
        "torch.cudnn.benchmark": "False",
        "torch.cudnn.deterministic": "True",
        "torch.float32_matmul_precision": "highest",
        "torch.fp16_reduced_precision_reduction": "False",
        "torch.mkldnn": "True",
        "torch.sdp.cudnn": "False",
        "torch.sdp.flash": "True",
        "torch.sdp.math": "True",
        "torch.sdp.mem_efficient": "True",
        "torch.tf32.cudnn": "False",
        "torch.tf32.matmul": "False",
    }


# Some of torch's newer switches of precision, by what they are of.
NEWER: dict[str, Any] = {
    "all": torch.backends,
    "cuda": torch.backends.cudnn,
    "cuda.matmul": CUDA.matmul,
    "cuda.conv": getattr(torch.backends.cudnn, "conv", None),
    "mkldnn.matmul": getattr(torch.backends.mkldnn, "matmul", None),
    "mkldnn.conv": getattr(torch.backends.mkldnn, "conv", None),
    "mkldnn.rnn": getattr(torch.backends.mkldnn, "rnn", None),
}


def _newer() -> dict[str, str]:
    return {name: owner.fp32_precision for name, owner in NEWER.items()}


@pytest.fixture
def newer_defaults() -> Iterator[dict[str, str]]:
    """What the newer switches are, and will be again."""
    if not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("this torch has no newer switches")
    before = _newer()
    with newer_switches_aside():
        for name, value in before.items():
            NEWER[name].fp32_precision = value
        yield before
    assert _newer() == before


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"all": "tf32"},
        {"cuda": "tf32"},
        {"cuda.matmul": "tf32"},
        {"cuda.conv": "ieee"},
        {"mkldnn.matmul": "bf16"},
        {"mkldnn.matmul": "tf32", "mkldnn.conv": "bf16"},
        {"all": "tf32", "cuda.matmul": "ieee", "mkldnn.rnn": "bf16"},
    ],
)
def test_newer_switches_of_precision_do_not_count_in_a_run_and_are_what_they_were_afterwards(
    asked: dict[str, str], newer_defaults: dict[str, str], llama: LoadedModel, corpus: Path
) -> None:
    expected = evaluate_tiny(llama, tiny_baseline(Path(), corpus))[1]
    assert _newer() == newer_defaults
    for name, value in asked.items():
        NEWER[name].fp32_precision = value
    before = _newer()
    done = evaluate_tiny(llama, tiny_baseline(Path(), corpus))[1]
    assert done.flags == expected.flags
    assert bits_of(done.scores) == bits_of(expected.scores)
    assert _newer() == before
    # One that said nothing still follows the more general one.
    NEWER["all"].fp32_precision = "ieee"
    assert all(NEWER[name].fp32_precision == value for name, value in asked.items() if name != "all")
    follows = {"cuda.matmul", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn"} - asked.keys()
    assert "cuda" in asked or {NEWER[name].fp32_precision for name in follows} == {"ieee"}


def test_within_the_block_products_of_float32_are_as_precise_as_float32(newer_defaults: dict[str, str]) -> None:
    NEWER["all"].fp32_precision = "tf32"
    with deterministic(seed=1):
        assert "tf32" not in _newer().values()
        assert torch.get_float32_matmul_precision() == "highest"
        assert not CUDA.matmul.allow_tf32
        assert not torch.backends.cudnn.allow_tf32


def test_evaluating_twice_gives_equal_bits(tiny_model: LoadedModel, corpus: Path) -> None:
    prepared, first = evaluate_tiny(tiny_model, tiny_baseline(Path(), corpus))
    second = evaluate(tiny_model, prepared, seed=1337, description="again")
    assert bits_of(first.scores) == bits_of(second.scores)


def test_a_model_that_draws_gives_equal_bits_for_one_seed_only(llama: LoadedModel, corpus: Path) -> None:
    llama.network.get_submodule("model.layers.1").register_forward_hook(
        lambda _module, _inputs, hidden: hidden + torch.randn_like(hidden)
    )
    prepared, first = evaluate_tiny(llama, tiny_baseline(Path(), corpus))
    bits = [bits_of(evaluate(llama, prepared, seed=seed, description="").scores) for seed in (1337, 1338)]
    assert bits[0] == bits_of(first.scores)
    assert bits[1] != bits_of(first.scores)


def test_one_thread_and_two_give_equal_bits(tiny_model: LoadedModel, corpus: Path) -> None:
    before = torch.get_num_threads()
    bits = set()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            bits.add(bits_of(evaluate_tiny(tiny_model, tiny_baseline(Path(), corpus))[1].scores))
    finally:
        torch.set_num_threads(before)
    assert len(bits) == 1
