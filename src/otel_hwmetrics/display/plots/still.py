# SPDX-License-Identifier: Apache-2.0
"""Pictures as PNG or SVG, drawn by matplotlib without a screen."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib import dates
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from otel_hwmetrics.display.plots.picture import (
    ASKED,
    COLOURS,
    Bars,
    Dashboard,
    Lanes,
    Line,
    Panel,
    Picture,
    Style,
    Timeline,
    Times,
    Values,
    zone_at,
)
from otel_hwmetrics.display.table import cut, plain

_DOTS: Final = 100
"""Pixels of an inch."""
_PANEL: Final = 120
_LANE: Final = 20
_BETWEEN: Final = 30
_LEFT: Final = 64
_RIGHT: Final = 190
_LINE: Final = 17
_LABEL: Final = 30
_DAY: Final = 86400e9
_MEANS: Final = "#93c5fd"
_SOFT: Final = "#6b7280"
_ROW: Final = 34
_ROWS: Final = 70
_HIGHEST: Final = 30_000
"""Pixels: of more, neither matplotlib nor a viewer makes a picture."""

_SETTINGS: Final = {
    "text.parse_math": False,  # names are no formulas
    "text.usetex": False,
    "font.family": ["sans-serif"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.spines.bottom": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.8,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "xtick.labelcolor": "#1f2937",
    "ytick.labelcolor": "#1f2937",
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.color": "#1f2937",
    "axes.labelcolor": "#1f2937",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "path.simplify": False,  # it is thin enough, and no peak may go
    "svg.hashsalt": "otel-hwmetrics",
}


def draw(picture: Picture, form: str, width: int) -> bytes:
    """A whole picture.

    Args:
        picture: What is to be seen.
        form: ``png`` or ``svg``.
        width: In pixels.
    """
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a character that the font has not is a box, and nobody's concern
        head = _head(picture, width)
        figure = _timeline(picture, width, head) if isinstance(picture, Timeline) else _dashboard(picture, width, head)
        written = io.BytesIO()
        figure.savefig(written, format=form, dpi=_DOTS, metadata={"Date": None} if form == "svg" else None)
    return written.getvalue()


def _head(picture: Picture, width: int) -> list[str]:
    """What stands above a picture, in lines; the first is the title."""
    room = max(20, (width - 40) // 7)
    heading = picture.heading
    facts = textwrap.wrap(_shown(" · ".join(heading.facts), 400), room)
    notes = [line for note in heading.notes for line in textwrap.wrap(_shown(note, 400), room)]
    return [_shown(heading.title, 80), *facts, *notes]


def _shown(text: str, longest: int = _LABEL) -> str:
    """A text in one line; a legend passes over what begins with an underscore."""
    short = cut(plain(text), longest)
    return f" {short}" if short.startswith("_") else short


def _figure(width: int, height: float, head: Sequence[str]) -> Any:
    figure = Figure(figsize=(width / _DOTS, min(_HIGHEST, height) / _DOTS), dpi=_DOTS, facecolor="white")
    FigureCanvasAgg(figure)
    for number, line in enumerate(head):
        figure.text(
            20 / width,
            1 - (26 + (number and 6) + number * _LINE) / height,
            line,
            fontsize=9 if number else 14,
            fontweight="normal" if number else "bold",
            color=_SOFT if number else "#1f2937",
        )
    return figure


def _timeline(picture: Timeline, width: int, head: Sequence[str]) -> Any:
    heights = [_LANE * each.count for each in picture.lanes] + [_PANEL * each.height for each in picture.panels]
    above = 62 + _LINE * (len(head) - 1)
    height = above + sum(heights) + _BETWEEN * (len(heights) - 1) + 60
    figure = _figure(width, height, head)
    top = height - above
    last: Any = None
    parts: tuple[Lanes | Panel, ...] = (*picture.lanes, *picture.panels)
    for part, high in zip(parts, heights, strict=True):
        axes = figure.add_axes(
            ((_LEFT / width), (top - high) / height, (width - _LEFT - _RIGHT) / width, high / height), sharex=last
        )
        last = last or axes
        unit = f" ({part.unit})" if isinstance(part, Panel) and part.unit else ""
        axes.set_title(f"{_shown(part.title, 60)}{unit}", loc="left", fontsize=9.5, fontweight="bold", pad=4)
        _behind(axes, picture)
        if isinstance(part, Lanes):
            _lanes(axes, part, picture)
        else:
            _panel(axes, part, picture)
        top -= high + _BETWEEN
        axes.tick_params(labelbottom=top < height - above - sum(heights) - _BETWEEN * (len(heights) - 1))
    _time_axis(figure.axes[-1], picture)
    return figure


def _time_axis(axes: Any, picture: Timeline) -> None:
    ends = _at(np.array([picture.start_ns, picture.end_ns]), picture)
    room = (ends[1] - ends[0]) * 0.01
    axes.set_xlim(ends[0] - room, ends[1] + room)
    if picture.elapsed:
        axes.set_xlabel(f"{_unit(picture)[0]} since each job began")
        return
    zone = zone_at(picture.start_ns)
    axes.xaxis_date(tz=zone)
    locator = dates.AutoDateLocator(tz=zone, minticks=4, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, tz=zone))
    axes.set_xlabel(f"time, {zone}")


def _unit(picture: Timeline) -> tuple[str, float]:
    seconds = (picture.end_ns - picture.start_ns) / 1e9
    units = (("hours", 3600.0), ("minutes", 60.0))
    return next(((unit, length) for unit, length in units if seconds > 2 * length), ("seconds", 1.0))


def _at(times: Times, picture: Timeline) -> Values:
    """Places on the axis: days since the epoch, as matplotlib has them, or what has passed."""
    return times / (_unit(picture)[1] * 1e9) if picture.elapsed else times / _DAY


def _behind(axes: Any, picture: Timeline) -> None:
    for band in picture.bands:
        begin, end = _at(np.array([band.start_ns, band.end_ns]), picture)
        axes.axvspan(begin, end, color=band.colour, alpha=band.strength, linewidth=0)
    for mark in picture.marks:
        axes.axvline(_at(np.array([mark.at_ns]), picture)[0], color=mark.colour, linestyle=":", linewidth=0.8)


def _lanes(axes: Any, lanes: Lanes, picture: Timeline) -> None:
    for strip in lanes.strips:
        begins = _at(np.array([each.start_ns for each in strip.stretches]), picture)
        ends = _at(np.array([each.end_ns for each in strip.stretches]), picture)
        rows = [each.lane for each in strip.stretches]
        axes.barh(
            rows,
            ends - begins,
            0.82,
            begins,
            color=strip.colour,
            edgecolor="white",
            linewidth=0.4,
            label=_shown(strip.name),
        )
        if strip.marked:
            axes.plot(begins, rows, "D", color=strip.colour, markersize=5, markeredgecolor="white", markeredgewidth=0.7)
    axes.set_ylim(lanes.count - 0.5, -0.5)
    axes.set_yticks([])
    axes.grid(visible=False)
    _legend(axes)


def _panel(axes: Any, panel: Panel, picture: Timeline) -> None:
    shown = [line for line in panel.lines if line.shown]
    for line in shown:
        _draw_line(axes, line, picture)
    peak = max((line.highest for line in shown), default=0.0)
    if panel.floor is not None:
        axes.set_ylim(panel.floor, (max(panel.top or 0.0, peak) or 1.0) * 1.06)
    axes.locator_params(axis="y", nbins=4)
    axes.yaxis.get_major_formatter().set_useOffset(False)
    if len(shown) > 1:
        _legend(axes)


def _draw_line(axes: Any, line: Line, picture: Timeline) -> None:
    fine, asked = line.style is Style.FINE, line.style is Style.ASKED
    at, lonely = _at(line.times, picture), line.lonely
    axes.plot(
        at,
        line.values,
        color=line.colour,
        linewidth=0.7 if fine else 1.1,
        alpha=0.75 if fine else 1.0,
        linestyle="--" if asked else "-",
        label="asked for" if asked else _shown(line.name),
    )
    if lonely.any():
        axes.plot(at[lonely], line.values[lonely], ".", color=line.colour, markersize=4)


def _legend(axes: Any) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1.005, 1.08), borderaxespad=0, handlelength=1.4, labelspacing=0.25)


def _dashboard(picture: Dashboard, width: int, head: Sequence[str]) -> Any:
    rows = (len(picture.charts) + 1) // 2
    each = _ROWS + _ROW * len(picture.jobs)
    above = 84 + _LINE * (len(head) - 1)
    height = above + each * max(1, rows)
    figure = _figure(width, height, head)
    jobs = [_shown(job, max(8, width // 40)) for job in picture.jobs]
    label = 20 + 6 * max(map(len, jobs), default=0)
    across = (width - 2 * label - 50) / 2
    keys: dict[str, Any] = {}
    for place, chart in enumerate(picture.charts):
        row, column = divmod(place, 2)
        left = label + column * (across + label + 20)
        bottom = height - above - row * each - (each - _ROWS)
        axes = figure.add_axes((left / width, bottom / height, across / width, (each - _ROWS) / height))
        _bars(axes, chart, jobs, keys)
    if keys:
        where = (20 / width, 1 - (above - 24) / height)
        figure.legend(keys.values(), keys.keys(), loc="lower left", bbox_to_anchor=where, ncols=3, markerscale=0.5)
    return figure


def _bars(axes: Any, chart: Bars, jobs: Sequence[str], keys: dict[str, Any]) -> None:
    rows = np.arange(len(jobs), dtype=float)
    both = bool(chart.means)
    parts = (("peak", chart.peaks, COLOURS[0], -0.2 if both else 0.0), ("mean", chart.means, _MEANS, 0.2))
    for name, values, colour, shift in parts:
        known = [
            (row + shift, value)
            for row, value in zip(rows, values or [None] * len(jobs), strict=True)
            if value is not None
        ]
        if not known:
            continue
        drawn = axes.barh(*zip(*known, strict=True), 0.38 if both else 0.6, color=colour)
        axes.bar_label(drawn, [f"{value:,.{chart.digits}f}" for _, value in known], padding=3, fontsize=7)
        if both:
            keys.setdefault(name, drawn)
    asked = [(value, row) for row, value in zip(rows, chart.asked, strict=False) if value is not None]
    if asked:
        (drawn,) = axes.plot(*zip(*asked, strict=True), "|", color=ASKED, markersize=20, markeredgewidth=2.5)
        keys.setdefault("asked for", drawn)
    axes.set_title(f"{chart.title} ({chart.unit})", loc="left", fontsize=9.5, fontweight="bold", pad=4)
    axes.set_yticks(rows, jobs)
    axes.set_ylim(len(jobs) - 0.5, -0.5)
    axes.set_xlim(0, chart.most * 1.12)
    axes.grid(visible=False, axis="y")
