# SPDX-License-Identifier: Apache-2.0
"""One look at the machine at a time, on a thread of our own.

The SDK runs its callbacks under one process-wide lock and cannot interrupt one, so no hardware is read there: a
callback asks this thread for a fresh sample and waits for it a bounded time. A source that may hang has a thread of
its own below this one; late, it is left out of the sample, counted, and asked again with growing pauses.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from otel_hwmetrics._guard import faults, guard
from otel_hwmetrics.catalog import own
from otel_hwmetrics.model import Reading, Series, Snapshot
from otel_hwmetrics.sources.base import Batch, Source, SourceUnavailable
from otel_hwmetrics.windows import Accumulator, Sample, between

_logger = logging.getLogger(__name__)

HUNG_AFTER = 1.0
"""Seconds after which a look that is late was not only slow; only then does its source get a rest. A thread that waits
for a busy interpreter is slow, too: each call that releases the GIL may wait 5 ms to have it again."""
BACK_OFF_FIRST = 1.0
BACK_OFF_MOST = 60.0
"""Seconds of rest for a source that hung, the first time and at most; in between they double."""
STALE_AFTER = 5.0
"""Seconds after which the last sample is too old to be shown as the present, at least."""


_SAMPLING_TIME = Series(own.SAMPLING_TIME)


class Clock(Protocol):
    """Where the time comes from; `time` itself, or `otel_hwmetrics.testing.ManualClock`."""

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    def time_ns(self) -> int:
        """Nanoseconds since the epoch."""
        ...


class Judge(Protocol):
    """What is done with each sample's snapshot."""

    def judge(self, snapshot: Snapshot) -> None:
        """Decide on it."""
        ...

    def readings(self, at: float) -> Iterable[Reading]:
        """How what was decided stands, for the sample."""
        ...

    def tell(self) -> None:
        """Pass on what was decided; called once the sample is published, since it may take its time."""
        ...


class Runner:
    """Runs one source on the sampler's thread, and keeps its books."""

    def __init__(self, source: Source, clock: Clock) -> None:
        self.source = source
        self.unavailable: SourceUnavailable | None = None
        self.stale_after = STALE_AFTER
        self.up = False
        self.read_time = 0.0
        self.cpu_time = 0.0
        self.lost: Counter[str] = Counter()
        self.series_up = Series(own.SOURCE_UP, {own.SOURCE: source.name})
        self.series_read_time = Series(own.SOURCE_READ_TIME, {own.SOURCE: source.name})
        self._clock = clock
        self._expected = 1  # how many readings a look gives, to count those that a missed look loses

    def start(self) -> None:
        """Open the source."""
        self._open()

    def ask(self) -> None:
        """Begin a look, where that can be done ahead."""

    def take(self, deadline: float) -> Batch | None:
        """The look's batch; None when there is none by ``deadline`` (real monotonic seconds)."""
        del deadline  # an inline source does not hang
        return self._account(self._read()) if self.unavailable is None else None

    def stop(self, timeout: float) -> None:
        """Close the source, waiting ``timeout`` seconds at most."""
        del timeout
        self.source.close()

    def _open(self) -> None:
        with guard(f"opening {self.source.name}", self._failed_to_open):
            try:
                self.source.open()
            except SourceUnavailable as error:
                self.unavailable = error
        if self.unavailable is not None:
            _logger.info("No readings from %s. Everything else goes on.", self.unavailable)

    def _failed_to_open(self, error: Exception) -> None:
        self.unavailable = SourceUnavailable(self.source.name, f"{type(error).__name__}: {error}")

    def _read(self) -> Batch:
        started, started_cpu = time.monotonic(), time.thread_time()
        batch, began = Batch(), self._clock.monotonic()
        with guard(f"reading {self.source.name}", lambda error: batch.lose(type(error).__name__)):
            batch = self.source.read()
        batch.began, batch.ended = began, self._clock.monotonic()
        self.read_time += time.monotonic() - started
        self.cpu_time += time.thread_time() - started_cpu
        return batch

    def _account(self, batch: Batch) -> Batch:
        self.lost.update(batch.lost)
        self.up = bool(batch.readings)
        if batch.readings:
            self._expected = len(batch.readings)
        return batch


class ThreadRunner(Runner):
    """Runs one source on a daemon thread of its own, so that a call that hangs holds nobody else."""

    def __init__(self, source: Source, clock: Clock) -> None:
        super().__init__(source, clock)
        self._condition = threading.Condition()
        self._asked = False
        self._stopping = False
        self._busy = True  # with opening
        self._opened = False
        self._late = False
        self._result: Batch | None = None
        self._told = False
        self._pause = 0.0
        self._ask_again_at = 0.0
        self._thread = threading.Thread(target=self._run, name=f"hwmetrics-{source.name}", daemon=True)

    def start(self) -> None:
        """Start the thread, which opens the source and then waits to be asked."""
        self._thread.start()

    def wait_opened(self, timeout: float) -> bool:
        """Wait until the source is open or known to be unavailable; False when ``timeout`` seconds were not enough."""
        with self._condition:
            return self._condition.wait_for(lambda: self._opened, timeout)

    def ask(self) -> None:
        """Let the thread begin a look, unless it is still at the last one or must rest."""
        with self._condition:
            self._begin()

    def take(self, deadline: float) -> Batch | None:
        """The batch of the look that was begun; one that came too late for its own sample joins this one."""
        with self._condition:
            if not self._opened and not self._late:
                self._condition.wait_for(lambda: self._opened, max(0.0, deadline - time.monotonic()))
            if self.unavailable is not None:
                return None
            if not self._opened:  # a driver may take seconds to start; nothing is lost by it, and nobody waits again
                self._late = True
                return None
            self._begin()
            if self._busy and not self._late:
                self._condition.wait_for(lambda: not self._busy, max(0.0, deadline - time.monotonic()))
            if self._busy or self._result is None:
                self._miss()
                return None
            batch, self._result = self._result, None
            took = batch.ended - batch.began
            if self._late and took >= HUNG_AFTER:
                self._pause = min(max(BACK_OFF_FIRST, self._pause * 2), BACK_OFF_MOST)
                self._ask_again_at = self._clock.monotonic() + self._pause
            elif not self._late:
                self._pause = 0.0
            self._late = False
            if self._clock.monotonic() - batch.began > self.stale_after:
                self._miss()
                return None
        return self._account(batch)

    def _begin(self) -> None:
        free = self._opened and not self._busy and self._result is None
        if free and self._clock.monotonic() >= self._ask_again_at:
            self._asked = self._busy = True
            self._late = False
            self._condition.notify_all()

    def _miss(self) -> None:
        """This sample goes without: count what it lacks, and say so, once in a job's life."""
        self.up = False
        self.lost["timeout"] += self._expected
        if self._busy:
            self._late = True
        if not self._told:
            self._told = True
            _logger.warning(
                "%s does not answer in time. Samples go without it until it does; how often is counted in %s.",
                self.source.name,
                own.READINGS_LOST.name,
            )

    def stop(self, timeout: float) -> None:
        """Tell the thread to close the source; one that hangs is left behind, and ends with the process."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        self._thread.join(timeout)

    def _run(self) -> None:
        self._open()
        self._done(None)
        if self.unavailable is not None:
            return
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._asked or self._stopping)
                if self._stopping:
                    break
                self._asked = False
            self._done(self._read())
        with guard(f"closing {self.source.name}"):
            self.source.close()

    def _done(self, result: Batch | None) -> None:
        with self._condition:
            self._result = result
            self._busy = False
            self._opened = True
            self._condition.notify_all()


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
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)
        for runner in self.runners:
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
        with self._condition:
            self.latest = sample
            self.first = self.first or sample
        self._cpu_time += time.thread_time() - started_cpu
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

    def _own(self, at: float) -> Iterable[Reading]:
        """Readings of ourselves: what the sources cost and missed."""
        for runner in self.runners:
            if runner.unavailable is not None:
                continue
            yield Reading(runner.series_up, int(runner.up), at)
            yield Reading(runner.series_read_time, runner.read_time, at)
            for error_type, count in runner.lost.items():
                lost = Series(own.READINGS_LOST, {own.SOURCE: runner.source.name, own.ERROR_TYPE: error_type})
                yield Reading(lost, count, at)
        aside = sum(runner.cpu_time for runner in self.runners if isinstance(runner, ThreadRunner))
        yield Reading(_SAMPLING_TIME, self._cpu_time + aside, at)
        for place, count in tuple(faults.items()):
            yield Reading(Series(own.INTERNAL_ERRORS, {own.PLACE: place}), count, at)

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
                self.sample(regular=regular)
            if regular:
                due = self._after(due)
            with self._condition:
                self._answered = ticket
                self._condition.notify_all()
            if regular:
                with guard("telling of alerts"):
                    self._judge.tell()
