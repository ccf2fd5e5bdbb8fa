# SPDX-License-Identifier: Apache-2.0
"""A GPU as readers see it, whoever made it: its series, each made once, and what can be believed of a driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar, cast

from otel_hwmetrics.model import Attribute, Metric, Series
from otel_hwmetrics.sources.base import Clock, Item
from otel_hwmetrics.sources.gpu.base import Identity

T = TypeVar("T")

Items = Iterator[Item]

_MOST_CELSIUS: Final = 250
# Beyond what any board can have; what drivers give instead of an error (all ones) is far beyond.


class Device:
    """A GPU, or a part of one. Used by the source's thread alone.

    Attributes:
        identity: Which one it is.
        clock: Stamps readings that know their own time.
    """

    def __init__(self, identity: Identity, clock: Clock) -> None:
        self.identity = identity
        self.clock = clock
        self._kept: dict[str, Any] = {}
        self._series: dict[tuple[object, ...], Series] = {}

    def keep(self, name: str, make: Callable[[], T]) -> T:
        """What a reader remembers of the device from one look to the next, made at the first."""
        if name not in self._kept:
            self._kept[name] = make()
        return cast("T", self._kept[name])

    def since_first(self, name: str, count: float) -> float:
        """What has been counted since the first look; after a reset of the hardware's counter, since that."""
        base = self.keep(name, lambda: count)
        if count < base:
            base = self._kept[name] = 0
        return count - base

    def series(self, metric: Metric, *pairs: tuple[str, Attribute]) -> Series:
        """The series of a metric of the device as a whole, with these attributes besides; the same object each time."""
        key = (metric.name, pairs)
        if key not in self._series:
            self._series[key] = Series(metric, {**self.identity.device(), **dict(pairs)})
        return self._series[key]

    def sensor(self, metric: Metric, kind: str, location: str, *pairs: tuple[str, Attribute]) -> Series:
        """Likewise of a sensor on it: of a ``kind`` (temperature, fan), at a ``location`` (gpu, memory, a number)."""
        key = (metric.name, kind, location, pairs)
        if key not in self._series:
            self._series[key] = Series(metric, {**self.identity.sensor(kind, location), **dict(pairs)})
        return self._series[key]


def within(value: float, most: float, what: str, *, least: float = 0) -> float:
    """The value, if the driver can have meant it.

    Raises:
        ValueError: It is a sentinel or garbage.
    """
    if not least <= value <= most:
        raise ValueError(f"the driver says {value} for {what}")
    return value


def ratio(percent: float, what: str) -> float:
    """Percent as a ratio; a driver's rounding may be a little above the whole.

    Raises:
        ValueError: It is a sentinel or garbage.
    """
    return min(within(percent, 101, what) / 100, 1.0)


def celsius(degrees: float) -> float:
    """Degrees, if there are such.

    Raises:
        ValueError: It is a sentinel or garbage.
    """
    return within(degrees, _MOST_CELSIUS, "temperature", least=-_MOST_CELSIUS)
