# SPDX-License-Identifier: Apache-2.0
"""One look at the machine at a time, on a thread of our own.

The SDK runs its callbacks under one process-wide lock and cannot interrupt one, so no hardware is read there: a
callback asks this thread for a fresh sample and waits for it a bounded time. A source that may hang has a thread of
its own below this one; late, it is left out of the sample, counted, and asked again with growing pauses. Should the thread
die, it is started again, once; how it is, and how old the newest sample, can be told without it.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Protocol

from otel_hwmetrics import output
from otel_hwmetrics._guard import faults, guard
from otel_hwmetrics.catalog import own
from otel_hwmetrics.model import Kind, Reading, Series, Snapshot
from otel_hwmetrics.pace import Pace
from otel_hwmetrics.runners import Clock, Runner, ThreadRunner
from otel_hwmetrics.sources.base import Batch, Source
from otel_hwmetrics.threads import Lasting
from otel_hwmetrics.windows import Accumulator, Point, Sample, between
from otel_hwmetrics.windows.samples import DERIVED

_SAMPLING_TIME = Series(own.SAMPLING_TIME)
_SAMPLE_AGE = Series(own.SAMPLE_AGE)
_LINES_DROPPED = Series(own.LINES_DROPPED)
STUCK: Final = 2.0
"""For so many times as long as a sample is the present may a look be under way, and not be stuck."""
_NOWHERE: Mapping[Series, Point] = MappingProxyType({})


# Made once each: for a series that is another object each time, equal to the last one, whoever keeps it has to compare.
@lru_cache(maxsize=1024)
def _lost(source: str, error_type: str) -> Series:
    return Series(own.READINGS_LOST, {own.SOURCE: source, own.ERROR_TYPE: error_type})


@lru_cache(maxsize=1024)
def _failed(place: str) -> Series:
    return Series(own.INTERNAL_ERRORS, {own.PLACE: place})


class Judge(Protocol):
    """What is done with each sample's snapshot."""

    def judge(self, snapshot: Snapshot) -> None:
        """Decide on it."""
        ...

    def readings(self, at: float) -> Iterable[Reading]:
        """How what was decided stands, for the sample."""
        ...

    def glance(self, snapshot: Callable[[], Snapshot]) -> None:
        """Take a look between two regular ones, on which nothing is decided; what it is of is worked out when asked."""
        ...

    def tell(self) -> None:
        """Pass on what was decided; called once the sample is published, since it may take its time."""
        ...


class Stopped(Exception):
    """A look was under way when the sampler was stopped: nothing of it counts."""


class Sampler:
    """Looks at the machine at every ``interval`` and whenever an export asks; keeps the newest sample.

    Args:
        sources: What is read; those that may hang get a thread each.
        judge: Gets a snapshot of each regular sample; with an interval of 0, of every sample.
        accumulator: The running sums; handed in because they outlive this sampler.
        clock: Time of the samples; the waits themselves are real.
        interval: Seconds between regular samples; 0 for none.
        source_timeout: Seconds that a source that may hang can hold a sample up.
        cpu_budget: Share of a CPU that we may take before looks become fewer, beside what GPUs add to it; 0 for any.
        gave_up: Called when the thread stays off, since it has died twice; on any thread.
    """

    def __init__(  # noqa: PLR0913 - each is a different part of the world
        self,
        sources: Sequence[Source],
        judge: Judge,
        accumulator: Accumulator,
        *,
        clock: Clock = time,
        interval: float = 1.0,
        source_timeout: float = 0.5,
        cpu_budget: float = 0.0,
        gave_up: Callable[[], object] = lambda: None,
    ) -> None:
        self.runners = [(ThreadRunner if source.may_hang else Runner)(source, clock) for source in sources]
        self.pace = Pace(self.runners, cpu_budget, interval)
        self.first: Sample | None = None
        self.latest: Sample | None = None
        self.snapshot: Snapshot | None = None
        self._judge = judge
        self._accumulator = accumulator
        self._clock = clock
        self._source_timeout = source_timeout
        self._judged: Sample | None = None
        self._stood: dict[str, Mapping[Series, Point]] = {}  # of sources with a slower cadence: before the last look
        self._kept: dict[str, Mapping[str, float]] = {}  # of these: when each metric was read
        self._began = clock.monotonic()
        self._spent = 0.0  # what the clock of the thread's CPU time said when it was booked last
        self._books = threading.Lock()  # held while the sums are added to; taken before the condition's lock
        self._condition = threading.Condition()
        self._asked = 0
        self._answered = 0
        self._busy_since: float | None = None  # when the look began that is under way
        self._stopping = False
        without = "there are no samples and alerts until instrument() is called again"
        self._life = Lasting("sampler", self._run, without, gave_up=gave_up, again="at the next export")

    def start(self) -> None:
        """Open the sources and start the thread."""
        self._accumulator.pause()
        for runner in self.runners:
            runner.start()
        self._life.start()

    def stop(self, timeout: float = 1.0) -> None:
        """End the threads and close the sources, waiting ``timeout`` seconds at most in all."""
        deadline = time.monotonic() + timeout
        with self._books, self._condition:
            self._stopping = True
            self._condition.notify_all()
        self._life.join(timeout)
        for runner in self.runners:
            # What the sampler's thread may still be reading is closed by that thread, at its end.
            if isinstance(runner, ThreadRunner) or not self._life.alive:
                with guard(f"closing {runner.source.name}"):
                    runner.stop(max(0.0, deadline - time.monotonic()))

    def fresh(self, timeout: float) -> Sample | None:
        """A sample taken after this call; when none comes in ``timeout`` seconds, the last one, if it is recent.

        Called by whatever thread collects metrics; never blocks for longer than ``timeout``.
        """
        self._life.check()
        with self._condition:
            self._asked += 1
            ticket = self._asked
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._answered >= ticket or self._stopping or self._life.off, timeout)
            latest = self.latest
        if latest is None or self._clock.monotonic() - latest.at > self.pace.stale_after:
            return None
        return latest

    @property
    def stuck(self) -> bool:
        """Whether a look is under way for so long that it may never end: a call waits for a dead disk. From any thread."""
        since = self._busy_since
        return since is not None and self._clock.monotonic() - since > STUCK * self.pace.stale_after

    def health(self) -> Iterator[Reading]:
        """How we are, by what can be told without a sample. From any thread; never blocks."""
        latest, at = self.latest, self._clock.monotonic()
        yield Reading(_SAMPLE_AGE, max(0.0, at - (latest.at if latest is not None else self._began)), at)
        lives = [runner.life for runner in self.runners if isinstance(runner, ThreadRunner) and runner.known]
        for life in (self._life, *lives):
            yield Reading(life.series_up, int(life.alive), at)
        yield from self.pace.readings(at)

    def sample(self, *, regular: bool = True) -> Sample:
        """Look once, judge if it is a regular sample, publish. Called on the sampler's thread (tests: on any one)."""
        self._spent = time.thread_time()
        try:
            return self._sample(regular=regular)
        finally:  # what a fault cuts short has cost something, too
            self._book(regular=regular)

    def _book(self, *, regular: bool) -> None:
        """Book what this thread has spent since this was done last."""
        before, self._spent = self._spent, time.thread_time()
        self.pace.spend(self._spent - before, regular=regular)

    def _sample(self, *, regular: bool) -> Sample:
        readings = [reading for batch in self._look() for reading in batch.readings]
        for runner in self.runners:
            if runner.known:
                with guard(f"asking {runner.source.name} what it knows"):
                    readings += runner.source.aside(hangs=runner.hangs)
        with self._books:
            if self._stopping:
                # The sums outlive this sampler, and another may be adding to them by now.
                raise Stopped
            sample = self._enter(readings, regular=regular)
        with self._condition:
            self.latest = sample
            self.first = self.first or sample
        if not regular:
            with guard("taking a glance"):
                self._judge.glance(lambda: between(self._judged, sample))
        return sample

    def _enter(self, readings: list[Reading], *, regular: bool) -> Sample:
        """Add a moment's readings to the sums, and have it judged if it is a regular one."""
        at, time_unix_nano = self._clock.monotonic(), self._clock.time_ns()
        readings += self._own(at)
        sample = self._accumulator.sample(readings, at, time_unix_nano, self._before())
        if regular:
            kept = {name: at for source in self._kept.values() for name, at in source.items()}
            self.snapshot = between(self._judged, sample, kept)
            with guard("judging alerts"):
                self._judge.judge(self.snapshot)
            self._judged = sample
        with guard("showing alerts"):
            self._accumulator.extend(sample.points, self._judge.readings(at))
        return sample

    def _look(self) -> Iterator[Batch]:
        """Every source's batch. Those that may hang are at work while the others are read, and then waited for."""
        for runner in self.runners:
            runner.ask()
        deadline, slowed = 0.0, self.pace.slowed or bool(self._stood) or bool(self._kept)
        for runner in sorted(self.runners, key=lambda runner: runner.source.may_hang):
            if runner.source.may_hang:
                deadline = deadline or time.monotonic() + self._source_timeout
            batch = runner.take(deadline)
            if slowed:
                self._remember(runner, batch)
            if batch is not None:
                yield batch

    def _remember(self, runner: Runner, batch: Batch | None) -> None:
        """Keep of a source with a slower cadence when its metrics were read, and where its counters stood before that.

        The one for alerts, which take nothing for a second reading that is told again; the other for rates until the next.
        """
        name = runner.source.name
        if not runner.every:
            self._stood.pop(name, None)
        if not runner.every or batch is None:
            self._kept.pop(name, None)
        elif not runner.told_again:
            metrics = {series.metric.name for series, *_ in batch.readings}
            metrics |= {derived.name for metric in metrics for derived in DERIVED.get(metric, ())}
            self._kept[name] = dict.fromkeys(metrics, batch.ended)
        if runner.every and batch is not None and not runner.told_again and self.latest is not None:
            points = self.latest.points
            self._stood[name] = {
                series: points[series]
                for series, _, at, _ in batch.readings
                if series.metric.kind is Kind.COUNTER and series in points and points[series].at != at
            }

    def _before(self) -> Mapping[Series, Point]:
        if not self._stood:
            return _NOWHERE
        return {series: point for stood in self._stood.values() for series, point in stood.items()}

    def _close_own(self) -> None:
        """Close the sources that this thread reads itself: `stop` does not, while the thread may be reading them."""
        for runner in self.runners:
            if not isinstance(runner, ThreadRunner):
                with guard(f"closing {runner.source.name}"):
                    runner.stop(0)

    def _own(self, at: float) -> Iterable[Reading]:
        """Readings of ourselves: what the sources cost and missed."""
        for runner in self.runners:
            if not runner.known:
                continue
            yield Reading(runner.series_up, int(runner.up), at)
            yield Reading(runner.series_read_time, runner.read_time, at)
            for error_type, count in runner.lost.items():
                yield Reading(_lost(runner.source.name, error_type), count, at)
        yield Reading(_SAMPLING_TIME, self.pace.cpu_time(at), at)
        for place, count in tuple(faults.items()):
            yield Reading(_failed(place), count, at)
        if output.passed_over:
            yield Reading(_LINES_DROPPED, output.passed_over, at)

    def _after(self, due: float) -> float:
        """When the regular look after the one that was due at ``due`` is due.

        Looks that were missed (SIGSTOP, a suspended laptop, a slow read) are not made up for: two looks in quick
        succession have no rates between them.
        """
        interval = self.pace.interval
        if not interval:
            return math.inf
        now = time.monotonic()
        return due + interval if due + interval > now else now + interval

    def _run(self) -> None:
        self.pace.sampler, self._busy_since = threading.current_thread(), None
        due = time.monotonic()  # the first look is at once: rates and totals count from it
        while True:
            with self._condition:
                if self._answered == self._asked:
                    pause = max(0.0, due - time.monotonic()) if due < math.inf else None
                    self._condition.wait_for(lambda: self._stopping or self._asked > self._answered, pause)
                ticket = self._asked
            if self._stopping:
                self._close_own()
                return
            regular = not self.pace.interval or time.monotonic() >= due
            self._busy_since = self._clock.monotonic()
            with guard("sampling"):
                try:
                    self.sample(regular=regular)
                except Stopped:
                    self._close_own()
                    return
            if regular:
                due = self._after(due)
            with self._condition:
                self._answered = ticket
                self._condition.notify_all()
            if regular:
                with guard("telling of alerts"):
                    self._judge.tell()
                self._book(regular=True)
                with guard("keeping to the budget"):
                    self.pace.step()
            self._busy_since = None
