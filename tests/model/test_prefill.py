"""Scored in chunks: what one pass computes, with no more memory than a chunk and the cache take."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from esa_pytest.evaluation import prefill
from esa_pytest.evaluation.attention import with_attention
from esa_pytest.evaluation.likelihoods import BatchScores
from esa_pytest.evaluation.prefill import continuing, locate_in_chunks, score_in_chunks
from esa_pytest.evaluation.scoring import score_batch
from tests.model.test_scoring_memory import Allocations
from tests.model.tiny import build_network
from tests.model.twins import hooks_of

# Phi-3 has a window of 16 tokens, and so has the first Mistral.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "gpt-neox": ("gpt-neox", {}),
    "phi3": ("phi3", {}),
    "mistral, window": ("mistral", {}),
    "mistral": ("mistral", {"sliding_window": None}),
}
WINDOWS, CONTEXT, SCORED, EVERY = 2, 96, 72, 4
# Shorter and longer than the windows; the second does not divide what is scored.
CHUNKS = (8, 40)
TOLERANCE = 1e-5


def network_of(case: str, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    family, changes = CASES[case]
    return build_network(family, **changes).to(dtype)


def tokens(windows: int = WINDOWS, context: int = CONTEXT, scored: int = SCORED) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(0, 256, (windows, context), generator=generator)
    return ids, torch.randint(0, 256, (windows, scored), generator=generator)


def chunked(network: PreTrainedModel, chunk: int | None, *, split: bool = True, **options: Any) -> BatchScores:
    ids, targets = tokens()
    how = {"split_head": split, "sample_every": EVERY, "probabilities": True} | options
    return score_in_chunks(network, ids, targets, chunk_tokens=chunk, **how)


@pytest.mark.parametrize(("case", "attention"), [*((case, "sdpa") for case in CASES), ("phi3", "eager")])
def test_chunks_give_in_float32_what_one_pass_gives(case: str, attention: str) -> None:
    network = network_of(case)
    with with_attention(network, attention):
        ids, targets = tokens()
        whole = score_batch(network, ids, targets, split_head=True, sample_every=EVERY, probabilities=True)
        for chunk in CHUNKS:
            found = chunked(network, chunk)
            assert (found.nll - whole.nll).abs().max() < TOLERANCE
            assert torch.equal(found.argmax, whole.argmax)
            assert torch.equal(found.top_ids, whole.top_ids)
            assert found.probabilities is not None and whole.probabilities is not None  # noqa: PT018
            assert (found.probabilities - whole.probabilities).abs().max() < TOLERANCE
            assert bool(found.finite.all())


@pytest.mark.parametrize("case", ["llama", "phi3"])
def test_in_bf16_chunks_round_as_another_attention_does(case: str) -> None:
    network = network_of(case, dtype=torch.bfloat16)
    whole, parts = chunked(network, None), chunked(network, 20)
    with with_attention(network, "eager"):
        eager = chunked(network, None)
    noise, drift = ((other.nll - whole.nll).square().mean().sqrt() for other in (eager, parts))
    assert drift < 3 * noise


def test_what_is_not_scored_goes_through_no_head(monkeypatch: pytest.MonkeyPatch) -> None:
    network = network_of("llama")
    seen: list[tuple[int, ...]] = []

    def counted(model: PreTrainedModel, ids: Tensor, targets: Tensor, **how: Any) -> BatchScores:
        seen.append((*ids.shape, targets.shape[1]))
        return score_batch(model, ids, targets, **how)

    monkeypatch.setattr(prefill, "score_batch", counted)
    chunked(network, 30, sample_every=1)
    # 24 tokens in front, then what is scored.
    assert seen == [(2, 30, 30), (2, 30, 30), (2, 12, 12)]


def test_a_chunk_is_rounded_up_to_what_is_sampled() -> None:
    network = network_of("llama")
    whole, found = (chunked(network, chunk, sample_every=8) for chunk in (None, 5))
    assert torch.equal(found.top_ids, whole.top_ids)


def test_a_head_that_is_not_split_goes_window_by_window() -> None:
    network = build_network("gemma3").float()
    whole, found = (chunked(network, chunk, split=False) for chunk in (None, 20))
    assert (found.nll - whole.nll).abs().max() < TOLERANCE
    assert torch.equal(found.top_ids, whole.top_ids)


def test_the_network_forgets_its_cache_and_its_hook() -> None:
    network = network_of("mistral, window")
    before, hooks = chunked(network, None), hooks_of(network)
    chunked(network, 20)
    with pytest.raises(KeyboardInterrupt), continuing(network):
        raise KeyboardInterrupt
    assert hooks_of(network) == hooks
    assert torch.equal(chunked(network, None).nll, before.nll)


def test_the_first_value_that_is_no_number_is_placed_in_its_window() -> None:
    network = network_of("llama")
    ids = tokens()[0] % 255
    ids[1, 80] = 255
    with torch.no_grad():
        network.get_input_embeddings().weight[255] = torch.nan
    found = locate_in_chunks(network, ids, chunk_tokens=32)
    assert found == locate_in_chunks(network, ids, chunk_tokens=None)
    assert found is not None
    assert (found.window, found.token) == (1, 80)
    assert locate_in_chunks(network, ids[:1, :80], chunk_tokens=32) is None
    assert replace(found, layer=None).what == "output"


def body_alone(network: PreTrainedModel, ids: Tensor, targets: Tensor, **_: Any) -> BatchScores:
    """A pass without the head, whose memory is a test of its own."""
    getattr(network, network.base_model_prefix)(input_ids=ids, use_cache=False)
    nothing = torch.zeros(targets.numel())
    return BatchScores(nll=nothing, argmax=nothing, finite=nothing, top_ids=nothing, top_log_probability=nothing)


def allocations(network: PreTrainedModel, context: int, chunk: int | None) -> Allocations:
    ids, targets = tokens(1, context, 32)
    seen = Allocations()
    # Eager attention holds every score of a chunk, which is the most that any attention does.
    with with_attention(network, "eager"), torch.inference_mode(), seen:
        score_in_chunks(network, ids, targets, chunk_tokens=chunk, split_head=True)
    return seen


@pytest.mark.parametrize(("case", "grows"), [("llama", 2.0), ("mistral, window", 1.0)])
def test_memory_is_that_of_a_chunk_and_the_cache(case: str, grows: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention of one pass grows with the square of the context, that of chunks with it, or not at all."""
    monkeypatch.setattr(prefill, "score_batch", body_alone)
    network = network_of(case, dtype=torch.bfloat16)
    (short, long), (short_whole, long_whole) = (
        [allocations(network, context, chunk) for context in (256, 512)] for chunk in (32, None)
    )
    assert long_whole.largest == 4 * short_whole.largest
    assert long.largest == grows * short.largest
    assert long.peak < long_whole.peak / 6
    assert long.peak - short.peak < (long_whole.peak - short_whole.peak) / 10
