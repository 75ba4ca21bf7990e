"""Windows scored in chunks: each goes on from the keys and values of those before it, so that memory stays bounded.

The chunks behind one another compute what one pass computes, since attention sees the same keys at the same positions.
Beside the weights there are then the cache (for a model with sliding windows no more than a window of it a layer) and
the activations of a single chunk, whatever attention makes of these. In float32 both agree to rounding; in bf16 another
shape rounds otherwise, which is measured with the noise.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from esa_pytest.evaluation.scoring import BatchScores, score_batch


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
    how = {"split_head": split_head, "sample_every": sample_every, "probabilities": probabilities}
    context_length, num_scored = input_ids.shape[1], targets.shape[1]
    if chunk_tokens is None or chunk_tokens >= context_length:
        return score_batch(network, input_ids, targets, **how)
    if not split_head and len(input_ids) > 1:
        # A head that is not split is given the windows one after the other, and each goes on from its own.
        pairs = zip(input_ids.split(1), targets.split(1), strict=True)
        each = [score_in_chunks(network, ids, row, chunk_tokens=chunk_tokens, **how) for ids, row in pairs]
        return _joined(each, windows=1)
    size = -(-chunk_tokens // sample_every) * sample_every
    first = context_length - num_scored
    parts: list[BatchScores] = []
    with continuing(network):
        for begin, end in _chunks(first, context_length, size):
            ids = input_ids[:, begin:end]
            if end <= first:
                with torch.inference_mode():
                    _body(network)(input_ids=ids)
            else:
                parts.append(score_batch(network, ids, targets[:, begin - first : end - first], **how))
    return _joined(parts, windows=input_ids.shape[0])


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


def _joined(parts: Sequence[BatchScores], *, windows: int) -> BatchScores:
    """The scores of chunks, each row-major over (windows, its positions), as those of whole windows."""

    def join(tensors: Sequence[Tensor]) -> Tensor:
        rows = [tensor.reshape(windows, -1, *tensor.shape[1:]) for tensor in tensors]
        return torch.cat(rows, dim=1).flatten(0, 1)

    examined = [part.probabilities for part in parts if part.probabilities is not None]
    return BatchScores(
        nll=join([part.nll for part in parts]),
        argmax=join([part.argmax for part in parts]),
        finite=join([part.finite for part in parts]),
        top_ids=join([part.top_ids for part in parts]),
        top_log_probability=join([part.top_log_probability for part in parts]),
        probabilities=join(examined) if examined else None,
    )
