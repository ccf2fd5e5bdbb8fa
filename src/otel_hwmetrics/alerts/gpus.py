# SPDX-License-Identifier: Apache-2.0
"""What rules of GPUs look at that takes more than one metric: XIDs by what they mean, links under load, siblings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from opentelemetry.semconv._incubating.attributes.hw_attributes import HwGpuTaskValues

from otel_hwmetrics.alerts.conditions import Condition, Finding, Readings, Totals, Watcher, Where
from otel_hwmetrics.alerts.over import Aggregate, Growth, stood
from otel_hwmetrics.alerts.rule import Severity, show, show_seconds
from otel_hwmetrics.alerts.subjects import Memory, Subject
from otel_hwmetrics.catalog import gpu, gpu_activity, gpu_health, gpu_links, xid
from otel_hwmetrics.model import Attribute, Metric, Reading, Snapshot, Unit, Window

HARMFUL_CAUSES: Final[frozenset[Attribute]] = frozenset(
    {
        *("sw_thermal", "hw_thermal", "thermal", "hw_power_brake", "board_limit", "reliability"),
        # AMD's.
        *("prochot", "socket_thermal", "vr_thermal", "memory_thermal"),
    }
)
"""What keeps clocks down because something is wrong. A power cap is how dense training runs; to idle is no harm."""

BUSY: Final = 0.5
"""Share of the time from which a GPU counts as loaded: an idle one lowers its clocks and links to save power."""
FASTEST_STATES: Final = 2
"""Performance states up to this one are those of compute; NVIDIA's desktop boards run kernels in P2."""

REST: Final = 5.0
"""Seconds for which a GPU may have nothing to do between two steps."""

GENERAL: Final[Where] = {gpu.HW_GPU_TASK: HwGpuTaskValues.GENERAL.value}
"""Of utilizations that of the multiprocessors, and not of what encodes videos."""


@dataclass(frozen=True)
class Xids(Condition):
    """How often a GPU had an XID of a severity over the last seconds, and what that means; each XID by itself.

    A GPU that had an XID 48 and now has an XID 79 is worse off, and whoever knows of the first must hear of the second.

    Attributes:
        severity: By the catalog of XIDs; a code that it does not have is a warning.
        seconds: Of how long.
    """

    also = (gpu_health.ERRORS,)

    severity: Severity
    seconds: float

    @property
    def unit(self) -> Unit:
        """Errors."""
        return Unit.ERROR

    @property
    def evidence(self) -> tuple[str, ...]:
        """The code, what it is called, what happened, and what to do about it."""
        return ("xid", "name", "meaning", "advice")

    def watcher(self, totals: Totals) -> Watcher:
        """Somebody who looks, and remembers."""
        return _Xids(self, totals)

    def __str__(self) -> str:
        return (
            f"the growth of {gpu_health.ERRORS.name} of each {gpu_health.XID} that is {self.severity.value} over "
            f"{show_seconds(self.seconds)}"
        )


class _Xids:
    def __init__(self, condition: Xids, totals: Totals) -> None:
        self._condition = condition
        self._readings = Readings(gpu_health.ERRORS)
        self._totals = totals
        self._counts = Memory(lambda: _Count(condition.seconds))

    def look(self, snapshot: Snapshot) -> dict[Subject, Finding]:
        found: dict[Subject, Finding] = {}
        for device, reading in self._readings.of(snapshot):
            found.setdefault(device, Finding(0.0))  # whoever tells of any errors is known to have none of these
            code = reading.attributes.get(gpu_health.XID)
            if isinstance(code, int) and _severity(code) is self._condition.severity:
                subject = device.part(gpu_health.XID, code)
                count = self._counts.of(subject)
                if count is not None:
                    found[subject] = Finding(count.add(reading, snapshot.window, self._totals), _meaning(code))
        return found


class _Count:
    """How often one GPU had one XID."""

    __slots__ = ("_growth", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._growth: Growth | None = None

    def add(self, reading: Reading, window: Window, totals: Totals) -> float:
        """Take a total, give how much it grew."""
        if self._growth is None:
            self._growth = Growth(Aggregate.INCREASE, self._seconds, *stood(reading, window, totals))
        return self._growth.add(reading.at, reading.value) or 0.0


def _meaning(code: int) -> Mapping[str, Attribute]:
    known = xid.XIDS.get(code)
    if known is None:
        unknown = "See the kernel log (dmesg) for the line with NVRM: Xid."
        return {"xid": code, "name": "unknown", "meaning": "NVIDIA's catalog does not have it.", "advice": unknown}
    return {"xid": code, "name": known.name, "meaning": known.meaning, "advice": known.advice}


def _severity(code: int) -> Severity:
    known = xid.XIDS.get(code)
    return Severity.WARNING if known is None else Severity(known.severity.value)


_TRANSFERS: Final = {1: 2.5, 2: 5.0, 3: 8.0, 4: 16.0, 5: 32.0, 6: 64.0, 7: 128.0}
"""Giga-transfers a second and lane by PCIe generation (https://pcisig.com/specifications)."""


@dataclass(frozen=True)
class PcieSpeed(Condition):
    """The speed of the PCIe link as a share of what GPU and slot can agree on; told only while the GPU is loaded."""

    also = (gpu_links.PCIE_GENERATION, gpu_links.PCIE_WIDTH)

    @property
    def unit(self) -> Unit:
        """A ratio."""
        return Unit.RATIO

    @property
    def evidence(self) -> tuple[str, ...]:
        """How it runs and how it could."""
        return ("generation", "width", "generation_limit", "width_limit")

    def watcher(self, totals: Totals) -> Watcher:
        """Somebody who looks."""
        del totals
        return _PcieSpeeds()

    def __str__(self) -> str:
        return (
            f"the speed that {gpu_links.PCIE_GENERATION.name} and {gpu_links.PCIE_WIDTH.name} give, as a share of what their "
            f"limits would, while {gpu.UTILIZATION.name} is {BUSY:g} or more"
        )


class _PcieSpeeds:
    def __init__(self) -> None:
        self._link = [
            Readings(metric)
            for metric in (
                gpu_links.PCIE_GENERATION,
                gpu_links.PCIE_WIDTH,
                gpu_links.PCIE_GENERATION_LIMIT,
                gpu_links.PCIE_WIDTH_LIMIT,
            )
        ]
        self._loaded = Loaded()

    def look(self, snapshot: Snapshot) -> dict[Subject, Finding]:
        parts = [dict(_values(readings, snapshot)) for readings in self._link]
        loaded = self._loaded.of(snapshot)
        found = self._loaded.resting(snapshot)
        for subject in loaded:
            values = [part.get(subject) for part in parts]
            speed = _share_of_speed(values)
            if speed is not None:
                evidence = {
                    word: int(value)
                    for word, value in zip(PcieSpeed().evidence, values, strict=True)
                    if value is not None
                }
                found[subject] = Finding(speed, evidence)
        return found


def _share_of_speed(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value]
    if len(numbers) < len(values):
        return None
    generation, width, generation_limit, width_limit = numbers
    now, best = _TRANSFERS.get(int(generation)), _TRANSFERS.get(int(generation_limit))
    return None if now is None or best is None else min(1.0, now * width / (best * width_limit))


class Loaded:
    """Which GPUs are at work: busy, and in a performance state of compute where they tell one."""

    def __init__(self) -> None:
        self._utilization = Readings(gpu.UTILIZATION, GENERAL)
        self._state = Readings(gpu_activity.PERFORMANCE_STATE)
        self._spells = Memory(_Spell)

    def of(self, snapshot: Snapshot) -> list[Subject]:
        """Those of a snapshot."""
        slow = {subject for subject, value in _values(self._state, snapshot) if value > FASTEST_STATES}
        busy = [subject for subject, value in _values(self._utilization, snapshot) if value >= BUSY]
        loaded = [subject for subject in busy if subject not in slow]
        for subject in loaded:
            spell = self._spells.of(subject)
            if spell is not None:
                spell.last = snapshot.window.end
        return loaded

    def resting(self, snapshot: Snapshot) -> dict[Subject, Finding]:
        """That nothing is found of those that were at work, are there, and have not been for a while; to be asked after `of`.

        A look between two steps is none at all, so that what is pending goes on where it stood. After longer it is over, or
        an alert would say that its GPU cannot be read.
        """
        found: dict[Subject, Finding] = {}
        for subject, _ in self._utilization.of(snapshot):
            spell = self._spells.of(subject)
            if spell is not None and spell.last is not None and snapshot.window.end - spell.last > REST:
                found[subject] = Finding(None)
        return found


class _Spell:
    """When a GPU was at work last, in seconds of the monotonic clock; None if it never was."""

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last: float | None = None


@dataclass(frozen=True)
class SlowerThanSiblings(Condition):
    """How far the clock of a loaded GPU is behind the median of its loaded siblings: the others of its model here."""

    also = (gpu_activity.CLOCK,)

    @property
    def unit(self) -> Unit:
        """A ratio."""
        return Unit.RATIO

    @property
    def evidence(self) -> tuple[str, ...]:
        """In words what else is different about it."""
        return ("difference",)

    def watcher(self, totals: Totals) -> Watcher:
        """Somebody who looks."""
        del totals
        return _Siblings()

    def __str__(self) -> str:
        return (
            f"how far {gpu_activity.CLOCK.name} with {gpu_activity.CLOCK_DOMAIN}=sm, else =graphics, is below the median of the "
            f"other GPUs of the same {gpu.HW_MODEL}, each while {gpu.UTILIZATION.name} is {BUSY:g} or more"
        )


_MARGIN_OF_NOTE: Final = 5.0
_SHARE_OF_NOTE: Final = 0.05


class _Siblings:
    def __init__(self) -> None:
        self._loaded = Loaded()
        # AMD's boards tell no clock of their compute units but the one that these share with all of graphics.
        self._clocks = [Readings(gpu_activity.CLOCK, {gpu_activity.CLOCK_DOMAIN: name}) for name in ("graphics", "sm")]
        self._heat = Readings(gpu.TEMPERATURE_MARGIN)
        self._power = Readings(gpu.POWER)
        self._causes = Readings(gpu_activity.THROTTLE_SHARE, {gpu_activity.THROTTLE_CAUSE: HARMFUL_CAUSES})

    def look(self, snapshot: Snapshot) -> dict[Subject, Finding]:
        clocks = {subject: value for clock in self._clocks for subject, value in _values(clock, snapshot)}
        loaded = [subject for subject in self._loaded.of(snapshot) if clocks.get(subject)]
        found = self._loaded.resting(snapshot)
        for subject in loaded:
            model = subject.attributes.get(gpu.HW_MODEL)
            others = [each for each in loaded if each != subject and each.attributes.get(gpu.HW_MODEL) == model]
            if others:
                usual = median(clocks[each] for each in others)
                behind = max(0.0, 1.0 - clocks[subject] / usual)
                difference = self._difference(subject, others, snapshot) if behind >= _SHARE_OF_NOTE else ""
                found[subject] = Finding(behind, {"difference": difference or "nothing else differs"})
        return found

    def _difference(self, subject: Subject, others: Sequence[Subject], snapshot: Snapshot) -> str:
        told = []
        throttled: dict[Subject, float] = {}
        for each, reading in self._causes.of(snapshot):
            throttled[each] = max(reading.value, throttled.get(each, 0.0))
        share, usual = _against(throttled, subject, others)
        if share - usual >= _SHARE_OF_NOTE:
            told.append(f"throttled {show(share, Unit.RATIO)} of the time, the others {show(usual, Unit.RATIO)}")
        margin, usual = _against(dict(_values(self._heat, snapshot)), subject, others)
        if usual - margin >= _MARGIN_OF_NOTE:
            told.append(f"{margin:.0f} °C from slowing down, the others {usual:.0f}")
        power, usual = _against(dict(_values(self._power, snapshot)), subject, others)
        if usual and abs(power / usual - 1) >= _SHARE_OF_NOTE:
            told.append(f"{show(power / usual, Unit.RATIO)} of the others' power")
        return "; ".join(told)


def _against(values: Mapping[Subject, float], subject: Subject, others: Sequence[Subject]) -> tuple[float, float]:
    """A GPU's value and the median of the others'; twice 0 where either cannot be had."""
    usual = [values[each] for each in others if each in values]
    return (values[subject], median(usual)) if subject in values and usual else (0.0, 0.0)


def _values(readings: Readings, snapshot: Snapshot) -> Iterator[tuple[Subject, float]]:
    for subject, reading in readings.of(snapshot):
        yield subject, reading.value


@dataclass(frozen=True)
class Coded(Condition):
    """The value of a metric that is a code, with its meaning.

    Attributes:
        metric: Which.
        word: What the meaning is called in the evidence.
        meanings: By code; one that is not there is told by its number.
    """

    metric: Metric
    word: str
    meanings: tuple[tuple[int, str], ...]

    @property
    def unit(self) -> Unit:
        """The metric's."""
        return self.metric.unit

    @property
    def evidence(self) -> tuple[str, ...]:
        """The meaning."""
        return (self.word,)

    def watcher(self, totals: Totals) -> Watcher:
        """Somebody who looks."""
        del totals
        return _Codes(self)

    def __str__(self) -> str:
        return self.metric.name


class _Codes:
    def __init__(self, condition: Coded) -> None:
        self._word = condition.word
        self._meanings = dict(condition.meanings)
        self._readings = Readings(condition.metric)

    def look(self, snapshot: Snapshot) -> dict[Subject, Finding]:
        return {
            subject: Finding(value, {self._word: self._meanings.get(int(value), f"{self._word} {value:g}")})
            for subject, value in _values(self._readings, snapshot)
        }
