"""What a model makes of a long context: its loss by position, what context is worth to it, and what it finds again."""

from collections.abc import Sequence
from dataclasses import dataclass

from esa_pytest.records.scores import TokenScores

POSITION_METRIC, GAIN_METRIC, RETRIEVAL_METRIC = "nll at", "context gain", "retrieval at"


@dataclass(frozen=True, kw_only=True)
class PositionLoss:
    """The mean NLL of the tokens that a range of positions predicts.

    Attributes:
        label: the range, as `64-255`.
        mean_nll: nats a token.
        num_tokens: over how many tokens.
    """

    label: str
    mean_nll: float
    num_tokens: int


@dataclass(frozen=True, kw_only=True)
class ContextGain:
    """What the rest of a long context adds to a short one, on the same target tokens.

    Attributes:
        nats: the mean of `short_nll - long_nll` a token; positive where the rest helps.
        error: half the width of its 95 % interval, from blocks of 64 tokens; None of fewer than two blocks.
        short_nll: mean NLL with the short context.
        long_nll: mean NLL of the same tokens with all that stands before them in their window.
        num_tokens: how many targets.
        short_context: the least context of a target in a short window, in tokens.
        long_context: the least context of a target in the long window, in tokens.
    """

    nats: float
    error: float | None
    short_nll: float
    long_nll: float
    num_tokens: int
    short_context: int
    long_context: int


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """How well facts of one range of depths are found again, in nats an answer.

    Attributes:
        label: the range, from the beginning of the text, as `0-20%`.
        gain: the mean of the NLL of an answer without its fact, less that with it; positive where it is found.
        error: half the width of its 95 % interval over the facts; None of fewer than two.
        planted_nll: mean NLL of an answer whose fact stands in the text.
        control_nll: mean NLL of the same answers where another fact stands in its place.
        num_facts: how many facts.
    """

    label: str
    gain: float
    error: float | None
    planted_nll: float
    control_nll: float
    num_facts: int


@dataclass(frozen=True, kw_only=True)
class LongContext:
    """The long-context part of a run.

    Attributes:
        scores: of the short windows and of the questions, which are no part of the run's loss.
        context_length: tokens of a long window.
        positions: the loss by position in the window, over the run's own tokens.
        gain: what context beyond a short one is worth.
        retrieval: by depth.
    """

    scores: TokenScores
    context_length: int
    positions: tuple[PositionLoss, ...]
    gain: ContextGain
    retrieval: tuple[Retrieval, ...]

    @property
    def metrics(self) -> dict[str, float]:
        """What is judged, by name; all in nats."""
        values = [*(p.mean_nll for p in self.positions), self.gain.nats, *(r.gain for r in self.retrieval)]
        names = context_metric_names([p.label for p in self.positions], [r.label for r in self.retrieval])
        return dict(zip(names, values, strict=True))


def context_metric_names(positions: Sequence[str], depths: Sequence[str]) -> list[str]:
    """The names of what is judged of a long context.

    Args:
        positions: the ranges of positions, as `64-255`.
        depths: the ranges of depths, as `0-20%`.
    """
    return [
        *(f"{POSITION_METRIC} {label}" for label in positions),
        GAIN_METRIC,
        *(f"{RETRIEVAL_METRIC} {label}" for label in depths),
    ]
