# SPDX-License-Identifier: Apache-2.0
"""Steps, waits for data and phases, from the step clock that the job itself keeps going."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

from otel_hwmetrics._guard import guard
from otel_hwmetrics.catalog import training as rows
from otel_hwmetrics.model import Reading, Series
from otel_hwmetrics.sources.base import Batch, Bench, Clock, Item, Reader, Source
from otel_hwmetrics.stepclock import CLOCK, SUSPENDING, Look, StepClock

PEAK_TOLD_FOR = 60.0
"""Seconds for which the longest step is told again while none ends. A reader that exports as seldom, which is the SDK's
default, so hears of each; and no dashboard shows for hours how the last step of all went."""

MOST_AT_ONCE = 10 * rows.MOST_RECORDED
"""How many steps are recorded at one look, however long ago the last one was."""

Record = Callable[[Series, Callable[[], Sequence[float]]], object]
"""Records values of a histogram: it is given the series, and what to take them from if there is somebody who keeps them."""

_STEPS = Series(rows.STEPS)
_STEP_TIME = Series(rows.STEP_TIME)
_STEP_TIME_COMPLETED = Series(rows.STEP_TIME_COMPLETED)
_STEP_DURATION_PEAK = Series(rows.STEP_DURATION_PEAK)
_STEP_DURATION_HISTOGRAM = Series(rows.STEP_DURATION_HISTOGRAM)
_STEP_GPU_TIME = Series(rows.STEP_GPU_TIME)
_STEP_AGE = Series(rows.STEP_AGE)
_DATA_WAIT_TIME = Series(rows.DATA_WAIT_TIME)
_SAMPLES = Series(rows.SAMPLES)
_TOKENS = Series(rows.TOKENS)


class Training:
    """The job's training, as it stands at one look.

    Args:
        clock: What counts its steps.
        spans_phase: Tells which phase spans say that training is in; None where they say nothing.
        record: Records how long steps took.
        now: Monotonic seconds, those of readings. Ages and sums are the step clock's own.
    """

    def __init__(
        self, clock: StepClock, spans_phase: Callable[[], str | None] | None, record: Record, now: Clock
    ) -> None:
        self.at = 0.0
        self.look: Look = clock.look()
        self.peak: Reading | None = None
        self.suspended_at: float | None = None
        self._clock = clock
        self._spans_phase = spans_phase
        self._record = record
        self._now = now
        self._recorded_at = -math.inf
        self._turn = 0
        self._by_spans: str | None = None
        self._series: dict[str, Series] = {}

    def begin(self) -> None:
        """Look at the clock."""
        self.at, self.look = self._now(), self._clock.look()
        longest = self._clock.longest()
        if longest is not None:
            self.peak = Reading(_STEP_DURATION_PEAK, longest, self.at)
        self._by_spans = None
        if self._spans_phase is not None:
            with guard("asking spans for the phase"):
                called = self._spans_phase()
                self._by_spans = self._clock.name_of_phase(called) if called else None
        if self._by_spans in SUSPENDING:
            self.suspended_at = self.at

    def record(self) -> None:
        """Have it recorded how long steps took that have ended since this was done last."""
        self._record(_STEP_DURATION_HISTOGRAM, self._durations)

    def _durations(self) -> Sequence[float]:
        taken = self._clock.durations()
        most = max(1, round(min(MOST_AT_ONCE, rows.MOST_RECORDED * (self.at - self._recorded_at))))
        every = math.ceil(len(taken) / most)
        self._recorded_at = self.at
        self._turn += 1
        # From another one on each time: at a look we may be in the way of the first, which is not to count for many.
        return taken[self._turn % every :: every] if every > 1 else taken

    def phases(self) -> Iterator[tuple[Series, bool]]:
        """Every phase that was met, and whether it is open."""
        opened = {self._by_spans}.union(*self.look.phases)
        for name in self._clock.phases_met:
            if name not in self._series:
                self._series[name] = Series(rows.PHASE, {rows.PHASE_NAME: name})
            yield self._series[name], name in opened


def _steps(training: Training) -> Iterator[Item]:
    look = training.look
    if look.begun:
        yield _STEPS, look.steps
        yield _STEP_TIME, look.time
        yield _STEP_TIME_COMPLETED, look.completed


def _waits(training: Training) -> Iterator[Item]:
    if training.look.waited is not None:
        yield _DATA_WAIT_TIME, training.look.waited


def _peak(training: Training) -> Iterator[Item]:
    if training.peak is not None and training.at - training.peak.at <= PEAK_TOLD_FOR:
        yield training.peak


def _durations(training: Training) -> Iterator[Item]:
    training.record()
    yield from ()


def _gpu_time(training: Training) -> Iterator[Item]:
    if training.look.gpu_time is not None:
        yield _STEP_GPU_TIME, training.look.gpu_time


def _samples(training: Training) -> Iterator[Item]:
    if training.look.samples is not None:
        yield _SAMPLES, training.look.samples


def _tokens(training: Training) -> Iterator[Item]:
    if training.look.tokens is not None:
        yield _TOKENS, training.look.tokens


def _age(training: Training) -> Iterator[Item]:
    age, at = training.look.age, training.at
    if age is not None:
        if training.suspended_at is not None:  # the step clock does not know of phases that only spans tell
            age = min(age, at - training.suspended_at)
        yield Reading(_STEP_AGE, age, at, at)


def _phases(training: Training) -> Iterator[Item]:
    for series, is_open in training.phases():
        yield series, int(is_open)


_TOLD = "otel_hwmetrics.steps, otel_hwmetrics.step"
_BY_WHOM = "jobs that tell their steps by either"

READERS: tuple[Reader[Training], ...] = (
    Reader((rows.STEPS, rows.STEP_TIME, rows.STEP_TIME_COMPLETED), _steps, call=_TOLD, where=_BY_WHOM),
    Reader((rows.STEP_DURATION_PEAK,), _peak, call=_TOLD, where=_BY_WHOM),
    Reader((rows.STEP_DURATION_HISTOGRAM,), _durations, call=_TOLD, where=_BY_WHOM),
    Reader(
        (rows.STEP_GPU_TIME,),
        _gpu_time,
        call="torch.cuda.Event.elapsed_time",
        where="jobs with the option ``step_gpu_time`` whose steps PyTorch or its framework tells",
    ),
    Reader((rows.STEP_AGE,), _age, call=_TOLD, where=_BY_WHOM),
    Reader(
        (rows.DATA_WAIT_TIME,),
        _waits,
        call="otel_hwmetrics.steps, otel_hwmetrics.stepclock.waiting_for_data",
        where="jobs that go through their data by either, or whose framework does",
    ),
    Reader((rows.SAMPLES,), _samples, call=_TOLD, where="jobs that tell them by either"),
    Reader((rows.TOKENS,), _tokens, call=_TOLD, where="jobs that tell them by either"),
    Reader((rows.PHASE,), _phases, call="otel_hwmetrics.phase", where="jobs that tell their phases by it, or by spans"),
)
"""What is read of the step clock."""


class TrainingSource(Source):
    """The job's steps, waits and phases; nothing until it tells of any.

    Args:
        clock: The step clock; that of this process by default.
        spans_phase: Tells, on the sampler's thread, which phase spans say that training is in; None where none does. The
            clock counts on within such a phase, but no age of a step reaches back into it.
        record: Records how long steps took, on the sampler's thread; by default nobody does.
        now: Monotonic seconds.
    """

    name: ClassVar[str] = "training"

    def __init__(
        self,
        clock: StepClock = CLOCK,
        *,
        spans_phase: Callable[[], str | None] | None = None,
        record: Record = lambda *_: None,
        now: Clock = time.monotonic,
    ) -> None:
        self._now = now
        self._training = Training(clock, spans_phase, record, now)
        self._bench = Bench(self._training, READERS)

    def read(self) -> Batch:
        """Look at the step clock once. The training threads do not notice."""
        batch = Batch()
        self._training.begin()
        self._bench.read_into(batch, self._now)
        return batch
