# SPDX-License-Identifier: Apache-2.0
"""From two samples to what the time between them was like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from otel_hwmetrics.model import Kind, Metric, Rate, Ratio, Reading, Series, Share, Snapshot, Window
from otel_hwmetrics.windows.samples import DERIVED, SHORTEST, Point, Sample, siblings


def between(earlier: Sample | None, later: Sample, kept: Mapping[str, float] = MappingProxyType({})) -> Snapshot:
    """What the window between two samples was like.

    With no earlier sample, or one less than `SHORTEST` before, totals and levels are told; rates and shares are absent.

    Args:
        earlier: The one where it begins.
        later: The one where it ends.
        kept: As in `Snapshot`.
    """
    return _Difference(earlier, later, kept)


class _Difference(Snapshot):
    """A snapshot that works out a metric when it is asked for it: alerts ask for a few of hundreds, every second."""

    __slots__ = ("_earlier", "_groups", "_known", "_later")

    def __init__(self, earlier: Sample | None, later: Sample, kept: Mapping[str, float]) -> None:
        window = Window(earlier.at if earlier is not None else later.at, later.at)
        super().__init__((), window, later.time_unix_nano, kept)
        self._earlier = earlier
        self._later = later
        self._groups: dict[str, list[Series]] | None = None
        self._known: dict[str, tuple[Reading, ...]] = {}

    def of(self, metric: Metric) -> tuple[Reading, ...]:
        """Every reading of one metric; empty when there is none."""
        known = self._known.get(metric.name)
        if known is None:
            groups, derivation = self._groups or self._by_name(), metric.derivation
            # Most of what alerts ask for is of devices that are not there.
            there = metric.name in groups or (derivation is not None and derivation.of.name in groups)
            # Two threads may both work it out; they find the same.
            known = self._known[metric.name] = tuple(self._told(metric)) if there else ()
        return known

    def __iter__(self) -> Iterator[Reading]:
        metrics: dict[str, Metric] = {}
        for name, group in self._by_name().items():
            metrics[name] = group[0].metric
            metrics |= {metric.name: metric for metric in DERIVED.get(name, ())}
        for metric in metrics.values():
            yield from self.of(metric)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _by_name(self) -> dict[str, list[Series]]:
        if self._groups is None:
            groups: dict[str, list[Series]] = {}
            for series in self._later.points:
                groups.setdefault(series.metric.name, []).append(series)
            self._groups = groups
        return self._groups

    def _told(self, metric: Metric) -> Iterator[Reading]:
        groups, earlier, points = self._by_name(), self._earlier, self._later.points
        for series in groups.get(metric.name, ()):
            point = points[series]
            level = metric.kind is Kind.GAUGE and earlier is not None
            if level and earlier is not None:
                value = _over(_before(series, earlier, self._later), point, earlier.at)
            else:
                value = point.value
            yield Reading(series, value, point.at)
        if isinstance(metric.derivation, Rate | Ratio | Share) and earlier is not None:
            yield from self._followed(metric, groups.get(metric.derivation.of.name, ()), earlier)

    def _followed(self, metric: Metric, parents: Iterable[Series], earlier: Sample) -> Iterator[Reading]:
        """What follows from the growth of other series."""
        later = self._later
        parts: list[tuple[Series, float]] = []
        for series in parents:
            start, end = _before(series, earlier, later), later.points[series]
            derived = siblings.of(series, metric)
            if start is None or end.at - start.at < SHORTEST or derived in later.points:  # the last: read directly
                continue
            if isinstance(metric.derivation, Share):
                parts.append((derived, end.value - start.value))
                continue
            grown = _grown(series, metric, earlier, later)
            if grown is not None:
                yield Reading(derived, grown, end.at)
        yield from _shares(metric, parts, later.at)


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
    start, end = _before(series, earlier, later), later.points[series]
    if start is None:
        return None
    growth = end.value - start.value
    if isinstance(metric.derivation, Rate):
        seconds = end.observed - start.observed
        return _rate(series, growth / seconds, metric.derivation, later.points) if seconds > 0 else None
    only = metric.derivation.only if isinstance(metric.derivation, Ratio) else None
    if isinstance(metric.derivation, Ratio) and (only is None or series.attributes.get(only[0]) == only[1]):
        return _ratio(siblings.of(series, metric.derivation.by), growth, earlier, later)
    return None


def _before(series: Series, earlier: Sample, later: Sample) -> Point | None:
    """Where a series stood at a sample, or last before it; before its last look, where there was none since."""
    start = earlier.points.get(series) or earlier.absent.get(series)
    if later.before and start is later.points.get(series):
        return later.before.get(series, start)
    return start


def _rate(series: Series, per_second: float, derivation: Rate, points: Mapping[Series, Point]) -> float | None:
    if derivation.over is None:
        return per_second
    divisor = siblings.partner(series, derivation.over, points)
    return per_second / divisor.value if divisor is not None and divisor.value > 0 else None


def _ratio(by: Series, growth: float, earlier: Sample, later: Sample) -> float | None:
    start, end = _before(by, earlier, later), later.points.get(by)
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
