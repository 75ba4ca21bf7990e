"""Tables of text, and how their numbers are written."""

from dataclasses import dataclass

NOTHING = "-"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table; the first cell of a row names it.

    Attributes:
        caption: what it is of.
        heading: of the columns.
        rows: of as many cells each.
    """

    caption: str
    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def number(value: float | None, layout: str) -> str:
    """A number in its layout; a dash where there is none."""
    return NOTHING if value is None else layout.format(value)


def flat(text: str) -> str:
    """Text of a file as one printable line: no control, no change of direction, no half of a character."""
    return "".join(character if character.isprintable() else " " for character in text)
