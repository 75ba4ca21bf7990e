"""Checksums of weights: every change of their bits shows, and nothing else does."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from esa_pytest.perturbation.checksums import checksums_of
from esa_pytest.perturbation.kinds import as_integers
from tests.model.tiny import build_network
from tests.model.twins import changed

MATRIX = "model.layers.1.mlp.down_proj.weight"
ROTARY = "model.rotary_emb.inv_freq"


@pytest.fixture
def network() -> PreTrainedModel:
    return build_network("llama")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn])
def test_every_bit_counts(dtype: torch.dtype, network: PreTrainedModel) -> None:
    parameter = network.get_parameter(MATRIX)
    parameter.data = parameter.data.float().to(dtype)
    before = checksums_of(network)
    numbers = as_integers(parameter.data).view(-1)
    width = 8 * numbers.element_size()
    for bit in range(width):
        mask = 1 << bit if numbers.dtype is torch.uint8 or bit < width - 1 else -(1 << bit)
        for place in (0, 17, numbers.numel() - 1):
            numbers[place] ^= mask
            assert differing(before, checksums_of(network)) == {MATRIX}, (bit, place)
            numbers[place] ^= mask
    assert checksums_of(network) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.mul_(1.5),
        lambda m: m.neg_(),
        lambda m: m[:, 3].neg_(),
        lambda m: m[:, 3::4].neg_(),
        lambda m: m.copy_(m.flip(0)),
        lambda m: m.copy_(m.flip(1)),
        lambda m: m.copy_(m.roll(32, dims=1)),
        lambda m: m.copy_(m[:, [1, 0, *range(2, m.shape[1])]]),
        lambda m: m.copy_(m.flatten().sort().values.view_as(m)),
        # Only the sign of zero.
        lambda m: m.zero_().neg_(),
    ],
)
def test_changes_of_many_numbers_show(change: Callable[[Tensor], object], network: PreTrainedModel) -> None:
    matrix = network.get_parameter(MATRIX).data
    before = checksums_of(network)
    with changed(matrix, change):
        assert differing(before, checksums_of(network)) == {MATRIX}
    assert checksums_of(network) == before


def test_what_is_longer_than_a_span_is_read_to_its_end(
    network: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esa_pytest.perturbation.checksums._SPAN", 1000)
    numbers = network.get_parameter(MATRIX).data.view(-1)
    before = checksums_of(network)
    for change in (lambda n: n[-1].add_(1), lambda n: n.copy_(torch.cat([n[1000:2000], n[:1000], n[2000:]]))):
        with changed(numbers, change):
            assert differing(before, checksums_of(network)) == {MATRIX}


def test_tied_weights_are_read_once_and_what_is_not_in_memory_is_left_out() -> None:
    network = build_network("llama", tie_word_embeddings=True)
    network.tie_weights()
    found = checksums_of(network)
    assert "model.embed_tokens.weight" in found
    assert "lm_head.weight" not in found
    assert MATRIX not in checksums_of(network, leaving_out={MATRIX})
    layer = network.get_submodule("model.layers.0.mlp.up_proj")
    layer.weight = torch.nn.Parameter(layer.weight.to("meta"), requires_grad=False)
    assert differing(found, checksums_of(network)) == {"model.layers.0.mlp.up_proj.weight"}


def test_buffers_that_a_forward_pass_may_compute_anew_do_not_count(network: PreTrainedModel) -> None:
    before = checksums_of(network)
    assert ROTARY not in before
    network.get_buffer(ROTARY).mul_(2)
    assert checksums_of(network) == before


def differing(one: dict[str, int], other: dict[str, int]) -> set[str]:
    """The names whose checksums are not the same."""
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}
