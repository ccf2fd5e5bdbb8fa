# SPDX-License-Identifier: Apache-2.0
"""This process through psutil, where the kernel has no files for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

import psutil

from otel_hwmetrics.catalog import process as rows
from otel_hwmetrics.model import Reading, Series
from otel_hwmetrics.sources.base import Batch, Bench, Clock, Reader, SourceUnavailable
from otel_hwmetrics.sources.process import subject
from otel_hwmetrics.sources.process.subject import Items, Pairs, Subject
from otel_hwmetrics.sources.sparing import Sparing

SHARED_MEMORY_EVERY: Final = 30.0
"""Seconds between two looks at memory page by page, at least (see `Sparing`)."""

_MEMORY_PSS = Series(rows.MEMORY_PSS)
_MEMORY_USS = Series(rows.MEMORY_USS)


class LibraryProcess(Subject):
    """This process as psutil shows it.

    Args:
        clock: Seconds of the monotonic clock.
        effective_cpus: See `ProcessSource`.
    """

    process: psutil.Process

    def __init__(self, clock: Clock, effective_cpus: Callable[[], float | None] | None) -> None:
        super().__init__(clock, effective_cpus)
        self.shared_memory = Sparing(self._split_memory, clock)
        self._bench = Bench(
            self,
            READERS,
            unsupported=(AttributeError, NotImplementedError),  # macOS has no io_counters
            expected=(OSError, psutil.Error, ValueError, LookupError),
        )

    def open(self, source: str) -> None:
        """Find it.

        Raises:
            SourceUnavailable: psutil cannot see it.
        """
        try:
            self.process = psutil.Process()
        except (OSError, psutil.Error) as error:
            raise SourceUnavailable(source, f"psutil cannot see it: {error}", "is /proc mounted?") from error

    def read_into(self, batch: Batch) -> None:
        """Run the readers; psutil asks the system once for what several of them need."""
        with self.process.oneshot():
            self._bench.read_into(batch, self.clock)

    def close(self) -> None:
        """Nothing is held."""

    def _split_memory(self) -> Iterable[Reading]:
        """Memory by who shares it: the kernel walks every page."""
        at = self.clock()
        memory = self.process.memory_full_info()
        readings = [Reading(_MEMORY_USS, memory.uss, at)]
        if hasattr(memory, "pss"):
            readings.append(Reading(_MEMORY_PSS, memory.pss, at))
        return readings


def _cpu_time(process: LibraryProcess) -> Pairs:
    times = process.process.cpu_times()
    yield subject.CPU_USER, times.user
    yield subject.CPU_SYSTEM, times.system


def _memory(process: LibraryProcess) -> Pairs:
    memory = process.process.memory_info()
    yield subject.MEMORY_USAGE, memory.rss
    yield subject.MEMORY_VIRTUAL, memory.vms


def _disk_io(process: LibraryProcess) -> Pairs:
    counters = process.process.io_counters()
    yield subject.DISK_READ, counters.read_bytes
    yield subject.DISK_WRITE, counters.write_bytes


def _thread_count(process: LibraryProcess) -> Pairs:
    yield subject.THREAD_COUNT, process.process.num_threads()


def _descriptors(process: LibraryProcess) -> Pairs:
    yield subject.FILE_DESCRIPTOR_COUNT, process.process.num_fds()


def _uptime(process: LibraryProcess) -> Items:
    return subject.uptime(process, time.time() - process.process.create_time())


def _shared_memory(process: LibraryProcess) -> Items:
    return process.shared_memory()


def _usage(_: LibraryProcess) -> Pairs:
    # Not psutil's: on macOS and Windows it says that there was no involuntary switch, ever.
    return subject.switches_and_faults(subject.usage())


_WHERE: Final = "macOS, Windows, BSD"

READERS: tuple[Reader[LibraryProcess], ...] = (
    Reader((rows.CPU_TIME,), _cpu_time, call="psutil.Process.cpu_times", where=_WHERE),
    Reader((rows.CPU_LIMIT,), subject.cpu_limit, call="os.cpu_count", where=_WHERE),
    Reader((rows.MEMORY_USAGE, rows.MEMORY_VIRTUAL), _memory, call="psutil.Process.memory_info", where=_WHERE),
    Reader((rows.DISK_IO,), _disk_io, call="psutil.Process.io_counters", where="Windows, BSD"),
    Reader((rows.THREAD_COUNT,), _thread_count, call="psutil.Process.num_threads", where=_WHERE),
    Reader(
        (rows.FILE_DESCRIPTOR_COUNT,),
        _descriptors,
        every=subject.DESCRIPTORS_EVERY,
        call="psutil.Process.num_fds",
        where="macOS, BSD",
    ),
    Reader((rows.UPTIME,), _uptime, call="psutil.Process.create_time", where=_WHERE),
    Reader((rows.CONTEXT_SWITCHES, rows.FAULTS), _usage, call="getrusage(RUSAGE_SELF)", where="macOS, BSD"),
    Reader(
        (rows.MEMORY_PSS, rows.MEMORY_USS),
        _shared_memory,
        every=SHARED_MEMORY_EVERY,
        call="psutil.Process.memory_full_info",
        where=_WHERE,
    ),
)
