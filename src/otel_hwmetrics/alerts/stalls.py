# SPDX-License-Identifier: Apache-2.0
"""A step of training that does not end, while the GPUs look as if nobody worked on it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from otel_hwmetrics.alerts.atwork import WORKED
from otel_hwmetrics.alerts.baseline import Baseline
from otel_hwmetrics.alerts.conditions import Condition, Finding, Readings, Totals, Watcher
from otel_hwmetrics.alerts.engine import STOPPED, WINDOWS
from otel_hwmetrics.alerts.forecast import Envelope
from otel_hwmetrics.alerts.gpus import GENERAL
from otel_hwmetrics.alerts.rule import show, show_seconds
from otel_hwmetrics.alerts.subjects import HOST, Memory, Subject
from otel_hwmetrics.catalog import gpu, gpu_activity, training
from otel_hwmetrics.model import Metric, Snapshot, Unit
from otel_hwmetrics.stepclock import SUSPENDING

PAST: Final = 3600.0
"""Seconds of steps that say how long one usually takes, at most."""
BUSY: Final = 0.9
"""Share of the time from which a GPU "says that it is busy": a kernel that waits for another rank is one, too."""
FALLEN_POWER: Final = 0.65
"""Share of its usual power below which a GPU that says it is busy does not work: one that waits in a collective draws
half (https://github.com/nebius/soperator/issues/796), one in an evaluation of which nobody tells seldom less than 70 %."""
FALLEN_TENSOR: Final = 0.5
"""Likewise of its tensor cores' usual activity."""
STREAMS: Final = 0.5
"""Share of the usual traffic of its memory from which a GPU works all the same: one that waits in a collective moves hardly
any, one that generates text, token by token, more than in training, at half the power and with idle tensor cores."""
LEAST_TRAFFIC: Final = 0.05
"""Share of the bandwidth of its memory that counts as usual at least: half of less is no more than a wait's."""
FEW: Final = 30
"""Looks at a GPU at work before its usual power is known."""
LATE: Final = 30.0
"""Seconds without a step that may be told as a stall; shorter ones are hiccups, and say how long steps may be."""
WITHOUT_GPUS: Final = 300.0
"""Seconds without a step that are a stall by themselves where no GPU can be asked: the job uses none, they cannot be read,
or the job hangs before it is known how hard they usually work."""
AT_LONGEST: Final = 1800.0
"""Seconds without a step that are a stall whatever GPUs that do something look like: where they draw little when they
work, they draw hardly less when they wait. And those that a first step may take, of which nothing says how long it should."""
TIMES_AT_LONGEST: Final = 20.0
"""Then it must be so many times the longest usual step, too."""


@dataclass(frozen=True)
class Stall(Condition):
    """Seconds since the last step, where that is far longer than any step of the past and the GPUs do not work.

    They do not work where of most that say that they are busy power or the tensor cores' activity has fallen far below what
    is usual in this run, and the traffic of their memory as well where that is told: so they look from outside when they
    wait for each other in a collective that somebody does not join, which is what a hung training mostly is. GPUs that work
    as usual are at a long step, until it is very long; idle ones have no say, and where all are idle it is the rule
    ``gpu_idle``'s. Where the job uses no GPU the time must be five minutes, too.

    How long a step takes says the past, without the steps in which a stall was found. Before a first one has ended nothing
    does, and half an hour is a stall. Time in which the job was stopped, or the machine slept, does not count.

    Attributes:
        times: How many times the longest usual step.
    """

    also = (training.STEP_AGE,)

    times: float = 5.0

    @property
    def unit(self) -> Unit:
        """Seconds."""
        return Unit.SECOND

    @property
    def evidence(self) -> tuple[str, ...]:
        """How long a step takes usually, in words and, where that is known, in seconds; and how the GPUs look."""
        return ("usual", "usual_seconds", "sign")

    def watcher(self, totals: Totals) -> Watcher:
        """Somebody who looks, and remembers."""
        del totals
        return _Stalls(self.times)

    def __str__(self) -> str:
        return (
            f"{training.STEP_AGE.name}, where it is {self.times:g} times the second highest {training.STEP_DURATION_PEAK.name} "
            f"of the minutes of the last {show_seconds(PAST)} and most GPUs whose {gpu.UTILIZATION.name} is {BUSY:g} or more draw "
            f"less than {FALLEN_POWER:.0%} of their usual "
            f"{gpu.POWER.name}, or have less than {FALLEN_TENSOR:.0%} of their usual {gpu_activity.TENSOR_ACTIVITY.name}, and not "
            f"{STREAMS:.0%} of their usual {gpu_activity.DRAM_ACTIVITY.name}; where no GPU is at work in steps, where it is "
            f"{show_seconds(WITHOUT_GPUS)} at least; whatever GPUs that are not idle look like, where it is "
            f"{show_seconds(AT_LONGEST)} and {TIMES_AT_LONGEST:g} times as long; of the first step {training.STEP_TIME.name}, where "
            f"it is {show_seconds(AT_LONGEST)}"
        )


class _Stalls:
    def __init__(self, times: float) -> None:
        self._times = times
        self._steps = _Steps()
        self._gpus = _Gpus()
        self._sign = ""  # that was told last of the present step

    def look(self, snapshot: Snapshot) -> dict[Subject, Finding]:
        age = self._steps.look(snapshot)
        usual = self._steps.usual
        gpus = self._gpus.look(snapshot, early=usual is None)
        if age is None:  # between two loops nothing is late; where no steps are told nobody knows
            self._sign = ""
            return {HOST: Finding(None)} if snapshot.of(training.STEPS) else {}
        if usual is not None and age <= usual:  # later a hang would be learned, until it is late enough to be told
            for each in gpus:
                each.work.learn(snapshot.window.end, each)
        late = usual is None or age > self._times * usual
        used = [each for each in gpus if each.work.is_used]
        self._sign = self._read(used, age, usual) if late else ""
        if not self._sign:
            hangs_too = late and self._gpus.are_gone(snapshot)  # their driver
            return {} if hangs_too else {HOST: Finding(None)}
        self._steps.stalls(age)
        return {HOST: Finding(age, {**self._steps.in_words(), "sign": self._sign})}

    def _read(self, used: Sequence[_Look], age: float, usual: float | None) -> str:
        """In words how the GPUs look, where that, or the time alone, says that it is a stall; else empty."""
        busy = [each for each in used if each.utilization >= BUSY]
        signs = [sign for sign in (each.work.fallen(each) for each in busy) if sign is not None]
        fallen = [sign for sign in signs if sign]
        if 2 * len(fallen) > len(signs):
            return f"GPUs are busy, at {fallen[0]}"
        if not used or (busy and not signs):
            told = "GPUs are busy" if busy else "no GPU to ask"
            return told if age >= (AT_LONGEST if usual is None else WITHOUT_GPUS) else ""
        if not busy and self._sign:  # a collective that was given up makes them idle, and the step ends by it no more
            return self._sign
        most = max(each.utilization for each in used)
        if most < WORKED or age < max(AT_LONGEST, TIMES_AT_LONGEST * (usual or 0.0)):
            return ""
        if busy and usual is not None:
            return "GPUs look as usual"
        return f"GPUs are busy {show(most, Unit.RATIO)} of the time"


class _Steps:
    """How long the step has lasted that is under way, and how long one takes usually.

    Attributes:
        usual: Seconds of the longest usual step; None before any is known.
    """

    def __init__(self) -> None:
        self.usual: float | None = None
        self._longest = Envelope(max, PAST, 60)
        self._windows: deque[float] = deque(
            [math.inf] * WINDOWS, WINDOWS
        )  # of the last snapshots, as the engine has them
        self._count: float | None = None
        self._age = 0.0  # of the present step, as it was told last
        self._stopped = 0.0  # seconds of that in which the job was
        self._stalled = 0.0  # its age when a stall was found in it last
        self._peak_at = -math.inf
        self._learned_at = 0.0
        self._time: float | None = None
        self._first = 0.0  # seconds that the first step has lasted

    def in_words(self) -> dict[str, str | float]:
        """What there is to say of how long one takes usually, as evidence."""
        if self.usual is not None:
            return {"usual": f"one takes {show_seconds(self.usual)} at most", "usual_seconds": self.usual}
        return {"usual": "it is not known how long one takes" if self._count else "none has ended yet"}

    def look(self, snapshot: Snapshot) -> float | None:
        """Seconds that the present one has lasted, less those in which the job was stopped; None where there is none."""
        window = snapshot.window.seconds
        stopped = window > STOPPED * max(self._windows)
        self._windows.append(window)
        self._learn(snapshot, stopped=stopped)
        count, age = _value(snapshot, training.STEPS), _value(snapshot, training.STEP_AGE)
        lasted = self._first_lasts(snapshot, stopped=stopped)
        if age is None or count != self._count or age < self._age:
            self._stopped = 0.0
        self._count, self._age = count, age or 0.0
        if age is None:
            return lasted if count == 0 else None
        if stopped:  # no more of it than the step is old: it may have begun thereafter
            self._stopped += min(window, age - self._stopped)
        return age - self._stopped

    def stalls(self, age: float) -> None:
        """A stall was found in the present step, at such an age."""
        if age >= LATE:
            self._stalled = age

    def _learn(self, snapshot: Snapshot, *, stopped: bool) -> None:
        """Learn how long a step took that has ended, if it went as it should: what hung once must not hide the next time."""
        peak = next(iter(snapshot.of(training.STEP_DURATION_PEAK)), None)
        if peak is None or peak.at <= self._peak_at:  # it is told again for a while
            return
        if self.usual is None:
            self._learned_at = peak.at
        self._peak_at = peak.at
        spoiled = max(self._stopped, self._stalled)  # it is of that step if it is longer
        odd = stopped or 0 < spoiled <= peak.value
        # Where all of an hour were, it is how long they take now: no alarm lasts for ever.
        if not odd or peak.at - self._learned_at > PAST:
            self._learned_at = peak.at
            self._longest.add(peak.at, peak.value)
            lengths = sorted(value for _, value in self._longest.points())
            # Not the very longest: the first step compiles, or an evaluation of which nobody tells is met once.
            self.usual = lengths[-min(2, len(lengths))]
        self._stalled = 0.0

    def _first_lasts(self, snapshot: Snapshot, *, stopped: bool) -> float | None:
        """Seconds for which time in steps has grown; None where it stands still. Of the first step there is no age.

        The age begins with the first step's end, since many take what comes before, compiling and all, for a pause.
        """
        before, self._time = self._time, _value(snapshot, training.STEP_TIME)
        grown = self._time - before if self._time is not None and before is not None else 0.0
        suspended = _suspended(snapshot)
        if grown <= 0:
            self._first = self._first if suspended else 0.0
            return None
        if not stopped and not suspended:
            self._first += min(grown, snapshot.window.seconds)  # of several threads it is the sum
        return self._first


def _suspended(snapshot: Snapshot) -> bool:
    """Whether training is in a phase that suspends steps: of those that only spans tell the step clock does not know."""
    return any(
        reading.value and reading.attributes.get(training.PHASE_NAME) in SUSPENDING
        for reading in snapshot.of(training.PHASE)
    )


class _Look(NamedTuple):
    """How one GPU looks; None for what is not read.

    Attributes:
        work: What is known of it.
        utilization: Share of the time in which it is busy.
        power: Watts.
        tensor: Activity of its tensor cores.
        traffic: Share of the bandwidth of its memory.
    """

    work: _Work
    utilization: float
    power: float | None
    tensor: float | None
    traffic: float | None


class _Gpus:
    """The GPUs that can be asked."""

    def __init__(self) -> None:
        self._work = Memory(_Work)
        self._used = False  # whether the job used any, as it was known last
        self._utilization = Readings(gpu.UTILIZATION, GENERAL)
        self._others = [
            Readings(metric) for metric in (gpu.POWER, gpu_activity.TENSOR_ACTIVITY, gpu_activity.DRAM_ACTIVITY)
        ]

    def look(self, snapshot: Snapshot, *, early: bool) -> list[_Look]:
        """How each looks; early: before the length of any step is known, so that whatever one does may be of the first."""
        utilization = self._utilization.of(snapshot)
        if not utilization:
            return []
        power, tensor, traffic = (
            {subject.key: reading.value for subject, reading in readings.of(snapshot)} for readings in self._others
        )
        looks = []
        for subject, reading in utilization:
            work, key = self._work.of(subject), subject.key
            if work is not None:
                work.was_early = work.was_early or (early and reading.value >= WORKED)
                looks.append(_Look(work, reading.value, power.get(key), tensor.get(key), traffic.get(key)))
        self._used = any(each.work.is_used for each in looks)
        return looks

    def are_gone(self, snapshot: Snapshot) -> bool:
        """Whether those that the job uses can be read no more."""
        return self._used and not snapshot.of(gpu.UTILIZATION)


class _Work:
    """How hard one GPU works, against what is usual in this run.

    Attributes:
        was_early: Whether it worked before the length of any step was known.
    """

    __slots__ = ("_looks", "_power", "_tensor", "_traffic", "_worked", "was_early")

    def __init__(self) -> None:
        self.was_early = False
        self._looks = self._worked = 0  # in steps that took as long as usual, and in how many of them it worked
        self._power, self._tensor, self._traffic = (Baseline(PAST, FEW, floor_share=0.01) for _ in range(3))

    @property
    def is_used(self) -> bool:
        """Whether the job's steps use it; one that hardly ever worked in them, whatever others may do on it, has no say."""
        return self._worked > WORKED * self._looks or (self.was_early and self._looks < FEW)

    def learn(self, now: float, look: _Look) -> None:
        """Take a look in a step that is not late."""
        self._looks += 1
        self._worked += look.utilization >= WORKED
        for baseline, value in ((self._power, look.power), (self._tensor, look.tensor), (self._traffic, look.traffic)):
            if value is not None:
                baseline.learn(now, value)

    def fallen(self, look: _Look) -> str | None:
        """In words what has fallen; empty where nothing has, None where nobody knows."""
        traffic = self._traffic.now()
        if (
            look.traffic is not None
            and traffic is not None
            and look.traffic >= STREAMS * max(traffic.location, LEAST_TRAFFIC)
        ):
            return ""
        known = False
        for baseline, value, least, what in (
            (self._power, look.power, FALLEN_POWER, "power"),
            (self._tensor, look.tensor, FALLEN_TENSOR, "tensor activity"),
        ):
            usual = baseline.now()
            if value is None or usual is None:
                continue
            if value < least * usual.location:
                return f"{show(value / usual.location, Unit.RATIO)} of the usual {what}"
            known = True
        return "" if known else None


def _value(snapshot: Snapshot, metric: Metric) -> float | None:
    return next((reading.value for reading in snapshot.of(metric)), None)
