"""How two runs' NLLs differ: token by token, or block by block where a golden keeps sums of blocks."""

from dataclasses import fields
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from esa_pytest.golden.blocks import as_blocks, block_sums
from esa_pytest.records import BitDrift, BlockScores, Record, TokenScores

_Scores = TypeVar("_Scores", TokenScores, BlockScores)

# Two float32 numbers divided; and fewer tokens may agree by chance.
_FACTOR_TOLERANCE = 1e-6
_LEAST_TOLD = 32


def bit_drift(golden: TokenScores | BlockScores, measured: TokenScores | BlockScores) -> BitDrift:
    """Compare the bits of two runs; both must score the same tokens.

    A token is changed if its NLL has other bits or its argmax is another. Bits and not values: -0.0 and 0.0 differ,
    and a NaN equals itself here (tier 1 has refused it before).
    """
    if isinstance(golden, TokenScores) and isinstance(measured, TokenScores):
        return _of_tokens(golden, measured)
    return _of_blocks(as_blocks(golden), as_blocks(measured))


def record_drift(golden: Record, measured: Record) -> BitDrift:
    """Compare the bits of all that two runs scored, what a long context scores beside its documents included."""
    old, new = golden.context, measured.context
    if old is None or new is None:
        return bit_drift(golden.scores, measured.scores)
    if isinstance(golden.scores, TokenScores) and isinstance(measured.scores, TokenScores):
        return bit_drift(joined(golden.scores, old.scores), joined(measured.scores, new.scores))
    before = joined(as_blocks(golden.scores), block_sums(old.scores))
    return _of_blocks(before, joined(as_blocks(measured.scores), block_sums(new.scores)))


def joined(scores: _Scores, beside: _Scores) -> _Scores:
    """What was scored, and what was scored beside, which keeps its own numbers of windows."""
    columns = {
        field.name: np.concatenate([getattr(scores, field.name), getattr(beside, field.name)])
        for field in fields(scores)
    }
    return type(scores)(**columns)


def num_tokens(scores: TokenScores | BlockScores) -> int:
    """How many tokens were scored."""
    return int(scores.nll.size) if isinstance(scores, TokenScores) else int(scores.num_tokens.sum())


def _of_tokens(golden: TokenScores, measured: TokenScores) -> BitDrift:
    flipped = golden.argmax != measured.argmax
    changed = (golden.nll.view(np.uint32) != measured.nll.view(np.uint32)) | flipped
    drift = measured.nll.astype(np.float64) - golden.nll.astype(np.float64)
    return BitDrift(
        num_tokens=int(drift.size),
        num_compared=int(drift.size),
        num_changed=int(np.count_nonzero(changed)),
        mean=float(drift.mean()),
        rms=float(np.sqrt(np.mean(drift**2))),
        maximum=float(np.abs(drift).max()),
        first_position=int(measured.position[changed].min()) if changed.any() else None,
        num_top1_flips=int(np.count_nonzero(flipped)),
        factor=_common_factor(golden.nll.astype(np.float64), measured.nll.astype(np.float64)),
    )


def _common_factor(golden: npt.NDArray[np.float64], measured: npt.NDArray[np.float64]) -> float | None:
    """What all NLLs were multiplied by: no model does that, a scorer that takes a sum for a mean does."""
    told = golden > 0
    if np.count_nonzero(told) < _LEAST_TOLD or np.any(measured[~told]):
        return None
    ratios = measured[told] / golden[told]
    factor = float(np.median(ratios))
    alike = bool(np.all(np.abs(ratios - factor) <= _FACTOR_TOLERANCE * abs(factor)))
    return factor if alike and abs(factor - 1.0) > _FACTOR_TOLERANCE else None


def _of_blocks(golden: BlockScores, measured: BlockScores) -> BitDrift:
    changed = golden.bits != measured.bits
    sums = measured.nll_sum - golden.nll_sum
    drift = sums / golden.num_tokens
    return BitDrift(
        num_tokens=num_tokens(golden),
        num_compared=int(drift.size),
        num_changed=int(np.count_nonzero(changed)),
        mean=float(sums.sum() / num_tokens(golden)),
        rms=float(np.sqrt(np.mean(drift**2))),
        maximum=float(np.abs(drift).max()),
        first_position=int(measured.position[changed].min()) if changed.any() else None,
        num_top1_flips=None,
    )
