"""How far a run repeated itself, as the lines that a person reads."""

import math
import statistics
from collections.abc import Sequence

from esa_pytest.records import Consistency, Metrics, Repeat
from esa_pytest.report.layout import count, labelled

_SPOKEN = (("loss", "mean_nll"), ("perplexity", "perplexity"), ("accuracy", "token_accuracy"))
_PLURALS = {"round": "rounds", "batch shape": "batch shapes", "fresh process": "fresh processes"}


def consistency_lines(consistency: Consistency | None) -> list[str]:
    """The spread of each metric over repeats of the same tokens, and over the seeds."""
    if consistency is None:
        return []
    lines = [
        _repeats_line(kind, [r for r in consistency.repeats if r.kind == kind], consistency.first)
        for kind in dict.fromkeys(repeat.kind for repeat in consistency.repeats)
    ]
    if len(consistency.seeds) > 1:
        lines.append(_seeds_line(consistency))
    text = [*lines, *consistency.impossible]
    return [labelled("consistency" if index == 0 else "", line) for index, line in enumerate(text)]


def _repeats_line(kind: str, repeats: Sequence[Repeat], first: Metrics) -> str:
    others = count(len(repeats), f"more {kind}" if kind == "round" else f"other {kind}", _plural(kind))
    details = f" ({', '.join(repeat.detail for repeat in repeats)})" if kind == "batch shape" else ""
    if all(repeat.bit_equal for repeat in repeats):
        return f"{others}{details}: bit-equal"
    metrics = [first, *(repeat.metrics for repeat in repeats)]
    return f"{others}{details}: other bits, {_ranges(metrics)}"


def _plural(kind: str) -> str:
    return f"{'more' if kind == 'round' else 'other'} {_PLURALS[kind]}"


def _ranges(metrics: Sequence[Metrics]) -> str:
    """Largest less smallest value of each metric."""
    values = {label: [float(getattr(m, name)) for m in metrics] for label, name in _SPOKEN}
    return ", ".join(f"{label} differs by {max(found) - min(found):.2g}" for label, found in values.items())


def _seeds_line(consistency: Consistency) -> str:
    """Mean and standard deviation over seeds: what another choice of windows does to the numbers."""
    parts = []
    for label, name in _SPOKEN:
        values = [float(getattr(metrics, name)) for metrics in consistency.seeds.values()]
        # A loss beyond 709 has no finite perplexity, and `stdev` raises there.
        spread = statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan
        parts.append(f"{label} {statistics.fmean(values):.4f} ± {spread:.4f}")
    return f"over {len(consistency.seeds)} seeds {', '.join(parts)}"
