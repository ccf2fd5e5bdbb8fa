# SPDX-License-Identifier: Apache-2.0
"""Running one source for the sampler: on its thread, or, where a call may hang, on a thread below it.

A source that is late is left out of the sample and counted; one that hung is asked again after growing pauses. One that
costs too much has a slower cadence than the others; in between its last readings are told again, with their own time.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Protocol

from otel_hwmetrics import redaction
from otel_hwmetrics._guard import guard
from otel_hwmetrics.catalog import gpu, own
from otel_hwmetrics.model import Series
from otel_hwmetrics.sources.base import Batch, Source, SourceUnavailable, next_due
from otel_hwmetrics.threads import Lasting

_logger = redaction.logger(__name__)

HUNG_AFTER = 1.0
"""Seconds after which a look that is late was not only slow; only then does its source get a rest. A thread that waits
for a busy interpreter is slow, too: each call that releases the GIL may wait 5 ms to have it again."""
OPENS_WITHIN = 30.0
"""Seconds after which a source that is still opening hangs; without persistence mode a driver takes some."""
BACK_OFF_FIRST = 1.0
BACK_OFF_MOST = 60.0
"""Seconds of rest for a source that hung, the first time and at most; in between they double."""
STALE_AFTER = 5.0
"""Seconds after which the last sample is too old to be shown as the present, at least."""
THREAD_ENDED = "thread_ended"
"""Type of the error by which those readings are lost whose source's thread has died."""


class Clock(Protocol):
    """Where the time comes from; `time` itself, or `otel_hwmetrics.testing.ManualClock`."""

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    def time_ns(self) -> int:
        """Nanoseconds since the epoch."""
        ...


class Runner:
    """Runs one source on the sampler's thread, and keeps its books."""

    def __init__(self, source: Source, clock: Clock) -> None:
        self.source = source
        self.unavailable: SourceUnavailable | None = None
        self.stale_after = STALE_AFTER
        self.every = 0.0
        """Seconds between two looks at this source; 0 for one at every sample."""
        self.told_again = False
        """Whether what `take` gave last is what it had given before."""
        self.up = False
        self.read_time = 0.0
        self.cpu_time = 0.0
        self.lost: Counter[str] = Counter()
        self.series_up = Series(own.SOURCE_UP, {own.SOURCE: source.name})
        self.series_read_time = Series(own.SOURCE_READ_TIME, {own.SOURCE: source.name})
        self.series_interval = Series(own.SOURCE_INTERVAL, {own.SOURCE: source.name})
        self._clock = clock
        self._closed = False
        self._due = 0.0  # when a look is due again, of a slower cadence
        self._kept: Batch | None = None  # what is told until then
        self._failed = False  # whether the last look, of a slower cadence, gave nothing
        self.expected = 1
        """How many readings a look gives, to count those that a missed look loses."""
        self.gpus = 0
        """How many GPUs it reads; an allocator's figures are of the framework."""
        self._counted = 0  # how many readings there were when that was counted

    @property
    def known(self) -> bool:
        """Whether the source is known to be there; until then nothing is told of it."""
        return self.unavailable is None

    @property
    def hangs(self) -> bool:
        """Whether a look has been under way for so long that it hangs."""
        return False

    def start(self) -> None:
        """Open the source."""
        self._open()

    def ask(self) -> None:
        """Begin a look, where that can be done ahead."""

    def take(self, deadline: float) -> Batch | None:
        """The look's batch; None when there is none by ``deadline`` (real monotonic seconds)."""
        del deadline  # an inline source does not hang
        self.told_again = self.every > 0 and self._rests()
        if self.told_again:
            return self._kept
        return self._account(self._read()) if self.unavailable is None else None

    def _rests(self) -> bool:
        """Whether it is not yet to be read again, and what it told last is told again."""
        return self._kept is not None and self._clock.monotonic() < self._due

    def stop(self, timeout: float) -> None:
        """Close the source, once, waiting ``timeout`` seconds at most."""
        del timeout
        closed, self._closed = self._closed, True
        if not closed:
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
        self.up = bool(batch.readings) or not batch.lost  # to have nothing to tell is no fault
        if batch.readings:
            self.expected = len(batch.readings)
            if self.expected != self._counted:
                self._counted = self.expected
                self.gpus = len(
                    {
                        reading.attributes[gpu.GPU_INDEX]
                        for reading in batch.readings
                        if reading.metric.name.startswith("hw.") and gpu.GPU_INDEX in reading.attributes
                    }
                )
        if self.every:
            self._keep(batch)
        return batch

    def _keep(self, batch: Batch) -> None:
        """Tell a look until the next one is due; one that failed is made up for at the next sample, but not time after time."""
        failed, self._failed = self._failed, not self.up
        if self.up or failed:
            self._kept, self._due = batch, next_due(batch.began, self.every)


class ThreadRunner(Runner):
    """Runs one source on a daemon thread of its own, so that a call that hangs holds nobody else."""

    def __init__(self, source: Source, clock: Clock) -> None:
        super().__init__(source, clock)
        self._condition = threading.Condition()  # of a lock that its thread may take again
        self._asked = False
        self._stopping = False
        self._busy = True  # with opening
        self._opened = False
        self._late = False
        self._result: Batch | None = None
        self._told = False
        self._spare: Batch | None = None  # what may be told once more while a look is late, of a slower cadence
        self._pause = 0.0
        self._ask_again_at = 0.0
        self._began = 0.0
        self._dormant = False
        without = f"no more readings from {source.name}"
        self.life = Lasting(source.name, self._run, without, self._died, again="at the next sample")

    @property
    def known(self) -> bool:
        """Whether the source is open; a driver may take seconds, and then not be there. One that hangs is there."""
        return (self._opened or self._never_opens) and self.unavailable is None and not self._dormant

    @property
    def _never_opens(self) -> bool:
        return not self._opened and self._clock.monotonic() - self._began >= OPENS_WITHIN

    @property
    def hangs(self) -> bool:
        """Whether a look has been under way for so long that it hangs."""
        return self._opened and self._busy and self._clock.monotonic() - self._began >= HUNG_AFTER

    def start(self) -> None:
        """Start the thread, which opens the source and then waits to be asked; or wait until there is something to read."""
        self._dormant = self.source.dormant
        if self._dormant:
            self._opened, self._busy = True, False
        else:
            self._begin_to_open()

    def _begin_to_open(self) -> None:
        self._began = self._clock.monotonic()
        self.life.start()

    def wait_opened(self, timeout: float) -> bool:
        """Wait until the source is open or known to be unavailable; False when ``timeout`` seconds were not enough."""
        with self._condition:
            self._condition.wait_for(lambda: self._opened or not self.life.alive, timeout)
            return self._opened

    def ask(self) -> None:
        """Let the thread begin a look, unless it is still at the last one or must rest."""
        if self._dormant and not self.source.dormant:
            self._dormant, self._opened, self._busy = False, False, True
            self._begin_to_open()
        if self._late or not self._opened:
            self.life.check()
        self.told_again = self.every > 0 and self._rests()
        if self.told_again:
            return
        with self._condition:
            waiting = self._result
            if waiting is not None and self._is_stale(waiting) and waiting.ended - waiting.began < HUNG_AFTER:
                self._result = None  # it did not hang, but nobody asked for so long: one that is fresh can be had
                self._late = False
            self._begin()

    def _is_stale(self, batch: Batch) -> bool:
        return self._clock.monotonic() - batch.began > self.stale_after

    def take(self, deadline: float) -> Batch | None:
        """The batch of the look that was begun; one that came too late for its own sample joins this one."""
        if self.told_again:
            return self._kept
        batch = self._awaited(deadline) if not self.life.off else self._broken() if self.known else None
        return batch if batch is None or self.told_again else self._account(batch)

    def _keep(self, batch: Batch) -> None:
        super()._keep(batch)
        self._spare = batch if self.up else None

    def _awaited(self, deadline: float) -> Batch | None:
        with self._condition:
            if not self._opened and not self._late:
                self._condition.wait_for(lambda: self._opened, max(0.0, deadline - time.monotonic()))
            if self.unavailable is not None or self._dormant:
                return None
            if not self._opened:  # a driver may take seconds to start; nothing is lost by it, and nobody waits again
                self._late = True
                if self._never_opens:
                    self._miss()
                return None
            self._begin()
            if self._busy and not self._late:
                self._condition.wait_for(lambda: not self._busy, max(0.0, deadline - time.monotonic()))
            if self._busy or self._result is None:
                return self._once_more()
            batch, self._result = self._result, None
            took = batch.ended - batch.began
            if self._late and took >= HUNG_AFTER:
                self._pause = min(max(BACK_OFF_FIRST, self._pause * 2), BACK_OFF_MOST)
                self._ask_again_at = self._clock.monotonic() + self._pause
            elif not self._late:
                self._pause = 0.0
            self._late = False
            if self._is_stale(batch):
                self._miss()
                return None
        return batch

    def _begin(self) -> None:
        free = self._opened and not self._dormant and not self._busy and self._result is None
        if free and self._clock.monotonic() >= self._ask_again_at:
            self._asked = self._busy = True
            self._began = self._clock.monotonic()
            self._late = False
            self._condition.notify_all()

    def _once_more(self) -> Batch | None:
        """What there is at a sample for which the look is late: of a slower cadence, at one sample, what was told before."""
        spare, self._spare = self._spare if self.every else None, None
        if spare is None:
            self._miss()
        else:
            self.told_again, self._late = True, self._busy
        return spare

    def _miss(self) -> None:
        """This sample goes without: count what it lacks, and say so, once in a job's life."""
        self.up = False
        self.lost["timeout"] += self.expected
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
        deadline = time.monotonic() + timeout
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        self.life.join(timeout)
        if self.life.off:
            self._close_instead(max(0.0, deadline - time.monotonic()))

    def _close_instead(self, timeout: float) -> None:
        """Close what the thread that died has left open; on a thread of its own, since that may hang as well."""
        with guard(f"closing {self.source.name}"):
            closing = threading.Thread(target=self._close, name=self.life.name, daemon=True)
            closing.start()
            closing.join(timeout)

    def _close(self) -> None:
        with guard(f"closing {self.source.name}"):
            self.source.close()

    def _broken(self) -> Batch:
        """What there is of a look whose thread has died."""
        batch = Batch()
        batch.lose(THREAD_ENDED, self.expected)
        batch.began = batch.ended = self._clock.monotonic()
        return batch

    def _died(self) -> None:
        """End the look that the thread died in, so that nobody waits for it."""
        with self._condition:
            if self._opened and self._busy and not self._asked:
                self._done(self._broken())

    def _run(self) -> None:
        if not self._opened:
            self._open()
            self._done(None)
        self._died()  # should the thread before this one have had no time for it
        if self.unavailable is not None:
            return
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._asked or self._stopping)
                if self._stopping:
                    break
                self._asked = False
            self._done(self._read())
        self._close()

    def _done(self, result: Batch | None) -> None:
        with self._condition:
            self._result = result
            self._busy = False
            self._opened = True
            self._condition.notify_all()
