"""Records with a long context, and strategies of it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from esa_pytest.records import (
    METRIC_NAMES,
    ContextGain,
    LongContext,
    Noise,
    PositionLoss,
    Record,
    Retrieval,
)
from tests.unit.builders import changed_identity, finite_floats, score_arrays, texts, token_scores
from tests.unit.noise_builders import noisy_golden

CONTEXT = LongContext(
    scores=token_scores((2.0, 3.0, 9.0, 1.0)),
    context_length=4,
    positions=(
        PositionLoss(label="0-15", mean_nll=2.5, num_tokens=4),
        PositionLoss(label="16-63", mean_nll=2.25, num_tokens=2),
    ),
    gain=ContextGain(
        nats=0.25, error=0.125, short_nll=2.5, long_nll=2.25, num_tokens=2, short_context=2, long_context=3
    ),
    retrieval=(
        Retrieval(label="0-50%", gain=8.0, error=0.5, planted_nll=1.0, control_nll=9.0, num_facts=2),
        Retrieval(label="50-100%", gain=-1.0, error=None, planted_nll=4.0, control_nll=3.0, num_facts=1),
    ),
)
# How far the metrics move under harmless changes.
SIZE = 1e-3


def with_context(record: Record, context: LongContext = CONTEXT) -> Record:
    """The record with a long context, which its identity tells of."""
    return changed_identity(replace(record, context=context), ("metrics",), [*METRIC_NAMES, *context.metrics])


def long_golden(*, noisy: bool = True) -> Record:
    """A golden with a long context, and what harmless changes do to it."""
    golden = with_context(noisy_golden())
    if not noisy:
        return replace(golden, noise=None)
    assert golden.noise is not None
    return replace(golden, noise=_with_drifts(golden.noise, CONTEXT.metrics))


def _with_drifts(noise: Noise, metrics: Mapping[str, float]) -> Noise:
    generator = np.random.default_rng(9)
    variants = [
        replace(variant, context={name: SIZE * float(generator.standard_normal()) for name in metrics})
        for variant in noise.variants
    ]
    return replace(noise, variants=tuple(variants))


def moved(context: LongContext, name: str, by: float) -> LongContext:
    """The long context with one metric moved."""
    return replace(
        context,
        positions=tuple(
            replace(p, mean_nll=p.mean_nll + by) if f"nll at {p.label}" == name else p for p in context.positions
        ),
        gain=replace(context.gain, nats=context.gain.nats + by) if name == "context gain" else context.gain,
        retrieval=tuple(
            replace(r, gain=r.gain + by) if f"retrieval at {r.label}" == name else r for r in context.retrieval
        ),
    )


counts = st.integers(1, 9)
maybe_floats = st.none() | finite_floats


def _parts(kind: Any, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(st.builds(kind, **fields), max_size=2).map(tuple)


contexts = st.builds(
    LongContext,
    scores=score_arrays(),
    context_length=counts,
    positions=_parts(PositionLoss, label=texts, mean_nll=finite_floats, num_tokens=counts),
    gain=st.builds(
        ContextGain,
        **dict.fromkeys(("nats", "short_nll", "long_nll"), finite_floats),
        **dict.fromkeys(("num_tokens", "short_context", "long_context"), counts),
        error=maybe_floats,
    ),
    retrieval=_parts(
        Retrieval,
        label=texts,
        **dict.fromkeys(("gain", "planted_nll", "control_nll"), finite_floats),
        error=maybe_floats,
        num_facts=counts,
    ),
)
