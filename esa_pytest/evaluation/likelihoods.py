"""What is read of a few rows of logits: NLL, argmax, finiteness, the likeliest tokens, the distribution's shape.

For a target y with logits z, `nll = log(sum_v exp(z_v)) - z_y`, in nats. The log-sum-exp is float64. Rounded to float32
at the end, a value is then a function of the logits alone, and not of the order in which some kernel adds up
exponentials: the same logits through float32 cross_entropy as (N, C, L) and as (N, C) differ in the fifth digit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TOP_K = 10
# The largest logit and the likeliest tokens are looked for among the largest of so many neighbours each.
_GROUP = 128


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


def joined(parts: Sequence[BatchScores], *, windows: int) -> BatchScores:
    """Scores that are each row-major over (windows, some tokens), as one over (windows, all of them)."""

    def join(tensors: Sequence[Tensor]) -> Tensor:
        rows = [tensor.reshape(windows, len(tensor) // windows, *tensor.shape[1:]) for tensor in tensors]
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


class LogitsReader:
    """Reads rows of logits, a few at a time, in buffers that are used again: fresh memory costs more than the sums."""

    def __init__(self, like: Tensor, *, rows: int) -> None:
        """Make room.

        Args:
            like: logits (any, vocabulary) as they will come, of which dtype, device and vocabulary are taken.
            rows: most rows at a time.
        """
        self._vocabulary = like.shape[-1]
        padded = -(-self._vocabulary // _GROUP) * _GROUP
        self._top_k = min(TOP_K, self._vocabulary)
        # bf16 is slow to compare; every bf16 number is a float32 number. The padding is no likeliest token.
        narrow = torch.promote_types(like.dtype, torch.float32)
        self._narrow = torch.full((rows, padded), -torch.inf, dtype=narrow, device=like.device)
        self._wide = torch.empty(rows, self._vocabulary, dtype=torch.float64, device=like.device)
        self._powers = self._wide.new_empty(0)

    def read(self, logits: Tensor, targets: Tensor, *, sampled: Tensor | None, probabilities: bool) -> BatchScores:
        """NLL, argmax and finiteness of each row, the likeliest tokens of some.

        Args:
            logits: shape (rows, vocabulary).
            targets: int64, shape (rows,).
            sampled: int64, indices of the rows whose likeliest tokens are kept; None for all.
            probabilities: whether the distributions are examined too.
        """
        padded, wide = self._narrow[: len(logits)], self._wide[: len(logits)]
        narrow = padded[:, : self._vocabulary].copy_(logits)
        groups = padded.unflatten(-1, (-1, _GROUP))
        peaks = groups.amax(dim=-1)
        largest, argmax = _largest(groups, peaks)
        wide.copy_(narrow)
        target_logit = wide.gather(-1, targets[:, None])[:, 0]
        largest_wide = largest.to(torch.float64)
        shifted = wide.sub_(largest_wide[:, None])
        powers = torch.exp(shifted, out=self._room_for_powers(len(logits))) if probabilities else shifted.exp_()
        total = powers.sum(dim=-1)
        log_sum_exp = total.log() + largest_wide
        values, ids = self._likeliest(groups, peaks, None if probabilities else sampled)
        chosen = slice(None) if sampled is None else sampled
        kept_values, kept_ids = (values[chosen], ids[chosen]) if probabilities else (values, ids)
        return BatchScores(
            nll=(log_sum_exp - target_logit).to(torch.float32),
            argmax=argmax.to(torch.int32),
            # Smallest and largest tell it for a fraction of what isfinite().all() costs; both hand a NaN on.
            finite=narrow.amin(dim=-1).isfinite() & largest.isfinite(),
            top_ids=kept_ids.to(torch.int32),
            top_log_probability=(kept_values.to(torch.float64) - log_sum_exp[chosen, None]).to(torch.float32),
            probabilities=_probabilities(ids, shifted, powers, total, targets) if probabilities else None,
        )

    def _likeliest(self, groups: Tensor, peaks: Tensor, sampled: Tensor | None) -> tuple[Tensor, Tensor]:
        """Values and ids (rows, TOP_K), largest first, of all rows or the sampled ones.

        Each of the k largest lies in one of the k groups with the largest peaks: a twentieth of what is to be sorted.
        """
        rows = torch.arange(len(groups), device=groups.device) if sampled is None else sampled
        best = peaks[rows].topk(min(self._top_k, peaks.shape[-1]), dim=-1).indices
        values, places = groups[rows[:, None], best].flatten(1).topk(self._top_k, dim=-1)
        ids = best.gather(-1, places // _GROUP) * _GROUP + places % _GROUP
        # Beside logits of minus infinity a place of the padding is as likely as they are.
        return values, ids.clamp_(max=self._vocabulary - 1)

    def _room_for_powers(self, rows: int) -> Tensor:
        if not self._powers.numel():
            self._powers = torch.empty_like(self._wide)
        return self._powers[:rows]


def _largest(groups: Tensor, peaks: Tensor) -> tuple[Tensor, Tensor]:
    """The largest of each row and its index: the first of equal ones, and a NaN before all else, as `max` has it."""
    largest, group = peaks.max(dim=-1)
    within = groups[torch.arange(len(groups), device=groups.device), group].max(dim=-1).indices
    return largest, group * _GROUP + within


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
