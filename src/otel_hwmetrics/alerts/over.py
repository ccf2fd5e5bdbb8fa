# SPDX-License-Identifier: Apache-2.0
"""A metric over a stretch of time: its mean, its extremes, how much it grew."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from otel_hwmetrics.alerts.conditions import MOST_SERIES, Condition, Finding, Readings, Totals, Watcher, Where
from otel_hwmetrics.alerts.rule import Side, show_seconds
from otel_hwmetrics.alerts.subjects import Subject
from otel_hwmetrics.model import Kind, Metric, Reading, Series, Snapshot, Unit, Window

PARTS = 60
"""Parts of a stretch of time that are kept: however long it is, memory is bounded, and its ends are so exact."""


class Aggregate(str, Enum):
    """What is made of the values of a stretch of time, by Prometheus' words for it.

    ``MEAN``, ``MIN``, ``MAX``: of the values. ``INCREASE``: how much a counter grew. ``RATE``: the same a second. The
    latter two are of counters alone, the others of anything else.
    """

    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    INCREASE = "increase"
    RATE = "rate"

    @property
    def of_counters(self) -> bool:
        """Whether it is of counters, and not of levels."""
        return self in (Aggregate.INCREASE, Aggregate.RATE)


class _Part(NamedTuple):
    began: float
    size: int
    total: float
    least: float
    most: float


_OF_PARTS: Mapping[Aggregate, Callable[[deque[_Part]], float]] = {
    Aggregate.MEAN: lambda parts: sum(part.total for part in parts) / sum(part.size for part in parts),
    Aggregate.MIN: lambda parts: min(part.least for part in parts),
    Aggregate.MAX: lambda parts: max(part.most for part in parts),
}


class _Levels:
    """The last values of one series that is no counter."""

    __slots__ = ("_aggregate", "_at", "_parts", "_seconds")

    def __init__(self, aggregate: Aggregate, seconds: float) -> None:
        self._aggregate = _OF_PARTS[aggregate]
        self._seconds = seconds
        self._parts: deque[_Part] = deque()
        self._at: float | None = None

    def add(self, at: float, value: float) -> float:
        """Take a value, give what there is now. A reading that is told again is no second one."""
        if at != self._at:
            self._at = at
            last = self._parts[-1] if self._parts else None
            if last is not None and at - last.began < self._seconds / PARTS:
                self._parts[-1] = _Part(
                    last.began, last.size + 1, last.total + value, min(last.least, value), max(last.most, value)
                )
            else:
                self._parts.append(_Part(at, 1, value, value, value))
            while len(self._parts) > 1 and self._parts[0].began <= at - self._seconds:
                self._parts.popleft()
        return self._aggregate(self._parts)


class Growth:
    """The last totals of one counter.

    Args:
        aggregate: `Aggregate.INCREASE` or `Aggregate.RATE`.
        seconds: How much of the past counts.
        before: Its total before the first.
        at: When that was.
    """

    __slots__ = ("_rate", "_seconds", "_totals")

    def __init__(self, aggregate: Aggregate, seconds: float, before: float, at: float) -> None:
        self._rate = aggregate is Aggregate.RATE
        self._seconds = seconds
        self._totals: deque[tuple[float, float]] = deque([(at, before)])

    @property
    def last(self) -> float:
        """The last total."""
        return self._totals[-1][1]

    def add(self, at: float, value: float) -> float | None:
        """Take a total, give what there is now; None of a rate over no time."""
        totals = self._totals
        # The last one is the present; the one before it stays once it is far enough from its own predecessor.
        if len(totals) > 2 and totals[-1][0] - totals[-3][0] < self._seconds / PARTS:  # noqa: PLR2004 - as said
            del totals[-2]
        totals.append((at, value))
        while len(totals) > 2 and totals[1][0] <= at - self._seconds:  # noqa: PLR2004 - where it stood, and stands
            totals.popleft()
        began, before = totals[0]
        if not self._rate:
            return value - before
        return (value - before) / (at - began) if at > began else None


def stood(reading: Reading, window: Window, totals: Totals) -> tuple[float, float]:
    """Where a counter stood before it was first read, and when.

    What comes into being while we look began at nothing: the first error of a kind is growth. What is there at a first
    look, which has no window, may have been there for as long as the process.
    """
    if not window.seconds:
        return reading.value, reading.at
    return totals.get(reading.series, 0.0), min(window.start, reading.at)


_PER_SECOND = {unit.value for unit in Unit} | {f"{Unit.SECOND.value}/s"}


@dataclass(frozen=True)
class Over(Condition):
    """What is made of a metric's values over the last seconds.

    Attributes:
        metric: Which.
        aggregate: What is made of them.
        seconds: Of how long.
        where: Attribute values that the readings must have.
        side: Of several series of a subject the one that is furthest on this side counts; growth is added up.

    Raises:
        ValueError: The aggregate is not of such metrics, or of no time.
    """

    metric: Metric
    aggregate: Aggregate
    seconds: float
    where: Where = field(default_factory=dict, hash=False)
    side: Side = Side.ABOVE

    def __post_init__(self) -> None:
        counts = self.metric.kind is Kind.COUNTER
        if self.aggregate.of_counters != counts:
            takes = ", ".join(each.value for each in Aggregate if each.of_counters == counts)
            raise ValueError(
                f"{self.metric.name} is {'a counter' if counts else 'no counter'}, and has no {self.aggregate.value}; "
                f"it takes {takes}"
            )
        if not 0 < self.seconds < math.inf:
            raise ValueError("it takes more than 0 s, and less than for ever")
        if self.aggregate is Aggregate.RATE and f"{self.metric.unit.value}/s" not in _PER_SECOND:
            raise ValueError(
                f"{self.metric.name} is in {self.metric.unit.value}, and has no rate; it takes {Aggregate.INCREASE.value}"
            )

    @property
    def unit(self) -> Unit:
        """The metric's; of a rate that a second: seconds a second are a ratio."""
        if self.aggregate is not Aggregate.RATE:
            return self.metric.unit
        return Unit.RATIO if self.metric.unit is Unit.SECOND else Unit(f"{self.metric.unit.value}/s")

    def watcher(self, totals: Totals) -> Watcher:
        """Somebody who looks, and remembers."""
        return _Over(self, totals)

    def __str__(self) -> str:
        what = {"increase": "growth", "rate": "growth a second"}.get(self.aggregate.value, self.aggregate.value)
        return f"the {what} of {Readings(self.metric, self.where)} over {show_seconds(self.seconds)}"


class _Over:
    def __init__(self, condition: Over, totals: Totals) -> None:
        self._condition = condition
        self._readings = Readings(condition.metric, condition.where)
        self._totals = totals
        self._known: dict[Series, _Levels | Growth] = {}
        self._forgot = False  # whether of any series

    def look(self, snapshot: Snapshot) -> dict[Subject, Finding]:
        condition = self._condition
        readings = list(self._readings.of(snapshot))
        if len(self._known) > MOST_SERIES:
            self._forget({reading.series for _, reading in readings})
        found: dict[Subject, float] = {}
        for subject, reading in readings:
            memory = self._known.get(reading.series)
            if memory is None:
                memory = self._known[reading.series] = self._new(reading, snapshot.window)
            value = memory.add(reading.at, reading.value)
            if value is None:
                continue
            if subject not in found:
                found[subject] = value
            elif condition.aggregate.of_counters:
                found[subject] += value
            else:
                found[subject] = (max if condition.side is Side.ABOVE else min)(found[subject], value)
        return {subject: Finding(value) for subject, value in found.items()}

    def _new(self, reading: Reading, window: Window) -> _Levels | Growth:
        condition = self._condition
        if not condition.aggregate.of_counters:
            return _Levels(condition.aggregate, condition.seconds)
        before, at = stood(reading, window, self._totals)
        # What was forgotten and comes again did not begin at nothing.
        return Growth(condition.aggregate, condition.seconds, reading.value if self._forgot else before, at)

    def _forget(self, present: set[Series]) -> None:
        self._known = {series: memory for series, memory in self._known.items() if series in present}
        self._forgot = True
