"""What is scored and what came of it, a value a token or a block of tokens."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Window:
    """A stretch of a token sequence that the model sees at once, as positions in that sequence.

    The model's input is `tokens[context_begin : score_end - 1]`, behind a BOS where the policy asks for one;
    the targets are `tokens[score_begin:score_end]`.
    """

    context_begin: int
    score_begin: int
    score_end: int

    @property
    def num_scored(self) -> int:
        """How many tokens this window scores."""
        return self.score_end - self.score_begin


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Windows of one shape, ready for the model.

    Attributes:
        input_ids: int64, shape (windows, context_length).
        targets: int32, shape (windows, scored); the last `scored` positions of each row predict them.
        strata: int32, shape (windows, scored); which stratum each target belongs to.
    """

    input_ids: npt.NDArray[np.int64]
    targets: IntArray
    strata: IntArray

    @property
    def num_scored(self) -> int:
        """How many tokens the batch scores."""
        return int(self.targets.size)


@dataclass(frozen=True, kw_only=True)
class TokenScores:
    """One value a scored token, in the order in which the windows were scored.

    Attributes:
        nll: negative log-likelihood in nats, float32, shape (tokens,).
        argmax: the token id the model held most likely, int32, shape (tokens,).
        target: the token id that was there, int32, shape (tokens,).
        position: index of the predicting token in its window, int32, shape (tokens,).
        window: index of the window, int32, shape (tokens,).
        stratum: index into the names of the strata, int32, shape (tokens,).
    """

    nll: FloatArray
    argmax: IntArray
    target: IntArray
    position: IntArray
    window: IntArray
    stratum: IntArray


@dataclass(frozen=True, kw_only=True)
class TokenProbabilities:
    """What the model's distribution was like at each scored token, float32, shape (tokens,) each.

    Attributes:
        confidence: the probability of the likeliest token.
        entropy: of the distribution, in nats.
        brier: squared distance to the one-hot target, `sum_v p_v^2 - 2 p_target + 1`, between 0 and 2.
        top_k_mass: the probability of the `TOP_K` likeliest tokens together.
    """

    confidence: FloatArray
    entropy: FloatArray
    brier: FloatArray
    top_k_mass: FloatArray

    def subset(self, chosen: npt.NDArray[np.bool_]) -> "TokenProbabilities":
        """Those of chosen tokens; `chosen` has the shape (tokens,)."""
        return TokenProbabilities(
            confidence=self.confidence[chosen],
            entropy=self.entropy[chosen],
            brier=self.brier[chosen],
            top_k_mass=self.top_k_mass[chosen],
        )


@dataclass(frozen=True, kw_only=True)
class TopProbabilities:
    """The likeliest tokens at a fixed sample of the scored tokens.

    Attributes:
        token: which scored tokens, ascending, int32, shape (sample,).
        ids: the likeliest token ids, the likeliest first, int32, shape (sample, k).
        log_probability: theirs in nats, float32, shape (sample, k).
    """

    token: IntArray
    ids: IntArray
    log_probability: FloatArray


@dataclass(frozen=True, kw_only=True)
class BlockScores:
    """Sums over blocks of consecutive tokens of a window, where single tokens are too many to keep.

    Attributes:
        nll_sum: nats, float64, shape (blocks,).
        num_correct: int32, shape (blocks,).
        num_tokens: int32, shape (blocks,); `BLOCK_TOKENS`, fewer at the end of a window.
        window: index of the window, int32, shape (blocks,).
        position: of the first predicting token in its window, int32, shape (blocks,).
        bits: the first eight bytes of a sha256 over the bits of NLLs and argmaxes, uint64, shape (blocks,).
    """

    nll_sum: npt.NDArray[np.float64]
    num_correct: IntArray
    num_tokens: IntArray
    window: IntArray
    position: IntArray
    bits: npt.NDArray[np.uint64]
