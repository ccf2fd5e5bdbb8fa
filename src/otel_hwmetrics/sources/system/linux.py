# SPDX-License-Identifier: Apache-2.0
"""The host on Linux: each of the kernel's files read once a look, whatever is told of it.

Not through psutil, which opens each file anew at each look, and some of them twice.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import repeat
from typing import Final, cast

from otel_hwmetrics.catalog import pressure
from otel_hwmetrics.catalog import system as rows
from otel_hwmetrics.model import Reading, Series
from otel_hwmetrics.sources.base import Bench, Clock, Incomplete, Item, Reader, Unsupported
from otel_hwmetrics.sources.linux import cpus, diskstats, meminfo, netdev, psi, stat, vmstat
from otel_hwmetrics.sources.linux.files import KernelFile
from otel_hwmetrics.sources.system import host_series
from otel_hwmetrics.sources.system.devices import Counted, disks_that_count, interfaces_that_count

FREQUENCY_EVERY: Final = 30.0
"""Seconds; every CPU has a file of its own, and what it tells is of that moment only."""
COUNTS_EVERY: Final = 600.0
"""Seconds; CPUs are plugged in by hand."""


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
        self._proc_root = proc_root
        self._counts_pressure: bool | None = None  # until that can be told
        self._stall = psi.StallEstimate()
        self.all_cpus = host_series.of_cpu()
        self.frequency = Series(rows.CPU_FREQUENCY)
        self.each_cpu: dict[int, tuple[Series, ...]] = {}
        self.each_frequency: dict[int, Series] = {}
        self.disks = Counted(partial(disks_that_count, sys_root=sys_root), host_series.of_disk)
        self.interfaces = Counted(partial(interfaces_that_count, sys_root=sys_root), host_series.of_interface)

    def stall(self, iowait: float, at: float) -> float | None:
        """Where the kernel does not count pressure: seconds of stalls, by the CPUs' waiting; see `StallEstimate`.

        None where it does, and as long as it cannot be told whether it does: never is the one told beside the other.
        """
        if self._counts_pressure is None:
            try:
                self._counts_pressure = psi.is_available(self._proc_root)
            except OSError:  # as where no descriptor is to be had; asked again at the next look
                return None
        return None if self._counts_pressure else self._stall.total(iowait, at)

    def close(self) -> None:
        """Let go of the files."""
        for file in (self.stat, self.meminfo, self.vmstat, self.diskstats, self.netdev):
            file.close()


def _stat(host: LinuxHost) -> Iterable[Item]:
    at = host.clock()
    content = host.stat.read()
    ticks_of_all = stat.total(content)
    readings: list[Reading] = []
    if host.per_cpu:
        for number, ticks in stat.each(content).items():
            series = host.each_cpu.get(number)
            if series is None:
                series = host.each_cpu[number] = host_series.of_cpu(number)
            readings += _readings(series, _cpu_seconds(ticks, host.tick), at)
    else:
        readings += _readings(host.all_cpus, _cpu_seconds(ticks_of_all, host.tick), at)
    stall = host.stall(ticks_of_all.iowait / host.tick, at)
    if stall is not None:
        readings.append(Reading(host_series.IO_STALL, stall, at))
    processes = stat.processes(content)
    if processes is not None:
        readings += _known(host_series.PROCESSES, processes, at)
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
            host_series.MEMORY,
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
        readings += _readings(host_series.SWAP, parts, at)
        if memory.swap_total > 0:
            readings += _readings(host_series.SWAP_SHARES, [part / memory.swap_total for part in parts], at)
    return readings


def _vmstat(host: LinuxHost) -> Iterable[Item]:
    at = host.clock()
    counts = vmstat.parse(host.vmstat.read())
    minor = (
        counts.faults - counts.major_faults if counts.faults is not None and counts.major_faults is not None else None
    )
    return _known(host_series.PAGING, (counts.swapped_in, counts.swapped_out, minor, counts.major_faults), at)


def _diskstats(host: LinuxHost) -> Iterable[Item]:
    at = host.clock()
    records, odd = diskstats.records(host.diskstats.read())
    return _of_each(host.disks.among(records.keys(), at), records, _disk_values, odd, at)


def _disk_values(record: bytes) -> tuple[float, ...]:
    """In the order of `host_series.of_disk`."""
    reads, reads_merged, read, read_ms, writes, writes_merged, written, write_ms, io_ms = diskstats.parse(record)
    return (
        read * diskstats.SECTOR,
        written * diskstats.SECTOR,
        reads,
        writes,
        read_ms / 1e3,
        write_ms / 1e3,
        reads_merged,
        writes_merged,
        io_ms / 1e3,
    )


def _netdev(host: LinuxHost) -> Iterable[Item]:
    at = host.clock()
    records, odd = netdev.records(host.netdev.read())
    return _of_each(host.interfaces.among(records.keys(), at), records, netdev.parse, odd, at)


def _of_each(
    devices: Mapping[bytes, tuple[Series, ...]],
    records: Mapping[bytes, bytes],
    parse: Callable[[bytes], tuple[float, ...]],
    odd: int,
    at: float,
) -> list[Reading]:
    """The readings of each device that counts; one whose line is odd loses its own alone.

    Args:
        devices: The series of each, in the order of ``parse``'s values.
        records: The counters of each.
        parse: Takes them apart.
        odd: How many lines are of no device; each is counted as one reading lost, for want of knowing how many.
        at: When they were read.
    """
    readings: list[Reading] = []
    lost = odd
    for name, series in devices.items():
        try:
            readings += _readings(series, parse(records[name]), at)
        except ValueError:
            lost += len(series)
    if not lost:
        return readings
    error = ValueError("lines of devices are not what the kernel writes")
    if not readings:
        raise error
    raise Incomplete(readings, lost, error)


def _uptime(host: LinuxHost) -> Iterable[Item]:
    # The clock that /proc/uptime is written from (fs/proc/uptime.c), without its rounding and without a file. A mean
    # over a window would be half a window late, so this one says that it is of a moment.
    at = host.clock()
    yield Reading(host_series.UPTIME, time.clock_gettime(time.CLOCK_BOOTTIME), at, at)


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
    yield host_series.LOGICAL, len(_online(host))


def _physical_count(host: LinuxHost) -> Iterable[Item]:
    cores: set[bytes] = set()
    for number in _online(host):
        # The CPUs of one core are threads of it, and each lists them all.
        cores.add(_once(f"{host.sys_root}/devices/system/cpu/cpu{number}/topology/thread_siblings_list"))
    yield host_series.PHYSICAL, len(cores)


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
