"""What a model makes of a long context, as the lines that a person reads."""

from collections.abc import Sequence

from esa_pytest.records import ContextGain, LongContext, Retrieval
from esa_pytest.report.layout import count, labelled


def context_lines(context: LongContext | None) -> list[str]:
    """The loss by position, the gain from context, and retrieval by depth."""
    if context is None:
        return []
    positions = " · ".join(f"{part.label} {part.mean_nll:.3f}" for part in context.positions)
    return [
        labelled("context", f"{context.context_length} tokens; loss by position {positions}"),
        labelled("gain", gain_text(context.gain)),
        labelled("retrieval", _retrieval_text(context.retrieval)),
    ]


def gain_text(gain: ContextGain) -> str:
    """The gain from context with its interval, and what it is a difference of."""
    return (
        f"{_with_error(gain.nats, gain.error)} nats a token: {gain.short_nll:.3f} with {gain.short_context} tokens of "
        f"context and more, {gain.long_nll:.3f} with {gain.long_context} and more, over {gain.num_tokens} tokens"
    )


def _retrieval_text(retrieval: Sequence[Retrieval]) -> str:
    depths = " · ".join(f"{depth.label} {_with_error(depth.gain, depth.error)}" for depth in retrieval)
    return f"{depths} nats an answer over its control; {count(retrieval[0].num_facts, 'fact')} a depth"


def _with_error(value: float, error: float | None) -> str:
    return f"{value:+.3f}" if error is None else f"{value:+.3f} ± {error:.3f}"
