# SPDX-License-Identifier: Apache-2.0
"""What is to be seen in a picture, whoever draws it. All texts are as they were recorded: who draws them makes them harmless."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.int64]
"""Nanoseconds since the epoch, rising."""
Values = npt.NDArray[np.float64]
"""In the unit of their panel; NaN where the line breaks."""

COLOURS: Final = (
    *("#3b82f6", "#f97316", "#10b981", "#e11d48", "#8b5cf6", "#ca8a04", "#0891b2", "#db2777"),
    *("#65a30d", "#7c6f64", "#4f46e5", "#c2410c"),
)
"""Of lines: each can be told from the one before, and read on white and on black."""
SEVERITIES: Final[Mapping[str, str]] = MappingProxyType(
    {"critical": "#dc2626", "warning": "#f59e0b", "info": "#0ea5e9"}
)
"""Colours of alerts, the worst first."""
ASKED: Final = "#dc2626"
"""The colour of what was asked for."""


class Style(Enum):
    """How a line is drawn."""

    SOLID = "solid"
    FINE = "fine"
    """One of several beneath a solid one: a GPU beneath the job."""
    ASKED = "asked"
    """What was asked for, from end to end."""


@dataclass(frozen=True)
class Line:
    """A line of a panel.

    Attributes:
        name: What it is, for people.
        times: Where its points are.
        values: How high; as many.
        colour: ``#rrggbb``.
        style: How it is drawn.
        group: Lines of one group are hidden and shown together, under this name; empty for one by itself.
        shown: Whether it is there before somebody asks for it.
    """

    name: str
    times: Times
    values: Values
    colour: str
    style: Style = Style.SOLID
    group: str = ""
    shown: bool = True

    @property
    def highest(self) -> float:
        """The highest of its values; 0 of none."""
        return float(np.nanmax(self.values)) if len(self.values) else 0.0

    @property
    def lonely(self) -> npt.NDArray[np.bool_]:
        """Which points have no neighbour that a line could be drawn to."""
        there = np.isfinite(self.values)
        before, after = np.zeros_like(there), np.zeros_like(there)
        before[1:], after[:-1] = there[:-1], there[1:]
        return there & ~before & ~after


@dataclass(frozen=True)
class Panel:
    """Lines over one axis.

    Attributes:
        title: What is to be seen.
        unit: Of the axis: ``GiB``, ``%``.
        lines: Of it.
        digits: Behind the decimal point, where an exact value is told.
        height: Beside that of others.
        top: Where the axis ends at least; None for where the lines do.
        floor: Where it begins; None for a little below the lines.
    """

    title: str
    unit: str
    lines: tuple[Line, ...]
    digits: int = 1
    height: float = 1.0
    top: float | None = None
    floor: float | None = 0.0


@dataclass(frozen=True)
class Stretch:
    """A span or an alert, as a bar in a lane.

    Attributes:
        lane: From 0, the uppermost.
        start_ns: Where it begins.
        end_ns: Where it ends, or the picture.
        label: A word or two.
        lines: All that there is to be said, in lines.
    """

    lane: int
    start_ns: int
    end_ns: int
    label: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Strip:
    """Stretches of one kind, which are hidden and shown together.

    Attributes:
        name: Of the kind: ``epoch``, ``warning``.
        colour: ``#rrggbb``.
        stretches: Of it.
        marked: Whether each beginning has a mark of its own, as that of an alert.
    """

    name: str
    colour: str
    stretches: tuple[Stretch, ...]
    marked: bool = False


@dataclass(frozen=True)
class Lanes:
    """Thin lanes below each other.

    Attributes:
        title: What is in them.
        count: How many.
        strips: What is in them.
    """

    title: str
    count: int
    strips: tuple[Strip, ...]


@dataclass(frozen=True)
class Band:
    """A stretch of time that is shaded in all panels.

    Attributes:
        start_ns: Where it begins.
        end_ns: Where it ends.
        colour: ``#rrggbb``.
        strength: Of the colour, up to 1.
    """

    start_ns: int
    end_ns: int
    colour: str
    strength: float


@dataclass(frozen=True)
class Mark:
    """A moment that is marked in all panels: an alert began to fire.

    Attributes:
        at_ns: When.
        colour: ``#rrggbb``.
    """

    at_ns: int
    colour: str


@dataclass(frozen=True)
class Heading:
    """What stands above a picture.

    Attributes:
        title: In a few words.
        facts: What is known of it, one by one.
        notes: What has to be known to read it, in sentences.
    """

    title: str
    facts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Timeline:
    """Panels over one axis of time.

    Attributes:
        heading: Above it.
        panels: From top to bottom.
        start_ns: Where the axis begins.
        end_ns: Where it ends.
        lanes: Above the panels.
        bands: Behind the lines.
        marks: Likewise.
        elapsed: Whether times are from the beginning of each line's job, not by the clock.
    """

    heading: Heading
    panels: tuple[Panel, ...]
    start_ns: int
    end_ns: int
    lanes: tuple[Lanes, ...] = ()
    bands: tuple[Band, ...] = ()
    marks: tuple[Mark, ...] = ()
    elapsed: bool = False


@dataclass(frozen=True)
class Bars:
    """A bar chart: a row a job.

    Attributes:
        title: What is compared.
        unit: Of the axis.
        peaks: A value a job; None where nothing is known.
        means: Likewise; empty where there is but one figure a job.
        asked: What was asked for; likewise.
        digits: Behind the decimal point.
        peak_name: What the first bar is.
        top: Where the axis ends at least; None for where the bars do.
    """

    title: str
    unit: str
    peaks: tuple[float | None, ...]
    means: tuple[float | None, ...] = ()
    asked: tuple[float | None, ...] = ()
    digits: int = 1
    peak_name: str = "peak"
    top: float | None = None

    @property
    def most(self) -> float:
        """Where the axis ends at least."""
        known = (each for values in (self.peaks, self.means, self.asked) for each in values if each is not None)
        return max((*known, self.top or 0.0)) or 1.0


@dataclass(frozen=True)
class Dashboard:
    """Bar charts of the same jobs.

    Attributes:
        heading: Above it.
        jobs: Their names, each another.
        charts: Of them.
    """

    heading: Heading
    jobs: tuple[str, ...]
    charts: tuple[Bars, ...]


Picture = Timeline | Dashboard


def zone_at(at_ns: int) -> timezone:
    """The offset that local time has at a moment; that of the whole picture, even where the clocks are changed within it."""
    return timezone(datetime.fromtimestamp(at_ns / 1e9, timezone.utc).astimezone().utcoffset() or timedelta())
