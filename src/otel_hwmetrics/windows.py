# SPDX-License-Identifier: Apache-2.0
"""From readings of a moment to what a window of time was like: totals, means, rates, shares.

An `Accumulator` takes every sample's readings and keeps two running sums a series: for a counter its growth, for a
gauge its integral over time. Either way a window is then the difference of two samples, however far apart, so each
consumer (every metric reader, the alerts) has windows of its own length, and nothing between two exports is missed.
Pure but for the accumulator's memory: time and data are arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from otel_hwmetrics.catalog import METRICS
from otel_hwmetrics.model import (
    Kind,
    Metric,
    Origin,
    Peak,
    Quotient,
    Rate,
    Ratio,
    Reading,
    Series,
    Share,
    Snapshot,
    Window,
)

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


_LONGEST_RIDGE = 512


def _raised(ridge: Ridge | None, value: float, at: float) -> Ridge:
    """The ridge with one more level; what is not higher than it no longer matters."""
    while ridge is not None and ridge.value <= value:
        ridge = ridge.older
    if ridge is not None and ridge.length >= _LONGEST_RIDGE:
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


FORGET_AFTER = 3600.0
"""Seconds after which a series that is told no more is forgotten."""
FORGET_EVERY = 600
"""Samples between two searches for such."""


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
    """

    number: int
    at: float
    time_unix_nano: int
    points: dict[Series, Point]
    absent: Mapping[Series, Point] = field(default_factory=dict)


_DERIVED: dict[str, list[Metric]] = {}
for _metric in METRICS:
    if _metric.derivation is not None:
        _DERIVED.setdefault(_metric.derivation.of.name, []).append(_metric)


class _Siblings:
    """The series of other metrics with the same attributes, made once each."""

    def __init__(self) -> None:
        self._known: dict[tuple[Series, str], Series] = {}
        self._whole: dict[str, Series] = {}

    def of(self, series: Series, metric: Metric) -> Series:
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


_siblings = _Siblings()


class _Counter:
    """A counter made monotone: its growth since a base, and a new base whenever it falls (reset, garbage).

    Args:
        metric: Whose ``origin`` says where the base is.
        raw: The first reading.
        at: When it was made.
        before: What the total was before it.
    """

    __slots__ = ("at", "base", "before", "observed", "raw")

    def __init__(self, metric: Metric, raw: float, at: float, before: float) -> None:
        self.base = raw if metric.origin is Origin.INSTRUMENT else type(raw)(0)
        self.raw = raw
        self.at = at
        self.observed = 0.0
        self.before = before + type(raw)(0)  # growth up to the last fall

    def advance(self, raw: float, at: float) -> Point:
        if raw < self.raw:
            # What was counted between the last reading and the fall is unknown: nothing is added for it, and the time
            # does not count either, or a rate over it would be too low.
            self.before += self.raw - self.base
            self.base = raw
        else:
            self.observed += max(0.0, at - self.at)
        self.raw, self.at = raw, at
        return Point(self.total, at, observed=self.observed)

    @property
    def total(self) -> float:
        return self.before + (self.raw - self.base)


class Accumulator:
    """Turns readings into samples. Used by one thread at a time; outlives a pipeline, so that totals never fall."""

    def __init__(self) -> None:
        self._counters: dict[Series, _Counter] = {}
        self._totals: dict[Series, float] = {}  # of counters that another accumulator or pipeline began
        self._last: dict[Series, tuple[int, Point]] = {}
        self._number = 0

    def _forget(self, at: float) -> None:
        """Let go of series that vanished long ago (interfaces, mounts, devices), but for the totals of counters."""
        for series, (_, last) in tuple(self._last.items()):
            if at - last.at < FORGET_AFTER:
                continue
            if series.metric.kind is Kind.COUNTER:
                if series.metric.origin is Origin.ZERO:
                    continue
                self._totals[series] = self._counters.pop(series).total
            del self._last[series]
        _siblings.forget()

    def pause(self) -> None:
        """Be ready for another pipeline: the time up to its first sample was not observed, and it counts from zero."""
        self._number += 1
        ours = [series for series in self._counters if series.metric.origin is Origin.PIPELINE]
        self._totals |= {series: self._counters.pop(series).total for series in ours}

    def heir(self) -> Accumulator:
        """One that goes on from these totals, for a forked child: the SDK's streams go on there, too."""
        heir = Accumulator()
        heir._totals = self._totals | {series: counter.total for series, counter in self._counters.items()}
        return heir

    def sample(self, readings: Iterable[Reading], at: float, time_unix_nano: int) -> Sample:
        """Join one moment's readings, and the quotients that follow from them, into a sample."""
        self._number += 1
        if self._number % FORGET_EVERY == 0:
            self._forget(at)
        points: dict[Series, Point] = {}
        self.extend(points, readings)
        for series in tuple(points):
            for metric in _DERIVED.get(series.metric.name, ()):
                if isinstance(metric.derivation, Quotient):
                    self._divide(points, series, metric, metric.derivation)
                elif isinstance(metric.derivation, Peak):
                    peak = _siblings.of(series, metric)
                    if peak not in points:  # read directly
                        points[peak] = self._peak(peak, points[series].value, points[series].at)
        absent = {series: last for series, (_, last) in self._last.items() if series not in points}
        return Sample(self._number, at, time_unix_nano, points, absent)

    def extend(self, points: dict[Series, Point], readings: Iterable[Reading]) -> None:
        """Add readings to the points of the sample in the making."""
        for series, value, at, since in readings:
            if series.metric.kind is Kind.COUNTER:
                counter = self._counters.get(series)
                if counter is None:
                    before = self._totals.get(series, 0)
                    counter = self._counters[series] = _Counter(series.metric, value, at, before)
                points[series] = counter.advance(value, at)
                self._last[series] = (self._number, points[series])
            elif isinstance(series.metric.derivation, Peak):
                points[series] = self._peak(series, value, at)
            elif series.metric.kind is Kind.GAUGE:
                points[series] = self._level(series, value, at, since)
            else:
                points[series] = Point(value, at)

    def _level(self, series: Series, value: float, at: float, since: float | None = None) -> Point:
        number, last = self._last.get(series, (0, None))
        # A level stands for the time since the sample before, and after a gap nothing is known of that time; a mean
        # says itself what it stands for.
        if last is None:
            seconds = 0.0 if since is None else max(0.0, at - since)
            point = Point(value, at, value * seconds, seconds)
        elif since is not None or number == self._number - 1:
            seconds = max(0.0, at - max(last.at, since or last.at))
            point = Point(value, at, last.integral + value * seconds, last.observed + seconds)
        else:
            point = Point(value, at, last.integral, last.observed)
        self._last[series] = (self._number, point)
        return point

    def _peak(self, series: Series, value: float, at: float) -> Point:
        _, last = self._last.get(series, (0, None))
        ridge = last.ridge if last is not None else None
        if ridge is None or at > last.at:  # type: ignore[union-attr]  # a ridge has a point; slow readings come again
            ridge = _raised(ridge, value, at)
        point = Point(value, at, ridge=ridge)
        self._last[series] = (self._number, point)
        return point

    def _divide(self, points: dict[Series, Point], series: Series, metric: Metric, quotient: Quotient) -> None:
        derived = _siblings.of(series, metric)
        divisor = _siblings.partner(series, quotient.by, points)
        if derived not in points and divisor is not None and divisor.value > 0:
            point = points[series]
            points[derived] = self._level(derived, point.value / divisor.value, point.at)


def between(earlier: Sample | None, later: Sample) -> Snapshot:
    """What the window between two samples was like.

    With no earlier sample, or one less than `SHORTEST` before, totals and levels are told; rates and shares are absent.
    """
    readings: list[Reading] = []
    shares: dict[Metric, list[tuple[Series, float]]] = {}
    for series, point in later.points.items():
        start = _before(series, earlier)
        if series.metric.kind is Kind.GAUGE:
            value = point.value if earlier is None else _over(start, point, earlier.at)
            readings.append(Reading(series, value, point.at))
            continue
        readings.append(Reading(series, point.value, point.at))
        if series.metric.kind is not Kind.COUNTER or start is None or point.at - start.at < SHORTEST:
            continue
        for metric in _DERIVED.get(series.metric.name, ()):
            derived = _siblings.of(series, metric)
            if derived in later.points:  # read directly
                continue
            if isinstance(metric.derivation, Share):
                shares.setdefault(metric, []).append((derived, point.value - start.value))
            elif earlier is not None:
                grown = _grown(series, metric, earlier, later)
                if grown is not None:
                    readings.append(Reading(derived, grown, point.at))
    for metric, parts in shares.items():
        readings.extend(_shares(metric, parts, later.at))
    window = Window(earlier.at if earlier is not None else later.at, later.at)
    return Snapshot(readings, window, later.time_unix_nano)


def _over(start: Point | None, end: Point, began: float) -> float:
    """What a gauge was over the window that began there: its mean, or its peak."""
    if end.ridge is not None:
        return end.ridge.since(start.at if start is not None else began)
    integral, observed = end.integral, end.observed
    if start is not None:
        integral, observed = integral - start.integral, observed - start.observed
    return integral / observed if observed > 0 else end.value


def _grown(series: Series, metric: Metric, earlier: Sample, later: Sample) -> float | None:
    """What follows from a counter's growth between two samples that have it."""
    start, end = _before(series, earlier), later.points[series]
    if start is None:
        return None
    growth = end.value - start.value
    if isinstance(metric.derivation, Rate):
        seconds = end.observed - start.observed
        return _rate(series, growth / seconds, metric.derivation, later.points) if seconds > 0 else None
    only = metric.derivation.only if isinstance(metric.derivation, Ratio) else None
    if isinstance(metric.derivation, Ratio) and (only is None or series.attributes.get(only[0]) == only[1]):
        return _ratio(_siblings.of(series, metric.derivation.by), growth, earlier, later)
    return None


def _before(series: Series, sample: Sample | None) -> Point | None:
    """Where a series stood at a sample, or last before it."""
    return None if sample is None else sample.points.get(series) or sample.absent.get(series)


def _rate(series: Series, per_second: float, derivation: Rate, points: Mapping[Series, Point]) -> float | None:
    if derivation.over is None:
        return per_second
    divisor = _siblings.partner(series, derivation.over, points)
    return per_second / divisor.value if divisor is not None and divisor.value > 0 else None


def _ratio(by: Series, growth: float, earlier: Sample, later: Sample) -> float | None:
    start, end = _before(by, earlier), later.points.get(by)
    if start is None or end is None or end.value <= start.value:
        return None
    return growth / (end.value - start.value)


def _shares(metric: Metric, parts: list[tuple[Series, float]], at: float) -> Iterable[Reading]:
    derivation = metric.derivation
    across = derivation.across if isinstance(derivation, Share) else ""
    wholes: dict[tuple[tuple[str, object], ...], float] = {}
    keyed = []
    for series, growth in parts:
        key = tuple(item for item in series.attributes.items() if item[0] != across)
        wholes[key] = wholes.get(key, 0.0) + growth
        keyed.append((key, series, growth))
    for key, series, growth in keyed:
        if wholes[key] > 0:
            yield Reading(series, growth / wholes[key], at)
