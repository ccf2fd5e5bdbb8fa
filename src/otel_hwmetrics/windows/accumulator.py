# SPDX-License-Identifier: Apache-2.0
"""From readings to samples: two running sums a series, whose differences are windows.

Pure but for the accumulator's memory: time and data are arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from otel_hwmetrics.model import Kind, Metric, Origin, Peak, Quotient, Reading, Series
from otel_hwmetrics.windows.samples import DERIVED, Point, Sample, raised, siblings

FORGET_AFTER = 3600.0
"""Seconds after which a series that is told no more is forgotten."""
FORGET_EVERY = 600
"""Samples between two searches for such."""


class Counter:
    """A counter made monotone: its growth since a base, and a new base whenever it falls (reset, garbage).

    Args:
        metric: Whose ``origin`` says where the base is.
        raw: The first reading.
        at: When it was made.
        before: What the total was before it.

    Attributes:
        raw: The last reading, as its source tells it.
        at: When it was made, in seconds of the monotonic clock.
    """

    __slots__ = ("at", "base", "before", "observed", "raw")

    def __init__(self, metric: Metric, raw: float, at: float, before: float) -> None:
        self.base = raw if metric.origin is Origin.INSTRUMENT else type(raw)(0)
        self.raw = raw
        self.at = at
        self.observed = 0.0
        self.before = before + type(raw)(0)  # growth up to the last fall

    def advance(self, raw: float, at: float) -> Point:
        """Take a reading."""
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
        """Its growth, and what it was before; as it is exported."""
        return self.before + (self.raw - self.base)


class Accumulator:
    """Turns readings into samples. Used by one thread at a time; outlives a pipeline, so that totals never fall."""

    def __init__(self) -> None:
        self._counters: dict[Series, Counter] = {}
        self._totals: dict[Series, float] = {}  # of counters that another accumulator or pipeline began
        self._last: dict[Series, tuple[int, Point]] = {}
        self._number = 0
        self._points: dict[Series, Point] = {}  # of the sample before

    def _forget(self, at: float) -> None:
        """Let go of series that vanished long ago (interfaces, mounts, devices), but for the totals of counters."""
        for series, (_, last) in tuple(self._last.items()):
            # What the sample before had did not vanish, however long ago that was: the job was stopped.
            if at - last.at < FORGET_AFTER or series in self._points:
                continue
            counter = self._counters.get(series)
            if counter is not None:
                if series.metric.origin is not Origin.INSTRUMENT:  # should it come again, it would be counted again
                    continue
                self._totals[series] = counter.total
                del self._counters[series]
            del self._last[series]
        siblings.forget()

    def pause(self) -> None:
        """Be ready for another pipeline: the time up to its first sample was not observed, and it counts from zero."""
        self._number += 1
        ours = [series for series in self._counters if series.metric.origin is Origin.PIPELINE]
        self._totals |= {series: self._counters.pop(series).total for series in ours}

    @property
    def totals(self) -> dict[Series, float]:
        """Where every counter stands that was ever met."""
        return self._totals | {series: counter.total for series, counter in self._counters.items()}

    @property
    def counters(self) -> Mapping[Series, Counter]:
        """Every counter that is read; the same object for a series as long as it is."""
        return self._counters

    def heir(self) -> Accumulator:
        """One that goes on from these totals, for a forked child: the SDK's streams go on there, too."""
        heir = Accumulator()
        heir._totals = self.totals
        return heir

    def sample(
        self,
        readings: Iterable[Reading],
        at: float,
        time_unix_nano: int,
        before: Mapping[Series, Point] = MappingProxyType({}),
    ) -> Sample:
        """Join one moment's readings, and the quotients that follow from them, into a sample.

        Args:
            readings: What was read.
            at: When, in seconds of the monotonic clock.
            time_unix_nano: The same moment by the wall clock.
            before: As in `Sample`.
        """
        self._number += 1
        if self._number % FORGET_EVERY == 0:
            self._forget(at)
        points: dict[Series, Point] = {}
        self.extend(points, readings)
        for series in tuple(points):
            for metric in DERIVED.get(series.metric.name, ()):
                if isinstance(metric.derivation, Quotient):
                    self._divide(points, series, metric, metric.derivation)
                elif isinstance(metric.derivation, Peak):
                    peak = siblings.of(series, metric)
                    if peak not in points:  # read directly
                        points[peak] = self._peak(peak, points[series].value, points[series].at)
        self._points = points
        absent = {series: last for series, (_, last) in self._last.items() if series not in points}
        return Sample(self._number, at, time_unix_nano, points, absent, before)

    def extend(self, points: dict[Series, Point], readings: Iterable[Reading]) -> None:
        """Add readings to the points of the sample in the making."""
        known = self._points
        for series, value, at, since in readings:
            last = known.get(series)
            if last is not None and last.at == at and self._told_again(series, value, last):
                points[series] = last  # by a slow reader, between two looks of its own
                self._last[series] = (self._number, last)
            elif series.metric.kind is Kind.COUNTER:
                counter = self._counters.get(series)
                if counter is None:
                    before = self._totals.get(series, 0)
                    counter = self._counters[series] = Counter(series.metric, value, at, before)
                points[series] = counter.advance(value, at)
                self._last[series] = (self._number, points[series])
            elif isinstance(series.metric.derivation, Peak):
                points[series] = self._peak(series, value, at)
            elif series.metric.kind is Kind.GAUGE:
                points[series] = self._level(series, value, at, since)
            else:
                points[series] = Point(value, at)

    def _told_again(self, series: Series, value: float, last: Point) -> bool:
        counter = self._counters.get(series)
        return value == (last.value if counter is None else counter.raw)

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
            ridge = raised(ridge, value, at)
        point = Point(value, at, ridge=ridge)
        self._last[series] = (self._number, point)
        return point

    def _divide(self, points: dict[Series, Point], series: Series, metric: Metric, quotient: Quotient) -> None:
        derived = siblings.of(series, metric)
        divisor = siblings.partner(series, quotient.by, points)
        if derived not in points and divisor is not None and divisor.value > 0:
            point = points[series]
            points[derived] = self._level(derived, point.value / divisor.value, point.at)
