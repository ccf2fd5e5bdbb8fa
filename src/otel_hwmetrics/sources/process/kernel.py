# SPDX-License-Identifier: Apache-2.0
"""This process as Linux shows it: one call and two kept-open files a sample.

/proc/self means whoever opens it, and the descriptor goes on meaning that process in a forked child; a child that
instruments itself makes its own source.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

from otel_hwmetrics.catalog import process as rows
from otel_hwmetrics.sources.base import Batch, Bench, Clock, Reader, SourceUnavailable
from otel_hwmetrics.sources.linux.files import KernelFile
from otel_hwmetrics.sources.linux.proc_pid import parse_stat, parse_statm
from otel_hwmetrics.sources.process import subject
from otel_hwmetrics.sources.process.subject import Items, Pairs, Subject

CPU_LIMIT_EVERY: Final = 5.0
"""Seconds between two looks at what each thread may run on."""


class KernelProcess(Subject):
    """This process in /proc/self.

    Args:
        proc: Where /proc is.
        clock: Seconds of the monotonic clock.
        effective_cpus: See `ProcessSource`.
    """

    def __init__(self, proc: str, clock: Clock, effective_cpus: Callable[[], float | None] | None) -> None:
        super().__init__(clock, effective_cpus)
        self.directory = f"{proc}/self"
        self.stat = KernelFile(f"{self.directory}/stat")
        self.statm = KernelFile(f"{self.directory}/statm")
        # A kernel without CONFIG_TASK_IO_ACCOUNTING has no such file, and getrusage says 0 for ever (kernel/sys.c).
        self.accounts_io = os.path.exists(f"{self.directory}/io")
        self.tick = 1 / os.sysconf("SC_CLK_TCK")
        self.page = os.sysconf("SC_PAGE_SIZE")
        self._bench = Bench(
            self,
            READERS,
            # A kernel that was built without a file will not have it later; /proc/self itself does not vanish.
            unsupported=(FileNotFoundError,),
            expected=(OSError, ValueError),
        )

    def open(self, source: str) -> None:
        """See whether it is there.

        Raises:
            SourceUnavailable: It is not.
        """
        if not os.path.isdir(self.directory):
            raise SourceUnavailable(source, f"{self.directory} is not there", "is /proc mounted?")

    def read_into(self, batch: Batch) -> None:
        """Run the readers."""
        self._bench.read_into(batch, self.clock)

    def close(self) -> None:
        """Close the files."""
        for file in (self.stat, self.statm):
            file.close()


def _usage(process: KernelProcess) -> Pairs:
    # In microseconds, where /proc/self/stat has hundredths of a second; and it takes no system call that lets go of
    # the interpreter.
    used = subject.usage()
    yield subject.CPU_USER, used.ru_utime
    yield subject.CPU_SYSTEM, used.ru_stime
    yield from subject.switches_and_faults(used)
    # In blocks of 512 bytes, whatever the device's. /proc/self/io has the same, and besides what children that were
    # waited for have moved, all at once: an epoch's end, when the workers go, would be a burst of this process.
    if process.accounts_io:
        yield subject.DISK_READ, used.ru_inblock * 512
        yield subject.DISK_WRITE, used.ru_oublock * 512


def _memory(process: KernelProcess) -> Pairs:
    # Not stat's: since Linux 6.2 that sum leaves out what each CPU has not told yet, megabytes on a large machine.
    # statm has had it exact again since 6.16 (get_mm_counter_sum in include/linux/mm.h).
    memory = parse_statm(process.statm.read())
    yield subject.MEMORY_USAGE, memory.resident * process.page
    yield subject.MEMORY_VIRTUAL, memory.size * process.page


def _stat(process: KernelProcess) -> Items:
    stat = parse_stat(process.stat.read())
    yield subject.THREAD_COUNT, stat.threads
    # Both clocks count the time asleep, and both are those of the process's own time namespace.
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    yield from subject.uptime(process, since_boot - stat.started * process.tick)


def _descriptors(process: KernelProcess) -> Pairs:
    path = f"{process.directory}/fd"
    # Since Linux 6.2 the directory's size is their number; it was 0 before, and the list holds the list's own.
    count = os.stat(path).st_size or len(os.listdir(path)) - 1
    yield subject.FILE_DESCRIPTOR_COUNT, count


READERS: tuple[Reader[KernelProcess], ...] = (
    Reader(
        (rows.CPU_TIME, rows.CONTEXT_SWITCHES, rows.FAULTS, rows.DISK_IO),
        _usage,
        call="getrusage(RUSAGE_SELF)",
        where="Linux",
    ),
    Reader(
        (rows.CPU_LIMIT,),
        subject.cpu_limit,
        every=CPU_LIMIT_EVERY,
        call="sched_getaffinity, the cgroup's cpu.max",
        where="Linux",
    ),
    Reader((rows.MEMORY_USAGE, rows.MEMORY_VIRTUAL), _memory, call="/proc/self/statm", where="Linux"),
    Reader((rows.THREAD_COUNT, rows.UPTIME), _stat, call="/proc/self/stat", where="Linux"),
    Reader(
        (rows.FILE_DESCRIPTOR_COUNT,),
        _descriptors,
        every=subject.DESCRIPTORS_EVERY,
        call="/proc/self/fd",
        where="Linux",
    ),
)
