"""The part of a run that noise is measured on: some of its windows, with everything that tier 4 compares of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from esa_pytest.evaluation.calibration import calibrate
from esa_pytest.evaluation.context import measure_context
from esa_pytest.evaluation.evaluate import Round
from esa_pytest.evaluation.metrics import subset
from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.records import CALIBRATION_NAMES, IntArray, TokenScores, TopProbabilities

# A calibration scores these a dozen times over; what is longer is judged by the noise of a part of it.
MOST_TOKENS = 8192


@dataclass(frozen=True, kw_only=True)
class NoiseSample:
    """What one evaluation gave for the windows of the sample.

    Attributes:
        scores: of their tokens.
        top: the likeliest tokens at those of them that were sampled.
        calibration: each calibration metric by name; empty where the baseline has none.
        context: each metric of the long context by name; empty where the baseline has none.
    """

    scores: TokenScores
    top: TopProbabilities
    calibration: Mapping[str, float]
    context: Mapping[str, float] = field(default_factory=dict)


def noise_windows(prepared: Prepared) -> IntArray:
    """Which windows noise is measured on: all of a short run; of a longer one the probe's and others spread evenly."""
    sizes = np.concatenate([np.full(len(r.targets), r.targets.shape[1]) for r in prepared.rectangles])
    chosen = {prepared.probe_window}
    budget = MOST_TOKENS - int(sizes[prepared.probe_window])
    for window in _spread(len(sizes)):
        if window not in chosen and sizes[window] <= budget:
            chosen.add(window)
            budget -= int(sizes[window])
    return np.array(sorted(chosen), dtype=np.int32)


def _spread(count: int) -> list[int]:
    """The numbers below `count`, in an order in which every beginning is spread evenly (van der Corput, base 2)."""
    digits = max(1, (count - 1).bit_length())
    reversed_bits = [int(f"{number:0{digits}b}"[::-1], 2) for number in range(1 << digits)]
    return [number for number in reversed_bits if number < count]


def sample_of(done: Round, windows: IntArray | None = None) -> NoiseSample:
    """The sample of a round: all of it, or some of its windows, which are then numbered anew."""
    scores, probabilities, top = done.scores, done.probabilities, done.top
    probed = done.prepared.probe_window
    if windows is not None:
        chosen = np.isin(scores.window, windows)
        kept = chosen[top.token]
        top = TopProbabilities(
            token=(np.cumsum(chosen) - 1)[top.token[kept]].astype(np.int32),
            ids=top.ids[kept],
            log_probability=top.log_probability[kept],
        )
        scores = subset(scores, chosen)
        probed = int(np.searchsorted(windows, probed))
        scores = replace(scores, window=np.searchsorted(windows, scores.window).astype(np.int32))
        probabilities = None if probabilities is None else probabilities.subset(chosen)
    calibration = None if probabilities is None else calibrate(scores, probabilities)
    return NoiseSample(
        scores=scores,
        top=top,
        calibration={} if calibration is None else {name: getattr(calibration, name) for name in CALIBRATION_NAMES},
        context=_context(done, scores, probed),
    )


def _context(done: Round, scores: TokenScores, probed: int) -> Mapping[str, float]:
    texts = done.prepared.context
    if texts is None or done.beside is None:
        return {}
    return measure_context(scores, done.beside, texts, long_window=probed).metrics
