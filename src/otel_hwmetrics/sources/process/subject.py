# SPDX-License-Identifier: Apache-2.0
"""What both ways of reading this process have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from opentelemetry.semconv._incubating.attributes.cpu_attributes import CpuModeValues
from opentelemetry.semconv._incubating.attributes.disk_attributes import DiskIoDirectionValues
from opentelemetry.semconv._incubating.attributes.process_attributes import ProcessContextSwitchTypeValues

from otel_hwmetrics.catalog import process as rows
from otel_hwmetrics.model import Reading, Series
from otel_hwmetrics.sources.base import Clock, Item, Unsupported
from otel_hwmetrics.sources.linux.affinity import granted_cpus

Items = Iterable[Item]
Pairs = Iterator[tuple[Series, float]]

CPU_USER = Series(rows.CPU_TIME, {rows.CPU_MODE: CpuModeValues.USER.value})
CPU_SYSTEM = Series(rows.CPU_TIME, {rows.CPU_MODE: CpuModeValues.SYSTEM.value})
MEMORY_USAGE = Series(rows.MEMORY_USAGE)
MEMORY_VIRTUAL = Series(rows.MEMORY_VIRTUAL)
DISK_READ = Series(rows.DISK_IO, {rows.IO_DIRECTION: DiskIoDirectionValues.READ.value})
DISK_WRITE = Series(rows.DISK_IO, {rows.IO_DIRECTION: DiskIoDirectionValues.WRITE.value})
THREAD_COUNT = Series(rows.THREAD_COUNT)
FILE_DESCRIPTOR_COUNT = Series(rows.FILE_DESCRIPTOR_COUNT)

_CPU_LIMIT = Series(rows.CPU_LIMIT)
_UPTIME = Series(rows.UPTIME)
_VOLUNTARY = Series(rows.CONTEXT_SWITCHES, {rows.CONTEXT_SWITCH_TYPE: ProcessContextSwitchTypeValues.VOLUNTARY.value})
_INVOLUNTARY = Series(
    rows.CONTEXT_SWITCHES, {rows.CONTEXT_SWITCH_TYPE: ProcessContextSwitchTypeValues.INVOLUNTARY.value}
)
# Their enumeration is deprecated where the newer conventions name the attribute otherwise.
_MAJOR = Series(rows.FAULTS, {rows.FAULT_TYPE: "major"})
_MINOR = Series(rows.FAULTS, {rows.FAULT_TYPE: "minor"})

DESCRIPTORS_EVERY = 10.0
"""Seconds between two counts of descriptors; before Linux 6.2 each of them is listed."""


class Subject:
    """This process, as its readers know it.

    Args:
        clock: Seconds of the monotonic clock.
        effective_cpus: See `ProcessSource`.
    """

    def __init__(self, clock: Clock, effective_cpus: Callable[[], float | None] | None) -> None:
        self.clock = clock
        self.effective_cpus = effective_cpus


def cpu_limit(subject: Subject) -> Pairs:
    """The CPUs that the scheduler grants, or the container's quota where that is less."""
    # Affinity is what the scheduler grants; os.cpu_count() is what the machine has.
    granted = granted_cpus()
    quota = subject.effective_cpus() if subject.effective_cpus is not None else None
    available = min((cpus for cpus in (granted, quota) if cpus), default=None)
    if available is not None:
        yield _CPU_LIMIT, available


def usage() -> Any:
    """What the process and its ended threads, but not its children, have used (``struct rusage``).

    Raises:
        Unsupported: The platform has no getrusage(2).
    """
    try:
        import resource
    except ImportError:
        raise Unsupported from None
    return resource.getrusage(resource.RUSAGE_SELF)


def switches_and_faults(used: Any) -> Pairs:
    """Context switches and page faults of all its threads; /proc has the switches of the main thread only."""
    yield _VOLUNTARY, used.ru_nvcsw
    yield _INVOLUNTARY, used.ru_nivcsw
    yield _MINOR, used.ru_minflt
    yield _MAJOR, used.ru_majflt


def uptime(subject: Subject, seconds: float) -> Items:
    """How long it has been running; nothing when a clock went back."""
    if seconds >= 0:
        at = subject.clock()
        # It stands for this moment alone: a mean over the window would be half a window old.
        yield Reading(_UPTIME, seconds, at, at)
