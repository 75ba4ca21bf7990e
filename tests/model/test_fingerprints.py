"""What the probe sees of a trained model, and which module it names."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from esa_pytest.evaluation.fingerprints import (
    NUM_PROJECTIONS,
    fingerprinted,
    fingerprinted_modules,
)
from tests.model.tiny import build_network
from tests.model.twins import (
    FAMILIES,
    LLAMA,
    MISTRAL,
    PHI,
    PYTHIA,
    WINDOWED,
    Twin,
    changed,
    hooks_of,
    norms_of,
    twin_of,
    with_attribute,
)

MIDDLE = 3
STACKS = {PYTHIA: "gpt_neox.layers"}
ATTENTIONS = {PYTHIA: "attention"}
OUTPUTS = {PYTHIA: "dense"}
Fault = Callable[[Twin], AbstractContextManager[None]]


@pytest.fixture(params=FAMILIES)
def twin(request: pytest.FixtureRequest) -> Twin:
    return twin_of(request.param)


def layer_name(twin: Twin, index: int = MIDDLE) -> str:
    return f"{STACKS.get(twin.name, 'model.layers')}.{index}"


def attention_name(twin: Twin, index: int = MIDDLE) -> str:
    return f"{layer_name(twin, index)}.{ATTENTIONS.get(twin.name, 'self_attn')}"


def matrices_of(twin: Twin, name: str) -> list[Tensor]:
    return [parameter for parameter in twin.module(name).parameters() if parameter.dim() == 2]


def assert_found(twin: Twin, first: str | None) -> None:
    """The network as it is now is beyond tolerance, by far, and this module is named."""
    drift = twin.drift()
    assert not drift.within
    assert drift.rms > 2 * drift.allowed_rms
    assert drift.first_moved == first
    assert not drift.weak


def zero_largest(weight: Tensor) -> None:
    weight.view(-1)[weight.abs().argmax()] = 0


def as_int8(weight: Tensor) -> None:
    scale = weight.float().abs().amax(dim=1, keepdim=True) / 127
    weight.copy_((weight.float() / scale).round() * scale)


def as_bf16(frequencies: Tensor) -> None:
    frequencies.copy_(frequencies.bfloat16())


def with_larger_theta(frequencies: Tensor) -> None:
    exponent = torch.arange(len(frequencies)) / len(frequencies)
    frequencies.mul_(1.01**-exponent)


def frequencies_of(twin: Twin) -> Tensor:
    buffers: dict[str, Tensor] = dict(twin.network.named_buffers())
    return next(buffer for name, buffer in buffers.items() if name.endswith("rotary_emb.inv_freq"))


@pytest.mark.parametrize("change", [zero_largest, as_int8])
@pytest.mark.parametrize("block", ["attention", "mlp"])
def test_changed_matrix_is_found_in_its_block(block: str, change: Callable[[Tensor], None], twin: Twin) -> None:
    name = attention_name(twin) if block == "attention" else f"{layer_name(twin)}.mlp"
    matrices = matrices_of(twin, name)
    assert matrices
    for matrix in matrices:
        with changed(matrix, change):
            assert_found(twin, name)
    assert twin.drift().rms == 0


@pytest.mark.parametrize("index", [0, 5])
def test_first_and_last_layer_are_told_apart(index: int, twin: Twin) -> None:
    with changed(matrices_of(twin, f"{layer_name(twin, index)}.mlp")[0], zero_largest):
        assert_found(twin, f"{layer_name(twin, index)}.mlp")


@pytest.mark.parametrize("head", [0, 3])
def test_lost_head_is_found_in_its_attention(head: int, twin: Twin) -> None:
    weight: Tensor = twin.module(f"{attention_name(twin)}.{OUTPUTS.get(twin.name, 'o_proj')}").weight
    size = weight.shape[1] // twin.network.config.num_attention_heads
    with changed(weight, lambda w: w[:, head * size : (head + 1) * size].zero_()):
        assert_found(twin, attention_name(twin))


@pytest.mark.parametrize("name", [LLAMA, PHI, MISTRAL, WINDOWED])
def test_epsilon_of_the_norms_is_found_in_the_first_norm(name: str) -> None:
    twin = twin_of(name)
    norms = norms_of(twin.network)
    assert len(norms) == 13
    with with_attribute(norms, "variance_epsilon", 10 * twin.network.config.rms_norm_eps):
        assert_found(twin, "model.layers.0.input_layernorm")


def test_epsilon_of_layer_norms_is_found_too() -> None:
    twin = twin_of(PYTHIA)
    with with_attribute(norms_of(twin.network), "eps", 10 * twin.network.config.layer_norm_eps):
        assert_found(twin, "gpt_neox.layers.0.input_layernorm")


@pytest.mark.parametrize("change", [as_bf16, with_larger_theta])
def test_other_frequencies_are_found_in_the_first_attention(change: Callable[[Tensor], None], twin: Twin) -> None:
    with changed(frequencies_of(twin), change):
        assert_found(twin, attention_name(twin, 0))


def test_other_scale_of_an_attention_is_found_in_it(twin: Twin) -> None:
    attention = twin.module(attention_name(twin))
    with with_attribute([attention], "scaling", 1.01 * attention.scaling):
        assert_found(twin, attention_name(twin))


def test_positions_rounded_in_front_of_the_rotary_embedding_are_found_in_the_first_attention(twin: Twin) -> None:
    """As where they are made in bf16: beyond 256 every other position is its neighbour's."""
    rotary = next(module for module in twin.network.modules() if hasattr(module, "inv_freq"))

    def rounded(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        (values, positions) = (*inputs, *named.values())
        return (values, positions.bfloat16().long()), {}

    assert len(twin.prepared.probe_ids) > 258
    handle = rotary.register_forward_pre_hook(rounded, with_kwargs=True)
    try:
        assert_found(twin, attention_name(twin, 0))
    finally:
        handle.remove()


def test_lost_half_of_a_layers_output_is_found_in_the_layer(twin: Twin) -> None:
    def halved(_layer: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        kept = output.clone()
        kept[..., : output.shape[-1] // 2] = 0
        return kept

    handle = twin.module(layer_name(twin)).register_forward_hook(halved)
    try:
        assert_found(twin, layer_name(twin))
    finally:
        handle.remove()


@pytest.mark.parametrize("name", [PHI, WINDOWED])
@pytest.mark.parametrize("step", [-1, 1])
def test_window_that_is_off_by_one_is_found_in_the_first_attention(step: int, name: str) -> None:
    twin = twin_of(name)
    window = twin.network.config.sliding_window
    assert window + 1 < len(twin.prepared.probe_ids) - 1
    # The mask is made of the config.
    with with_attribute([twin.network.config], "sliding_window", window + step):
        assert_found(twin, attention_name(twin, 0))


def test_embedding_and_last_norm_are_found(twin: Twin) -> None:
    points = twin.reference.points
    token = int(twin.prepared.probe_ids[1])
    with changed(twin.network.get_input_embeddings().weight, lambda weight: zero_largest(weight[token])):
        assert_found(twin, points[0])
    with changed(twin.module(points[-1]).weight, zero_largest):
        assert_found(twin, points[-1])


def test_changed_head_is_named_where_no_module_before_it_moved(twin: Twin) -> None:
    with changed(twin.network.get_output_embeddings().weight, as_int8):
        assert_found(twin, "lm_head")


@contextmanager
def one_thread(_twin: Twin) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def permutation(order: Tensor, *, dim: int) -> Callable[[Tensor], object]:
    return lambda weight: weight.copy_(weight.index_select(dim, order))


@contextmanager
def permuted_neurons(twin: Twin) -> Iterator[None]:
    """The neurons of every MLP in another order: another order of the sums, and the same function."""
    with ExitStack() as stack:
        for index in range(twin.network.config.num_hidden_layers):
            mlp: Any = twin.module(f"{layer_name(twin, index)}.mlp")
            last = "dense_4h_to_h" if twin.name == PYTHIA else "down_proj"
            order = torch.randperm(getattr(mlp, last).weight.shape[1], generator=torch.Generator().manual_seed(index))
            for name, linear in mlp.named_children():
                for parameter in linear.parameters():
                    if name == last and parameter.dim() == 2:
                        stack.enter_context(changed(parameter, permutation(order, dim=1)))
                    elif name != last:
                        # Gate and up may lie in one matrix.
                        rows = torch.cat([order + start for start in range(0, len(parameter), len(order))])
                        stack.enter_context(changed(parameter, permutation(rows, dim=0)))
        yield


@pytest.mark.parametrize("harmless", [one_thread, permuted_neurons])
def test_harmless_change_is_within(harmless: Fault, twin: Twin) -> None:
    with harmless(twin):
        drift = twin.drift()
    assert drift.within
    assert drift.first_moved is None
    if harmless is permuted_neurons:
        assert drift.rms > 0


def test_other_attention_is_within(twin: Twin) -> None:
    drift = twin.drift(twin.probe(attention="sdpa"))
    assert drift.within
    assert drift.first_moved is None


def test_points_are_the_modules_in_the_order_in_which_they_ran(twin: Twin) -> None:
    modules = [(name, module) for name, module in twin.network.named_modules() if name in twin.reference.points]
    ran: list[str] = []
    handles = [module.register_forward_hook(lambda *_, name=name: ran.append(name)) for name, module in modules]
    try:
        found = twin.probe()
    finally:
        for handle in handles:
            handle.remove()
    assert list(found.points) == ran
    assert found.fingerprints.shape == (len(ran), NUM_PROJECTIONS + 1)
    assert found.fingerprints.dtype == np.float32
    assert {name for name, _ in fingerprinted_modules(twin.network)} == set(ran)
    per_layer = 5
    assert len(ran) == 1 + per_layer * twin.network.config.num_hidden_layers + 1
    assert twin.network.get_input_embeddings() is twin.module(ran[0])


@pytest.mark.parametrize("family", ["llama", "gpt-neox", "phi3", "mistral"])
def test_modules_are_found_in_untrained_models_too(family: str) -> None:
    names = [name for name, _ in fingerprinted_modules(build_network(family))]
    assert len(names) == len(set(names)) == 1 + 5 * 3 + 1


def test_hooks_are_gone_after_an_exception(twin: Twin) -> None:
    before = hooks_of(twin.network)
    with pytest.raises(KeyboardInterrupt), fingerprinted(twin.network):
        raise KeyboardInterrupt
    assert hooks_of(twin.network) == before
