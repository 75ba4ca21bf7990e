"""Windows scored in chunks: each goes on from the keys and values of those before it, so that memory stays bounded.

The chunks behind one another compute what one pass computes, since attention sees the same keys at the same positions.
Beside the weights there are then the cache (for a model with sliding windows no more than a window of it a layer) and
the activations of a single chunk, whatever attention makes of these. In float32 both agree to rounding; in bf16 another
shape rounds otherwise, which is measured with the noise.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from esa_pytest.evaluation.finiteness import locate_non_finite
from esa_pytest.evaluation.likelihoods import BatchScores, joined
from esa_pytest.evaluation.scoring import score_batch
from esa_pytest.records import NonFinite


def score_in_chunks(
    network: PreTrainedModel,
    input_ids: Tensor,
    targets: Tensor,
    *,
    chunk_tokens: int | None,
    split_head: bool,
    sample_every: int = 1,
    probabilities: bool = False,
) -> BatchScores:
    """Score the last `scored` positions of each window, as `score_batch` does, so many positions at a time.

    Args:
        network: the model, in evaluation mode.
        input_ids: int64, shape (windows, context_length), on the model's device.
        targets: int64, shape (windows, scored), on the model's device.
        chunk_tokens: most positions of a window that go through the model at once; None for all.
        split_head: as `score_batch` takes it.
        sample_every: as `score_batch` takes it; a chunk is rounded up to a multiple of it.
        probabilities: as `score_batch` takes it.
    """
    score = partial(score_batch, network, split_head=split_head, sample_every=sample_every, probabilities=probabilities)
    if chunk_tokens is None or chunk_tokens >= input_ids.shape[1]:
        return score(input_ids, targets)
    # A head that is not split is given one window after the other, and each goes on from its own.
    rows = input_ids.shape[0] if split_head else 1
    size = -(-chunk_tokens // sample_every) * sample_every
    pairs = zip(input_ids.split(rows), targets.split(rows), strict=True)
    return joined([_continued(score, network, *pair, size=size) for pair in pairs], windows=1)


def _continued(
    score: Callable[[Tensor, Tensor], BatchScores],
    network: PreTrainedModel,
    input_ids: Tensor,
    targets: Tensor,
    *,
    size: int,
) -> BatchScores:
    """Some windows side by side, a chunk at a time."""
    windows, context_length = input_ids.shape
    first = context_length - targets.shape[1]
    parts: list[BatchScores] = []
    with continuing(network):
        for begin, end in _chunks(first, context_length, size):
            if end > first:
                parts.append(score(input_ids[:, begin:end], targets[:, begin - first : end - first]))
            else:
                with torch.inference_mode():
                    _body(network)(input_ids=input_ids[:, begin:end])
    return joined(parts, windows=windows)


def locate_in_chunks(network: PreTrainedModel, input_ids: Tensor, *, chunk_tokens: int | None) -> NonFinite | None:
    """Where the first value that is no number comes from, as `locate_non_finite` says it, a chunk at a time.

    Args:
        network: the model.
        input_ids: int64, shape (windows, context_length).
        chunk_tokens: most positions of a window that go through the model at once; None for all.
    """
    if chunk_tokens is None:
        return locate_non_finite(network, input_ids)
    with continuing(network):
        for begin in range(0, input_ids.shape[1], chunk_tokens):
            place = locate_non_finite(network, input_ids[:, begin : begin + chunk_tokens])
            if place is not None:
                return replace(place, token=None if place.token is None else begin + place.token)
    return None


@contextmanager
def continuing(network: PreTrainedModel) -> Iterator[None]:
    """Let every pass through the network's body within the block go on from where the one before ended.

    Layers with a sliding window keep no more than that of it.
    """
    cache = DynamicCache(config=network.config)

    def go_on(_body: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "past_key_values": cache, "use_cache": True}

    handle = _body(network).register_forward_pre_hook(go_on, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _body(network: PreTrainedModel) -> nn.Module:
    body: nn.Module = getattr(network, network.base_model_prefix)
    return body


def _chunks(first_scored: int, context_length: int, size: int) -> Iterator[tuple[int, int]]:
    """Stretches of at most `size` positions, of which none holds both scored positions and others.

    A chunk then begins where one of the sampled targets may, whatever the chunks in front of it.
    """
    for begin, end in ((0, first_scored), (first_scored, context_length)):
        for at in range(begin, end, size):
            yield at, min(at + size, end)
