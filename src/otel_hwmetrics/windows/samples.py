# SPDX-License-Identifier: Apache-2.0
"""Where every series stands at one look at the machine, and which series follow from which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from otel_hwmetrics.catalog import METRICS
from otel_hwmetrics.model import Metric, Series

SHORTEST = 0.1
"""Seconds that a window needs for rates: the kernel counts CPU time in steps of 10 ms, drivers energy in larger ones."""


class Ridge(NamedTuple):
    """The highest levels of the past, as a chain that samples share: each link is higher and older than the one before.

    The peak since any moment is the last link after it, whoever asks and however long ago that was.
    """

    value: float
    at: float
    length: int
    older: Ridge | None

    def since(self, moment: float) -> float:
        """The highest level after ``moment``; the present one when nothing was read since."""
        link, highest = self, self.value
        while link.at > moment:
            highest = link.value
            if link.older is None:
                break
            link = link.older
        return highest


LONGEST_RIDGE = 512


def raised(ridge: Ridge | None, value: float, at: float) -> Ridge:
    """The ridge with one more level; what is not higher than it no longer matters."""
    while ridge is not None and ridge.value <= value:
        ridge = ridge.older
    if ridge is not None and ridge.length >= LONGEST_RIDGE:
        ridge = _thinned(ridge)
    return Ridge(value, at, ridge.length + 1 if ridge is not None else 1, ridge)


def _thinned(ridge: Ridge) -> Ridge:
    """Half as many links, for a level that has been falling for ever: of two the higher, at the time of the later."""
    links = []
    link: Ridge | None = ridge
    while link is not None:
        links.append(link)
        link = link.older
    thin: Ridge | None = None
    for newer, older in reversed(list(zip(links[::2], [*links[1::2], links[-1]], strict=False))):
        thin = Ridge(older.value, newer.at, thin.length + 1 if thin is not None else 1, thin)
    return thin or ridge


class Point(NamedTuple):
    """Where one series stands at one sample.

    Attributes:
        value: The total of a counter, the level of anything else.
        at: When it was read, in seconds of the monotonic clock.
        integral: Level times time, summed over the samples so far.
        observed: The seconds that ``integral`` covers; of a counter, those whose growth is known.
        ridge: Of a peak: what it was when.
    """

    value: float
    at: float
    integral: float = 0.0
    observed: float = 0.0
    ridge: Ridge | None = None


@dataclass(frozen=True)
class Sample:
    """One look at the machine: where every series that could be read stands. Immutable once it is published.

    Attributes:
        number: Counts the accumulator's samples.
        at: Seconds of the monotonic clock.
        time_unix_nano: The same moment by the wall clock.
        points: By series.
        absent: Where those series last stood that this look could not read: a window that begins here begins there.
        before: Where those counters stood before they were last read whose source has a slower cadence than samples: until
            it is read again, their rate is the one over that time, told again.
    """

    number: int
    at: float
    time_unix_nano: int
    points: dict[Series, Point]
    absent: Mapping[Series, Point] = field(default_factory=dict)
    before: Mapping[Series, Point] = field(default_factory=dict)


DERIVED: dict[str, list[Metric]] = {}
for _metric in METRICS:
    if _metric.derivation is not None:
        DERIVED.setdefault(_metric.derivation.of.name, []).append(_metric)


class Siblings:
    """The series of other metrics with the same attributes, made once each."""

    def __init__(self) -> None:
        self._known: dict[tuple[Series, str], Series] = {}
        self._whole: dict[str, Series] = {}

    def of(self, series: Series, metric: Metric) -> Series:
        """The series of ``metric`` that goes with this one; the same object each time."""
        key = (series, metric.name)
        if key not in self._known:
            self._known[key] = series.of(metric)
        return self._known[key]

    def forget(self) -> None:
        """Begin anew: they are made again where they are needed."""
        self._known.clear()

    def partner(self, series: Series, metric: Metric, points: Mapping[Series, Point]) -> Point | None:
        """The point of ``metric`` that goes with a series: of the same device, else of the whole."""
        point = points.get(self.of(series, metric))
        return point or points.get(self._whole.setdefault(metric.name, Series(metric)))


siblings = Siblings()
