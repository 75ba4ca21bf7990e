"""Figures as SVG that stands inside a page: drawn by matplotlib, coloured and lettered by the page's own style."""

import io
import math
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from esa_pytest.report.figures import Bars, Figure, Losses, Modules, Panel, Positions, Reliability
from esa_pytest.report.tables import flat

# Stand-ins that no page shows: each becomes a variable of the page's style, which knows whether it is dark.
_INK, _QUIET, _GRID, _MAIN, _MARK = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES: Mapping[str, str] = {
    _INK: "var(--ink)",
    _QUIET: "var(--quiet)",
    _GRID: "var(--line)",
    _MAIN: "var(--main)",
    _MARK: "var(--mark)",
}
_STYLE: Mapping[str, Any] = {
    # Text stays text: it is read aloud, found, and set in the page's own type.
    "svg.fonttype": "none",
    # A name is no formula, whatever it holds.
    "text.parse_math": False,
    "font.size": 8.5,
    "text.color": _INK,
    "axes.edgecolor": _QUIET,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _QUIET,
    "ytick.color": _QUIET,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "grid.color": _GRID,
    "axes.grid": True,
    "axes.axisbelow": True,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
}
# As wide as a phone, in inches, so that nothing is shrunk there.
_WIDTH, _HEIGHT = 3.7, 2.3
_LONGEST_NAME = 44
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_FONT = re.compile(r"font: ([\d.]+px) [^;]*")


def svg_of(figure: Figure, *, key: str) -> str:
    """A figure as an `<svg>` element.

    Args:
        figure: what to draw.
        key: tells its definitions from those of every other figure of the page.
    """
    with mpl.rc_context({**_STYLE, "svg.hashsalt": key}), warnings.catch_warnings():
        # A name may hold letters that matplotlib's own font lacks; the reader's has them.
        warnings.simplefilter("ignore", UserWarning)
        canvas = Canvas(figsize=(_WIDTH, _height(figure.panel)), layout="constrained")
        _PAINTERS[type(figure.panel)](canvas.subplots(), figure.panel)
        buffer = io.BytesIO()
        canvas.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
        )
    return _fitted(buffer.getvalue(), description=figure.description)


def _height(panel: Panel) -> float:
    return 0.55 + 0.37 * len(panel.names) if isinstance(panel, Bars) else _HEIGHT


def _fitted(svg: bytes, *, description: str) -> str:
    """The picture as a part of a page: its size and colours are the page's, and it has a name for who cannot see it."""
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(svg)  # noqa: S314  (drawn here)
    used = set(re.findall(rb"#([\w-]+)", svg))
    for element in root.iter():
        for child in [child for child in element if child.tag == f"{{{_SVG}}}style"]:
            element.remove(child)
        if element.get("id", "").encode() not in used:
            element.attrib.pop("id", None)
        if "style" in element.attrib:
            element.set("style", _styled(element.attrib["style"]))
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("class", "plot")
    root.set("role", "img")
    root.set("aria-label", flat(description))
    return ElementTree.tostring(root, encoding="unicode")


def _styled(style: str) -> str:
    for stand_in, variable in _VARIABLES.items():
        style = style.replace(stand_in, variable)
    return _FONT.sub(r"font-size: \1", style)


def _name(text: str) -> str:
    text = flat(text)
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"


def _paint_bars(axes: Any, panel: Bars) -> None:
    places = range(len(panel.names))
    most = max(panel.values)
    axes.barh(places, panel.values, height=0.36, color=_MAIN)
    for place, name, value in zip(places, panel.names, panel.values, strict=True):
        # Above its bar and not beside it: names are long and phones are narrow.
        axes.text(0, place - 0.25, _name(name), va="bottom", ha="left")
        axes.text(value + most * 0.015, place, f"{value:.3f}", va="center", ha="left", color=_INK)
    axes.set_xlim(0, most * 1.16 if most > 0 else 1)
    axes.set_ylim(len(panel.names) - 0.6, -0.85)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(panel.unit)


def _paint_positions(axes: Any, panel: Positions) -> None:
    places = range(len(panel.labels))
    axes.bar(places, panel.rms, width=0.6, color=_MAIN)
    if panel.usual is not None:
        axes.axhline(panel.usual, color=_MARK, ls="--")
        # Above the picture, where no bar covers it.
        axes.set_title("- - usual under harmless changes", loc="right", fontsize=8.5, color=_MARK)
    # In two lines, where there are too many for one.
    labels = [label.replace("-", "-\n") if len(panel.labels) > 4 else label for label in map(_name, panel.labels)]
    axes.set_xticks(places, labels)
    axes.set_ylim(0, 1.18 * max(*panel.rms, panel.usual or 0.0, 1e-12))
    axes.ticklabel_format(axis="y", style="plain")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("position in the window")
    axes.set_ylabel("rms drift, nats")


def _paint_modules(axes: Any, panel: Modules) -> None:
    finite = [size for size in panel.sizes if math.isfinite(size) and size > 0]
    low, high = min([*finite, 1.0]) / 2, max([*finite, 1.0]) * 3
    drawn = [min(max(size, low), high) for size in panel.sizes]
    places = range(len(drawn))
    axes.vlines(places, low, drawn, color=_MAIN, lw=max(0.6, min(4.0, 150 / len(drawn))))
    axes.axhline(1.0, color=_MARK, ls="--")
    if panel.first_moved is not None:
        first = panel.first_moved
        axes.plot([first], [drawn[first]], marker="v", color=_MARK, ms=7, clip_on=False)
        axes.set_title(f"▼ first moved: {_name(panel.first_name)}", loc="left", fontsize=8.5)
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(lambda _value, _: "")
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("module, in the order of execution")
    axes.set_ylabel("drift over allowed (dashed: 1)")


def _paint_reliability(axes: Any, panel: Reliability) -> None:
    most = max(1, *panel.num_tokens)
    axes.plot([0, 1], [0, 1], color=_QUIET, ls="--", lw=1)
    axes.plot(panel.confidence, panel.accuracy, color=_MAIN, lw=1)
    # The area of a point is its share of the tokens.
    sizes = [max(8.0, 110 * tokens / most) for tokens in panel.num_tokens]
    axes.scatter(panel.confidence, panel.accuracy, s=sizes, color=_MAIN, zorder=3, clip_on=False)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    ticks = [0, 0.25, 0.5, 0.75, 1]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlabel("confidence")
    axes.set_ylabel("share of right tokens")


def _paint_losses(axes: Any, panel: Losses) -> None:
    places = range(len(panel.losses))
    axes.plot(places, panel.losses, color=_MAIN, drawstyle="steps-post", marker="o")
    if panel.walked:
        axes.plot(panel.walked, [panel.losses[index] for index in panel.walked], "D", color=_MARK, ms=6)
        axes.set_title("◆ walks in small steps", loc="left", fontsize=8.5)
    shown = sorted({0, len(panel.dates) // 2, len(panel.dates) - 1})
    axes.set_xticks(shown, [_name(panel.dates[index]) for index in shown])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.5g}")
    axes.margins(x=0.08)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel("loss, nats a token")


_PAINTERS: Mapping[type[Panel], Callable[[Any, Any], None]] = {
    Bars: _paint_bars,
    Positions: _paint_positions,
    Modules: _paint_modules,
    Reliability: _paint_reliability,
    Losses: _paint_losses,
}
