"""The pictures of a report: drawn alike, coloured by their page, named for those who cannot see them."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings

from esa_pytest.report.drawing import svg_of
from esa_pytest.report.figures import Bars, Figure, Losses, Modules, Panel, Positions, Reliability
from esa_pytest.report.tables import Table
from tests.unit.run_builders import hostile_texts


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)  # noqa: S314  (drawn here)


def bars_of(text: str) -> Figure:
    return figure(Bars(names=(text, "other"), values=(1.0, 2.0), unit="bits"), text)


def figure(panel: Panel, text: str = "a figure") -> Figure:
    table = Table(caption="c", heading=("a",), rows=(("1",),))
    return Figure(title=text, description=text, panel=panel, numbers=table)


PANELS: tuple[Panel, ...] = (
    Bars(names=("a", "b"), values=(0.0, 0.0), unit="bits"),
    Positions(labels=("0-15", "16-63", "64-255", "256-1023", "1024-4095"), rms=(0.0,) * 5, usual=None),
    Modules(sizes=(0.0, float("inf"), 3.0), first_moved=1, first_name="model.layers.1.mlp"),
    Modules(sizes=(0.0, 0.1), first_moved=None, first_name=""),
    Reliability(confidence=(0.5,), accuracy=(1.0,), num_tokens=(1,)),
    Losses(dates=("2026-01-01", "2026-01-02"), losses=(1.0, 1.0), walked=(0, 1)),
)


class TestPicture:
    @pytest.mark.parametrize("panel", PANELS, ids=lambda panel: type(panel).__name__)
    def test_it_is_coloured_by_the_page_and_names_itself(self, panel: Panel) -> None:
        svg = svg_of(figure(panel), key="k")
        root = parsed(svg)
        assert (root.get("role"), root.get("aria-label"), root.get("width")) == ("img", "a figure", None)
        assert "var(--ink)" in svg
        assert not re.search(r"#0[1-5]0", svg)
        assert "<style" not in svg
        assert "nan" not in svg.lower()

    def test_two_pictures_of_a_page_share_no_definition(self) -> None:
        one, other = (set(re.findall(r'id="([^"]+)"', svg_of(figure(PANELS[4]), key=key))) for key in "ab")
        assert one
        assert not one & other

    def test_the_same_numbers_make_the_same_picture(self) -> None:
        assert svg_of(figure(PANELS[2]), key="k") == svg_of(figure(PANELS[2]), key="k")

    @settings(max_examples=5, deadline=None)
    @given(hostile_texts)
    def test_it_has_the_same_elements_whatever_its_text_says(self, text: str) -> None:
        plain, other = (
            [element.tag for element in parsed(svg_of(bars_of(one), key="k")).iter()] for one in ("x", f"x{text}")
        )
        assert other == plain
