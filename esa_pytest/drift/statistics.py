"""How two arrays of per-token NLLs differ."""

import numpy as np

from esa_pytest.records import BitDrift, TokenScores


def bit_drift(golden: TokenScores, measured: TokenScores) -> BitDrift:
    """Compare the bits of two runs token by token; both must score the same tokens.

    A token is changed if its NLL has other bits or its argmax is another. Bits and not values: -0.0 and 0.0 differ,
    and a NaN equals itself here (tier 1 has refused it before).
    """
    flipped = golden.argmax != measured.argmax
    changed = (golden.nll.view(np.uint32) != measured.nll.view(np.uint32)) | flipped
    drift = measured.nll.astype(np.float64) - golden.nll.astype(np.float64)
    return BitDrift(
        num_tokens=int(drift.size),
        num_changed=int(np.count_nonzero(changed)),
        mean=float(drift.mean()),
        rms=float(np.sqrt(np.mean(drift**2))),
        maximum=float(np.abs(drift).max()),
        first_position=int(measured.position[changed].min()) if changed.any() else None,
        num_top1_flips=int(np.count_nonzero(flipped)),
    )
