# SPDX-License-Identifier: Apache-2.0
"""The threads of ours: those that ought to live get a second life, and what all others cost is counted."""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Collection
from typing import Final

from otel_hwmetrics import redaction
from otel_hwmetrics._guard import guard, staying
from otel_hwmetrics.catalog import own
from otel_hwmetrics.model import Series

_logger = redaction.logger()

PREFIX: Final = "hwmetrics-"
"""How the names of our threads begin."""
CALLBACKS: Final = "hwmetrics-callbacks"
"""The threads on which the training's own callbacks run: what they take is not our cost."""
COUNT_EVERY: Final = 5.0
"""Seconds between two counts of what our other threads have cost."""


class Lasting:
    """A daemon thread that ought to live until its work is done. Where it dies before, it is started again, once.

    It dies of what no guard stops: an exception that another thread throws into it (`PyThreadState_SetAsyncExc`), an
    exit that a library calls for, no memory where nothing is guarded; and it is not born where a cgroup or the user's
    limit refuses threads. No further thread watches it: the dying one starts its successor, and whoever depends on it
    calls `check`, at which one that was refused is tried again.

    Args:
        name: The thread's, without `PREFIX`.
        work: Returns when it is to end, and never before.
        without: What is missing where the thread stays off, in words.
        died: Called on the thread at its death, before another one has begun.
        gave_up: Called when it stays off, on whatever thread finds that out; the thread itself is at its end then.
        again: When `check` is called next, in words.
    """

    def __init__(  # noqa: PLR0913 - its whole life
        self,
        name: str,
        work: Callable[[], object],
        without: str,
        died: Callable[[], object] = lambda: None,
        gave_up: Callable[[], object] = lambda: None,
        *,
        again: str = "when it is needed",
    ) -> None:
        self.name = PREFIX + name
        self.series_up = Series(own.THREAD_UP, {own.THREAD_NAME: self.name})
        self.thread: threading.Thread | None = None
        self.off = False
        """Whether it died, or could not be started, for the second time."""
        self._work = work
        self._without = without
        self._died = died
        self._gave_up = gave_up
        self._again = again
        self._changing = threading.Lock()
        self._done = False
        self._begun = False
        self._second = False  # whether this is its second life
        self._pid = 0

    @property
    def alive(self) -> bool:
        """Whether it is at its work."""
        thread = self.thread
        return thread is not None and thread.is_alive()

    def start(self) -> None:
        """Start it. Where no thread is to be had now, the next `check` tries again."""
        with self._changing:
            self._begun, self._pid = True, os.getpid()
            self._start()

    def check(self) -> None:
        """Start it again if it died without anybody's notice. From any thread; who is about to do so is not waited for."""
        thread = self.thread
        dead = thread is None or not thread.is_alive()
        if self._begun and not self._done and not self.off and dead and not self._changing.locked():
            self._replace(thread)

    def join(self, timeout: float) -> None:
        """Wait for its end, ``timeout`` seconds at most; there is no further life after that."""
        self._done = True
        thread = self.thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join(timeout)

    def _start(self) -> None:
        thread = threading.Thread(target=self._live, name=self.name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # "can't start new thread"
            self.thread = None
            self.off = self._second
            self._say(f"{self.name} cannot be started: {error}.", f"It is tried again {self._again}, once.")
        else:
            self.thread = thread

    def _live(self) -> None:
        ended = False
        try:
            with guard(f"keeping {self.name} alive"):
                staying(self._work, self.name)
                ended = True
        finally:
            if ended:
                self._done = True
            else:
                self._died()
                self._replace(threading.current_thread())

    def _replace(self, thread: threading.Thread | None) -> None:
        """Let another thread go on in the place of this one."""
        if self._pid != os.getpid():  # in a forked child none of our threads lives, and none is to
            return
        with self._changing:
            if self._done or self.off or self.thread is not thread:
                return
            if self._second:
                self.off = True
                self._say(f"{self.name} ended again.")
            else:
                self._second = True
                if thread is not None:
                    self._say(f"{self.name} ended unexpectedly.", "It is started again, once.")
                self._start()
            gave_up = self.off
        if gave_up:
            with guard(f"going on without {self.name}"):
                self._gave_up()

    def _say(self, what: str, then: str = "") -> None:
        then = f"It stays off: {self._without}." if self.off else then
        _logger.warning("%s %s Training is not affected.", what, then)


class Bystanders:
    """What those of our threads have cost that nobody else keeps account of: notifications, log records, recordings.

    By the kernel's clock of a thread, which has a number that follows from the thread's
    (https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/tree/include/linux/posix-timers.h: CPUCLOCK). Not
    by `time.pthread_getcpuclockid`, which reads the memory of a thread that may have ended by then.

    Args:
        accounted: The threads that are counted elsewhere.
    """

    def __init__(self, accounted: Callable[[], Collection[threading.Thread | None]]) -> None:
        self._accounted = accounted
        self._known: weakref.WeakKeyDictionary[threading.Thread, float] = weakref.WeakKeyDictionary()
        self._due = 0.0
        self._total = 0.0

    def cpu_time(self, now: float) -> float:
        """Seconds so far, as of the last `COUNT_EVERY`. Used by one thread at a time."""
        if now >= self._due and sys.platform == "linux":
            self._due = now + COUNT_EVERY
            accounted = self._accounted()
            for thread in threading.enumerate():
                if thread.name.startswith(PREFIX) and thread.name != CALLBACKS and thread not in accounted:
                    self._count(thread)
        return self._total

    def _count(self, thread: threading.Thread) -> None:
        spent = cpu_time_of(thread)
        if spent is not None:
            self._total += max(0.0, spent - self._known.get(thread, 0.0))
            self._known[thread] = spent


def cpu_time_of(thread: threading.Thread) -> float | None:
    """Seconds of CPU time of any thread of this process; None where the kernel does not tell, or it has ended."""
    number = thread.native_id
    if number is None:
        return None
    try:
        return time.clock_gettime(~number << 3 | 6)  # of a thread (4), as the scheduler counts (2)
    except OSError:
        return None
