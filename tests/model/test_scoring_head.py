"""The head is applied on its own only where nothing comes behind it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from esa_pytest.evaluation.byte_tokenizer import VOCABULARY
from esa_pytest.evaluation.head import head_is_separable
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.scoring import score_batch
from tests.model.oracle import oracle_scores, random_windows
from tests.model.tiny import build_network

pytestmark = pytest.mark.usefixtures("native_head")

CPU = torch.device("cpu")
WINDOWS = random_windows(4, 32, vocabulary=VOCABULARY)
WITH_MORE_BEHIND_THE_HEAD = ("gemma3", "cohere")


@contextmanager
def _counted(body: nn.Module) -> Iterator[list[object]]:
    """One entry for each pass through a body."""
    passes: list[object] = []
    handle = body.register_forward_hook(lambda _body, inputs, _output: passes.append(inputs))
    try:
        yield passes
    finally:
        handle.remove()


def test_a_plain_head_is_separable_and_gives_the_same_bits_both_ways(tiny_model: LoadedModel) -> None:
    assert head_is_separable(tiny_model.network, device=CPU)
    split = score_batch(tiny_model.network, *WINDOWS, split_head=True)
    whole = score_batch(tiny_model.network, *WINDOWS, split_head=False)
    assert torch.equal(split.nll, whole.nll)
    assert torch.equal(split.argmax, whole.argmax)


def test_whether_the_head_is_separable_takes_a_single_pass(tiny_model: LoadedModel) -> None:
    with _counted(tiny_model.network.base_model) as passes:
        assert head_is_separable(tiny_model.network, device=CPU)
    assert len(passes) == 1


def _with_other_tokens(input_ids: Tensor) -> dict[str, Tensor]:
    return {"input_ids": input_ids.flip(-1)}


def _with_other_positions(input_ids: Tensor) -> dict[str, Tensor]:
    return {"input_ids": input_ids, "position_ids": torch.arange(input_ids.shape[1])[None] * 2}


@pytest.mark.parametrize("otherwise", [_with_other_tokens, _with_other_positions])
def test_a_body_that_is_asked_otherwise_within_the_model_is_asked_again_alone(
    otherwise: Callable[[Tensor], dict[str, Tensor]],
) -> None:
    """What it puts out there is not what scoring would hand to the head."""
    network = build_network("llama")
    whole = network.forward

    def forward(input_ids: Tensor, **how: Any) -> Any:
        return whole(**otherwise(input_ids), **how)

    network.forward = forward
    with _counted(network.model) as passes:
        assert not head_is_separable(network, device=CPU)
    assert len(passes) == 2


def test_what_happens_to_the_states_in_front_of_the_head_is_noticed() -> None:
    network = build_network("llama")
    whole = network.forward

    def forward(**inputs: Any) -> Any:
        handle = network.model.register_forward_hook(lambda _body, _inputs, output: _doubled(output))
        try:
            return whole(**inputs)
        finally:
            handle.remove()

    network.forward = forward
    assert not head_is_separable(network, device=CPU)


def _doubled(output: Any) -> Any:
    output.last_hidden_state.mul_(2)
    return output


def test_scores_under_autocast_are_those_of_the_model_under_it(llama: LoadedModel) -> None:
    with torch.autocast("cpu", dtype=torch.float16):
        split_head = head_is_separable(llama.network, device=CPU)
        scores = score_batch(llama.network, *WINDOWS, split_head=split_head)
        nll, argmax = oracle_scores(llama.network, *WINDOWS)
    torch.testing.assert_close(scores.nll.double(), nll, rtol=0.0, atol=1e-6)
    assert torch.equal(scores.argmax.long(), argmax)


@pytest.mark.parametrize("family", WITH_MORE_BEHIND_THE_HEAD)
def test_a_soft_cap_or_scale_behind_the_head_is_noticed(family: str) -> None:
    assert not head_is_separable(build_network(family), device=CPU)


@pytest.mark.parametrize("token", [0, 7919 % VOCABULARY, 7919 * 9 % VOCABULARY])
@pytest.mark.parametrize("family", ["llama", *WITH_MORE_BEHIND_THE_HEAD])
def test_a_token_that_is_not_a_number_does_not_hide_a_soft_cap(family: str, token: int) -> None:
    """One of the tokens by which the head is tried, the first, the second or the tenth."""
    network = build_network(family)
    with torch.no_grad():
        network.get_input_embeddings().weight[token] = torch.nan
    assert head_is_separable(network, device=CPU) == (family == "llama")


@pytest.mark.parametrize("num_scored", [32, 13])
@pytest.mark.parametrize("family", WITH_MORE_BEHIND_THE_HEAD)
def test_a_soft_cap_or_scale_behind_the_head_is_in_the_scores(family: str, num_scored: int) -> None:
    network = build_network(family)
    input_ids, targets = WINDOWS[0], WINDOWS[1][:, -num_scored:]
    scores = score_batch(network, input_ids, targets, split_head=False)
    nll, argmax = oracle_scores(network, input_ids, targets)
    torch.testing.assert_close(scores.nll.double(), nll, rtol=0.0, atol=1e-6)
    assert torch.equal(scores.argmax.long(), argmax)
    # And it matters: without it the scores would be others.
    lost = score_batch(network, input_ids, targets, split_head=True)
    assert float((lost.nll - scores.nll).abs().max()) > 0.1


@pytest.mark.parametrize("cap", [30.0, 1000.0])
def test_a_soft_cap_far_above_the_logits_is_noticed(cap: float) -> None:
    assert not head_is_separable(build_network("gemma3", final_logit_softcapping=cap), device=CPU)


@pytest.mark.parametrize("family", ["gemma3", "cohere"])
def test_a_head_with_nothing_behind_it_is_separable_in_any_family(family: str) -> None:
    plain = build_network(family, final_logit_softcapping=None, logit_scale=1.0)
    assert head_is_separable(plain, device=CPU)


def test_a_head_whose_output_is_cut_is_not_separable() -> None:
    network = build_network("llama")

    def cut(_network: nn.Module, _inputs: object, output: Any) -> Any:
        output.logits = output.logits[..., :-2]
        return output

    network.register_forward_hook(cut)
    assert not head_is_separable(network, device=CPU)
