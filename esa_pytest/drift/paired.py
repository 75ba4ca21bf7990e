"""Statistics of a paired drift: this run's NLL of each token less the golden's, for one run or for many at once.

A drift is an array whose last axis is the tokens; every statistic keeps the axes before it. Noise in an NLL is that of
the logits times how far the token is from certain: the derivative of `-log p_y` by the logits is `p - 1_y`. Dividing by
`1 - p_y` therefore takes most of what makes one token noisier than another.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esa_pytest.drift.predictive import Values
from esa_pytest.golden.blocks import BLOCK_TOKENS, block_starts

# What a certain token can still move by.
_LEAST_SCALE = 0.02
WINSORISED = 0.01
_BLOCK_SIZES = (BLOCK_TOKENS, 32)
LEAST_BLOCKS = 32


def scale_of(nll: npt.NDArray[np.float32]) -> Values:
    """How far each token is from certain, shape (tokens,)."""
    return -np.expm1(-nll.astype(np.float64)) + _LEAST_SCALE


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Stretches of tokens of one window each; what errors of a mean are estimated from, since neighbours resemble.

    Attributes:
        starts: where each begins, shape (blocks,).
        sizes: how many tokens it holds, shape (blocks,).
    """

    starts: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]

    @property
    def number(self) -> int:
        """How many there are."""
        return int(self.starts.size)

    def sums(self, values: Values) -> Values:
        """Sums over each block, shape (..., blocks)."""
        return np.asarray(np.add.reduceat(values, self.starts, axis=-1), dtype=np.float64)

    def error_of_mean(self, values: Values) -> Values:
        """The standard error of the mean over all tokens, shape (...,)."""
        sums = self.sums(values)
        total = self.sizes.sum()
        residual = sums - self.sizes * (sums.sum(axis=-1, keepdims=True) / total)
        inflation = self.number / max(1, self.number - 1)
        return np.asarray(np.sqrt(inflation * np.square(residual).sum(axis=-1)) / total)


def blocks_of(window: npt.NDArray[np.int32]) -> Blocks:
    """Blocks of 64 tokens, or of 32 where 64 would leave fewer than `LEAST_BLOCKS`; fewer tokens at a window's end.

    Args:
        window: the window of each token, equal ones together, shape (tokens,).
    """
    blocks = _of_size(window, _BLOCK_SIZES[0])
    return blocks if blocks.number >= LEAST_BLOCKS else _of_size(window, _BLOCK_SIZES[1])


def _of_size(window: npt.NDArray[np.int32], size: int) -> Blocks:
    starts = block_starts(window, size=size)
    return Blocks(starts=starts, sizes=np.diff(np.append(starts, window.size)))


def winsorised_rms(values: Values) -> Values:
    """The root mean square, the largest `WINSORISED` of absolute values lowered to the quantile below them."""
    absolute = np.abs(values)
    rank = int(np.ceil((1 - WINSORISED) * absolute.shape[-1])) - 1
    limit = np.partition(absolute, rank, axis=-1)[..., rank, None]
    return np.asarray(np.sqrt(np.mean(np.square(np.minimum(absolute, limit)), axis=-1)))


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How a drift is spread over its tokens, whatever its size; arrays of the shape (...,).

    Attributes:
        rms: winsorised, in nats.
        scaled_rms: the same of the drift over the tokens' scale, or what is usual where that is more: a change that
            leaves most tokens alone is not the worse for it.
        studentised: the largest drift of a token over its scale and over `scaled_rms`.
        where: the token that has it.
    """

    rms: Values
    scaled_rms: Values
    studentised: Values
    where: npt.NDArray[np.int64]


def shape_of(drift: Values, scale: Values, *, usual: float = 0.0) -> Shape:
    """The shape of a drift.

    Args:
        drift: nats, shape (..., tokens).
        scale: of each token, shape (tokens,).
        usual: the usual `scaled_rms`.
    """
    scaled = np.abs(drift) / scale
    size = np.maximum(winsorised_rms(scaled), usual)
    largest = scaled.max(axis=-1)
    return Shape(
        rms=winsorised_rms(drift),
        scaled_rms=size,
        studentised=largest / np.where(size > 0, size, 1.0),
        where=scaled.argmax(axis=-1),
    )


def num_outlying(drift: Values, scale: Values, scaled_rms: Values, limit: float) -> Values:
    """How many tokens moved by more than `limit` times what is usual in the same run, shape (...,)."""
    return np.asarray(
        (np.abs(drift) / scale > limit * np.asarray(scaled_rms)[..., None]).sum(axis=-1), dtype=np.float64
    )
