# SPDX-License-Identifier: Apache-2.0
"""The nouns of the house: what a metric is, and what one look at the machine gives.

Everything else passes these around: a source gives readings, the sampler joins them into samples and snapshots,
instruments, alerts and sinks take snapshots. Values are SI throughout (bytes, seconds, watts, joules, degrees
Celsius, ratios between 0 and 1); whoever reads the hardware converts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

from otel_hwmetrics import flat

Attribute = str | int | float | bool
"""The value of one attribute, as OpenTelemetry allows it on a metric."""


class Unit(str, Enum):
    """A unit of measure by its UCUM code, as OpenTelemetry writes it (https://ucum.org)."""

    RATIO = "1"
    BYTE = "By"
    BYTE_PER_SECOND = "By/s"
    SECOND = "s"
    WATT = "W"
    JOULE = "J"
    CELSIUS = "Cel"
    HERTZ = "Hz"
    RPM = "rpm"
    ALERT = "{alert}"
    ALLOCATION = "{allocation}"
    CHILD = "{child}"
    CONTEXT_SWITCH = "{context_switch}"
    CPU = "{cpu}"
    ERROR = "{error}"
    ERROR_PER_SECOND = "{error}/s"
    EVENT = "{event}"
    FAULT = "{fault}"
    FILE_DESCRIPTOR = "{file_descriptor}"
    LANE = "{lane}"
    LINE = "{line}"
    LINK = "{link}"
    OPERATION = "{operation}"
    OPERATION_PER_SECOND = "{operation}/s"
    PACKET = "{packet}"
    PERIOD = "{period}"
    PROCESS = "{process}"
    READING = "{reading}"
    ROW = "{row}"
    SAMPLE = "{sample}"
    STEP = "{step}"
    THREAD = "{thread}"
    TOKEN = "{token}"  # noqa: S105 - of text
    TRANSITION = "{transition}"


class Kind(Enum):
    """The kind of a metric, which is the kind of its OpenTelemetry instrument, and what is exported for it.

    ``COUNTER``: a sum that only grows; the total so far. ``UP_DOWN_COUNTER``: a sum that may shrink; what there is
    now. ``GAUGE``: no sum; the mean over the window (see `Window`). ``HISTOGRAM``: how often there were values of each
    size; they are recorded one by one, so samples, snapshots and alerts have none of it.
    """

    COUNTER = "counter"
    UP_DOWN_COUNTER = "updowncounter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Origin(Enum):
    """Where a counter's zero lies.

    ``INSTRUMENT``: at the first reading after `instrument()`, for what the hardware or kernel has been counting since
    boot; else the SDK's first delta would hold the machine's whole life. ``ZERO``: where its subject began, for what
    lives no longer than this process. ``PIPELINE``: likewise, for what every pipeline of this process counts anew.
    """

    INSTRUMENT = "instrument"
    ZERO = "zero"
    PIPELINE = "pipeline"


@dataclass(frozen=True)
class Rate:
    """A gauge that is the growth of a counter over the window, per second and, if told, per unit of another metric."""

    of: Metric
    over: Metric | None = None


@dataclass(frozen=True)
class Ratio:
    """A gauge that is the growth of a counter divided by that of another of the same device, over the window.

    What one operation took on average, in bytes or seconds; absent while there was none.

    Attributes:
        of: What is divided.
        by: What it is divided by.
        only: An attribute and its value, where the ratio says something of these series alone.
    """

    of: Metric
    by: Metric
    only: tuple[str, Attribute] | None = None


@dataclass(frozen=True)
class Share:
    """A gauge that is one series' part of the growth of all series of a counter that differ only in ``across``."""

    of: Metric
    across: str


@dataclass(frozen=True)
class Quotient:
    """A gauge that is one metric divided by another of the same device; the mean over the window of each moment's."""

    of: Metric
    by: Metric


@dataclass(frozen=True)
class Peak:
    """A gauge that is the highest level of another metric over the window.

    As high as samples saw it; a source that knows more (a driver's own ring of samples) reads the peak directly.
    """

    of: Metric


Derivation = Rate | Ratio | Share | Quotient | Peak

_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")


@dataclass(frozen=True)
class Metric:
    """One row of the catalog: what is measured, whoever measures it.

    Attributes:
        name: From the semantic conventions, or below ``hwmetrics.``.
        kind: Decides the instrument and what is exported.
        unit: SI.
        description: One sentence; the conventions' own words for their metrics.
        attributes: Every attribute key that a reading of it may have.
        integer: Whether values are exported as integers, as the conventions say for counts and bytes.
        origin: Where the zero lies; counters only.
        derivation: How it follows from other metrics; a source may still read it directly where those are missing.
        detail: Read and judged like any other, but exported only when the option ``metrics`` asks for it.
        boundaries: Between the buckets, rising; histograms only. Whoever exports may choose others.

    Raises:
        ValueError: The row contradicts itself; the message says how.
    """

    name: str
    kind: Kind
    unit: Unit
    description: str
    attributes: tuple[str, ...] = ()
    integer: bool = False
    origin: Origin = Origin.INSTRUMENT
    derivation: Derivation | None = None
    detail: bool = False
    boundaries: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no metric name: lower-case words with dots between")
        if not self.description.endswith("."):
            raise ValueError(f"{self.name}: the description is a sentence and ends in a full stop")
        if bool(self.boundaries) != (self.kind is Kind.HISTOGRAM):
            raise ValueError(f"{self.name}: a histogram has boundaries, and nothing else does")
        if list(self.boundaries) != sorted(set(self.boundaries)):
            raise ValueError(f"{self.name}: its boundaries do not rise")
        if len(set(self.attributes)) != len(self.attributes):
            raise ValueError(f"{self.name}: an attribute is named twice")
        self._check_derivation()

    def _check_derivation(self) -> None:
        if self.derivation is not None and self.kind is not Kind.GAUGE:
            raise ValueError(f"{self.name}: only a gauge can follow from other metrics, not a {self.kind.value}")
        if isinstance(self.derivation, Rate | Ratio | Share) and self.derivation.of.kind is not Kind.COUNTER:
            raise ValueError(f"{self.name}: {self.derivation.of.name} is not a counter, so it has no growth")
        if isinstance(self.derivation, Ratio) and self.derivation.by.kind is not Kind.COUNTER:
            raise ValueError(f"{self.name}: {self.derivation.by.name} is not a counter, so it has no growth")
        if isinstance(self.derivation, Peak) and self.derivation.of.kind is Kind.COUNTER:
            raise ValueError(f"{self.name}: {self.derivation.of.name} is a counter, so it has no level to peak")
        if isinstance(self.derivation, Share) and self.derivation.across not in self.derivation.of.attributes:
            raise ValueError(f"{self.name}: {self.derivation.of.name} has no attribute {self.derivation.across}")

    def __hash__(self) -> int:
        return hash(self.name)


class Series:
    """One metric of one subject: a row and its attribute values, hashed once and then reused by every reading.

    Sources make their series when they meet a device and keep them; so a reading costs a tuple.
    """

    __slots__ = ("_hash", "_identity", "attributes", "metric")

    def __init__(self, metric: Metric, attributes: Mapping[str, Attribute] | None = None) -> None:
        self.metric = metric
        self.attributes: Mapping[str, Attribute] = MappingProxyType(dict(attributes or {}))
        self._identity = (metric.name, tuple(sorted(self.attributes.items())))
        self._hash = hash(self._identity)

    def of(self, metric: Metric) -> Series:
        """The series of another metric with the same attributes."""
        return Series(metric, self.attributes)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Series) and self._identity == other._identity)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Series({self.metric.name}, {dict(self.attributes)})"


class Reading(NamedTuple):
    """One value of one series.

    Attributes:
        series: What was read.
        value: In the metric's unit; always finite.
        at: When, in seconds of the monotonic clock.
        since: For a gauge whose value is itself a mean (or, of a `Peak`, the highest) over a stretch of time that ends
            at ``at``: where the stretch began. None for the level of a moment.
    """

    series: Series
    value: float
    at: float
    since: float | None = None

    @property
    def metric(self) -> Metric:
        """The row that this is a reading of."""
        return self.series.metric

    @property
    def attributes(self) -> Mapping[str, Attribute]:
        """The attribute values of its series."""
        return self.series.attributes


class Window(NamedTuple):
    """The stretch of time that a snapshot speaks of, in seconds of the monotonic clock.

    For an export it is the time since the same reader's previous export; for alerts, since the previous sample.
    """

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """Its length; 0 for a first look, which has no rates."""
        return self.end - self.start


class Snapshot:
    """Everything known of the machine over one window; immutable, so any thread may read it.

    Counters are totals, up-down counters are current, gauges are means over the window, rates are differences over
    it. What could not be read is not there.

    Args:
        readings: All of them.
        window: The time that they speak of.
        time_unix_nano: Its end by the wall clock.
        kept: When those metrics were read, by name, whose source has a slower cadence than samples: the same moment again
            means that they are told again. In seconds of the monotonic clock.
    """

    __slots__ = ("_by_metric", "kept", "time_unix_nano", "window")

    def __init__(
        self,
        readings: Iterable[Reading],
        window: Window,
        time_unix_nano: int,
        kept: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        by_metric: dict[str, list[Reading]] = {}
        for reading in readings:
            by_metric.setdefault(reading.metric.name, []).append(reading)
        self._by_metric = by_metric
        self.window = window
        self.time_unix_nano = time_unix_nano
        self.kept = kept

    def of(self, metric: Metric) -> tuple[Reading, ...]:
        """Every reading of one metric; empty when there is none."""
        return tuple(self._by_metric.get(metric.name, ()))

    def as_dict(self) -> dict[str, float]:
        """Every reading by a flat name, for loggers: ``self.log_dict``, W&B, MLflow, TensorBoard.

        Values are in the units of the catalog (SI). A series has the same name in every snapshot, made of the metric's name
        and its attribute values (`otel_hwmetrics.flat` has the rule, and its one exception): ``hw.temperature/gpu_0.gpu``,
        ``system.memory.usage/used``. Names have letters, digits and ``._-/`` alone, 250 at most, and no two series share one.

        Returns:
            A new dictionary, of floats; empty of what could not be read.
        """
        found: dict[str, list[Reading]] = {}
        for reading in self:
            found.setdefault(flat.flat_name(reading.series), []).append(reading)
        named: dict[str, float] = {}
        for name, readings in found.items():
            for reading in readings:
                alone = len(readings) == 1 or all(each.series == reading.series for each in readings)
                named[name if alone else flat.told_apart(name, reading.series)] = float(reading.value)
        return named

    def __iter__(self) -> Iterator[Reading]:
        for readings in self._by_metric.values():
            yield from readings

    def __len__(self) -> int:
        return sum(map(len, self._by_metric.values()))

    def __repr__(self) -> str:
        return f"<Snapshot of {len(self)} readings over {self.window.seconds:.3f} s>"
