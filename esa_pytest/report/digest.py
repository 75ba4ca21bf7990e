"""The report as Markdown, for a pull request or the summary of a CI job."""

from esa_pytest.report.cards import Card
from esa_pytest.report.layout import count
from esa_pytest.report.markdown import escaped, in_html, row
from esa_pytest.report.overview import Overview, Section
from esa_pytest.report.tables import NOTHING, Table


def digest_lines(overview: Overview) -> list[str]:
    """Verdicts first, then the sections; figures as their numbers, folded away."""
    return [
        f"## Baselines: {' · '.join(f'{number} {standing.word}' for standing, number in overview.standings)}",
        "",
        escaped(overview.made),
        "",
        *_verdicts(overview.cards),
        *(_missing(overview.missing) if overview.missing else []),
        *(line for section in overview.sections for line in _section(section)),
    ]


def _verdicts(cards: tuple[Card, ...]) -> list[str]:
    heading = ("", "baseline", "outcome", "decided by", "why")
    return [
        row(heading),
        row(["---"] * len(heading)),
        *(
            row(
                (
                    f"{card.standing.mark} {card.standing.word}",
                    escaped(card.name),
                    escaped(card.outcome),
                    escaped(card.decided or NOTHING),
                    escaped(card.reason or NOTHING),
                )
            )
            for card in cards
        ),
        "",
        *(line for card in cards for line in _card(card)),
    ]


def _card(card: Card) -> list[str]:
    """What to do and what it rests on, where there is anything to do."""
    if not card.advice:
        return []
    advice = [
        escaped(one.text) if one.command is None else f"{escaped(one.text)} <code>{escaped(one.command)}</code>"
        for one in card.advice
    ]
    return [
        f"<details><summary>{in_html(card.name)}: {in_html(card.outcome)}</summary>",
        "",
        *(line for text in advice for line in (text, "")),
        *(line for label, text in card.facts for line in (f"{escaped(label)}: {escaped(text)}", "")),
        *(line for table in card.tables for line in _table(table)),
        "</details>",
        "",
    ]


def _missing(names: tuple[str, ...]) -> list[str]:
    return [f"{count(len(names), 'baseline')} of the matrix left nothing here: {escaped(', '.join(names))}.", ""]


def _section(section: Section) -> list[str]:
    return [
        f"### {section.title}",
        "",
        *([escaped(section.text), ""] if section.text else []),
        *(line for text in section.warnings for line in (f"**Warning**: {escaped(text)}", "")),
        *(line for table in section.tables for line in _table(table)),
        *(
            line
            for figure in section.figures
            for line in (
                f"<details><summary>{in_html(figure.title)}: {in_html(figure.description)}</summary>",
                "",
                *_table(figure.numbers),
                "</details>",
                "",
            )
        ),
    ]


def _table(table: Table) -> list[str]:
    return [
        f"{escaped(table.caption)}:",
        "",
        row([escaped(cell) for cell in table.heading]),
        row(["---"] * len(table.heading)),
        *(row([escaped(cell) for cell in cells]) for cells in table.rows),
        "",
    ]
