"""The columns and the counts of the lines of a report."""

import pytest

from esa_pytest.report import layout


def test_label_begins_every_text_in_one_column() -> None:
    assert [layout.labelled(label, "text") for label in ("", "bits", "within-noise")] == [
        "                 text",
        "  bits           text",
        "  within-noise   text",
    ]


@pytest.mark.parametrize(("number", "text"), [(0, "0 flips"), (1, "1 flip"), (2, "2 flips")])
def test_count_agrees_with_its_noun(number: int, text: str) -> None:
    assert layout.count(number, "flip") == text


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("There is none; fetch torch 2.14 anew.", "There is none; fetch torch 2.14 anew."),
        ("It is gone. It was there.", "It is gone."),
        (" out of memory\n  at line 3", "out of memory"),
    ],
)
def test_the_first_sentence_of_a_reason_is_one_line(text: str, first: str) -> None:
    assert layout.first_sentence(text) == first


def test_count_takes_an_irregular_plural() -> None:
    assert [layout.count(number, "process", "processes") for number in (1, 2)] == ["1 process", "2 processes"]
