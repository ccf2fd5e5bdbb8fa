# SPDX-License-Identifier: Apache-2.0
"""What a rule says: a condition on a snapshot, how long it must hold, and how it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from types import MappingProxyType
from typing import Protocol

from opentelemetry.semconv._incubating.attributes.hw_attributes import HwTypeValues

from otel_hwmetrics.catalog import gpu
from otel_hwmetrics.model import Attribute, Metric, Series, Snapshot, Unit


class Severity(str, Enum):
    """How bad it is, by the words of Prometheus alerting practice."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class State(str, Enum):
    """Where an alert stands on one device.

    ``UNKNOWN``: nothing could be read. ``INACTIVE``: the condition does not hold. ``PENDING``: it holds, not yet for
    long enough. ``FIRING``: it has. ``RESOLVED``: it fired and does so no more; left again at the next look.
    """

    UNKNOWN = "unknown"
    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True)
class Subject:
    """What an alert is about: one device, or the host.

    Attributes:
        key: The device's ``hw.id``; empty for the host.
        attributes: The device's attributes, for the event.
    """

    key: str
    attributes: Mapping[str, Attribute] = field(default_factory=dict, compare=False, hash=False)


HOST = Subject("")


@lru_cache(maxsize=4096)
def subject_of(series: Series) -> Subject:
    """The device that a series is of. A sensor speaks for the device that it sits on."""
    attributes = series.attributes
    # A MIG instance has a parent, too, but is a device of its own; only a sensor has a location.
    sensor = gpu.HW_SENSOR_LOCATION in attributes
    key = attributes.get(gpu.HW_PARENT if sensor else gpu.HW_ID)
    if not isinstance(key, str):
        return HOST
    kept = {name: value for name, value in attributes.items() if name in gpu.DEVICE}
    if sensor:
        del kept[gpu.HW_PARENT]
        kept[gpu.HW_TYPE] = HwTypeValues.GPU.value
        kept[gpu.HW_NAME] = f"GPU {attributes.get(gpu.GPU_INDEX, '')}".strip()
    return Subject(key, MappingProxyType({**kept, gpu.HW_ID: key}))


class Condition(Protocol):
    """Something that has a value for each device of a snapshot."""

    @property
    def unit(self) -> Unit:
        """Of the values."""
        ...

    def values(self, snapshot: Snapshot) -> dict[Subject, float]:
        """The value for each device that has one; a device that could not be read is not there."""
        ...


@dataclass(frozen=True)
class Level:
    """The value of a metric.

    Attributes:
        metric: Which.
        where: Attribute values that the reading must have.
    """

    metric: Metric
    where: Mapping[str, Attribute] = field(default_factory=dict, hash=False)

    @property
    def unit(self) -> Unit:
        """The metric's."""
        return self.metric.unit

    def values(self, snapshot: Snapshot) -> dict[Subject, float]:
        """By device."""
        return {
            subject_of(reading.series): reading.value
            for reading in snapshot.of(self.metric)
            if self.where.items() <= reading.attributes.items()
        }


@dataclass(frozen=True)
class ShareOf:
    """A metric's value as a share of another one of the same device."""

    metric: Metric
    whole: Metric

    @property
    def unit(self) -> Unit:
        """A ratio."""
        return Unit.RATIO

    def values(self, snapshot: Snapshot) -> dict[Subject, float]:
        """By device; those that lack either value, or whose whole is 0, are not there."""
        wholes = {subject_of(reading.series).key: reading.value for reading in snapshot.of(self.whole)}
        return {
            subject: reading.value / wholes[subject.key]
            for reading in snapshot.of(self.metric)
            if wholes.get((subject := subject_of(reading.series)).key, 0) > 0
        }


@dataclass(frozen=True)
class Highest:
    """The highest of several conditions' values: a limit of one's own, and that of the machine, whichever is nearer.

    Raises:
        ValueError: Their units differ.
    """

    conditions: tuple[Condition, ...]

    def __post_init__(self) -> None:
        if len({condition.unit for condition in self.conditions}) != 1:
            raise ValueError("values of different units cannot be compared")

    @property
    def unit(self) -> Unit:
        """Of all of them."""
        return self.conditions[0].unit

    def values(self, snapshot: Snapshot) -> dict[Subject, float]:
        """By device; of those that have a value at all."""
        highest: dict[Subject, float] = {}
        for condition in self.conditions:
            for subject, value in condition.values(snapshot).items():
                highest[subject] = max(value, highest.get(subject, value))
        return highest


class Side(Enum):
    """On which side of its threshold a rule fires."""

    ABOVE = "above"
    BELOW = "below"


@dataclass(frozen=True)
class Rule:
    """One alert rule.

    Attributes:
        name: Also the stem of its options: ``alert_<name>``, ``alert_<name>_threshold``, ``alert_<name>_for``.
        severity: How bad it is.
        condition: What is looked at.
        side: Above or below the threshold.
        threshold: Strictly beyond this it holds; in the condition's unit.
        slack: How far back across the threshold it must come before a firing alert is resolved.
        for_seconds: How long it must hold before it fires.
        message: One sentence for people on what is the case; ``{device}``, ``{value}``, ``{threshold}`` and ``{beyond}``
            ("above 80 °C", resolved "no longer above 80 °C") are filled in.
        advice: What it may come to, and what to do about it; told when it fires.

    Raises:
        ValueError: The row contradicts itself.
    """

    name: str
    severity: Severity
    condition: Condition
    side: Side
    threshold: float
    slack: float
    for_seconds: float
    message: str
    advice: str = ""

    def __post_init__(self) -> None:
        if self.slack < 0 or self.for_seconds < 0:
            raise ValueError(f"{self.name}: slack and for_seconds cannot be negative")

    def holds(self, value: float) -> bool:
        """Whether the condition holds at this value."""
        return value > self.threshold if self.side is Side.ABOVE else value < self.threshold

    def clears(self, value: float) -> bool:
        """Whether a firing alert is resolved at this value."""
        if self.side is Side.ABOVE:
            return value <= self.threshold - self.slack
        return value >= self.threshold + self.slack
