"""The long context of a golden: its values in the JSON, its scores as arrays of the side file, and back."""

from dataclasses import asdict, fields
from typing import Any

import numpy as np

from esa_pytest.golden.part_arrays import Arrays, refuse_malformed
from esa_pytest.golden.schema import ContextPart
from esa_pytest.records import ContextGain, LongContext, PositionLoss, Retrieval, TokenScores

_PREFIX = "context_"
_FIELDS = tuple(field.name for field in fields(TokenScores))


def context_part(context: LongContext | None) -> dict[str, Any] | None:
    """What the JSON says of the long context, as documents do too."""
    if context is None:
        return None
    return {
        "context_length": context.context_length,
        "gain": asdict(context.gain),
        "num_tokens": int(context.scores.nll.size),
        "positions": [asdict(one) for one in context.positions],
        "retrieval": [asdict(one) for one in context.retrieval],
    }


def context_arrays(context: LongContext | None) -> Arrays:
    """What the side file holds of it."""
    return {} if context is None else {f"{_PREFIX}{name}": getattr(context.scores, name) for name in _FIELDS}


def read_context(part: ContextPart | None, arrays: Arrays, *, name: str) -> LongContext | None:
    """The long context of a golden.

    Args:
        part: what its JSON says.
        arrays: those of its side file whose names begin with `context_`.
        name: what the golden is called in a message.

    Raises:
        GoldenError: an array is not what it should be.
    """
    if part is None:
        refuse_malformed(arrays, {}, part="long context", name=name)
        return None
    expected = {
        f"{_PREFIX}{field}": (np.float32 if field == "nll" else np.int32, (part.num_tokens,)) for field in _FIELDS
    }
    refuse_malformed(arrays, expected, part="long context", name=name)
    return LongContext(
        scores=TokenScores(**{field: arrays[f"{_PREFIX}{field}"] for field in _FIELDS}),
        context_length=part.context_length,
        positions=tuple(PositionLoss(**one.model_dump()) for one in part.positions),
        gain=ContextGain(**part.gain.model_dump()),
        retrieval=tuple(Retrieval(**one.model_dump()) for one in part.retrieval),
    )
