# SPDX-License-Identifier: Apache-2.0
"""What is going to happen if it goes on like this: memory that fills up, memory that leaks.

When something is full is told by its trend over some minutes. A leak that fills a GPU in five is over before such a trend
has outvoted the flat past before it, so that shorter stretches are looked at as well; they are full of things that are no
leaks, and it takes more for them to be believed (`_Sudden`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from otel_hwmetrics.alerts.conditions import Condition, Finding, Totals, Watcher
from otel_hwmetrics.alerts.forecast import Envelope, Outlook, Point, leak, time_left, trend
from otel_hwmetrics.alerts.rule import show_seconds
from otel_hwmetrics.alerts.subjects import Memory, Subject
from otel_hwmetrics.catalog import training
from otel_hwmetrics.model import Attribute, Snapshot, Unit

BUCKETS = 30
"""Extremes that a forecast is made from; a new one comes with each thirtieth of its past."""
CONFIDENCE = 0.99
"""Of a slope's interval: it is looked at again and again for days."""
HOUR = 3600.0
"""Seconds."""
MINUTES = 60
"""Of an hour."""


SUDDEN = (60.0, 180.0, 360.0)
"""Seconds of the short stretches of the past in which a leak is looked for that fills memory within minutes."""
AHEAD = 2.0
"""How many times the length of a short stretch of the past its trend is believed ahead."""
SUDDEN_BUCKETS = 20
"""Extremes that the trend of a short stretch is made from: it is worked out often, and the cost grows with their square."""
NEWEST = 4
"""The newest part of a short stretch, one of so many, in which what is left must have shrunk further:"""
GOES_ON = 0.25
"""by this share of what the trend says."""
NEW = 0.5
"""Share of what a short stretch's trend takes away in all of it by which less must be left than there ever was before."""


@dataclass(frozen=True)
class TimeToFull(Condition):
    """Seconds until nothing is left, by the trend of what is left; none while it does not surely shrink.

    Attributes:
        left: What is left, in bytes.
        seconds: How much of the past tells the trend.
        since_first_step: Nothing before the end of the first training step is past, where steps are told: what a job
            loads, and what its first step sets up, goes on for minutes and does not come again.
        sudden: Lengths in seconds of shorter stretches of the past that are looked at as well, for what fills up before the
            long one can tell. What is full the soonest counts.
    """

    left: Condition
    seconds: float
    since_first_step: bool = False
    sudden: tuple[float, ...] = ()

    @property
    def unit(self) -> Unit:
        """Seconds."""
        return Unit.SECOND

    @property
    def evidence(self) -> tuple[str, ...]:
        """The bounds of the forecast, and what is left now."""
        return ("soonest_seconds", "latest_seconds", "left_bytes")

    def watcher(self, totals: Totals) -> Watcher:
        """Somebody who looks, and remembers."""
        return _Forecaster(self, self.left.watcher(totals))

    def __str__(self) -> str:
        whole = (
            f"the time until nothing is left of {self.left}, by its trend over the last {show_seconds(self.seconds)}"
        )
        if not self.sudden:
            return whole
        short = " or ".join(show_seconds(seconds) for seconds in self.sudden)
        return f"{whole}; or over the last {short}, {AHEAD:g} times as far ahead, where less is left than in the hour before"


class FirstStep:
    """Waits for the end of the first training step."""

    __slots__ = ("_ended",)

    def __init__(self) -> None:
        self._ended = False

    def ends_in(self, snapshot: Snapshot) -> bool:
        """Whether this is the snapshot that first tells of an ended step."""
        if self._ended or not any(reading.value for reading in snapshot.of(training.STEPS)):
            return False
        self._ended = True
        return True


class _Stretch:
    """The trend of one subject over a stretch of its past; worked out anew with each half of a bucket."""

    __slots__ = ("_envelope", "_outlook", "_pause", "_seconds", "_worked_out")

    def __init__(self, seconds: float, buckets: int) -> None:
        self._envelope = Envelope(min, seconds, buckets)
        self._seconds = seconds
        self._pause = seconds / buckets / 2
        self._worked_out: float | None = None
        self._outlook: Outlook | None = None

    def add(self, at: float, left: float, known: Envelope | None) -> Outlook | None:
        """Take what is left, give what is going to become of it.

        Args:
            at: When.
            left: How much.
            known: The least that was left in each minute of a longer past; None while that is too short.
        """
        self._envelope.add(at, left)
        if self._worked_out is None or at - self._worked_out >= self._pause:
            self._worked_out = at
            self._outlook = self._worked_out_at(at, known)
        return self._outlook

    def _worked_out_at(self, at: float, known: Envelope | None) -> Outlook | None:
        del at, known
        line = trend(self._envelope.points(), CONFIDENCE)
        return time_left(line) if line is not None else None


class _Sudden(_Stretch):
    """A short stretch, as long as it looks like a leak.

    In a minute or three much shrinks that is given back: an epoch's cache, an evaluation's outputs, a larger batch. A leak
    leaves less than there ever was, as far as is known, and goes on to.
    """

    __slots__ = ()

    def _worked_out_at(self, at: float, known: Envelope | None) -> Outlook | None:
        if known is None:
            return None
        points = self._envelope.points()
        newest = [value for then, value in points if then > at - self._seconds / NEWEST]
        older = [value for then, value in points if then <= at - self._seconds / NEWEST]
        further = min(older) - min(newest) if newest and older else 0.0
        if further <= 0:  # most of the time, and working out a trend is dear
            return None
        before = [value for then, value in known.points() if then <= at - self._seconds]
        new = min(before) - min(newest) if before else 0.0
        line = trend(points, CONFIDENCE) if new > 0 else None
        outlook = time_left(line) if line is not None else None
        if line is None or outlook is None or outlook.expected > AHEAD * self._seconds:
            return None
        takes = -line.slope * self._seconds
        return outlook if further >= GOES_ON * takes / NEWEST and new >= NEW * takes else None


class _Series:
    """The past of one subject, and when nothing is left of it."""

    __slots__ = ("_began", "_known", "_seconds", "_stretches")

    def __init__(self, condition: TimeToFull) -> None:
        self._seconds = condition.seconds
        self._stretches = [
            _Stretch(condition.seconds, BUCKETS),
            *(_Sudden(seconds, SUDDEN_BUCKETS) for seconds in condition.sudden),
        ]
        self._known = Envelope(min, HOUR, MINUTES)
        self._began: float | None = None

    def add(self, at: float, left: float) -> Outlook | None:
        if self._began is None:
            self._began = at
        self._known.add(at, left)
        # Before it is known how little is left now and then, everything is less than ever.
        known = self._known if at - self._began >= self._seconds else None
        told = [stretch.add(at, left, known) for stretch in self._stretches]
        return min((outlook for outlook in told if outlook is not None), key=lambda each: each.expected, default=None)


class _Forecaster:
    def __init__(self, condition: TimeToFull, left: Watcher) -> None:
        self._left = left
        self._first_step = FirstStep() if condition.since_first_step else None
        self._condition = condition
        self._series = Memory(self._new)

    def _new(self) -> _Series:
        return _Series(self._condition)

    def look(self, snapshot: Snapshot) -> dict[Subject, Finding]:
        if self._first_step is not None and self._first_step.ends_in(snapshot):
            self._series = Memory(self._new)
        found: dict[Subject, Finding] = {}
        for subject, finding in self._left.look(snapshot).items():
            series = self._series.of(subject)
            if finding.value is not None and series is not None:
                found[subject] = _told(series.add(snapshot.window.end, finding.value), finding.value)
        return found


def _told(outlook: Outlook | None, left: float) -> Finding:
    if outlook is None:
        return Finding(None)
    bounds: dict[str, Attribute] = {
        "soonest_seconds": outlook.soonest,
        "latest_seconds": outlook.latest,
        "left_bytes": round(left),
    }
    return Finding(outlook.expected, bounds)


@dataclass(frozen=True)
class Leaked(Condition):
    """Bytes by which what memory never falls below has grown in this run, as long as it grows; none when it does not.

    A run begins anew with the end of its first training step, where steps are told: what was loaded before is no leak.

    Attributes:
        memory: In bytes.
        share: It must have grown by this share of what it was at first, too,
        seconds: in so many seconds or more,
        steps: and in so many training steps, where they are told.
    """

    memory: Condition
    share: float = 0.06
    # A cache that is being filled looks like a leak for as long as that takes; what leaks faster is `TimeToFull`'s.
    seconds: float = 1800.0
    steps: int = 800

    @property
    def unit(self) -> Unit:
        """Bytes."""
        return Unit.BYTE

    @property
    def evidence(self) -> tuple[str, ...]:
        """How fast it grows, between which bounds, and over how long it was seen."""
        return ("hourly_bytes", "low_hourly_bytes", "high_hourly_bytes", "over_seconds", "step_bytes")

    def watcher(self, totals: Totals) -> Watcher:
        """Somebody who looks, and remembers."""
        return _Leaks(self, self.memory.watcher(totals))

    def __str__(self) -> str:
        return (
            f"by how much the floor of {self.memory} has grown over the whole run, where it grew by {self.share:.0%}, in "
            f"{show_seconds(self.seconds)} and {self.steps} steps at least, and still does"
        )


class _Leak:
    """The floor of one subject's memory, and what is thought of it; anew with each stretch of time that is over."""

    __slots__ = ("_condition", "_envelope", "_finding", "_first_steps", "_seen")

    def __init__(self, condition: Leaked) -> None:
        self._condition = condition
        self._envelope = Envelope(min, condition.seconds, 2 * BUCKETS, whole_run=True)
        self._first_steps: float | None = None  # how many had ended when they were first told
        self._seen: float | None = None  # the end of the last stretch that was judged
        self._finding = Finding(None)

    def add(self, at: float, memory: float, steps: float | None) -> Finding:
        self._envelope.add(at, memory)
        if self._first_steps is None:
            self._first_steps = steps
        points = self._envelope.points(unfinished=False)
        if points and points[-1].at != self._seen:
            self._seen = points[-1].at
            self._finding = self._judged(points, steps)
        return self._finding

    def _judged(self, points: Sequence[Point], steps: float | None) -> Finding:
        condition = self._condition
        done = steps - self._first_steps if steps is not None and self._first_steps is not None else None
        if done is not None and done < condition.steps:
            return Finding(None)
        # The least that it must have grown by is the rule's threshold.
        growth = leak(points, share=condition.share, lasting=condition.seconds, confidence=CONFIDENCE)
        if growth is None:
            return Finding(None)
        evidence: dict[str, Attribute] = {
            "hourly_bytes": round(growth.slope * HOUR),
            "low_hourly_bytes": round(growth.low * HOUR),
            "high_hourly_bytes": round(growth.high * HOUR),
            "over_seconds": growth.over,
        }
        if done:
            evidence["step_bytes"] = round(growth.grown / done)
        return Finding(growth.grown, evidence)


class _Leaks:
    def __init__(self, condition: Leaked, memory: Watcher) -> None:
        self._condition = condition
        self._memory = memory
        self._first_step = FirstStep()
        self._leaks = Memory(self._new)

    def _new(self) -> _Leak:
        return _Leak(self._condition)

    def look(self, snapshot: Snapshot) -> dict[Subject, Finding]:
        if self._first_step.ends_in(snapshot):
            self._leaks = Memory(self._new)
        steps = next((reading.value for reading in snapshot.of(training.STEPS)), None)
        found: dict[Subject, Finding] = {}
        for subject, finding in self._memory.look(snapshot).items():
            leak_of = self._leaks.of(subject)
            if finding.value is not None and leak_of is not None:
                found[subject] = leak_of.add(snapshot.window.end, finding.value, steps)
        return found
