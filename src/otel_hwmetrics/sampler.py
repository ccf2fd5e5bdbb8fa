# SPDX-License-Identifier: Apache-2.0
"""One look at the machine at a time, on a thread of our own.

The SDK runs its callbacks under one process-wide lock and cannot interrupt one, so no hardware is read there: a
callback asks this thread for a fresh sample and waits for it a bounded time. A source that may hang has a thread of
its own below this one; late, it is left out of the sample, counted, and asked again with growing pauses.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Protocol

from otel_hwmetrics._guard import faults, guard
from otel_hwmetrics.catalog import own
from otel_hwmetrics.model import Reading, Series, Snapshot
from otel_hwmetrics.runners import STALE_AFTER, Clock, Runner, ThreadRunner
from otel_hwmetrics.sources.base import Batch, Source
from otel_hwmetrics.windows import Accumulator, Sample, between

_SAMPLING_TIME = Series(own.SAMPLING_TIME)


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
    ) -> None:
        self.runners = [(ThreadRunner if source.may_hang else Runner)(source, clock) for source in sources]
        self.first: Sample | None = None
        self.latest: Sample | None = None
        self.snapshot: Snapshot | None = None
        self._judge = judge
        self._accumulator = accumulator
        self._clock = clock
        self._interval = interval
        self._stale_after = max(STALE_AFTER, 3 * interval)
        for runner in self.runners:
            runner.stale_after = self._stale_after
        self._source_timeout = source_timeout
        self._judged: Sample | None = None
        self._cpu_time = 0.0
        self._books = threading.Lock()  # held while the sums are added to; taken before the condition's lock
        self._condition = threading.Condition()
        self._asked = 0
        self._answered = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="hwmetrics-sampler", daemon=True)

    def start(self) -> None:
        """Open the sources and start the thread."""
        self._accumulator.pause()
        for runner in self.runners:
            runner.start()
        self._thread.start()

    def stop(self, timeout: float = 1.0) -> None:
        """End the thread and close the sources, waiting ``timeout`` seconds at most for each."""
        with self._books, self._condition:
            self._stopping = True
            self._condition.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)
        for runner in self.runners:
            # What the sampler's thread may still be reading is closed by that thread, at its end.
            if isinstance(runner, ThreadRunner) or not self._thread.is_alive():
                with guard(f"closing {runner.source.name}"):
                    runner.stop(timeout)

    def fresh(self, timeout: float) -> Sample | None:
        """A sample taken after this call; when none comes in ``timeout`` seconds, the last one, if it is recent.

        Called by whatever thread collects metrics; never blocks for longer than ``timeout``.
        """
        with self._condition:
            self._asked += 1
            ticket = self._asked
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._answered >= ticket or self._stopping, timeout)
            latest = self.latest
        if latest is None or self._clock.monotonic() - latest.at > self._stale_after:
            return None
        return latest

    def sample(self, *, regular: bool = True) -> Sample:
        """Look once, judge if it is a regular sample, publish. Called on the sampler's thread (tests: on any one)."""
        started_cpu = time.thread_time()
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
        self._cpu_time += time.thread_time() - started_cpu
        return sample

    def _enter(self, readings: list[Reading], *, regular: bool) -> Sample:
        """Add a moment's readings to the sums, and have it judged if it is a regular one."""
        at, time_unix_nano = self._clock.monotonic(), self._clock.time_ns()
        readings += self._own(at)
        sample = self._accumulator.sample(readings, at, time_unix_nano)
        if regular:
            self.snapshot = between(self._judged, sample)
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
        deadline = 0.0
        for runner in sorted(self.runners, key=lambda runner: runner.source.may_hang):
            if runner.source.may_hang:
                deadline = deadline or time.monotonic() + self._source_timeout
            batch = runner.take(deadline)
            if batch is not None:
                yield batch

    def _close_own(self) -> None:
        """Close the sources that this thread reads itself, when it outlived `stop`."""
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
        aside = sum(runner.cpu_time for runner in self.runners if isinstance(runner, ThreadRunner))
        yield Reading(_SAMPLING_TIME, self._cpu_time + aside, at)
        for place, count in tuple(faults.items()):
            yield Reading(_failed(place), count, at)

    def _after(self, due: float) -> float:
        """When the regular look after the one that was due at ``due`` is due.

        Looks that were missed (SIGSTOP, a suspended laptop, a slow read) are not made up for: two looks in quick
        succession have no rates between them.
        """
        if not self._interval:
            return math.inf
        now = time.monotonic()
        return due + self._interval if due + self._interval > now else now + self._interval

    def _run(self) -> None:
        due = time.monotonic()  # the first look is at once: rates and totals count from it
        while True:
            with self._condition:
                if self._answered == self._asked:
                    pause = max(0.0, due - time.monotonic()) if due < math.inf else None
                    self._condition.wait_for(lambda: self._stopping or self._asked > self._answered, pause)
                if self._stopping:
                    return
                ticket = self._asked
            regular = not self._interval or time.monotonic() >= due
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
