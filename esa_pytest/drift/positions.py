"""Drift by position and by stratum, and what the first changed position is a fingerprint of."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from esa_pytest.evaluation.calibration import position_buckets
from esa_pytest.records import BlockScores, FloatArray, PartDrift, TokenScores


def position_drifts(golden: TokenScores | BlockScores, measured: TokenScores | BlockScores) -> tuple[PartDrift, ...]:
    """The drift by ranges of positions; none where only sums of blocks are kept."""
    if not isinstance(golden, TokenScores) or not isinstance(measured, TokenScores):
        return ()
    return tuple(
        _part(label, golden.nll[chosen], measured.nll[chosen]) for label, chosen in position_buckets(measured.position)
    )


def stratum_drifts(
    golden: TokenScores | BlockScores, measured: TokenScores | BlockScores, names: Sequence[str]
) -> tuple[PartDrift, ...]:
    """The drift by stratum, in the order of their names; none of a single one, nor where only sums are kept."""
    if not isinstance(golden, TokenScores) or not isinstance(measured, TokenScores):
        return ()
    found = [(name, measured.stratum == number) for number, name in enumerate(names)]
    scored = [(name, chosen) for name, chosen in found if chosen.any()]
    if len(scored) == 1:
        # Its drift is that of all.
        return ()
    return tuple(_part(name, golden.nll[chosen], measured.nll[chosen]) for name, chosen in scored)


def _part(label: str, golden: FloatArray, measured: FloatArray) -> PartDrift:
    drift = measured.astype(np.float64) - golden
    return PartDrift(
        label=label,
        num_tokens=int(drift.size),
        num_changed=int(np.count_nonzero(measured.view(np.uint32) != golden.view(np.uint32))),
        mean=float(drift.mean()),
        rms=float(np.sqrt(np.mean(np.square(drift)))),
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
