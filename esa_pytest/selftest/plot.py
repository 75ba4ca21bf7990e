"""The power curve as a picture: the share of faults found over their size, an instrument a panel."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from esa_pytest.errors import EsaError
from esa_pytest.records import Tier
from esa_pytest.selftest.ladder import Instrument
from esa_pytest.selftest.lines import UNITS, interval_text, share_text
from esa_pytest.selftest.power import Point, Share

HOW = "pip install 'esa-pytest[plots]' and call esa selftest again, which keeps what was measured, to get a picture."
_TITLES = {
    Instrument.REFERENCE: "tier 3: float32 reference",
    Instrument.MEAN: "tiers 4 and 5: bf16 mean",
    Instrument.RMS: "tier 4: bf16 rms",
    Instrument.MAXIMUM: "tier 4: one bf16 token",
}
# Colours that are told apart in any kind of sight (Okabe and Ito 2008), and marks for print.
_STYLES: Mapping[Tier, tuple[str, str, str]] = {
    Tier.REFERENCE: ("#0072B2", "o", "tier 3 (reference)"),
    Tier.PAIRED: ("#D55E00", "s", "tier 4 (paired)"),
    Tier.AGGREGATE: ("#009E73", "^", "tier 5 (aggregate)"),
}
_PANEL_WIDTH, _PANEL_HEIGHT = 4.6, 3.1
# Ticks a panel has at most.
_MOST_TICKS = 8


class PlotsMissingError(EsaError):
    """matplotlib is not installed."""


def pictures(
    title: str, points: Sequence[Point], promise: Mapping[Instrument, float], alarms: Share
) -> dict[str, bytes]:
    """The picture by file suffix, `.svg` and `.png`; none where no instrument has a curve.

    Raises:
        PlotsMissingError: there is no matplotlib.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise PlotsMissingError(HOW) from None
    panels = [instrument for instrument in _TITLES if any(point.instrument is instrument for point in points)]
    if not panels:
        return {}
    # The same numbers make the same file.
    with mpl.rc_context({"svg.hashsalt": "esa", "svg.fonttype": "path", "font.size": 9}):
        columns = min(2, len(panels))
        rows = -(-len(panels) // columns)
        figure = Figure(figsize=(max(6.8, _PANEL_WIDTH * columns), 0.9 + _PANEL_HEIGHT * rows), layout="constrained")
        places = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for axes, instrument in zip(places.flat, panels, strict=False):
            _draw(axes, [point for point in points if point.instrument is instrument], promise[instrument])
        for axes in places.flat[len(panels) :]:
            axes.set_axis_off()
        for axes in places[:, 0]:
            axes.set_ylabel("share of faults found")
        _legend(figure, list(places.flat)[: len(panels)])
        figure.suptitle(f"{title}\n{_footing(points, alarms)}", fontsize=10)
        return {
            ".svg": _saved(figure, "svg", metadata={"Date": None}),
            ".png": _saved(figure, "png", dpi=150),
        }


def _draw(axes: Any, points: Sequence[Point], promised: float) -> None:
    instrument = points[0].instrument
    axes.axvspan(promised, 2 * max(max(p.size for p in points), promised), color="0.93", zorder=0, lw=0)
    axes.axvline(promised, color="0.25", ls="--", lw=1.2, zorder=1, label="promised size")
    for tier, (colour, marker, label) in _STYLES.items():
        asked = [point for point in points if tier in point.by_tier]
        if asked and instrument is not Instrument.REFERENCE:
            shares = [point.by_tier[tier].value for point in asked]
            axes.plot([p.size for p in asked], shares, color=colour, marker=marker, ms=4, lw=1, alpha=0.7, label=label)
    _draw_found(axes, points)
    axes.set_xscale("log")
    axes.set_xlim(min(point.size for point in points) / 1.5, 1.5 * max(max(p.size for p in points), promised))
    ticks = _ticks(promised, *axes.get_xlim())
    axes.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_ylim(-0.04, 1.04)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.grid(visible=True, axis="y", color="0.88", lw=0.6)
    axes.set_title(_TITLES[instrument], fontsize=10)
    axes.set_xlabel(f"size of the fault, {UNITS[instrument]} (promised: {promised:.2g})")


def _ticks(promised: float, least: float, most: float) -> list[float]:
    """The promised size, doubled and halved as often as there is room."""
    octaves = math.log2(most / least)
    step = 2.0 ** max(1, math.ceil(octaves / _MOST_TICKS))
    powers = range(math.ceil(math.log(least / promised, step)), math.floor(math.log(most / promised, step)) + 1)
    return [promised * step**power for power in powers]


def _draw_found(axes: Any, points: Sequence[Point]) -> None:
    """The curve that counts, with its intervals, in front of the tiers that it comes from."""
    shares = [point.found for point in points]
    axes.errorbar(
        [point.size for point in points],
        [share.value for share in shares],
        yerr=[
            [share.value - share.interval[0] for share in shares],
            [share.interval[1] - share.value for share in shares],
        ],
        color="black",
        marker="o",
        ms=5,
        lw=1.8,
        capsize=3,
        label="found by the tier that promised it",
        zorder=3,
    )


def _legend(figure: Any, rows: Sequence[Any]) -> None:
    """One legend below all panels, each mark once."""
    marks = {label: handle for axes in rows for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(marks.values(), marks.keys(), loc="outside lower center", ncols=len(marks), frameon=False)


def _footing(points: Sequence[Point], alarms: Share) -> str:
    bits = next((point for point in points if point.instrument is Instrument.BITS), None)
    parts = [f"false alarms {share_text(alarms)} ({interval_text(alarms)})"] if alarms.of else []
    if bits is not None:
        parts.append(f"single changed bits found {share_text(bits.found)} ({interval_text(bits.found)})")
    return " · ".join((*parts, "bars: 95 % intervals (Wilson)"))


def _saved(figure: Any, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, **options)
    return buffer.getvalue()
