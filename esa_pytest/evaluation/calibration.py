"""How far the model's probabilities can be believed, summed up over the scored tokens."""

import numpy as np
import numpy.typing as npt

from esa_pytest.records import Calibration, ReliabilityBin, TokenProbabilities, TokenScores

NUM_BINS = 15
# Powers of four: what a model knows of a text grows with the logarithm of what it has seen of it.
_FIRST_BUCKET = 16
_BUCKET_GROWTH = 4


def calibrate(scores: TokenScores, probabilities: TokenProbabilities) -> Calibration:
    """ECE, Brier score, entropy and top-k mass of a run; sums in float64."""
    correct = scores.argmax == scores.target
    return Calibration(
        ece=expected_calibration_error(probabilities.confidence, correct),
        brier=_mean(probabilities.brier),
        mean_entropy=_mean(probabilities.entropy),
        top_k_mass=_mean(probabilities.top_k_mass),
        entropy_by_position={
            label: _mean(probabilities.entropy[chosen]) for label, chosen in position_buckets(scores.position)
        },
    )


def expected_calibration_error(
    confidence: npt.NDArray[np.float32], correct: npt.NDArray[np.bool_], *, num_bins: int = NUM_BINS
) -> float:
    """`sum_b n_b / n |accuracy_b - confidence_b|` over equal bins of (0, 1] (Guo et al. 2017, equation 3).

    Args:
        confidence: probability of the likeliest token, shape (tokens,).
        correct: whether it was the one, shape (tokens,).
        num_bins: how many bins; a confidence on a border belongs to the lower one.
    """
    wide = confidence.astype(np.float64)
    bins = _bins_of(wide, num_bins)
    gaps = np.bincount(bins, weights=correct.astype(np.float64) - wide, minlength=num_bins)
    return float(np.abs(gaps).sum() / wide.size)


def reliability(scores: TokenScores, probabilities: TokenProbabilities) -> tuple[ReliabilityBin, ...]:
    """What the ECE is the sum of, bin by bin; bins that hold no token are left out."""
    wide = probabilities.confidence.astype(np.float64)
    bins, correct = _bins_of(wide, NUM_BINS), scores.argmax == scores.target
    return tuple(
        ReliabilityBin(
            low=index / NUM_BINS,
            high=(index + 1) / NUM_BINS,
            num_tokens=int(np.count_nonzero(bins == index)),
            confidence=float(wide[bins == index].mean()),
            accuracy=float(correct[bins == index].mean()),
        )
        for index in np.unique(bins).tolist()
    )


def _bins_of(confidence: npt.NDArray[np.float64], num_bins: int) -> npt.NDArray[np.int64]:
    return np.clip(np.ceil(confidence * num_bins).astype(np.int64) - 1, 0, num_bins - 1)


def position_buckets(position: npt.NDArray[np.int32]) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    """Ranges of positions that hold any token, by label."""
    found = []
    low, high = 0, _FIRST_BUCKET
    while low <= int(position.max()):
        chosen = (position >= low) & (position < high)
        if chosen.any():
            found.append((f"{low}-{high - 1}", chosen))
        low, high = high, high * _BUCKET_GROWTH
    return found


def _mean(values: npt.NDArray[np.float32]) -> float:
    return float(values.astype(np.float64).mean())
