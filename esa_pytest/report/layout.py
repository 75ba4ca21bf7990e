"""How a line of the terminal's output is laid out."""

import re

INDENT = "  "
_LABEL_WIDTH = 15


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun, as `1 flip` or `2 flips`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def first_sentence(text: str) -> str:
    """A reason as far as a line of a list takes it."""
    return re.split(r"(?<=\.)\s|\n", text.strip(), maxsplit=1)[0]


def labelled(label: str, text: str) -> str:
    """An indented line whose text begins in the column of all others."""
    return f"{INDENT}{f'{label} ':<{_LABEL_WIDTH}}{text}"
