# SPDX-License-Identifier: Apache-2.0
"""Pictures as pages for a browser, drawn there by plotly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

from otel_hwmetrics.display.plots.page import page, safe
from otel_hwmetrics.display.plots.picture import (
    ASKED,
    COLOURS,
    Bars,
    Dashboard,
    Lanes,
    Line,
    Panel,
    Picture,
    Strip,
    Style,
    Timeline,
    zone_at,
)

_Trace = dict[str, Any]

_PANEL: Final = 132
"""Pixels of a panel that is as high as most."""
_LANE: Final = 22
_BETWEEN: Final = 34
_MARGIN: Final = {"l": 64, "r": 16, "t": 30, "b": 50}
_MOMENTS: Final = 500
_ROW: Final = 34
_ROWS: Final = 70
_FEW: Final = 18
"""So many lines at most are told of together, all panels at once; of more, those of the panel that the mouse is in."""
_BESIDE_MARK: Final = "\u2002\u2009"
_MEANS: Final = "#93c5fd"

_INKS: Final = {
    "light": {"ink": "#1f2937", "paper": "#ffffff", "label": "#ffffff", "soft": "#9ca3af"},
    "dark": {"ink": "#e5e7eb", "paper": "#111827", "label": "#1f2937", "soft": "#6b7280"},
}
_GRID: Final = "rgba(128,128,128,0.22)"


def draw(picture: Picture, name: str) -> str:
    """A whole page, which needs nothing beside itself.

    Args:
        picture: What is to be seen.
        name: What pictures are called that are saved from it.
    """
    figure = _timeline(picture) if isinstance(picture, Timeline) else _dashboard(picture)
    return page(name, picture.heading, str(figure.to_json()), _colours(figure))


def _colours(figure: Any) -> dict[str, dict[str, Any]]:
    axes = [str(key) for key in figure.layout.to_plotly_json() if str(key).startswith("xaxis")]
    return {
        scheme: {
            "font.color": inks["ink"],
            "paper_bgcolor": inks["paper"],
            "plot_bgcolor": inks["paper"],
            "hoverlabel.bgcolor": inks["label"],
            "hoverlabel.font.color": inks["ink"],
            "hoverlabel.bordercolor": inks["soft"],
            "modebar.color": inks["soft"],
            "modebar.activecolor": inks["ink"],
            "modebar.bgcolor": "rgba(0,0,0,0)",
            **{f"{axis}.spikecolor": inks["soft"] for axis in axes},
        }
        for scheme, inks in _INKS.items()
    }


def _common() -> dict[str, Any]:
    return {
        "font": {"family": 'system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif', "size": 12},
        "margin": _MARGIN,
        "uniformtext": {"minsize": 8, "mode": "hide"},
        "legend": {"bgcolor": "rgba(0,0,0,0)", "tracegroupgap": 0, "groupclick": "togglegroup"},
        "hoverlabel": {"align": "left", "namelength": -1},
        "template": "none",
    }


def _timeline(picture: Timeline) -> Any:
    clock = _clock(picture)
    heights = [_LANE * each.count for each in picture.lanes] + [_PANEL * each.height for each in picture.panels]
    inside = sum(heights) + _BETWEEN * (len(heights) - 1)
    together = sum(len(each.lines) for each in picture.panels) <= _FEW
    layout: dict[str, Any] = _common() | {
        "height": round(inside + _MARGIN["t"] + _MARGIN["b"]),
        "hovermode": "x unified",
        "hoversubplots": "axis" if together else "overlaying",
        "shapes": list(_shapes(picture, clock)),
        "barmode": "overlay",
        "annotations": [],
    }
    traces: list[_Trace] = []
    top = float(inside)
    groups: set[str] = set()
    parts: tuple[Lanes | Panel, ...] = (*picture.lanes, *picture.panels)
    for number, (part, height) in enumerate(zip(parts, heights, strict=True), 1):
        axis = "y" if number == 1 else f"y{number}"
        domain = [max(0.0, (top - height) / inside), min(1.0, top / inside)]
        layout[axis.replace("y", "yaxis")] = (
            _lane_axis(part, domain) if isinstance(part, Lanes) else _axis(part, domain)
        )
        layout["annotations"].append(_title(part, domain[1]))
        if isinstance(part, Lanes):
            traces += [each for strip in part.strips for each in _strip(strip, part, axis, clock)]
            traces += [] if together else [_guide(picture, part, axis, clock)]
        else:
            traces += [_line(line, part, axis, clock, groups) for line in part.lines]
        top -= height + _BETWEEN
    layout["xaxis"] = _time_axis(picture, clock, f"y{len(heights)}" if len(heights) > 1 else "y")
    return go.Figure(traces, layout)


@dataclass(frozen=True)
class _Clock:
    """Where moments are on the axis of time.

    plotly takes a number on an axis of dates for a moment in the browser's own zone (``cleanDate`` and ``dateTime2ms`` in its
    src/lib/dates.js), and a text for what it says. So single moments are texts here; the many of a line are numbers, of which the
    page makes texts itself, since they are half as long.

    Attributes:
        offset: Milliseconds by which the zone differs from UTC.
        unit: Of an axis of lengths of time; empty for the time of day.
        length: Milliseconds of it.
    """

    offset: float = 0.0
    unit: str = ""
    length: float = 1.0

    def data(self, at_ns: Any) -> Any:
        """Of the many moments of a line."""
        return (at_ns / 1e6 + self.offset) / self.length

    def place(self, at_ns: float) -> str | float:
        """Of one."""
        if self.unit:
            return float(self.data(at_ns))
        moment = datetime.fromtimestamp(self.data(at_ns) / 1e3, timezone.utc)
        return moment.strftime("%Y-%m-%d %H:%M:%S.%f")


def _clock(picture: Timeline) -> _Clock:
    if not picture.elapsed:
        offset = zone_at(picture.start_ns).utcoffset(None)
        return _Clock(offset.total_seconds() * 1e3)
    seconds = (picture.end_ns - picture.start_ns) / 1e9
    units = (("hours", 3600.0), ("minutes", 60.0))
    found = ((unit, 1e3 * length) for unit, length in units if seconds > 2 * length)
    return _Clock(0.0, *next(found, ("seconds", 1e3)))


def _time_axis(picture: Timeline, clock: _Clock, anchor: str) -> dict[str, Any]:
    room = (picture.end_ns - picture.start_ns) * 0.01
    common: dict[str, Any] = {
        "anchor": anchor,
        "range": [clock.place(picture.start_ns - room), clock.place(picture.end_ns + room)],
        "showspikes": True,
        "spikemode": "across",
        "spikesnap": "cursor",
        "spikethickness": 1,
        "spikedash": "solid",
        "gridcolor": _GRID,
        "zeroline": False,
        "showline": False,
    }
    if clock.unit:
        return common | {"title": {"text": f"{clock.unit} since each job began"}, "hoverformat": ".2f"}
    return common | {
        "type": "date",
        "title": {"text": f"time, {zone_at(picture.start_ns)}"},
        "hoverformat": "%Y-%m-%d %H:%M:%S",
        "tickformatstops": [
            {"dtickrange": [None, 1000], "value": "%H:%M:%S.%L"},
            {"dtickrange": [1000, 60_000], "value": "%H:%M:%S\n%Y-%m-%d"},
            {"dtickrange": [60_000, 86_400_000], "value": "%H:%M\n%Y-%m-%d"},
            {"dtickrange": [86_400_000, None], "value": "%Y-%m-%d"},
        ],
    }


def _axis(panel: Panel, domain: list[float]) -> dict[str, Any]:
    peak = max((line.highest for line in panel.lines if line.shown), default=0.0)
    axis: dict[str, Any] = {"domain": domain, "gridcolor": _GRID, "zeroline": False, "fixedrange": False, "nticks": 5}
    if panel.floor is not None:
        top = max(panel.top or 0.0, peak) or 1.0
        axis |= {"range": [panel.floor - 0.02 * top, top * 1.06], "rangemode": "tozero"}
    return axis


def _lane_axis(lanes: Lanes, domain: list[float]) -> dict[str, Any]:
    return {
        "domain": domain,
        "range": [lanes.count - 0.5, -0.5],
        "showgrid": False,
        "zeroline": False,
        "showticklabels": False,
        "fixedrange": True,
    }


def _title(part: Lanes | Panel, top: float) -> dict[str, Any]:
    unit = f" ({part.unit})" if isinstance(part, Panel) and part.unit else ""
    return {
        "text": f"<b>{safe(part.title)}</b>{unit}",
        "x": 0,
        "y": top,
        "xref": "paper",
        "yref": "paper",
        "xanchor": "left",
        "yanchor": "bottom",
        "showarrow": False,
        "xshift": -4,
        "yshift": 1,
    }


def _shapes(picture: Timeline, clock: _Clock) -> Iterator[dict[str, Any]]:
    """What goes through all panels."""
    for band in picture.bands:
        yield {
            "type": "rect", "layer": "below", "yref": "paper", "y0": 0, "y1": 1, "line": {"width": 0},
            "x0": clock.place(band.start_ns), "x1": clock.place(band.end_ns),
            "fillcolor": band.colour, "opacity": band.strength,
        }  # fmt: skip
    for mark in picture.marks:
        at = clock.place(mark.at_ns)
        yield {
            "type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": at, "x1": at, "opacity": 0.8,
            "line": {"color": mark.colour, "width": 1, "dash": "dot"},
        }  # fmt: skip


def _line(line: Line, panel: Panel, axis: str, clock: _Clock, groups: set[str]) -> _Trace:
    unit = panel.unit if panel.unit in {"%", ""} else f" {panel.unit}"
    what = f"{line.name} {panel.title.removeprefix('GPU ').lower()}" if line.group else line.name
    lonely = line.lonely
    trace: _Trace = {
        "type": "scatter",
        "mode": "lines+markers" if lonely.any() else "lines",
        "x": clock.data(line.times),
        "y": line.values,
        "yaxis": axis,
        "name": safe(line.group or line.name),
        "meta": safe(what),
        "hovertemplate": f"%{{meta}}: %{{y:,.{panel.digits}f}}{unit}<extra></extra>",
        "line": {"color": line.colour, "width": 1 if line.style is Style.FINE else 1.6},
        "visible": True if line.shown else "legendonly",
    }
    if lonely.any():
        trace["marker"] = {"size": lonely * 5.0, "color": line.colour}
    if line.style is Style.ASKED:
        trace["line"] |= {"dash": "dash"}
    if line.group:
        trace |= {"legendgroup": f"group {safe(line.group)}", "showlegend": line.group not in groups, "opacity": 0.75}
        groups.add(line.group)
    return trace


def _strip(strip: Strip, lanes: Lanes, axis: str, clock: _Clock) -> Iterator[_Trace]:
    """Bars, and marks where they begin."""
    begins = [clock.place(each.start_ns) for each in strip.stretches]
    name = f"{lanes.title.removesuffix('s').lower()}: {strip.name}" if strip.marked else strip.name
    yield {
        "type": "bar",
        "orientation": "h",
        "base": begins,
        "x": [(each.end_ns - each.start_ns) / 1e6 / clock.length for each in strip.stretches],
        "y": [each.lane for each in strip.stretches],
        "width": 0.82,
        "yaxis": axis,
        "name": safe(name),
        "legendgroup": f"{lanes.title} {safe(strip.name)}",
        "marker": {"color": strip.colour, "opacity": 0.9, "line": {"width": 0.5, "color": "rgba(255,255,255,0.7)"}},
        "text": [f"{_BESIDE_MARK if strip.marked else ''}{safe(each.label)}" for each in strip.stretches],
        "textposition": "inside",
        "insidetextanchor": "start",
        "insidetextfont": {"color": "#ffffff", "size": 10},
        "customdata": ["<br>".join(safe(each, 160) for each in stretch.lines) for stretch in strip.stretches],
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    if strip.marked:
        yield {
            "type": "scatter",
            "mode": "markers",
            "x": begins,
            "y": [each.lane for each in strip.stretches],
            "yaxis": axis,
            "name": safe(name),
            "legendgroup": f"{lanes.title} {safe(strip.name)}",
            "showlegend": False,
            "hoverinfo": "skip",
            "marker": {
                "symbol": "diamond",
                "size": 11,
                "color": strip.colour,
                "line": {"width": 1, "color": "#ffffff"},
            },
        }


def _guide(picture: Timeline, lanes: Lanes, axis: str, clock: _Clock) -> _Trace:
    """Points that nobody sees, for the mouse: it is told of all that is at the moment of the point that is nearest to it.

    Of bars alone that would be the end of the nearest one, at which others are over.
    """
    moments = np.linspace(picture.start_ns, picture.end_ns, _MOMENTS)
    return {
        "type": "scatter",
        "mode": "markers",
        "x": clock.data(moments),
        "y": np.full(_MOMENTS, lanes.count / 2),
        "yaxis": axis,
        "marker": {"opacity": 0},
        "showlegend": False,
        "hoverinfo": "none",
    }


def _dashboard(picture: Dashboard) -> Any:
    rows = (len(picture.charts) + 1) // 2
    each = _ROWS + _ROW * len(picture.jobs)
    inside = rows * each - _BETWEEN if rows else each
    layout: dict[str, Any] = _common() | {
        "height": inside + _MARGIN["t"] + _MARGIN["b"] + 30,
        "margin": _MARGIN | {"l": 16, "t": 60},
        "hovermode": "closest",
        "barmode": "group",
        "bargap": 0.3,
        "annotations": [],
    }
    layout["legend"] |= {"orientation": "h", "x": 0, "xanchor": "left", "y": 1 + 22 / inside, "yanchor": "bottom"}
    labels = [safe(job, 40) for job in picture.jobs]
    traces: list[_Trace] = []
    shown: set[str] = set()
    for place, chart in enumerate(picture.charts):
        row, column = divmod(place, 2)
        top = 1 - row * each / inside
        bottom = max(0.0, top - (each - _ROWS) / inside)
        number = "" if place == 0 else str(place + 1)
        across = [0.0, 0.47] if column == 0 else [0.53, 1.0]
        layout[f"xaxis{number}"] = {
            "domain": across, "anchor": f"y{number}", "gridcolor": _GRID, "zeroline": False, "range": [0, chart.most * 1.12],
        }  # fmt: skip
        layout[f"yaxis{number}"] = {
            "domain": [bottom, top], "anchor": f"x{number}", "autorange": "reversed", "automargin": True,
            "showgrid": False, "type": "category", "ticksuffix": "  ",
        }  # fmt: skip
        layout["annotations"].append(
            {
                "text": f"<b>{safe(chart.title)}</b> ({chart.unit})", "x": across[0], "y": top, "xref": "paper", "yref": "paper",
                "xanchor": "left", "yanchor": "bottom", "showarrow": False,
            }
        )  # fmt: skip
        traces += _bars(chart, labels, number, shown)
    return go.Figure(traces, layout)


def _bars(chart: Bars, labels: Sequence[str], number: str, shown: set[str]) -> Iterable[_Trace]:
    unit = chart.unit if chart.unit == "%" else f" {chart.unit}"
    value = f"%{{x:,.{chart.digits}f}}{unit}"
    alone = not chart.means
    rows = ((chart.peak_name, chart.peaks, COLOURS[0]), ("mean", chart.means, _MEANS))
    for name, values, colour in rows:
        if not values:
            continue
        yield {
            "type": "bar", "orientation": "h", "x": list(values), "y": list(labels), "name": name, "legendgroup": name,
            "showlegend": name not in shown and not alone, "marker": {"color": colour}, "xaxis": f"x{number}",
            "yaxis": f"y{number}", "hovertemplate": f"%{{y}}<br>{name}: {value}<extra></extra>", "cliponaxis": False,
            "text": ["" if each is None else f"{each:,.{chart.digits}f}" for each in values], "textposition": "outside",
            "textfont": {"size": 10},
        }  # fmt: skip
        shown.add(name)
    if chart.asked:
        yield {
            "type": "scatter", "mode": "markers", "x": list(chart.asked), "y": list(labels), "name": "asked for",
            "legendgroup": "asked", "showlegend": "asked" not in shown, "xaxis": f"x{number}", "yaxis": f"y{number}",
            "marker": {"symbol": "line-ns", "size": 20, "line": {"width": 3, "color": ASKED}, "color": ASKED},
            "hovertemplate": f"%{{y}}<br>asked for: {value}<extra></extra>",
        }  # fmt: skip
        shown.add("asked")
