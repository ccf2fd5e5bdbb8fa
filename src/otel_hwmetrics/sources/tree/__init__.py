# SPDX-License-Identifier: Apache-2.0
"""The job's process tree: from the kernel's own files on Linux, through psutil elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import ClassVar, Final

import psutil
from opentelemetry.semconv._incubating.attributes.cpu_attributes import CpuModeValues
from opentelemetry.semconv._incubating.attributes.disk_attributes import DiskIoDirectionValues
from opentelemetry.semconv._incubating.attributes.process_attributes import ProcessContextSwitchTypeValues

from otel_hwmetrics.catalog import process as of_process
from otel_hwmetrics.catalog import tree as rows
from otel_hwmetrics.catalog.process import CONTEXT_SWITCH_TYPE, CPU_MODE, FAULT_TYPE, IO_DIRECTION
from otel_hwmetrics.model import Reading, Series
from otel_hwmetrics.sources.base import (
    Batch,
    Bench,
    Clock,
    Incomplete,
    Item,
    Reader,
    Source,
    SourceUnavailable,
    Unsupported,
)
from otel_hwmetrics.sources.sparing import Sparing
from otel_hwmetrics.sources.tree.census import STATES, Watched
from otel_hwmetrics.sources.tree.forest import Forest
from otel_hwmetrics.sources.tree.library import LibraryTree

PROC: str | None = "/proc" if sys.platform == "linux" else None
"""Where the kernel shows processes; None where it does not."""

CONTEXT_SWITCHES_EVERY: Final = 10.0
"""Seconds between two counts of context switches, which take a long file of each process."""
SHARED_MEMORY_EVERY: Final = 30.0
"""Seconds between two looks at memory page by page, at least (see `Sparing`)."""

_READ, _WRITE = DiskIoDirectionValues.READ.value, DiskIoDirectionValues.WRITE.value
_CPU_USER = Series(rows.CPU_TIME, {CPU_MODE: CpuModeValues.USER.value})
_CPU_SYSTEM = Series(rows.CPU_TIME, {CPU_MODE: CpuModeValues.SYSTEM.value})
_MEMORY_USAGE = Series(rows.MEMORY_USAGE)
_MEMORY_PSS = Series(rows.MEMORY_PSS)
_OF_PROCESS_PSS = Series(of_process.MEMORY_PSS)
_OF_PROCESS_USS = Series(of_process.MEMORY_USS)
_DISK_READ = Series(rows.DISK_IO, {IO_DIRECTION: _READ})
_DISK_WRITE = Series(rows.DISK_IO, {IO_DIRECTION: _WRITE})
_DATA_READ = Series(rows.DATA_IO, {IO_DIRECTION: _READ})
_DATA_WRITE = Series(rows.DATA_IO, {IO_DIRECTION: _WRITE})
_READS = Series(rows.DATA_OPERATIONS, {IO_DIRECTION: _READ})
_WRITES = Series(rows.DATA_OPERATIONS, {IO_DIRECTION: _WRITE})
_THREADS = Series(rows.THREAD_COUNT)
_STATES = {state: Series(rows.PROCESS_COUNT, {rows.PROCESS_STATE: state}) for state in STATES}
_STARTED = Series(rows.CHILDREN_STARTED)
_ENDED = Series(rows.CHILDREN_ENDED)
_FAILED = {cause: Series(rows.CHILDREN_FAILED, {rows.EXIT_CAUSE: cause}) for cause in rows.EXIT_CAUSES}
_UNINTERRUPTIBLE = Series(rows.UNINTERRUPTIBLE_TIME)
_MINOR = Series(rows.FAULTS, {FAULT_TYPE: "minor"})
_MAJOR = Series(rows.FAULTS, {FAULT_TYPE: "major"})
_VOLUNTARY = Series(rows.CONTEXT_SWITCHES, {CONTEXT_SWITCH_TYPE: ProcessContextSwitchTypeValues.VOLUNTARY.value})
_INVOLUNTARY = Series(rows.CONTEXT_SWITCHES, {CONTEXT_SWITCH_TYPE: ProcessContextSwitchTypeValues.INVOLUNTARY.value})


class _Subject:
    """A tree that is watched, and its costly look.

    Attributes:
        failure: Why the last costly look did not give the tree's memory.
        untold: How many had ended so far of which the kernel did not tell how.
    """

    def __init__(self, tree: Watched, clock: Clock, *, ours: bool) -> None:
        self.tree = tree
        self._clock = clock
        self._ours = ours
        self.failure: Exception | None = None
        self.untold = 0
        self.shared_memory = Sparing(self._shared_memory, clock)

    def _shared_memory(self) -> list[Reading] | None:
        at = self._clock()
        memory = self.tree.shared_memory()
        if memory is None:
            return None
        self.failure = memory.failure
        told = [] if memory.total is None else [Reading(_MEMORY_PSS, memory.total, at)]
        # The process's own are told from here, and not by its source: a memory map is locked for as long as it is
        # changed, and the walk takes a second for hundreds of gigabytes. The sampler's thread cannot wait for that.
        if self._ours and memory.root is not None:
            told.append(Reading(_OF_PROCESS_PSS, memory.root.proportional, at))
            told.append(Reading(_OF_PROCESS_USS, memory.root.unique, at))
        return told


def _told(subject: _Subject, *pairs: tuple[Series, float | None]) -> Iterator[Item]:
    """Readings of the look's own moment: reading the members takes a while, longer in a busy process."""
    at = subject.tree.census.at
    return (Reading(series, value, at) for series, value in pairs if value is not None)


def _cpu_time(subject: _Subject) -> Iterator[Item]:
    census = subject.tree.census
    return _told(subject, (_CPU_USER, census.user), (_CPU_SYSTEM, census.system))


def _faults(subject: _Subject) -> Iterator[Item]:
    census = subject.tree.census
    return _told(subject, (_MINOR, census.minor), (_MAJOR, census.major))


def _memory(subject: _Subject) -> Iterator[Item]:
    return _told(subject, (_MEMORY_USAGE, subject.tree.census.resident))


def _traffic(subject: _Subject) -> Iterator[Item]:
    traffic = subject.tree.census.traffic
    if traffic is None:
        return iter(())
    return _told(
        subject,
        (_DATA_READ, traffic.read),
        (_DATA_WRITE, traffic.written),
        (_READS, traffic.reads),
        (_WRITES, traffic.writes),
        (_DISK_READ, traffic.disk_read),
        (_DISK_WRITE, traffic.disk_written),
    )


def _counts(subject: _Subject) -> Iterator[Item]:
    census = subject.tree.census
    states = [(_STATES[state], count) for state, count in census.states.items()]
    return _told(subject, (_THREADS, census.threads), (_STARTED, census.started), (_ENDED, census.ended), *states)


def _failures(subject: _Subject) -> Iterator[Item]:
    census = subject.tree.census
    if census.failed is None:
        raise Unsupported
    told = _told(subject, *[(_FAILED[cause], count) for cause, count in census.failed.items()])
    untold, subject.untold = census.untold - subject.untold, census.untold
    if untold > 0:
        raise Incomplete(told, untold, PermissionError("how a process ended is told to those who may trace it"))
    return told


def _uninterruptible(subject: _Subject) -> Iterator[Item]:
    seconds = subject.tree.uninterruptible()
    if seconds is not None:
        at = subject.tree.census.at
        # It stands for this moment alone: the mean of a stopwatch says nothing.
        yield Reading(_UNINTERRUPTIBLE, seconds, at, at)


def _context_switches(subject: _Subject) -> Iterator[Item]:
    voluntary, involuntary = subject.tree.context_switches()
    yield _VOLUNTARY, voluntary
    yield _INVOLUNTARY, involuntary


def _shared_memory(subject: _Subject) -> tuple[Reading, ...]:
    told = subject.shared_memory()
    if subject.failure is not None:
        raise Incomplete(told, 1, subject.failure)
    return told


_WHERE: Final = "Linux; elsewhere by psutil, of those that lived at a sample"

READERS: tuple[Reader[_Subject], ...] = (
    Reader((rows.CPU_TIME,), _cpu_time, call="/proc/<pid>/stat: utime, stime, cutime, cstime", where=_WHERE),
    Reader((rows.FAULTS,), _faults, call="/proc/<pid>/stat: minflt, majflt, cminflt, cmajflt", where="Linux"),
    Reader((rows.MEMORY_USAGE,), _memory, call="/proc/<pid>/statm", where=_WHERE),
    Reader(
        (rows.DATA_IO, rows.DATA_OPERATIONS, rows.DISK_IO),
        _traffic,
        call="/proc/<pid>/io",
        where="Linux with CONFIG_TASK_IO_ACCOUNTING; Windows and BSD by psutil, bytes of calls only where it counts them",
    ),
    Reader(
        (rows.THREAD_COUNT, rows.PROCESS_COUNT, rows.CHILDREN_STARTED, rows.CHILDREN_ENDED),
        _counts,
        call="/proc/<pid>/stat, /proc/<pid>/task/<tid>/children",
        where=_WHERE,
    ),
    Reader(
        (rows.CHILDREN_FAILED,),
        _failures,
        call="/proc/<pid>/stat: exit_code",
        where="Linux, of processes that we may trace (ptrace(2)); not gVisor",
    ),
    Reader(
        (rows.UNINTERRUPTIBLE_TIME,),
        _uninterruptible,
        call="/proc/<pid>/stat: state; /proc/<pid>/status: voluntary_ctxt_switches, nonvoluntary_ctxt_switches",
        where="Linux",
    ),
    Reader(
        (rows.CONTEXT_SWITCHES,),
        _context_switches,
        every=CONTEXT_SWITCHES_EVERY,
        call="/proc/<pid>/status",
        where="Linux",
    ),
    Reader(
        (rows.MEMORY_PSS, of_process.MEMORY_PSS, of_process.MEMORY_USS),
        _shared_memory,
        every=SHARED_MEMORY_EVERY,
        call="/proc/<pid>/smaps_rollup: Pss, Private_*",
        where="Linux 4.14 and newer",
    ),
)


class TreeSource(Source):
    """This process and its descendants, together.

    Args:
        clock: Seconds of the monotonic clock.
        proc: Where the kernel shows processes; None to ask psutil.
        root: The number of the process whose tree it is; None for this one.
    """

    name: ClassVar[str] = "tree"
    may_hang: ClassVar[bool] = True
    """A memory map is locked for as long as it is changed, which may take a file server's time."""

    def __init__(self, clock: Clock = time.monotonic, *, proc: str | None = PROC, root: int | None = None) -> None:
        self._clock = clock
        self._proc = proc
        self._root = root

    def open(self) -> None:
        """Find the root.

        Raises:
            SourceUnavailable: It is not there, or may not be seen.
        """
        self._watch: Forest | LibraryTree
        tree: Watched
        try:
            if self._proc is None:
                tree = self._watch = LibraryTree(self._root, self._clock)
            else:
                self._watch = Forest(self._proc, self._clock)
                # By this /proc's numbers, which are not ours when it is the host's.
                number = self._root or int(os.readlink(f"{self._proc}/self"))
                tree = self._watch.plant(number, ourselves=self._root is None)
        except (OSError, ValueError, psutil.Error) as error:
            raise SourceUnavailable(self.name, f"the process cannot be seen: {error}", "is /proc mounted?") from error
        self._bench = Bench(
            _Subject(tree, self._clock, ours=self._root is None),
            READERS,
            expected=(OSError, psutil.Error, ValueError, LookupError),
        )

    def read(self) -> Batch:
        """Look at the tree once, and tell what was seen."""
        batch = Batch()
        self._watch.look()
        for error, count in self._watch.unreadable.items():
            batch.lose(error, count)
        self._bench.read_into(batch, self._clock)
        return batch

    def close(self) -> None:
        """Close the kernel's files."""
        self._watch.close()
