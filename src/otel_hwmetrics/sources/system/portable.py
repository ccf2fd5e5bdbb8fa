# SPDX-License-Identifier: Apache-2.0
"""The host through psutil, on macOS, Windows and whatever else it knows: its counters and levels.

Never its ``*_percent`` helpers: those keep one baseline per calling thread, so a second caller or a new thread gets 0 or
another's interval (https://github.com/giampaolo/psutil/issues/1586). What they tell follows from the counters.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any, Final

import psutil
from opentelemetry.semconv._incubating.attributes.cpu_attributes import CpuModeValues
from opentelemetry.semconv._incubating.attributes.disk_attributes import DiskIoDirectionValues
from opentelemetry.semconv._incubating.attributes.network_attributes import NetworkIoDirectionValues
from opentelemetry.semconv._incubating.attributes.system_attributes import (
    SystemMemoryStateValues,
    SystemPagingStateValues,
)

from otel_hwmetrics.catalog import system as rows
from otel_hwmetrics.model import Attribute, Metric, Reading, Series
from otel_hwmetrics.sources.base import Bench, Clock, Item, Reader, Unsupported
from otel_hwmetrics.sources.linux.mounts import Mount

_CPU_FIELDS: Final[tuple[tuple[CpuModeValues, tuple[str, ...]], ...]] = (
    (CpuModeValues.USER, ("user",)),
    (CpuModeValues.SYSTEM, ("system",)),
    (CpuModeValues.NICE, ("nice",)),
    (CpuModeValues.IDLE, ("idle",)),
    (CpuModeValues.IOWAIT, ("iowait",)),
    (CpuModeValues.INTERRUPT, ("irq", "softirq", "interrupt", "dpc")),  # the last two are Windows' names
    (CpuModeValues.STEAL, ("steal",)),
)
_READ, _WRITE = DiskIoDirectionValues.READ.value, DiskIoDirectionValues.WRITE.value
_RECEIVE, _TRANSMIT = NetworkIoDirectionValues.RECEIVE.value, NetworkIoDirectionValues.TRANSMIT.value
_NOT_INTERFACES: Final = re.compile(
    r"(lo|utun|gif|stf|bridge|awdl|llw|anpi|ap|vmenet|tun|tap)\d*|(Loopback|isatap|Teredo|vEthernet)\b.*"
)
# What macOS, the BSDs and Windows call loopback, tunnels and bridges: their bytes are counted at the card, too.

FREQUENCY_EVERY: Final = 30.0
COUNTS_EVERY: Final = 600.0


class PortableHost:
    """The machine's series, each made once; disks and interfaces as they are met.

    Args:
        clock: Time of the readings.
        per_cpu: Tell CPU time of each logical CPU instead of all together.
    """

    def __init__(self, clock: Clock, *, per_cpu: bool = False) -> None:
        self.clock = clock
        self.per_cpu = per_cpu
        self._series: dict[tuple[str, tuple[Attribute, ...]], Series] = {}

    def series(self, metric: Metric, *values: Attribute) -> Series:
        """The series of ``metric`` with its first attributes so set, in the row's order; the same object each time."""
        identity = (metric.name, values)
        found = self._series.get(identity)
        if found is None:
            found = self._series[identity] = Series(metric, dict(zip(metric.attributes, values, strict=False)))
        return found

    def close(self) -> None:
        """There is nothing to let go of."""


def _cpu_time(host: PortableHost) -> Iterator[Item]:
    if host.per_cpu:
        for number, times in enumerate(psutil.cpu_times(percpu=True)):
            yield from _modes(host, times, number)
    else:
        yield from _modes(host, psutil.cpu_times())


def _modes(host: PortableHost, times: Any, *number: int) -> Iterator[Item]:
    for mode, names in _CPU_FIELDS:
        parts = [getattr(times, name) for name in names if hasattr(times, name)]
        if parts:
            yield host.series(rows.CPU_TIME, mode.value, *number), sum(parts)


def _memory(host: PortableHost) -> Iterator[Item]:
    memory = psutil.virtual_memory()
    # The conventions' "used" is the total less the available; psutil's was not before 7.1.
    states = {
        SystemMemoryStateValues.USED: memory.total - memory.available,
        SystemMemoryStateValues.FREE: memory.free,
        SystemMemoryStateValues.BUFFERS: getattr(memory, "buffers", None),
        SystemMemoryStateValues.CACHED: getattr(memory, "cached", None),
    }
    for state, value in states.items():
        if value is not None:
            yield host.series(rows.MEMORY_USAGE, state.value), value
    yield host.series(rows.MEMORY_LIMIT), memory.total


def _paging(host: PortableHost) -> Iterator[Item]:
    swap = psutil.swap_memory()
    for state, value in ((SystemPagingStateValues.USED, swap.used), (SystemPagingStateValues.FREE, swap.free)):
        yield host.series(rows.PAGING_USAGE, state.value), value
        if swap.total > 0:
            yield host.series(rows.PAGING_UTILIZATION, state.value), value / swap.total


def _disks(host: PortableHost) -> Iterator[Item]:
    # nowrap=False: psutil's own correction of wraps keeps state between calls; the accumulator has ours. Off Linux
    # it names whole disks only.
    for name, counters in (psutil.disk_io_counters(perdisk=True, nowrap=False) or {}).items():
        for metric, read, written in (
            (rows.DISK_IO, counters.read_bytes, counters.write_bytes),
            (rows.DISK_OPERATIONS, counters.read_count, counters.write_count),
        ):
            yield host.series(metric, name, _READ), read
            yield host.series(metric, name, _WRITE), written
        if hasattr(counters, "read_time"):  # milliseconds; not OpenBSD's
            yield host.series(rows.DISK_OPERATION_TIME, name, _READ), counters.read_time / 1e3
            yield host.series(rows.DISK_OPERATION_TIME, name, _WRITE), counters.write_time / 1e3
        if hasattr(counters, "busy_time"):  # FreeBSD's
            yield host.series(rows.DISK_IO_TIME, name), counters.busy_time / 1e3


def _network(host: PortableHost) -> Iterator[Item]:
    for name, counters in (psutil.net_io_counters(pernic=True, nowrap=False) or {}).items():
        if _NOT_INTERFACES.fullmatch(name):
            continue
        for metric, received, sent in (
            (rows.NETWORK_IO, counters.bytes_recv, counters.bytes_sent),
            (rows.NETWORK_PACKETS, counters.packets_recv, counters.packets_sent),
            (rows.NETWORK_ERRORS, counters.errin, counters.errout),
            (rows.NETWORK_DROPPED, counters.dropin, counters.dropout),
        ):
            yield host.series(metric, name, _RECEIVE), received
            yield host.series(metric, name, _TRANSMIT), sent


def _uptime(host: PortableHost) -> Iterator[Item]:
    # Of this moment, and said so: a mean over a window would be half a window late.
    at = host.clock()
    yield Reading(host.series(rows.UPTIME), time.time() - psutil.boot_time(), at, at)


def _frequency(host: PortableHost) -> Iterator[Item]:
    found = psutil.cpu_freq()
    if found is None or not found.current:
        raise Unsupported
    yield host.series(rows.CPU_FREQUENCY), found.current * 1e6


def _logical_count(host: PortableHost) -> Iterator[Item]:
    yield host.series(rows.CPU_LOGICAL_COUNT), _known(psutil.cpu_count())


def _physical_count(host: PortableHost) -> Iterator[Item]:
    yield host.series(rows.CPU_PHYSICAL_COUNT), _known(psutil.cpu_count(logical=False))


def _known(count: int | None) -> int:
    if count is None:
        raise Unsupported
    return count


_WHERE: Final = "macOS, Windows, BSD"

READERS: tuple[Reader[PortableHost], ...] = (
    Reader((rows.CPU_TIME,), _cpu_time, call="psutil.cpu_times", where=_WHERE),
    Reader((rows.MEMORY_USAGE, rows.MEMORY_LIMIT), _memory, call="psutil.virtual_memory", where=_WHERE),
    Reader((rows.PAGING_USAGE, rows.PAGING_UTILIZATION), _paging, call="psutil.swap_memory", where=_WHERE),
    Reader(
        (rows.DISK_IO, rows.DISK_OPERATIONS, rows.DISK_OPERATION_TIME, rows.DISK_IO_TIME),
        _disks,
        call="psutil.disk_io_counters",
        where=_WHERE,
    ),
    Reader(
        (rows.NETWORK_IO, rows.NETWORK_PACKETS, rows.NETWORK_ERRORS, rows.NETWORK_DROPPED),
        _network,
        call="psutil.net_io_counters",
        where=_WHERE,
    ),
    Reader((rows.UPTIME,), _uptime, call="psutil.boot_time", where=_WHERE),
    Reader((rows.CPU_FREQUENCY,), _frequency, every=FREQUENCY_EVERY, call="psutil.cpu_freq", where=_WHERE),
    Reader((rows.CPU_LOGICAL_COUNT,), _logical_count, every=COUNTS_EVERY, call="psutil.cpu_count", where=_WHERE),
    Reader((rows.CPU_PHYSICAL_COUNT,), _physical_count, every=COUNTS_EVERY, call="psutil.cpu_count", where=_WHERE),
)


def bench(host: PortableHost) -> Bench[PortableHost]:
    """The readers at work. psutil leaves out what a platform lacks, or says NotImplementedError."""
    return Bench(
        host,
        READERS,
        unsupported=(AttributeError, NotImplementedError),
        expected=(OSError, psutil.Error, ValueError, LookupError),
    )


def mounts() -> tuple[list[Mount], set[str]]:
    """Every filesystem, and the mount points of those that are on a disk of this machine.

    Raises:
        OSError: They cannot be listed.
    """
    on_disk = {part.mountpoint for part in psutil.disk_partitions(all=False)}
    everything = [
        Mount(
            # Volumes of one device are told once. What has no disk has major 0 on Linux, and so here.
            ("" if part.mountpoint in on_disk else "0:") + (part.device or part.mountpoint),
            "/",
            part.mountpoint,
            "ro" not in part.opts.split(","),
            part.fstype,
            part.device,
        )
        for part in psutil.disk_partitions(all=True)
    ]
    return everything, on_disk
