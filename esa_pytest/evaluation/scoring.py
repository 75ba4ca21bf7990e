"""Per-token scores of a batch, whose logits are never held: the head is applied to a fixed number of rows at a time."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel

from esa_pytest.evaluation.head import hidden_states, logits_of
from esa_pytest.evaluation.likelihoods import BatchScores, LogitsReader, joined

# Raised whenever the same logits could give other NLLs; part of a golden's environment, as are the chunks.
SCORING_VERSION = 1
# The head's matrix is read once for each: with few rows that takes longer than the products themselves.
CHUNK_ROWS = 512
# Of which so many are summed up together on a GPU.
_GPU_ROWS = 128
# So many float64 logits lie in a processor's cache from one operation to the next.
_CACHED_LOGITS = 1 << 20


def score_batch(
    network: PreTrainedModel,
    input_ids: Tensor,
    targets: Tensor,
    *,
    split_head: bool,
    sample_every: int = 1,
    probabilities: bool = False,
) -> BatchScores:
    """Score the last `scored` positions of each window.

    Args:
        network: the model, in evaluation mode.
        input_ids: int64, shape (windows, context_length), on the model's device.
        targets: int64, shape (windows, scored), on the model's device.
        split_head: whether the head may be applied to a few rows at a time (see `head_is_separable`).
        sample_every: of a window's targets, the likeliest tokens of each so many-th are kept, the first included.
        probabilities: whether the distributions are examined too.
    """
    num_scored = targets.shape[1]
    sampled = _Sampled(np.arange(targets.numel()) % num_scored % sample_every == 0, targets.device)
    reader: LogitsReader | None = None
    parts: list[BatchScores] = []
    with torch.inference_mode():
        for chunk, chunk_targets in _logits(network, input_ids, targets, num_scored, split_head=split_head):
            together = rows_at_once(chunk.device, chunk.shape[-1])
            reader = reader or LogitsReader(chunk, rows=together)
            # The head may lie on another GPU than the embedding, to which the targets went.
            chunk_targets = chunk_targets.to(chunk.device)
            parts += [
                reader.read(
                    rows,
                    rows_targets,
                    sampled=sampled.of_next(len(rows), device=chunk.device),
                    probabilities=probabilities,
                )
                for rows, rows_targets in zip(chunk.split(together), chunk_targets.split(together), strict=True)
            ]
            # Else it would be held while the next one is computed.
            del chunk
    return joined(parts, windows=1)


def _logits(
    network: PreTrainedModel, input_ids: Tensor, targets: Tensor, num_scored: int, *, split_head: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Chunks of logits (rows, vocabulary) with their targets (rows,)."""
    if split_head:
        hidden = hidden_states(network, input_ids)[:, -num_scored:]
        logits = logits_of(network.get_output_embeddings())
        rows, flat = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
        for begin in range(0, len(rows), CHUNK_ROWS):
            yield logits(rows[begin : begin + CHUNK_ROWS]), flat[begin : begin + CHUNK_ROWS]
        return
    for window, window_targets in zip(input_ids, targets, strict=True):
        whole = network(input_ids=window[None], use_cache=False).logits[0, -num_scored:]
        yield from zip(whole.split(CHUNK_ROWS), window_targets.split(CHUNK_ROWS), strict=True)
        del whole


def rows_at_once(device: torch.device, vocabulary: int) -> int:
    """How many rows are summed up together: few enough on a CPU for its caches."""
    return _GPU_ROWS if device.type == "cuda" else max(1, min(_GPU_ROWS, _CACHED_LOGITS // vocabulary))


class _Sampled:
    """Which rows of a batch are sampled, handed out from one group of rows to the next."""

    def __init__(self, chosen: npt.NDArray[np.bool_], device: torch.device) -> None:
        self._before = np.concatenate(([0], np.cumsum(chosen)))
        # On the device once a batch: a list of numbers would be copied there, and waited for, with every chunk.
        self._rows = torch.from_numpy(np.flatnonzero(chosen)).to(device)
        self._done = 0

    def of_next(self, num_rows: int, *, device: torch.device) -> Tensor | None:
        """Indices of the sampled ones among the next rows, on their device; None where that is all of them."""
        begin, end = self._before[self._done], self._before[self._done + num_rows]
        chosen = None if end - begin == num_rows else (self._rows[begin:end] - self._done).to(device)
        self._done += num_rows
        return chosen
