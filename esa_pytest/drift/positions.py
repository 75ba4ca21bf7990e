"""Drift by position in the window, and what the first changed position is a fingerprint of."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from esa_pytest.evaluation.calibration import position_buckets
from esa_pytest.records import BlockScores, PositionDrift, TokenScores


def position_drifts(
    golden: TokenScores | BlockScores, measured: TokenScores | BlockScores
) -> tuple[PositionDrift, ...]:
    """The drift by ranges of positions; none where only sums of blocks are kept."""
    if not isinstance(golden, TokenScores) or not isinstance(measured, TokenScores):
        return ()
    drift = measured.nll.astype(np.float64) - golden.nll
    changed = measured.nll.view(np.uint32) != golden.nll.view(np.uint32)
    return tuple(
        PositionDrift(
            label=label,
            num_tokens=int(np.count_nonzero(chosen)),
            num_changed=int(np.count_nonzero(changed[chosen])),
            mean=float(drift[chosen].mean()),
            rms=float(np.sqrt(np.mean(np.square(drift[chosen])))),
        )
        for label, chosen in position_buckets(measured.position)
    )


def fingerprint_of(first_position: int | None, config: Mapping[str, Any]) -> str | None:
    """What begins at such a position, a clause, or None where nothing is known to.

    Args:
        first_position: the smallest position in its window at which a value changed.
        config: the checkpoint's.
    """
    if first_position is None:
        return None
    window = config.get("sliding_window")
    slides = isinstance(window, int) and window > 1 and config.get("use_sliding_window", True)
    if slides and first_position == window:
        return f"exactly at the model's sliding window of {window}, as a fault of its mask does"
    return {
        0: "at the very first, as another BOS, embedding, norm or head does",
        1: "at the second, as what mixes tokens does: RoPE, attention",
    }.get(first_position)
