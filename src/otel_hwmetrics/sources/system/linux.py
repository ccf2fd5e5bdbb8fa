# SPDX-License-Identifier: Apache-2.0
"""The host on Linux: each of the kernel's files read once a look, whatever is told of it.

Not through psutil, which opens each file anew at each look, and some of them twice.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import repeat
from typing import Final, cast

from opentelemetry.semconv._incubating.attributes.cpu_attributes import CpuModeValues
from opentelemetry.semconv._incubating.attributes.disk_attributes import DiskIoDirectionValues
from opentelemetry.semconv._incubating.attributes.network_attributes import NetworkIoDirectionValues
from opentelemetry.semconv._incubating.attributes.system_attributes import (
    SystemMemoryStateValues,
    SystemPagingDirectionValues,
    SystemPagingStateValues,
)

from otel_hwmetrics.catalog import pressure
from otel_hwmetrics.catalog import system as rows
from otel_hwmetrics.model import Metric, Reading, Series
from otel_hwmetrics.sources.base import Bench, Clock, Item, Reader, Unsupported
from otel_hwmetrics.sources.linux import cpus, diskstats, meminfo, netdev, psi, stat, vmstat
from otel_hwmetrics.sources.linux.files import KernelFile
from otel_hwmetrics.sources.system.devices import Counted, disks_that_count, interfaces_that_count

_MODES: Final = (
    CpuModeValues.USER,  # holds guest time already (proc(5), /proc/stat)
    CpuModeValues.NICE,
    CpuModeValues.SYSTEM,
    CpuModeValues.IDLE,
    CpuModeValues.IOWAIT,
    CpuModeValues.INTERRUPT,
    CpuModeValues.STEAL,
)
_READ, _WRITE = DiskIoDirectionValues.READ.value, DiskIoDirectionValues.WRITE.value
_RECEIVE, _TRANSMIT = NetworkIoDirectionValues.RECEIVE.value, NetworkIoDirectionValues.TRANSMIT.value

FREQUENCY_EVERY: Final = 30.0
"""Seconds; every CPU has a file of its own, and what it tells is of that moment only."""
COUNTS_EVERY: Final = 600.0
"""Seconds; CPUs are plugged in by hand."""


def _states(metric: Metric, key: str, *values: str) -> tuple[Series, ...]:
    return tuple(Series(metric, {key: value}) for value in values)


_PROCESSES: Final = (
    Series(rows.PROCESS_CREATED),
    # The conventions have no word for what the kernel calls blocked, "sleeping" is not it, and others may be used.
    *_states(rows.PROCESS_COUNT, rows.PROCESS_STATE, "running", "blocked"),
)
_MEMORY: Final = (
    Series(rows.MEMORY_LIMIT),
    *_states(
        rows.MEMORY_USAGE,
        rows.MEMORY_STATE,
        SystemMemoryStateValues.USED.value,
        SystemMemoryStateValues.FREE.value,
        SystemMemoryStateValues.BUFFERS.value,
        SystemMemoryStateValues.CACHED.value,
    ),
    Series(rows.MEMORY_AVAILABLE),
    Series(rows.MEMORY_SHARED),
    *_states(rows.MEMORY_SLAB, rows.SLAB_STATE, "reclaimable", "unreclaimable"),
)
_SWAP_STATES: Final = (SystemPagingStateValues.USED.value, SystemPagingStateValues.FREE.value)
_SWAP: Final = _states(rows.PAGING_USAGE, rows.PAGING_STATE, *_SWAP_STATES)
_SWAP_SHARES: Final = _states(rows.PAGING_UTILIZATION, rows.PAGING_STATE, *_SWAP_STATES)
_PAGING: Final = (
    *(
        # A page that comes from swap is what a major fault waits for; so the collector's host receiver has it, too.
        Series(rows.PAGING_OPERATIONS, {rows.PAGING_DIRECTION: direction.value, rows.FAULT_TYPE: "major"})
        for direction in (SystemPagingDirectionValues.IN, SystemPagingDirectionValues.OUT)
    ),
    *_states(rows.PAGING_FAULTS, rows.FAULT_TYPE, "minor", "major"),
)
_IOWAIT: Final = _MODES.index(CpuModeValues.IOWAIT)
_IO_STALL: Final = Series(
    pressure.STALL_TIME,
    {pressure.RESOURCE: "io", pressure.KIND: "some", pressure.SCOPE: "host", pressure.METHOD: "iowait"},
)
_UPTIME: Final = Series(rows.UPTIME)
_PHYSICAL: Final = Series(rows.CPU_PHYSICAL_COUNT)
_LOGICAL: Final = Series(rows.CPU_LOGICAL_COUNT)


def _cpu_series(number: int | None = None) -> tuple[Series, ...]:
    which = {} if number is None else {rows.CPU_NUMBER: number}
    return tuple(Series(rows.CPU_TIME, {rows.CPU_MODE: mode.value, **which}) for mode in _MODES)


def _disk_series(name: str) -> tuple[Series, ...]:
    both = [{rows.DEVICE: name, rows.IO_DIRECTION: direction} for direction in (_READ, _WRITE)]
    of_both = (rows.DISK_IO, rows.DISK_OPERATIONS, rows.DISK_OPERATION_TIME, rows.DISK_MERGED)
    paired = (Series(metric, attributes) for metric in of_both for attributes in both)
    return (*paired, Series(rows.DISK_IO_TIME, {rows.DEVICE: name}))


def _interface_series(name: str) -> tuple[Series, ...]:
    """In the order of `netdev.Interface`."""
    return tuple(
        # Packets have their interface under another key: the conventions say so.
        Series(metric, {metric.attributes[0]: name, rows.NETWORK_DIRECTION: direction})
        for direction in (_RECEIVE, _TRANSMIT)
        for metric in (rows.NETWORK_IO, rows.NETWORK_PACKETS, rows.NETWORK_ERRORS, rows.NETWORK_DROPPED)
    )


def _readings(series: Iterable[Series], values: Iterable[float], at: float) -> Iterator[Reading]:
    """Readings of one moment. What `Reading`'s constructor does, without a call of Python for each of some fifty."""
    made = map(tuple.__new__, repeat(Reading), zip(series, values, repeat(at), repeat(None)))
    return cast("Iterator[Reading]", made)


def _known(series: tuple[Series, ...], values: tuple[float | None, ...], at: float) -> Iterator[Reading]:
    """Likewise, of those that the kernel tells."""
    if None in values:
        return (Reading(each, value, at) for each, value in zip(series, values, strict=True) if value is not None)
    return _readings(series, cast("tuple[float, ...]", values), at)


class LinuxHost:
    """The files of the machine, kept open, and its series, each made once.

    Args:
        clock: Time of the readings.
        per_cpu: Tell CPU time and frequency of each logical CPU instead of all together.
        proc_root: Where procfs is.
        sys_root: Where sysfs is.
    """

    def __init__(self, clock: Clock, *, per_cpu: bool, proc_root: str, sys_root: str) -> None:
        self.clock = clock
        self.per_cpu = per_cpu
        self.tick = os.sysconf("SC_CLK_TCK")
        self.sys_root = sys_root
        self.cpuinfo_path = f"{proc_root}/cpuinfo"
        self.stat = KernelFile(f"{proc_root}/stat")
        self.meminfo = KernelFile(f"{proc_root}/meminfo")
        self.vmstat = KernelFile(f"{proc_root}/vmstat")
        self.diskstats = KernelFile(f"{proc_root}/diskstats", records=True)
        self.netdev = KernelFile(f"{proc_root}/net/dev", records=True)
        # Where the kernel does not count pressure, the CPUs' waiting is what there is to tell of it.
        self.stall = None if psi.is_available(proc_root) else psi.StallEstimate()
        self.all_cpus = _cpu_series()
        self.frequency = Series(rows.CPU_FREQUENCY)
        self.each_cpu: dict[int, tuple[Series, ...]] = {}
        self.each_frequency: dict[int, Series] = {}
        self.disks = Counted(partial(disks_that_count, sys_root=sys_root), _disk_series)
        self.interfaces = Counted(partial(interfaces_that_count, sys_root=sys_root), _interface_series)

    def close(self) -> None:
        """Let go of the files."""
        for file in (self.stat, self.meminfo, self.vmstat, self.diskstats, self.netdev):
            file.close()


def _stat(host: LinuxHost) -> Iterable[Item]:
    at = host.clock()
    content = host.stat.read()
    readings: list[Reading] = []
    if host.per_cpu:
        for number, ticks in stat.each(content).items():
            series = host.each_cpu.get(number)
            if series is None:
                series = host.each_cpu[number] = _cpu_series(number)
            readings += _readings(series, _cpu_seconds(ticks, host.tick), at)
    else:
        seconds = _cpu_seconds(stat.total(content), host.tick)
        readings += _readings(host.all_cpus, seconds, at)
        if host.stall is not None:
            readings.append(Reading(_IO_STALL, host.stall.total(seconds[_IOWAIT], at), at))
    processes = stat.processes(content)
    if processes is not None:
        readings += _known(_PROCESSES, processes, at)
    return readings


def _cpu_seconds(ticks: stat.Ticks, tick: int) -> tuple[float, ...]:
    user, nice, system, idle, iowait, irq, softirq, steal = ticks
    return user / tick, nice / tick, system / tick, idle / tick, iowait / tick, (irq + softirq) / tick, steal / tick


def _meminfo(host: LinuxHost) -> Iterable[Item]:
    at = host.clock()
    memory = meminfo.parse(host.meminfo.read())
    available, cached = memory.available, memory.cached
    if available is not None and available > memory.total:
        available = memory.free  # the host's figure in a container's file (lxcfs); psutil does likewise
    if cached is not None and memory.slab_reclaimable is not None:
        cached += memory.slab_reclaimable  # as free(1) and psutil have it
    readings = list(
        _known(
            _MEMORY,
            (
                memory.total,
                # The conventions' "used".
                memory.total - available if available is not None else None,
                memory.free,
                memory.buffers,
                cached,
                available,
                memory.shared,
                memory.slab_reclaimable,
                memory.slab_unreclaimable,
            ),
            at,
        )
    )
    if memory.swap_total is not None and memory.swap_free is not None:
        parts = (memory.swap_total - memory.swap_free, memory.swap_free)
        readings += _readings(_SWAP, parts, at)
        if memory.swap_total > 0:
            readings += _readings(_SWAP_SHARES, [part / memory.swap_total for part in parts], at)
    return readings


def _vmstat(host: LinuxHost) -> Iterable[Item]:
    at = host.clock()
    counts = vmstat.parse(host.vmstat.read())
    minor = (
        counts.faults - counts.major_faults if counts.faults is not None and counts.major_faults is not None else None
    )
    return _known(_PAGING, (counts.swapped_in, counts.swapped_out, minor, counts.major_faults), at)


def _diskstats(host: LinuxHost) -> Iterable[Item]:
    at = host.clock()
    records = diskstats.records(host.diskstats.read())
    readings: list[Reading] = []
    for name, series in host.disks.among(records.keys(), at).items():
        disk = diskstats.parse(records[name])
        values = (
            disk.sectors_read * diskstats.SECTOR,
            disk.sectors_written * diskstats.SECTOR,
            disk.reads,
            disk.writes,
            disk.read_ms / 1e3,
            disk.write_ms / 1e3,
            disk.reads_merged,
            disk.writes_merged,
            disk.io_ms / 1e3,
        )
        readings += _readings(series, values, at)
    return readings


def _netdev(host: LinuxHost) -> Iterable[Item]:
    at = host.clock()
    records = netdev.records(host.netdev.read())
    readings: list[Reading] = []
    for name, series in host.interfaces.among(records.keys(), at).items():
        readings += _readings(series, netdev.parse(records[name]), at)
    return readings


def _uptime(host: LinuxHost) -> Iterable[Item]:
    # The clock that /proc/uptime is written from (fs/proc/uptime.c), without its rounding and without a file. A mean
    # over a window would be half a window late, so this one says that it is of a moment.
    at = host.clock()
    yield Reading(_UPTIME, time.clock_gettime(time.CLOCK_BOOTTIME), at, at)


def _cpufreq(host: LinuxHost) -> Iterable[Item]:
    folder = f"{host.sys_root}/devices/system/cpu"
    speeds: dict[int, float] = {}
    for entry in os.listdir(folder):
        if re.fullmatch(r"cpu\d+", entry):
            try:
                speeds[int(entry[3:])] = cpus.frequency(_once(f"{folder}/{entry}/cpufreq/scaling_cur_freq"))
            except (OSError, ValueError):  # it is offline, or does not tell
                continue
    return _frequencies(host, speeds)


def _cpuinfo(host: LinuxHost) -> Iterable[Item]:
    return _frequencies(host, cpus.frequencies(_once(host.cpuinfo_path, records=True)))


def _frequencies(host: LinuxHost, speeds: dict[int, float]) -> Iterable[Item]:
    if not speeds:
        raise Unsupported
    if not host.per_cpu:
        return [(host.frequency, sum(speeds.values()) / len(speeds))]
    for number in speeds.keys() - host.each_frequency.keys():
        host.each_frequency[number] = Series(rows.CPU_FREQUENCY, {rows.CPU_NUMBER: number})
    return [(host.each_frequency[number], hertz) for number, hertz in sorted(speeds.items())]


def _logical_count(host: LinuxHost) -> Iterable[Item]:
    yield _LOGICAL, len(_online(host))


def _physical_count(host: LinuxHost) -> Iterable[Item]:
    cores: set[bytes] = set()
    for number in _online(host):
        # The CPUs of one core are threads of it, and each lists them all.
        cores.add(_once(f"{host.sys_root}/devices/system/cpu/cpu{number}/topology/thread_siblings_list"))
    yield _PHYSICAL, len(cores)


def _online(host: LinuxHost) -> list[int]:
    return cpus.numbers(_once(f"{host.sys_root}/devices/system/cpu/online"))


def _once(path: str, *, records: bool = False) -> bytes:
    """A file that is too seldom read to be kept open: three system calls, where `open` makes seven."""
    file = KernelFile(path, records=records)
    try:
        return file.read()
    finally:
        file.close()


_CPUINFO = Reader((rows.CPU_FREQUENCY,), _cpuinfo, every=FREQUENCY_EVERY, call="/proc/cpuinfo", where="Linux on x86")

READERS: tuple[Reader[LinuxHost], ...] = (
    Reader(
        (rows.CPU_TIME, rows.PROCESS_CREATED, rows.PROCESS_COUNT, pressure.STALL_TIME),
        _stat,
        call="/proc/stat",
        where="Linux",
    ),
    Reader(
        (
            rows.MEMORY_USAGE,
            rows.MEMORY_LIMIT,
            rows.MEMORY_AVAILABLE,
            rows.MEMORY_SHARED,
            rows.MEMORY_SLAB,
            rows.PAGING_USAGE,
            rows.PAGING_UTILIZATION,
        ),
        _meminfo,
        call="/proc/meminfo",
        where="Linux; used and available on 3.14 and newer",
    ),
    Reader((rows.PAGING_OPERATIONS, rows.PAGING_FAULTS), _vmstat, call="/proc/vmstat", where="Linux"),
    Reader(
        (rows.DISK_IO, rows.DISK_OPERATIONS, rows.DISK_OPERATION_TIME, rows.DISK_MERGED, rows.DISK_IO_TIME),
        _diskstats,
        call="/proc/diskstats",
        where="Linux",
    ),
    Reader(
        (rows.NETWORK_IO, rows.NETWORK_PACKETS, rows.NETWORK_ERRORS, rows.NETWORK_DROPPED),
        _netdev,
        call="/proc/net/dev",
        where="Linux",
    ),
    Reader((rows.UPTIME,), _uptime, call="clock_gettime(CLOCK_BOOTTIME)", where="Linux"),
    Reader(
        (rows.CPU_FREQUENCY,),
        _cpufreq,
        instead=_CPUINFO,
        every=FREQUENCY_EVERY,
        call="/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq",
        where="Linux with cpufreq",
    ),
    Reader(
        (rows.CPU_LOGICAL_COUNT,),
        _logical_count,
        every=COUNTS_EVERY,
        call="/sys/devices/system/cpu/online",
        where="Linux",
    ),
    Reader(
        (rows.CPU_PHYSICAL_COUNT,),
        _physical_count,
        every=COUNTS_EVERY,
        call="/sys/devices/system/cpu/cpu*/topology/thread_siblings_list",
        where="Linux",
    ),
)


def bench(host: LinuxHost) -> Bench[LinuxHost]:
    """The readers at work. A file that is not there will not come; any other error may pass."""
    return Bench(host, READERS, unsupported=(FileNotFoundError,), expected=(OSError, ValueError))
