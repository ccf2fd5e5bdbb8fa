# SPDX-License-Identifier: Apache-2.0
"""A tree through psutil, where the kernel has no files for it.

macOS and Windows move nothing from a child to its parent, so what a descendant had when it was last seen is kept, and
what one had that came and went between two looks is not known.
"""

from __future__ import annotations

import time
from collections import Counter

import psutil

from otel_hwmetrics.catalog.tree import UNINTERRUPTIBLE
from otel_hwmetrics.sources.base import Clock, Unsupported
from otel_hwmetrics.sources.tree.census import (
    DEFUNCT,
    RUNNING,
    SLEEPING,
    STATES,
    STOPPED,
    Census,
    SharedMemory,
    Traffic,
    Watched,
)

_STATES = {
    psutil.STATUS_RUNNING: RUNNING,
    psutil.STATUS_DISK_SLEEP: UNINTERRUPTIBLE,
    psutil.STATUS_ZOMBIE: DEFUNCT,
    psutil.STATUS_STOPPED: STOPPED,
    psutil.STATUS_TRACING_STOP: STOPPED,
}
_NO_TRAFFIC = (0, 0, 0, 0, 0, 0)


class _Seen:
    """A process as last seen."""

    __slots__ = ("process", "resident", "state", "system", "threads", "traffic", "user")

    def __init__(self, process: psutil.Process) -> None:
        self.process = process
        self.user = self.system = 0.0
        self.resident = self.threads = 0
        self.state = SLEEPING
        self.traffic: tuple[int, ...] | None = None

    def read(self) -> bool:
        """Read it; False when it is gone. What may not be read stays as it was."""
        try:
            if not self.process.is_running():
                return False
            with self.process.oneshot():
                self.state = _STATES.get(self.process.status(), SLEEPING)
                times = self.process.cpu_times()
                self.user, self.system = times.user, times.system
                self.resident = self.process.memory_info().rss
                self.threads = self.process.num_threads()
                self.traffic = _traffic(self.process)
        except psutil.ZombieProcess:
            self.state = DEFUNCT
        except psutil.NoSuchProcess:
            return False
        except (OSError, psutil.Error):
            pass  # another user's
        return True


def _traffic(process: psutil.Process) -> tuple[int, ...] | None:
    try:
        counters = process.io_counters()
    except (AttributeError, NotImplementedError, psutil.AccessDenied):
        return None
    return (
        getattr(counters, "read_chars", 0),
        getattr(counters, "write_chars", 0),
        counters.read_count,
        counters.write_count,
        counters.read_bytes,
        counters.write_bytes,
    )


class LibraryTree(Watched):
    """A root and its descendants, as psutil finds them: by a look at every process of the machine.

    Args:
        root: The root's number; None for this process.
        clock: Seconds of the monotonic clock.

    Raises:
        psutil.Error: It cannot be seen.
    """

    def __init__(self, root: int | None = None, clock: Clock = time.monotonic) -> None:
        self.census = Census()
        self.unreadable: Counter[str] = Counter()
        self._clock = clock
        self._root = psutil.Process(root)
        self._seen = {self._root: _Seen(self._root)}
        self._kept_user = self._kept_system = 0.0
        self._kept_traffic: tuple[int, ...] = _NO_TRAFFIC
        self._started = self._ended = 0

    def look(self) -> None:
        """Read every member once, and take the census."""
        at = self._clock()
        self.unreadable.clear()
        try:
            found = self._root.children(recursive=True)
        except (OSError, psutil.Error) as error:
            self.unreadable[type(error).__name__] += 1
            found = []
        for process in found:
            # The same process is another object each time, but an equal one: by its number and when it began.
            if process not in self._seen:
                self._seen[process] = _Seen(process)
                self._started += 1
        for process, seen in tuple(self._seen.items()):
            if not seen.read():
                del self._seen[process]
                self._bury(seen)
        self._count(at)

    def shared_memory(self) -> SharedMemory | None:
        """Not to be had of another process."""
        raise Unsupported

    def context_switches(self) -> tuple[int, int]:
        """Not to be had: psutil's involuntary ones are always 0 where this is used."""
        raise Unsupported

    def uninterruptible(self) -> float | None:
        """Not to be had: nobody but Linux tells of this state."""
        raise Unsupported

    def close(self) -> None:
        """Nothing is held."""

    def _bury(self, seen: _Seen) -> None:
        self._ended += seen.process != self._root
        self._kept_user += seen.user
        self._kept_system += seen.system
        self._kept_traffic = tuple(map(sum, zip(self._kept_traffic, seen.traffic or _NO_TRAFFIC, strict=True)))

    def _count(self, at: float) -> None:
        members = self._seen.values()
        states = dict.fromkeys(STATES, 0)
        for seen in members:
            states[seen.state] += 1
        self.census = Census(
            at,
            user=self._kept_user + sum(seen.user for seen in members),
            system=self._kept_system + sum(seen.system for seen in members),
            resident=sum(seen.resident for seen in members),
            threads=sum(seen.threads for seen in members),
            states=states,
            started=self._started,
            ended=self._ended,
        )
        traffic = [seen.traffic for seen in members if seen.traffic is not None]
        if traffic:
            read, written, *others = map(sum, zip(self._kept_traffic, *traffic, strict=True))
            # Not counted everywhere, and never nothing where they are: loading this took some.
            self.census.traffic = Traffic(read or None, written or None, *others)
