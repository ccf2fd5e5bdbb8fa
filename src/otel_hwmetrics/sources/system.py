# SPDX-License-Identifier: Apache-2.0
"""The host, through psutil: its counters and levels, never its ``*_percent`` helpers.

Those keep one baseline per calling thread, so a second caller or a new thread gets 0 or another's interval
(https://github.com/giampaolo/psutil/issues/1586); what they tell follows here from the counters.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import ClassVar

import psutil
from opentelemetry.semconv._incubating.attributes.cpu_attributes import CpuModeValues
from opentelemetry.semconv._incubating.attributes.disk_attributes import DiskIoDirectionValues
from opentelemetry.semconv._incubating.attributes.network_attributes import NetworkIoDirectionValues
from opentelemetry.semconv._incubating.attributes.system_attributes import (
    SystemMemoryStateValues,
    SystemPagingStateValues,
)

from otel_hwmetrics.catalog import system as rows
from otel_hwmetrics.model import Metric, Series
from otel_hwmetrics.sources.base import Batch, Bench, Clock, Reader, Source

Pairs = Iterator[tuple[Series, float]]

_CPU_FIELDS: tuple[tuple[CpuModeValues, tuple[str, ...]], ...] = (
    (CpuModeValues.USER, ("user",)),  # holds guest time already (proc(5), /proc/stat)
    (CpuModeValues.SYSTEM, ("system",)),
    (CpuModeValues.NICE, ("nice",)),
    (CpuModeValues.IDLE, ("idle",)),
    (CpuModeValues.IOWAIT, ("iowait",)),
    (CpuModeValues.INTERRUPT, ("irq", "softirq", "interrupt", "dpc")),  # the last two are Windows' names
    (CpuModeValues.STEAL, ("steal",)),
)
_NOT_DISKS = ("loop", "ram", "zram")


class Host:
    """The machine's series, each made once; disks and interfaces as they are met."""

    def __init__(self, sys_block: str = "/sys/block") -> None:
        self._sys_block = sys_block
        self._disks: dict[str, bool] = {}
        self._series: dict[tuple[Metric, str, str], Series] = {}

    def series(self, metric: Metric, key: str, value: str, *, device: tuple[str, str] | None = None) -> Series:
        """The series of ``metric`` with attribute ``key`` (and a device's attribute) set; the same object each time."""
        identity = (metric, value, device[1] if device else "")
        if identity not in self._series:
            self._series[identity] = Series(metric, {key: value, **(dict([device]) if device else {})})
        return self._series[identity]

    def is_disk(self, name: str) -> bool:
        """Whether a block device is a disk of its own: no partition, whose bytes its disk counts too, no RAM, no loop.

        Linux lists whole devices in /sys/block (a slash in a name is written as ``!`` there); elsewhere psutil gives
        whole disks only.
        """
        if name not in self._disks:
            whole = not os.path.isdir(self._sys_block) or os.path.exists(
                os.path.join(self._sys_block, name.replace("/", "!"))
            )
            self._disks[name] = whole and not name.startswith(_NOT_DISKS)
        return self._disks[name]


def _cpu_time(host: Host) -> Pairs:
    times = psutil.cpu_times()
    for mode, names in _CPU_FIELDS:
        parts = [getattr(times, name) for name in names if hasattr(times, name)]
        if parts:
            yield host.series(rows.CPU_TIME, rows.CPU_MODE, mode.value), sum(parts)


_MEMORY_LIMIT = Series(rows.MEMORY_LIMIT)
_MEMORY_AVAILABLE = Series(rows.MEMORY_AVAILABLE)


def _memory(host: Host) -> Pairs:
    memory = psutil.virtual_memory()
    # The conventions' "used" is MemTotal - MemAvailable; psutil's was not before 7.1.
    states = {
        SystemMemoryStateValues.USED: memory.total - memory.available,
        SystemMemoryStateValues.FREE: memory.free,
        SystemMemoryStateValues.BUFFERS: getattr(memory, "buffers", None),
        SystemMemoryStateValues.CACHED: getattr(memory, "cached", None),
    }
    for state, value in states.items():
        if value is not None:
            yield host.series(rows.MEMORY_USAGE, rows.MEMORY_STATE, state.value), value
    yield _MEMORY_LIMIT, memory.total
    if psutil.LINUX:
        yield _MEMORY_AVAILABLE, memory.available


def _paging(host: Host) -> Pairs:
    swap = psutil.swap_memory()
    yield host.series(rows.PAGING_USAGE, rows.PAGING_STATE, SystemPagingStateValues.USED.value), swap.used
    yield host.series(rows.PAGING_USAGE, rows.PAGING_STATE, SystemPagingStateValues.FREE.value), swap.free


def _disks(host: Host) -> Pairs:
    # nowrap=False: psutil's own correction of wraps keeps state between calls; the accumulator has ours.
    for name, counters in (psutil.disk_io_counters(perdisk=True, nowrap=False) or {}).items():
        if not host.is_disk(name):
            continue
        device = (rows.DEVICE, name)
        for direction, count, size in (
            (DiskIoDirectionValues.READ.value, counters.read_count, counters.read_bytes),
            (DiskIoDirectionValues.WRITE.value, counters.write_count, counters.write_bytes),
        ):
            yield host.series(rows.DISK_IO, rows.IO_DIRECTION, direction, device=device), size
            yield host.series(rows.DISK_OPERATIONS, rows.IO_DIRECTION, direction, device=device), count


def _network(host: Host) -> Pairs:
    for name, counters in (psutil.net_io_counters(pernic=True, nowrap=False) or {}).items():
        device = (rows.NETWORK_INTERFACE, name)
        sent, received = NetworkIoDirectionValues.TRANSMIT.value, NetworkIoDirectionValues.RECEIVE.value
        yield host.series(rows.NETWORK_IO, rows.NETWORK_DIRECTION, sent, device=device), counters.bytes_sent
        yield host.series(rows.NETWORK_IO, rows.NETWORK_DIRECTION, received, device=device), counters.bytes_recv


READERS: tuple[Reader[Host], ...] = (
    Reader((rows.CPU_TIME,), _cpu_time),
    Reader((rows.MEMORY_USAGE, rows.MEMORY_LIMIT, rows.MEMORY_AVAILABLE), _memory),
    Reader((rows.PAGING_USAGE,), _paging),
    Reader((rows.DISK_IO, rows.DISK_OPERATIONS), _disks),
    Reader((rows.NETWORK_IO,), _network),
)


class SystemSource(Source):
    """CPU, memory, paging, disks and network of the machine."""

    name: ClassVar[str] = "system"

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._bench = Bench(
            Host(),
            READERS,
            # psutil leaves out what a platform lacks, or says NotImplementedError; odd files give the others.
            unsupported=(AttributeError, NotImplementedError),
            expected=(OSError, psutil.Error, ValueError, LookupError),
        )

    def read(self) -> Batch:
        """Read every counter and level of the host once."""
        batch = Batch()
        self._bench.read_into(batch, self._clock)
        return batch
