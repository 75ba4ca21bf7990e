"""What a model makes of a long context, from the NLLs of one run.

With `x` the tokens of the probe's window, `T` its last quarter and `s(t)` where the short window of a target begins,

    context gain = 1 / |T| * sum over t in T of (nll(x_t | x_s(t) .. x_t-1) - nll(x_t | x_0 .. x_t-1)),

the same targets with little before them and with all. It is not the loss at the end of a window less that at its start,
which are other tokens, and easier or harder as the text has it. With `a` the answer of a fact,

    retrieval gain = nll(a | the text with another fact in its place) - nll(a | the text with the fact),

the NLL of an answer being the sum over its tokens. Both are positive where a model uses what it reads.
"""

import math

import numpy as np
import numpy.typing as npt

from esa_pytest.baselines.context_plan import NUM_TEXTS
from esa_pytest.baselines.retrieval import depth_label
from esa_pytest.evaluation.calibration import position_buckets
from esa_pytest.evaluation.context_texts import ContextTexts
from esa_pytest.evaluation.metrics import subset
from esa_pytest.records import (
    ContextGain,
    LongContext,
    PositionLoss,
    Retrieval,
    TokenScores,
    context_metric_names,
)

_BLOCK_TOKENS = 64
_CONFIDENCE = 0.95


def measure_context(
    scores: TokenScores,
    beside: TokenScores,
    texts: ContextTexts,
    *,
    long_window: int,
) -> LongContext:
    """Everything that is made of a run's scores.

    Args:
        scores: of the documents.
        beside: of the short windows and of the questions, in this order.
        texts: what these were.
        long_window: which window of the documents the short windows score again.
    """
    return LongContext(
        scores=beside,
        context_length=texts.questions.input_ids.shape[1],
        positions=_positions(scores),
        gain=_gain(subset(scores, scores.window == long_window), beside, texts),
        retrieval=_retrieval(beside.nll[texts.num_short :], texts),
    )


def metric_names(scores: TokenScores, texts: ContextTexts) -> list[str]:
    """The names of what is judged of a long context, whatever its values."""
    return context_metric_names(
        [label for label, _ in position_buckets(scores.position)],
        [depth_label(depth, depths=texts.depths) for depth in range(texts.depths)],
    )


def _positions(scores: TokenScores) -> tuple[PositionLoss, ...]:
    return tuple(
        PositionLoss(
            label=label,
            mean_nll=float(scores.nll[chosen].astype(np.float64).mean()),
            num_tokens=int(np.count_nonzero(chosen)),
        )
        for label, chosen in position_buckets(scores.position)
    )


def _gain(long: TokenScores, beside: TokenScores, texts: ContextTexts) -> ContextGain:
    number = texts.num_short
    short_nll, long_nll = (scores.astype(np.float64) for scores in (beside.nll[:number], long.nll[-number:]))
    gains = short_nll - long_nll
    blocks = [gains[begin : begin + _BLOCK_TOKENS].mean() for begin in range(0, number, _BLOCK_TOKENS)]
    return ContextGain(
        nats=float(gains.mean()),
        error=_half_interval(np.array(blocks)),
        short_nll=float(short_nll.mean()),
        long_nll=float(long_nll.mean()),
        num_tokens=number,
        short_context=int(beside.position[:number].min()) + 1,
        long_context=int(long.position[-number:].min()) + 1,
    )


def _retrieval(asked: npt.NDArray[np.float32], texts: ContextTexts) -> tuple[Retrieval, ...]:
    """By depth; `asked` has the NLLs of the questions of both texts, one behind the other."""
    answers = _answers(asked.reshape(NUM_TEXTS, -1), texts)
    facts = np.arange(texts.planted.size)
    planted, control = answers[texts.planted, facts], answers[1 - texts.planted, facts]
    found = []
    for depth in range(texts.depths):
        chosen = texts.depth == depth
        gains = control[chosen] - planted[chosen]
        found.append(
            Retrieval(
                label=depth_label(depth, depths=texts.depths),
                gain=float(gains.mean()),
                error=_half_interval(gains),
                planted_nll=float(planted[chosen].mean()),
                control_nll=float(control[chosen].mean()),
                num_facts=int(np.count_nonzero(chosen)),
            )
        )
    return tuple(found)


def _answers(nll: npt.NDArray[np.float32], texts: ContextTexts) -> npt.NDArray[np.float64]:
    """The NLL of every fact's answer in both texts, shape (2, facts)."""
    inside = texts.fact >= 0
    number = texts.planted.size
    return np.stack(
        [np.bincount(texts.fact[inside], weights=row[inside].astype(np.float64), minlength=number) for row in nll]
    )


def _half_interval(values: npt.NDArray[np.float64]) -> float | None:
    """Half the width of the 95 % interval of the mean of independent values; None of fewer than two."""
    if values.size < 2:
        return None
    from scipy.special import stdtrit

    quantile = float(stdtrit(values.size - 1, (1 + _CONFIDENCE) / 2))
    return quantile * float(values.std(ddof=1)) / math.sqrt(values.size)
