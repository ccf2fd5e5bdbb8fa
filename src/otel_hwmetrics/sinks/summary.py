# SPDX-License-Identifier: Apache-2.0
"""What the hardware did while a training span was open, summed up on the span as it runs.

A span is frozen before anybody hears of its end
(https://github.com/open-telemetry/opentelemetry-python/issues/5614), so the sums are set while it is open: after each
sample on a young span, more seldom on an old one, and on one of `training_span` once more at its very end.

Sums are differences of running totals, as windows are; a span that began between two samples is given its part of what
was between them.
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from opentelemetry.trace import Span

from otel_hwmetrics.catalog import summary as rows
from otel_hwmetrics.catalog.summary import Figure
from otel_hwmetrics.model import Snapshot, Unit
from otel_hwmetrics.sinks.meters import PART, WHOLE, Key, levels_of, peaks_of, sums_of
from otel_hwmetrics.sinks.tracker import SpanTracker

MOST_SPANS = 32
"""Training spans that are summed up at once, the innermost ones; nobody nests as deep."""
SLOWEST = 10.0
"""Seconds between two updates of an old span, at most."""
SHARE_OF_ITS_AGE = 60
"""A span is updated whenever it has grown older by such a part of its age."""
PATIENCE = 0.01
"""Share of its own length that the end of a training span may wait for a last look at the machine."""


class Tick(NamedTuple):
    """Where everything stands at one look.

    Attributes:
        time_unix_nano: When.
        sums: Totals, by figure and by what they are added up over.
        peaks: The highest level since the look before.
        levels: The level of the moment.
    """

    time_unix_nano: int
    sums: Mapping[Key, float]
    peaks: Mapping[Figure, float]
    levels: Mapping[Figure, float]


class _Sum:
    """The sums of one span."""

    __slots__ = ("_at", "_base", "_peaks", "_since", "_sums", "due")

    def __init__(self, span: Span, before: Tick | None, tick: Tick) -> None:
        began = getattr(span, "start_time", None) or tick.time_unix_nano
        self._since = max(began, tick.time_unix_nano if before is None else before.time_unix_nano)
        self._at = tick.time_unix_nano
        self._base = dict(tick.sums)
        self._sums = tick.sums
        self._peaks = dict(tick.levels)
        # Where nothing was known before, there is nothing to tell before the next look.
        self.due = tick.time_unix_nano + (before is None)
        if before is not None and before.time_unix_nano < tick.time_unix_nano:
            part = (began - before.time_unix_nano) / (tick.time_unix_nano - before.time_unix_nano)
            for key, total in before.sums.items():
                self._base[key] = total + min(1.0, max(0.0, part)) * (tick.sums.get(key, total) - total)

    def add(self, tick: Tick) -> None:
        """Take one more look into account."""
        for key in tick.sums.keys() - self._base.keys():
            self._base[key] = tick.sums[key]  # what comes late is known from there on
        self._at = tick.time_unix_nano
        self._sums = tick.sums
        for figure, peak in tick.peaks.items():
            self._peaks[figure] = max(peak, self._peaks.get(figure, peak))

    def attributes(self) -> dict[str, float]:
        """What is told of the span."""
        grown: dict[Figure, dict[tuple[str, ...], float]] = {}
        for key, total in self._sums.items():
            grown.setdefault(key.figure, {})[key.over] = total - self._base[key]
        figures = {figure: value for figure, parts in grown.items() if (value := _joined(figure, parts)) is not None}
        figures[rows.SUMMED_TIME] = max(0.0, (self._at - self._since) / 1e9)
        return {
            figure.name: round(value) if figure.unit is Unit.BYTE else float(value)
            for figure, value in (figures | self._peaks).items()
        }


def _joined(figure: Figure, parts: Mapping[tuple[str, ...], float]) -> float | None:
    """One value of what was added up over several things."""
    if WHOLE in parts:
        return parts[PART] / parts[WHOLE] if PART in parts and parts[WHOLE] > 0 else None
    if figure is rows.THROTTLED_TIME:
        worst: dict[str, float] = {}
        for (device, _), seconds in parts.items():
            worst[device] = max(seconds, worst.get(device, 0.0))
        return sum(worst.values())
    if figure in (rows.STALL_CPU, rows.STALL_MEMORY, rows.STALL_IO):
        return parts.get(("cgroup",), parts.get(("host",)))
    return sum(parts.values())


class Summaries:
    """Keeps the sums on the training spans current.

    Args:
        tracker: Knows the open training spans, and calls when one of `training_span` is about to end.
        patience: Seconds that the end of a span waits for a last look at the machine, at most.
        time_ns: The wall clock.
    """

    def __init__(self, tracker: SpanTracker, patience: float, time_ns: Callable[[], int] = time.time_ns) -> None:
        self._tracker = tracker
        self._time_ns = time_ns
        self._fresh: Callable[[float], object] | None = None
        self._patience = patience
        self._last: Tick | None = None
        self._spans: weakref.WeakKeyDictionary[Span, _Sum] = weakref.WeakKeyDictionary()
        self._parting: deque[tuple[int, Span]] = deque()  # since when each waits

    def start(self, fresh: Callable[[float], object]) -> None:
        """Be called at the end of each `training_span`.

        Args:
            fresh: Has the machine looked at, waiting so many seconds at most.
        """
        self._fresh = fresh
        self._tracker.part = self.part

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Take a regular look into account. Called on the sampler's thread."""
        tick = self._tick(snapshot)
        for span in self._tracker.watched(MOST_SPANS):
            known = self._spans.get(span)
            if known is None:
                known = self._spans[span] = _Sum(span, self._last, tick)
            else:
                known.add(tick)
            age = tick.time_unix_nano - (getattr(span, "start_time", None) or tick.time_unix_nano)
            if tick.time_unix_nano >= known.due:
                known.due = tick.time_unix_nano + min(round(SLOWEST * 1e9), age // SHARE_OF_ITS_AGE)
                _tell(span, known)
        self._last = tick
        self._see_off(tick)

    def glance(self, snapshot: Callable[[], Snapshot]) -> None:
        """Take a look between two regular ones into account, if a span waits for it. Called on the sampler's thread."""
        if self._parting:
            self._see_off(self._tick(snapshot()))

    def part(self, span: Span) -> None:
        """A span is about to end: sum it up to this moment. Called on the training's thread, which waits for it.

        One that was not there at any sample is too short for sums, and nothing waits for it. Where the wait is over before
        the machine was looked at, it is told what is known.
        """
        began = getattr(span, "start_time", None)
        if began is None or self._fresh is None or span not in self._spans:
            return
        now = self._time_ns()
        self._parting.append((now, span))
        self._fresh(min(self._patience, PATIENCE * (now - began) / 1e9))
        known = self._spans.pop(span, None)
        if known is not None:
            _tell(span, known)

    def _see_off(self, tick: Tick) -> None:
        for _ in range(len(self._parting)):
            since, span = self._parting.popleft()
            if since > tick.time_unix_nano:  # a regular look that was under way, older than what is waited for
                self._parting.append((since, span))
                continue
            known = self._spans.get(span)
            if known is not None and span.is_recording():
                known.add(tick)
                _tell(span, known)
                self._spans.pop(span, None)

    def _tick(self, snapshot: Snapshot) -> Tick:
        before = self._last.sums if self._last is not None else {}
        sums = {**before, **sums_of(snapshot, before)}
        return Tick(snapshot.time_unix_nano, sums, peaks_of(snapshot), levels_of(snapshot))


def _tell(span: Span, known: _Sum) -> None:
    if span.is_recording():
        span.set_attributes(known.attributes())
