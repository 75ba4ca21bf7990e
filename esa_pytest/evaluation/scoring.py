"""Per-token negative log-likelihoods from bf16 logits, without ever holding the logits of a batch.

For a target y with logits z, `nll = log(sum_v exp(z_v)) - z_y`, in nats. The logits are the head's bf16 output for a
fixed number of rows at a time, contiguous, one token a row; the log-sum-exp is float64. Rounded to float32 at the
end, a value is then a function of the logits alone, and not of the order in which some kernel adds up exponentials:
the same logits through float32 cross_entropy as (N, C, L) and as (N, C) differ in the fifth digit.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

# Raised whenever the same logits could give other NLLs; part of a golden's environment, as are the chunks.
SCORING_VERSION = 1
CHUNK_ROWS = 128
CPU_ROWS = 16
TOP_K = 10
_PROBE_TOKENS = 16


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
    parts: list[BatchScores] = []
    done = 0
    with torch.inference_mode():
        for chunk, chunk_targets in _logits(network, input_ids, targets, num_scored, split_head=split_head):
            together = rows_at_once(chunk.device)
            for begin in range(0, len(chunk), together):
                rows = chunk[begin : begin + together]
                parts.append(
                    _score_rows(
                        rows,
                        chunk_targets[begin : begin + together],
                        sampled=[r for r in range(len(rows)) if (done + r) % num_scored % sample_every == 0],
                        probabilities=probabilities,
                    )
                )
                done += len(rows)
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
        hidden = _hidden_states(network, input_ids)[:, -num_scored:]
        head = network.get_output_embeddings()
        rows, flat = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
        for begin in range(0, len(rows), CHUNK_ROWS):
            yield head(rows[begin : begin + CHUNK_ROWS]), flat[begin : begin + CHUNK_ROWS]
        return
    for window, window_targets in zip(input_ids, targets, strict=True):
        logits = network(input_ids=window[None], use_cache=False).logits[0, -num_scored:]
        for begin in range(0, num_scored, CHUNK_ROWS):
            yield logits[begin : begin + CHUNK_ROWS], window_targets[begin : begin + CHUNK_ROWS]


def rows_at_once(device: torch.device) -> int:
    """How many rows are summed up together: few enough on a CPU for its caches, all of a chunk on a GPU."""
    return CHUNK_ROWS if device.type == "cuda" else CPU_ROWS


def _score_rows(logits: Tensor, targets: Tensor, *, sampled: list[int], probabilities: bool) -> BatchScores:
    """NLL, argmax and finiteness of logits (rows, vocabulary) for targets (rows,), top-k at the sampled rows."""
    argmax = logits.argmax(dim=-1)
    wide = logits.to(torch.float64, copy=True).contiguous()
    target_logit = wide.gather(-1, targets[:, None])[:, 0]
    largest = wide.gather(-1, argmax[:, None])
    shifted = wide.sub_(largest)
    powers = shifted.exp() if probabilities else shifted.exp_()
    total = powers.sum(dim=-1)
    log_sum_exp = total.log() + largest[:, 0]
    # Indexing copies, which all rows of a chunk need not suffer.
    top = (logits if len(sampled) == len(logits) else logits[sampled]).topk(min(TOP_K, logits.shape[-1]), dim=-1)
    return BatchScores(
        nll=(log_sum_exp - target_logit).to(torch.float32),
        argmax=argmax.to(torch.int32),
        # Smallest and largest tell it for a thirteenth of what isfinite().all() costs; both hand a NaN on.
        finite=logits.amin(dim=-1).isfinite() & logits.amax(dim=-1).isfinite(),
        top_ids=top.indices.to(torch.int32),
        top_log_probability=(top.values.to(torch.float64) - log_sum_exp[sampled, None]).to(torch.float32),
        probabilities=_probabilities(logits, shifted, powers, total, targets) if probabilities else None,
    )


def _probabilities(logits: Tensor, shifted: Tensor, powers: Tensor, total: Tensor, targets: Tensor) -> Tensor:
    """Confidence, entropy, Brier score and top-k mass of distributions `powers / total`, shape (rows, 4).

    With d a logit less the largest one and s the sum of the e^d, the likeliest token has the probability 1 / s, and the
    entropy is log s - sum(e^d * d) / s. Overwrites `shifted` and `powers`.
    """
    target = powers.gather(-1, targets[:, None])[:, 0] / total
    # The order of the logits is that of the probabilities, and bf16 is searched faster.
    likeliest = logits.topk(min(TOP_K, logits.shape[-1]), dim=-1).indices
    top_k_mass = powers.gather(-1, likeliest).sum(dim=-1) / total
    entropy = total.log() - shifted.mul_(powers).sum(dim=-1) / total
    brier = powers.square_().sum(dim=-1) / total.square() - 2.0 * target + 1.0
    return torch.stack((1.0 / total, entropy, brier, top_k_mass), dim=-1).to(torch.float32)


def _hidden_states(network: PreTrainedModel, input_ids: Tensor) -> Tensor:
    """What the head receives, shape (windows, context_length, hidden)."""
    body = getattr(network, network.base_model_prefix)
    hidden = body(input_ids=input_ids, use_cache=False).last_hidden_state
    assert isinstance(hidden, Tensor)  # noqa: S101  (every transformers body returns one)
    return hidden


def head_is_separable(network: PreTrainedModel, *, device: torch.device) -> bool:
    """Whether the model's logits are its head applied to its body's output, and nothing more.

    A soft-cap, a scale or a slice after the head would be lost when the head is applied on its own, so a short
    input is put through both ways; they must agree bit for bit, since both do the same operations.
    """
    head, body = network.get_output_embeddings(), getattr(network, network.base_model_prefix, None)
    if not isinstance(head, nn.Module) or body is None or body is network:
        return False
    vocabulary = network.get_input_embeddings().weight.shape[0]
    input_ids = (torch.arange(_PROBE_TOKENS, device=device) * 7919 % vocabulary)[None]
    with torch.inference_mode():
        whole = network(input_ids=input_ids, use_cache=False).logits
        hidden = _hidden_states(network, input_ids)
        split = head(hidden)
    if whole.shape != split.shape or whole.dtype != split.dtype:
        return False
    return bool(torch.equal(whole, split) or not whole.isfinite().all())
