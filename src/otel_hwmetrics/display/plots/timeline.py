# SPDX-License-Identifier: Apache-2.0
"""One job on one axis of time, and one figure of many jobs: what is to be seen of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np

from otel_hwmetrics.display import words
from otel_hwmetrics.display.plots import lanes
from otel_hwmetrics.display.plots.decimate import thin
from otel_hwmetrics.display.plots.gather import Seen
from otel_hwmetrics.display.plots.picture import (
    ASKED,
    COLOURS,
    Band,
    Heading,
    Lanes,
    Line,
    Mark,
    Panel,
    Style,
    Timeline,
    Times,
    Values,
    zone_at,
)
from otel_hwmetrics.recording.nouns import DONE, LOST, RUNNING, Job, Request

_STEP: Final = 1024.0
_BINARY: Final = ("KiB", "MiB", "GiB", "TiB", "PiB")
_DAY: Final = 86_400_000_000_000
_FAR: Final = 4.0
"""So many times the peak: what was asked for and is further away is not drawn at first, or the line would lie on the floor."""
_ALONE: Final = 3.0
"""How high a panel is that has no other beside it."""
_GPUS: Final = 12
"""So many GPUs are drawn one by one."""


@dataclass(frozen=True)
class Figure:
    """How a figure of a job is drawn.

    Attributes:
        title: Of its panel.
        unit: Of its axis; of bytes the one that fits.
        scale: From SI units to it.
        digits: Behind the decimal point.
        colour: Of the job's line.
        height: Of its panel beside others'.
        top: Where the axis ends at least.
        floor: Where it begins; None for a little below the line.
        asked: What of it was asked for, in SI units.
        many: What the job's line is where it stands for several GPUs.
    """

    title: str
    unit: str
    scale: float
    digits: int
    colour: str
    height: float = 1.0
    top: float | None = None
    floor: float | None = 0.0
    asked: Callable[[Request], float | None] = lambda _: None
    many: str = ""


def _gpu_memory(asked: Request) -> float | None:
    return None if asked.gpu_memory is None else asked.gpu_memory * (asked.gpus or 1)


PANELS: Final[Mapping[str, Figure]] = MappingProxyType(
    {
        "cpu": Figure("CPU", "%", 100.0, 1, COLOURS[0], asked=lambda request: request.cpus),
        "memory": Figure("Memory", "By", 1.0, 2, COLOURS[4], asked=lambda request: request.memory),
        "processes": Figure("Processes", "", 1.0, 0, COLOURS[9], height=0.6),
        "gpu_activity": Figure("GPU activity", "%", 100.0, 1, COLOURS[2], top=100.0, many="mean"),
        "gpu_memory": Figure("GPU memory", "By", 1.0, 2, COLOURS[7], asked=_gpu_memory, many="all together"),
        "gpu_temperature": Figure("GPU temperature", "°C", 1.0, 0, COLOURS[3], floor=None, many="hottest"),
        "gpu_power": Figure("GPU power", "W", 1.0, 0, COLOURS[5], many="all together"),
    }
)
"""The panels of a job, from top to bottom."""


def of_job(seen: Seen, columns: int, start_ns: int | None = None, end_ns: int | None = None) -> Timeline | None:
    """All of one job on one axis.

    Args:
        seen: What was seen of it.
        columns: Of pixels.
        start_ns: Where the axis begins; None for the job's beginning.
        end_ns: Where it ends; None for the job's end.

    Returns:
        None where there is nothing to draw: no look at it was kept.
    """
    if not len(seen.times):
        return None
    begin, end = _ends(seen, start_ns, end_ns)
    zone = zone_at(begin)
    when = partial(words.clock, zone=zone, day=end - begin > _DAY)
    spans = lanes.of_spans(seen.spans, begin, end, columns, when)
    alerts = lanes.of_alerts(seen.alerts, begin, end, when)
    panels = tuple(panel for name in PANELS if (panel := _panel(name, seen, columns, (begin, end))) is not None)
    notes = (*seen.notes, *spans.notes, *alerts.notes, *_thinned(len(seen.times), columns))
    drawn: tuple[Lanes, ...] = tuple(each.lanes for each in (spans, alerts) if each.lanes is not None)
    bands: tuple[Band, ...] = spans.bands
    marks: tuple[Mark, ...] = alerts.marks
    heading = Heading(seen.job.name, (f"run {seen.run}", *facts(seen.job, zone)), notes)
    return Timeline(heading, panels, begin, end, drawn, bands, marks)


class Outline(NamedTuple):
    """A figure of one job, as finely as it can be seen.

    Attributes:
        label: What the job is called.
        job: The job.
        times: Of the points.
        values: In SI units; NaN where the line breaks.
    """

    label: str
    job: Job
    times: Times
    values: Values


def outline(name: str, label: str, seen: Seen, columns: int) -> Outline | None:
    """A figure of a job beside others.

    Args:
        name: Of `PANELS`.
        label: What the job is called there.
        seen: What was seen of it.
        columns: Of pixels.

    Returns:
        None where it is not known.
    """
    return Outline(label, seen.job, *thin(*_known(seen, name), columns)) if name in seen.figures else None


def of_figure(name: str, outlines: Sequence[Outline], heading: Heading, *, elapsed: bool) -> Timeline | None:
    """One figure of all jobs, a line each.

    Args:
        name: Of `PANELS`.
        outlines: Of each job of which it is known.
        heading: Above it.
        elapsed: Whether each job begins at 0, as jobs that ran on different days.

    Returns:
        None where it is known of none of them.
    """
    if not outlines:
        return None
    figure = PANELS[name]
    scale, unit, digits = _scaled(figure, [each.values for each in outlines])
    zeros = [(each.job.started_ns or int(each.times[0])) if elapsed else 0 for each in outlines]
    lines = tuple(
        Line(each.label, each.times - zero, each.values * scale, COLOURS[number % len(COLOURS)])
        for number, (each, zero) in enumerate(zip(outlines, zeros, strict=True))
    )
    begin, end = min(int(each.times[0]) for each in lines), max(int(each.times[-1]) for each in lines)
    panel = Panel(figure.title, unit, lines, digits, _ALONE, None, figure.floor)
    return Timeline(heading, (panel,), begin, max(end, begin + 1_000_000_000), elapsed=elapsed)


def facts(job: Job, zone: tzinfo) -> tuple[str, ...]:
    """What is known of a job, in a few words each."""
    asked = job.request
    requests = (
        None if asked.cpus is None else f"{words.number(asked.cpus)} CPU{'' if asked.cpus == 1 else 's'}",
        None if asked.memory is None else words.size(asked.memory),
        None if not asked.gpus else f"{words.number(asked.gpus)} GPU{'' if asked.gpus == 1 else 's'}",
        None if asked.runtime is None else words.duration(asked.runtime),
    )
    told = [each for each in requests if each]
    return (
        f"job {job.id}" + (f" on {job.host}" if job.host else ""),
        *([f"rank {job.rank}"] if job.rank is not None else []),
        *([_when(job, zone)] if job.started_ns is not None else []),
        *([ended] if (ended := _ended(job)) else []),
        *([f"asked for {', '.join(told)}"] if told else []),
    )


def _when(job: Job, zone: tzinfo) -> str:
    began = words.when(job.started_ns, zone)
    end = job.ended_ns or job.heard_ns
    if end is None or job.started_ns is None:
        return began
    day = end // _DAY != job.started_ns // _DAY
    return f"{began} to {words.clock(end, zone, day=day)} ({words.duration(job.runtime)})"


def _ended(job: Job) -> str:
    if job.state == RUNNING:
        return "still running"
    if job.state == LOST:
        return "its end was not seen"
    if job.exit_code is None:
        return "" if job.state == DONE else job.state
    if job.exit_code < 0:
        return f"ended by signal {-job.exit_code}"
    return f"exit code {job.exit_code}"


def _ends(seen: Seen, start_ns: int | None, end_ns: int | None) -> tuple[int, int]:
    first, last = int(seen.times[0]), int(seen.times[-1])
    begin = min(first, seen.job.started_ns or first) if start_ns is None else start_ns
    end = max(last, seen.job.ended_ns or last) if end_ns is None else end_ns
    return begin, max(end, begin + 1_000_000_000)


def _panel(name: str, seen: Seen, columns: int, ends: tuple[int, int]) -> Panel | None:
    figure = PANELS[name]
    devices = [(each.name, each.figures[name]) for each in seen.devices if name in each.figures]
    devices = devices[:_GPUS] if len(seen.devices) > 1 else []
    own = _known(seen, name) if name in seen.figures else None
    if own is None and not devices:
        return None
    known = [values for _, (_, values) in devices] + ([own[1]] if own is not None else [])
    scale, unit, digits = _scaled(figure, known)
    drawn = [
        Line(device, *thin(times, values * scale, columns), COLOURS[number % len(COLOURS)], Style.FINE, device)
        for number, (device, (times, values)) in enumerate(devices)
    ]
    if own is not None:
        title = f"{figure.title}, {figure.many}" if devices and figure.many else figure.title
        drawn.append(Line(title, *thin(own[0], own[1] * scale, columns), figure.colour))
    asked = figure.asked(seen.job.request)
    if asked:
        peak = max(float(values.max()) for values in known)
        level = np.array([asked * scale] * 2)
        shown = asked <= _FAR * peak
        drawn.append(Line(f"{figure.title} asked for", np.array(ends), level, ASKED, Style.ASKED, shown=shown))
    return Panel(figure.title, unit, tuple(drawn), digits, figure.height, figure.top, figure.floor)


def _known(seen: Seen, name: str) -> tuple[Times, Values]:
    values = seen.figures[name]
    there = np.isfinite(values)
    return seen.times[there], values[there]


def _scaled(figure: Figure, values: Iterable[Values]) -> tuple[float, str, int]:
    """By what values are multiplied, the unit that they have then, and the digits."""
    if figure.unit != "By":
        return figure.scale, figure.unit, figure.digits
    peak, power = max((float(np.nanmax(each)) for each in values if len(each)), default=0.0) / _STEP, 0
    while peak >= _STEP and power + 1 < len(_BINARY):
        peak, power = peak / _STEP, power + 1
    return _STEP ** -(power + 1), _BINARY[power], figure.digits


def _thinned(looks: int, columns: int) -> tuple[str, ...]:
    if looks <= 4 * columns:
        return ()
    return (f"Of {looks:,} looks those are drawn that can be seen: the lowest and highest of each column of pixels.",)
