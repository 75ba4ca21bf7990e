"""How two runs' NLLs differ: token by token, or block by block where a golden keeps sums of blocks."""

import numpy as np

from esa_pytest.golden.blocks import as_blocks
from esa_pytest.records import BitDrift, BlockScores, TokenScores


def bit_drift(golden: TokenScores | BlockScores, measured: TokenScores | BlockScores) -> BitDrift:
    """Compare the bits of two runs; both must score the same tokens.

    A token is changed if its NLL has other bits or its argmax is another. Bits and not values: -0.0 and 0.0 differ,
    and a NaN equals itself here (tier 1 has refused it before).
    """
    if isinstance(golden, TokenScores) and isinstance(measured, TokenScores):
        return _of_tokens(golden, measured)
    return _of_blocks(as_blocks(golden), as_blocks(measured))


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
    )


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
