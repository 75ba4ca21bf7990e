"""The report of many runs, before it is drawn: cards of verdicts, then sections, each left out where it has nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from esa_pytest.report.cards import Card, Standing, cards, tally
from esa_pytest.report.chronicle import HEADING, History, row_of, steps_of, walks_of, warnings_of
from esa_pytest.report.comparison import comparison_figures, comparison_tables, reported_table
from esa_pytest.report.context_tables import context_tables
from esa_pytest.report.figures import Figure, Losses, module_figure, position_figure, reliability_figure
from esa_pytest.report.layout import count
from esa_pytest.report.reported import REMARK
from esa_pytest.report.resource_table import resource_table
from esa_pytest.report.runs import Run, Unreadable
from esa_pytest.report.tables import Table

# Of each golden, how many acceptances are shown; `esa history` shows all.
_LAST = 10


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the report.

    Attributes:
        slug: its anchor.
        title: its heading.
        text: what a reader needs to know of it; empty where that is nothing.
        warnings: what a reader should look at, a sentence each.
        tables: its tables.
        figures: its pictures.
    """

    slug: str
    title: str
    text: str = ""
    warnings: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Overview:
    """Everything that a report shows.

    Attributes:
        made: when, and of what.
        standings: how many runs stand how.
        missing: baselines of the matrix that left nothing here.
        cards: the verdicts, failures first.
        sections: what lies behind them.
    """

    made: str
    standings: tuple[tuple[Standing, int], ...]
    missing: tuple[str, ...]
    cards: tuple[Card, ...]
    sections: tuple[Section, ...]


def overview(
    found: Sequence[Run | Unreadable],
    *,
    made: str,
    missing: Sequence[str],
    histories: Sequence[History],
    ledger_trouble: str | None,
) -> Overview:
    """The report of the last runs of some baselines.

    Args:
        found: the runs, and what cannot be read of them.
        made: when, and of what.
        missing: baselines of the matrix that left nothing.
        histories: what the ledger tells.
        ledger_trouble: why it cannot be read, a sentence; None where it can.
    """
    runs = [run for run in found if isinstance(run, Run)]
    made_cards = cards(found)
    sections = (
        _comparison(runs),
        _reported(runs),
        _positions(runs),
        _modules(runs),
        _calibration(runs),
        _contexts(runs),
        _resources(runs),
        _history(histories, ledger_trouble),
    )
    return Overview(
        made=made,
        standings=tally(made_cards),
        missing=tuple(missing),
        cards=made_cards,
        sections=tuple(section for section in sections if section is not None),
    )


def _comparison(runs: Sequence[Run]) -> Section | None:
    tables = comparison_tables(runs)
    if not tables:
        return None
    return Section(
        slug="models",
        title="Across models",
        text=(
            "Bits per byte compare models on the same text whatever their tokenizers; loss, perplexity and token "
            "accuracy only those that share one. Each model scores equally many tokens of its own, so that longer "
            "tokens cover more of the text."
        ),
        tables=tables,
        figures=comparison_figures(runs),
    )


def _reported(runs: Sequence[Run]) -> Section | None:
    table = reported_table(runs)
    if table is None:
        return None
    return Section(slug="reported", title="Beside what was reported", text=f"Reported: {REMARK}.", tables=(table,))


def _illustrated(figures: tuple[Figure, ...], *, slug: str, title: str, text: str) -> Section | None:
    return Section(slug=slug, title=title, text=text, figures=figures) if figures else None


def _positions(runs: Sequence[Run]) -> Section | None:
    return _illustrated(
        _drawn(position_figure(run) for run in runs),
        slug="positions",
        title="Drift by position",
        text=(
            "How far the bf16 scores of this run lie from the golden's, by the position in the window. Runs with the "
            "golden's bits have no drift and are left out."
        ),
    )


def _modules(runs: Sequence[Run]) -> Section | None:
    return _illustrated(
        _drawn(module_figure(run) for run in runs),
        slug="modules",
        title="Drift by layer",
        text=(
            "The float32 reference, module by module in the order of execution: what lies above 1 moved further than "
            "harmless changes move it. It is asked where bits differ."
        ),
    )


def _calibration(runs: Sequence[Run]) -> Section | None:
    return _illustrated(
        _drawn(reliability_figure(run) for run in runs),
        slug="calibration",
        title="Calibration",
        text="On the diagonal a model is right as often as it is sure; below it, it is too sure.",
    )


def _contexts(runs: Sequence[Run]) -> Section | None:
    tables = context_tables(runs)
    if not tables:
        return None
    return Section(
        slug="contexts",
        title="Long contexts",
        text=(
            "The gain is what the rest of a long context adds to a short one, on the same tokens; retrieval is how "
            "much likelier an answer becomes by its fact in the text. Both are positive where context helps."
        ),
        tables=tables,
    )


def _resources(runs: Sequence[Run]) -> Section | None:
    table = resource_table(runs)
    if table is None:
        return None
    return Section(
        slug="resources",
        title="Throughput and memory",
        text="Efficiency is the achieved FLOP/s over those of its own matrix products, timed in the same run.",
        tables=(table,),
    )


def _history(histories: Sequence[History], trouble: str | None) -> Section | None:
    if trouble is None and not histories:
        return None
    table = Table(
        caption=f"Accepted goldens, the last {_LAST} of each",
        heading=("golden", *HEADING),
        rows=tuple((history.name, *row_of(entry)) for history in histories for entry in history.entries[-_LAST:]),
    )
    return Section(
        slug="history",
        title="What was accepted",
        text="A step is the drift of the loss that was accepted with a golden." if histories else "",
        warnings=(
            *([] if trouble is None else [trouble]),
            *(f"{history.name}: {text}" for history in histories for text in warnings_of(history)),
        ),
        tables=(table,) if table.rows else (),
        figures=_drawn(_losses(history) for history in histories),
    )


def _losses(history: History) -> Figure | None:
    """The loss over acceptances; None where there is a single one."""
    entries = history.entries
    if len(entries) < 2:
        return None
    losses = tuple(entry.new.mean_nll for entry in entries)
    dates = tuple(entry.utc[:10] for entry in entries)
    steps = steps_of(entries)
    return Figure(
        title=history.name,
        description=(
            f"Loss of {count(len(entries), 'accepted golden')} from {dates[0]} to {dates[-1]}: "
            f"from {losses[0]:.6g} to {losses[-1]:.6g}."
        ),
        panel=Losses(dates=dates, losses=losses, walked=walks_of(entries)),
        numbers=Table(
            caption="Accepted losses; a step of 1 is the largest that passes",
            heading=("date", "loss", "step over allowed"),
            rows=tuple(
                (date, f"{loss:.6g}", "" if step is None else f"{step:+.2g}")
                for date, loss, step in zip(dates, losses, steps, strict=True)
            ),
        ),
    )


def _drawn(figures: Iterable[Figure | None]) -> tuple[Figure, ...]:
    return tuple(figure for figure in figures if figure is not None)
