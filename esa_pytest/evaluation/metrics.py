"""Sums over tokens, divided once.

`perplexity = exp(nll_sum / num_scored_tokens)` over the whole text, with natural logarithms: what
lm-evaluation-harness would call token perplexity of a rolling log-likelihood (its `word_perplexity` and
`byte_perplexity` divide the same sum by words and bytes), and what the transformers guide on fixed-length models
calls PPL. It is not the mean of the windows' perplexities, and its exponent is not a mean of the windows' losses,
which agree with it only where all windows score equally many tokens.
"""

import math

import numpy as np
import numpy.typing as npt

from esa_pytest.records import Metrics, TokenScores


def compute_metrics(scores: TokenScores) -> Metrics:
    """The sufficient statistics of some tokens; at least one token is needed.

    The sum is exact (Shewchuk's, as `math.fsum` has it), so that it depends neither on order nor on batches.
    """
    return Metrics(
        nll_sum=math.fsum(scores.nll.tolist()),
        num_scored_tokens=int(scores.nll.size),
        num_correct_tokens=int(np.count_nonzero(scores.argmax == scores.target)),
    )


def frequency_loss(scores: TokenScores) -> float:
    """The mean NLL, in nats, of guessing each target by how often it occurs among them: the entropy of the counts."""
    _, counts = np.unique(scores.target, return_counts=True)
    shares = counts / scores.target.size
    return float(-(shares * np.log(shares)).sum())


def stratum_metrics(scores: TokenScores, strata: tuple[str, ...]) -> dict[str, Metrics]:
    """The metrics of each stratum that was scored, for display; strata of few tokens say little."""
    found: dict[str, Metrics] = {}
    for index, name in enumerate(strata):
        chosen = scores.stratum == index
        if chosen.any():
            found[name] = compute_metrics(subset(scores, chosen))
    return found


def subset(scores: TokenScores, chosen: npt.NDArray[np.bool_]) -> TokenScores:
    """The scores of chosen tokens; `chosen` has the shape (tokens,)."""
    return TokenScores(
        nll=scores.nll[chosen],
        argmax=scores.argmax[chosen],
        target=scores.target[chosen],
        position=scores.position[chosen],
        window=scores.window[chosen],
        stratum=scores.stratum[chosen],
    )
