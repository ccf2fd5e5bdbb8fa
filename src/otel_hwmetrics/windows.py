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
from otel_hwmetrics.model import Kind, Metric, Origin, Quotient, Rate, Reading, Series, Share, Snapshot, Window

SHORTEST = 0.1
"""Seconds that a window needs for rates: the kernel counts CPU time in steps of 10 ms, drivers energy in larger ones."""


class Point(NamedTuple):
    """Where one series stands at one sample.

    Attributes:
        value: The total of a counter, the level of anything else.
        at: When it was read, in seconds of the monotonic clock.
        integral: Level times time, summed over the samples so far.
        observed: The seconds that ``integral`` covers.
    """

    value: float
    at: float
    integral: float = 0.0
    observed: float = 0.0


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

    def partner(self, series: Series, metric: Metric, points: Mapping[Series, Point]) -> Point | None:
        """The point of ``metric`` that goes with a series: of the same device, else of the whole."""
        point = points.get(self.of(series, metric))
        return point or points.get(self._whole.setdefault(metric.name, Series(metric)))


_siblings = _Siblings()


class _Counter:
    """A counter made monotone: its growth since a base, and a new base whenever it falls (reset, wrap, garbage).

    Args:
        metric: Whose ``origin`` says where the base is.
        raw: The first reading.
        before: What the total was before it.
    """

    __slots__ = ("base", "before", "raw")

    def __init__(self, metric: Metric, raw: float, before: float) -> None:
        self.base = raw if metric.origin is Origin.INSTRUMENT else type(raw)(0)
        self.raw = raw
        self.before = before + type(raw)(0)  # growth up to the last fall

    def advance(self, raw: float) -> float:
        if raw < self.raw:
            # What was counted between the last reading and the fall is unknown: adding nothing understates it, by one
            # interval at most, and never invents.
            self.before += self.raw - self.base
            self.base = raw
        self.raw = raw
        return self.total

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
        points: dict[Series, Point] = {}
        self.extend(points, readings)
        for series in tuple(points):
            for metric in _DERIVED.get(series.metric.name, ()):
                if isinstance(metric.derivation, Quotient):
                    self._divide(points, series, metric, metric.derivation)
        absent = {series: last for series, (_, last) in self._last.items() if series not in points}
        return Sample(self._number, at, time_unix_nano, points, absent)

    def extend(self, points: dict[Series, Point], readings: Iterable[Reading]) -> None:
        """Add readings to the points of the sample in the making."""
        for series, value, at in readings:
            if series.metric.kind is Kind.COUNTER:
                counter = self._counters.get(series)
                if counter is None:
                    before = self._totals.get(series, 0)
                    counter = self._counters[series] = _Counter(series.metric, value, before)
                points[series] = Point(counter.advance(value), at)
                self._last[series] = (self._number, points[series])
            elif series.metric.kind is Kind.GAUGE:
                points[series] = self._level(series, value, at)
            else:
                points[series] = Point(value, at)

    def _level(self, series: Series, value: float, at: float) -> Point:
        number, last = self._last.get(series, (0, None))
        # A level stands for the time since the sample before; after a gap nothing is known of that time.
        if last is not None and number == self._number - 1:
            seconds = max(0.0, at - last.at)
            point = Point(value, at, last.integral + value * seconds, last.observed + seconds)
        elif last is not None:
            point = Point(value, at, last.integral, last.observed)
        else:
            point = Point(value, at)
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
        start = None if earlier is None else earlier.points.get(series) or earlier.absent.get(series)
        if series.metric.kind is Kind.GAUGE:
            value = point.value if earlier is None else _mean(start, point)
            readings.append(Reading(series, value, point.at))
            continue
        readings.append(Reading(series, point.value, point.at))
        if series.metric.kind is not Kind.COUNTER or start is None or point.at - start.at < SHORTEST:
            continue
        for metric in _DERIVED.get(series.metric.name, ()):
            derived = _siblings.of(series, metric)
            if derived in later.points:  # read directly
                continue
            growth = point.value - start.value
            if isinstance(metric.derivation, Share):
                shares.setdefault(metric, []).append((derived, growth))
            elif isinstance(metric.derivation, Rate):
                rate = _rate(series, growth / (point.at - start.at), metric.derivation, later.points)
                if rate is not None:
                    readings.append(Reading(derived, rate, point.at))
    for metric, parts in shares.items():
        readings.extend(_shares(metric, parts, later.at))
    window = Window(earlier.at if earlier is not None else later.at, later.at)
    return Snapshot(readings, window, later.time_unix_nano)


def _mean(start: Point | None, end: Point) -> float:
    integral, observed = end.integral, end.observed
    if start is not None:
        integral, observed = integral - start.integral, observed - start.observed
    return integral / observed if observed > 0 else end.value


def _rate(series: Series, per_second: float, derivation: Rate, points: Mapping[Series, Point]) -> float | None:
    if derivation.over is None:
        return per_second
    divisor = _siblings.partner(series, derivation.over, points)
    return per_second / divisor.value if divisor is not None and divisor.value > 0 else None


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
