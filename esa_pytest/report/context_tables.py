"""What models make of long contexts, a table a run."""

from collections.abc import Sequence

from esa_pytest.report.layout import count
from esa_pytest.report.runs import ContextPart, Run
from esa_pytest.report.tables import NOTHING, Table, number


def context_tables(runs: Sequence[Run]) -> tuple[Table, ...]:
    """Loss by position, gain and retrieval of every run that has a long context."""
    return tuple(_table(run.name, run.context) for run in runs if run.context is not None)


def _table(name: str, context: ContextPart) -> Table:
    return Table(
        caption=f"{name}, {context.context_length} tokens",
        heading=("what", "nats", "95 % interval", "over"),
        rows=(
            *(
                (f"loss at {p.label}", number(p.mean_nll, "{:.4f}"), NOTHING, count(p.num_tokens, "token"))
                for p in context.positions
            ),
            (
                "gain from context",
                number(context.gain.nats, "{:+.4f}"),
                number(context.gain.error, "±{:.4f}"),
                count(context.gain.num_tokens, "token"),
            ),
            *(
                (
                    f"retrieval at {depth.label}",
                    number(depth.gain, "{:+.3f}"),
                    number(depth.error, "±{:.3f}"),
                    count(depth.num_facts, "fact"),
                )
                for depth in context.retrieval
            ),
        ),
    )
