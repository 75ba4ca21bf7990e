"""Per-token negative log-likelihoods from bf16 logits, without ever holding the logits of a batch.

For a target y with logits z, `nll = log(sum_v exp(z_v)) - z_y`, in nats. The logits are the head's bf16 output for a
fixed number of rows at a time, contiguous, one token a row; the log-sum-exp is float64. Rounded to float32 at the
end, a value is then a function of the logits alone, and not of the order in which some kernel adds up exponentials:
the same logits through float32 cross_entropy as (N, C, L) and as (N, C) differ in the fifth digit.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel

from esa_pytest.evaluation.head import hidden_states, logits_of

# Raised whenever the same logits could give other NLLs; part of a golden's environment, as are the chunks.
SCORING_VERSION = 1
CHUNK_ROWS = 128
TOP_K = 10
# So many float64 logits lie in a processor's cache from one operation to the next.
_CACHED_LOGITS = 1 << 18


@dataclass(frozen=True, kw_only=True)
class BatchScores:
    """Scores of one batch, still on its device; row-major over (windows, scored).

    Attributes:
        nll: float32, shape (windows * scored,), in nats.
        argmax: int32, shape (windows * scored,).
        finite: bool, shape (windows * scored,): whether every logit of the token is a number.
        top_ids: int32, shape (sampled, TOP_K): the likeliest token ids at every `sample_every`-th target of a window.
        top_log_probability: float32, shape (sampled, TOP_K): theirs in nats.
        probabilities: float32, shape (windows * scored, 4): confidence, entropy, brier, top-k mass as
            `TokenProbabilities` has them; None where they were not asked for.
    """

    nll: Tensor
    argmax: Tensor
    finite: Tensor
    top_ids: Tensor
    top_log_probability: Tensor
    probabilities: Tensor | None = None


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
    parts: list[BatchScores] = []
    with torch.inference_mode():
        for chunk, chunk_targets in _logits(network, input_ids, targets, num_scored, split_head=split_head):
            together = rows_at_once(chunk.device, chunk.shape[-1])
            parts += [
                _score_rows(rows, rows_targets, sampled=sampled.of_next(len(rows)), probabilities=probabilities)
                for rows, rows_targets in zip(chunk.split(together), chunk_targets.split(together), strict=True)
            ]
    examined = [part.probabilities for part in parts if part.probabilities is not None]
    return BatchScores(
        nll=torch.cat([part.nll for part in parts]),
        argmax=torch.cat([part.argmax for part in parts]),
        finite=torch.cat([part.finite for part in parts]),
        top_ids=torch.cat([part.top_ids for part in parts]),
        top_log_probability=torch.cat([part.top_log_probability for part in parts]),
        probabilities=torch.cat(examined) if examined else None,
    )


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


def rows_at_once(device: torch.device, vocabulary: int) -> int:
    """How many rows are summed up together: few enough on a CPU for its caches, all of a chunk on a GPU."""
    return CHUNK_ROWS if device.type == "cuda" else max(1, min(CHUNK_ROWS, _CACHED_LOGITS // vocabulary))


class _Sampled:
    """Which rows of a batch are sampled, handed out from one group of rows to the next."""

    def __init__(self, chosen: npt.NDArray[np.bool_], device: torch.device) -> None:
        self._before = np.concatenate(([0], np.cumsum(chosen)))
        # On the device once a batch: a list of numbers would be copied there, and waited for, with every chunk.
        self._rows = torch.from_numpy(np.flatnonzero(chosen)).to(device)
        self._done = 0

    def of_next(self, num_rows: int) -> Tensor | None:
        """Indices of the sampled ones among the next rows; None where that is all of them."""
        begin, end = self._before[self._done], self._before[self._done + num_rows]
        chosen = None if end - begin == num_rows else self._rows[begin:end] - self._done
        self._done += num_rows
        return chosen


def _score_rows(logits: Tensor, targets: Tensor, *, sampled: Tensor | None, probabilities: bool) -> BatchScores:
    """NLL, argmax and finiteness of logits (rows, vocabulary) for targets (rows,), top-k at the sampled rows."""
    # Both at once take a fifth of the time of argmax() alone; the first of equal ones, and a NaN before all else.
    largest, argmax = logits.max(dim=-1)
    wide = logits.to(torch.float64, copy=True).contiguous()
    target_logit = wide.gather(-1, targets[:, None])[:, 0]
    largest_wide = largest.to(torch.float64)
    shifted = wide.sub_(largest_wide[:, None])
    powers = shifted.exp() if probabilities else shifted.exp_()
    total = powers.sum(dim=-1)
    log_sum_exp = total.log() + largest_wide
    # Indexing copies, which all rows of a chunk need not suffer.
    top = (logits if sampled is None or probabilities else logits[sampled]).topk(min(TOP_K, logits.shape[-1]), dim=-1)
    chosen = slice(None) if sampled is None else sampled
    values, ids = (top.values[chosen], top.indices[chosen]) if probabilities else (top.values, top.indices)
    return BatchScores(
        nll=(log_sum_exp - target_logit).to(torch.float32),
        argmax=argmax.to(torch.int32),
        # Smallest and largest tell it for a thirteenth of what isfinite().all() costs; both hand a NaN on.
        finite=logits.amin(dim=-1).isfinite() & largest.isfinite(),
        top_ids=ids.to(torch.int32),
        top_log_probability=(values.to(torch.float64) - log_sum_exp[chosen, None]).to(torch.float32),
        probabilities=_probabilities(top.indices, shifted, powers, total, targets) if probabilities else None,
    )


def _probabilities(likeliest: Tensor, shifted: Tensor, powers: Tensor, total: Tensor, targets: Tensor) -> Tensor:
    """Confidence, entropy, Brier score and top-k mass of distributions `powers / total`, shape (rows, 4).

    With d a logit less the largest one and s the sum of the e^d, the likeliest token has the probability 1 / s, and the
    entropy is log s - sum(e^d * d) / s. `likeliest` are ids, shape (rows, TOP_K). Overwrites `shifted` and `powers`.
    """
    target = powers.gather(-1, targets[:, None])[:, 0] / total
    top_k_mass = powers.gather(-1, likeliest).sum(dim=-1) / total
    entropy = total.log() - shifted.mul_(powers).sum(dim=-1) / total
    brier = powers.square_().sum(dim=-1) / total.square() - 2.0 * target + 1.0
    return torch.stack((1.0 / total, entropy, brier, top_k_mass), dim=-1).to(torch.float32)
