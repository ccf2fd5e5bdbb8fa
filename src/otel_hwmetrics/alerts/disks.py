# SPDX-License-Identifier: Apache-2.0
"""Disks that fill up, and whether the next checkpoint fits."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median_low

from otel_hwmetrics.alerts.ahead import TimeToFull
from otel_hwmetrics.alerts.conditions import Condition, Finding, Level, Totals, Watcher
from otel_hwmetrics.alerts.rule import show_bytes, show_seconds
from otel_hwmetrics.alerts.subjects import Memory, Subject
from otel_hwmetrics.catalog import system, training
from otel_hwmetrics.model import Attribute, Snapshot, Unit
from otel_hwmetrics.stepclock import CHECKPOINT


@dataclass(frozen=True)
class DiskFull(Condition):
    """Seconds until a filesystem is full, by its trend; 0 where the next checkpoint does not fit.

    How large a checkpoint is is learned from the phases in which one is written: by so much less was then free, or within
    half a minute after. Others write to a shared filesystem at the same time, so that it is the middle one of the last three
    that counts, and of two the smaller one.

    Attributes:
        seconds: How much of the past tells the trend.
    """

    also = (system.FILESYSTEM_USAGE,)

    seconds: float

    @property
    def unit(self) -> Unit:
        """Seconds."""
        return Unit.SECOND

    @property
    def evidence(self) -> tuple[str, ...]:
        """What is going to happen, in words; the bounds of the forecast, what is left now, how large a checkpoint is."""
        return ("outlook", "soonest_seconds", "latest_seconds", "left_bytes", "checkpoint_bytes")

    def watcher(self, totals: Totals) -> Watcher:
        """Somebody who looks, and remembers."""
        return _Disks(TimeToFull(_FREE, self.seconds).watcher(totals), _FREE.watcher(totals))

    def __str__(self) -> str:
        return (
            f"{TimeToFull(_FREE, self.seconds)}; 0 where less is left than was seen to go while {training.PHASE.name} was "
            f"{CHECKPOINT}"
        )


_FREE = Level(system.FILESYSTEM_USAGE, {system.FILESYSTEM_STATE: "free", system.FILESYSTEM_MODE: "rw"})

_LEAST_CHECKPOINT = 1 << 20
"""Bytes from which what a filesystem lost in a checkpoint's phase is taken for the checkpoint."""
_CHECKPOINTS = 3
_SETTLED = 30.0
"""Seconds after a checkpoint until its filesystem has surely been looked at again."""


class _Checkpoints:
    """How large checkpoints are on one filesystem."""

    __slots__ = ("_before", "_ended", "_lowest", "_sizes")

    def __init__(self) -> None:
        self._before: float | None = None  # free before the checkpoint; None while none is under way
        self._lowest = 0.0
        self._ended: float | None = None
        self._sizes: list[float] = []

    @property
    def size(self) -> float:
        """Of a usual one; 0 while none is known."""
        return median_low(self._sizes) if self._sizes else 0.0

    def look(self, now: float, free: float, *, writing: bool) -> None:
        if self._before is not None:
            self._lowest = min(self._lowest, free)
            if self._ended is None and not writing:
                self._ended = now
            if self._ended is not None and (writing or now - self._ended >= _SETTLED):
                self._learn(self._before - self._lowest)
        if self._before is None and writing:
            self._before, self._lowest = free, free

    def _learn(self, size: float) -> None:
        if size >= _LEAST_CHECKPOINT:
            self._sizes = [*self._sizes, size][-_CHECKPOINTS:]
        self._before = self._ended = None


class _Disks:
    def __init__(self, forecaster: Watcher, free: Watcher) -> None:
        self._forecaster = forecaster
        self._free = free
        self._checkpoints = Memory(_Checkpoints)

    def look(self, snapshot: Snapshot) -> dict[Subject, Finding]:
        writing = any(
            reading.value and reading.attributes.get(training.PHASE_NAME) == CHECKPOINT
            for reading in snapshot.of(training.PHASE)
        )
        forecasts = self._forecaster.look(snapshot)
        found: dict[Subject, Finding] = {}
        for subject, finding in self._free.look(snapshot).items():
            free = finding.value or 0.0
            checkpoints = self._checkpoints.of(subject)
            if checkpoints is None:
                continue
            checkpoints.look(snapshot.window.end, free, writing=writing)
            size = checkpoints.size
            forecast = forecasts.get(subject, Finding(None))
            if free < size and not writing:
                evidence: dict[str, Attribute] = {"left_bytes": round(free), "checkpoint_bytes": round(size)}
                outlook = f"the next checkpoint takes {show_bytes(size)} and does not fit"
                found[subject] = Finding(0.0, {"outlook": outlook, **evidence})
            elif forecast.value is not None:
                found[subject] = Finding(forecast.value, {"outlook": _in_words(forecast), **forecast.evidence})
            else:
                found[subject] = forecast
        return found


def _in_words(forecast: Finding) -> str:
    if not forecast.value:
        return "it is full"
    soonest, latest = (show_seconds(float(forecast.evidence[f"{word}_seconds"])) for word in ("soonest", "latest"))
    return (
        f"it is full in about {show_seconds(forecast.value)}, between {soonest} and {latest}, if it goes on like this"
    )
