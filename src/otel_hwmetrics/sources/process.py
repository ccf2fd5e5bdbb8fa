# SPDX-License-Identifier: Apache-2.0
"""This process, through psutil."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import ClassVar

import psutil
from opentelemetry.semconv._incubating.attributes.cpu_attributes import CpuModeValues
from opentelemetry.semconv._incubating.attributes.disk_attributes import DiskIoDirectionValues

from otel_hwmetrics.catalog import process as rows
from otel_hwmetrics.model import Series
from otel_hwmetrics.sources.base import Batch, Bench, Clock, Reader, Source, SourceUnavailable

Pairs = Iterator[tuple[Series, float]]

_CPU_USER = Series(rows.CPU_TIME, {rows.CPU_MODE: CpuModeValues.USER.value})
_CPU_SYSTEM = Series(rows.CPU_TIME, {rows.CPU_MODE: CpuModeValues.SYSTEM.value})
_CPU_LIMIT = Series(rows.CPU_LIMIT)
_MEMORY_USAGE = Series(rows.MEMORY_USAGE)
_MEMORY_VIRTUAL = Series(rows.MEMORY_VIRTUAL)
_DISK_READ = Series(rows.DISK_IO, {rows.IO_DIRECTION: DiskIoDirectionValues.READ.value})
_DISK_WRITE = Series(rows.DISK_IO, {rows.IO_DIRECTION: DiskIoDirectionValues.WRITE.value})
_THREAD_COUNT = Series(rows.THREAD_COUNT)


def _cpu_time(process: psutil.Process) -> Pairs:
    times = process.cpu_times()
    yield _CPU_USER, times.user
    yield _CPU_SYSTEM, times.system


def _cpu_limit(process: psutil.Process) -> Pairs:
    # Affinity is what the scheduler grants; os.cpu_count() is what the machine has. By pid, which is the main thread's:
    # 0 would be the thread that asks, and that one keeps what the training had before it pinned itself.
    available = len(os.sched_getaffinity(process.pid)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if available:
        yield _CPU_LIMIT, available


def _memory(process: psutil.Process) -> Pairs:
    memory = process.memory_info()
    yield _MEMORY_USAGE, memory.rss
    yield _MEMORY_VIRTUAL, memory.vms


def _disk_io(process: psutil.Process) -> Pairs:
    # Bytes that reached the storage layer (read_bytes, write_bytes of /proc/<pid>/io), not those of read(2).
    counters = process.io_counters()
    yield _DISK_READ, counters.read_bytes
    yield _DISK_WRITE, counters.write_bytes


def _thread_count(process: psutil.Process) -> Pairs:
    yield _THREAD_COUNT, process.num_threads()


READERS: tuple[Reader[psutil.Process], ...] = (
    Reader((rows.CPU_TIME,), _cpu_time),
    Reader((rows.CPU_LIMIT,), _cpu_limit),
    Reader((rows.MEMORY_USAGE, rows.MEMORY_VIRTUAL), _memory),
    Reader((rows.DISK_IO,), _disk_io),
    Reader((rows.THREAD_COUNT,), _thread_count),
)


class ProcessSource(Source):
    """CPU, memory, storage traffic and threads of the process that opens it."""

    name: ClassVar[str] = "process"

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock

    def open(self) -> None:
        """Find this process.

        Raises:
            SourceUnavailable: psutil cannot see it.
        """
        try:
            self._process = psutil.Process()
        except (OSError, psutil.Error) as error:
            raise SourceUnavailable(self.name, f"psutil cannot see it: {error}", "is /proc mounted?") from error
        self._bench = Bench(
            self._process,
            READERS,
            unsupported=(AttributeError, NotImplementedError),  # macOS has no io_counters
            expected=(OSError, psutil.Error, ValueError, LookupError),
        )

    def read(self) -> Batch:
        """Read every counter and level of the process once; each of its files in /proc is opened once."""
        batch = Batch()
        with self._process.oneshot():
            self._bench.read_into(batch, self._clock)
        return batch
