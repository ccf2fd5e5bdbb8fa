# SPDX-License-Identifier: Apache-2.0
"""The host, by the names of https://opentelemetry.io/docs/specs/semconv/system/system-metrics/.

What belongs to a container or a cgroup must not be called ``system.*`` (same page), so these rows are the machine's.
"""

from __future__ import annotations

from opentelemetry.semconv._incubating.attributes import (
    cpu_attributes,
    disk_attributes,
    network_attributes,
    process_attributes,
    system_attributes,
)
from opentelemetry.semconv._incubating.metrics import system_metrics as names

from otel_hwmetrics.model import Kind, Metric, Quotient, Rate, Share, Unit

CPU_MODE = cpu_attributes.CPU_MODE
CPU_NUMBER = cpu_attributes.CPU_LOGICAL_NUMBER
"""Only where the option ``per_cpu`` asks for it; the totals of all CPUs do not have it."""
MEMORY_STATE = system_attributes.SYSTEM_MEMORY_STATE
PAGING_STATE = system_attributes.SYSTEM_PAGING_STATE
PAGING_DIRECTION = system_attributes.SYSTEM_PAGING_DIRECTION
IO_DIRECTION = disk_attributes.DISK_IO_DIRECTION
NETWORK_DIRECTION = network_attributes.NETWORK_IO_DIRECTION
NETWORK_INTERFACE = network_attributes.NETWORK_INTERFACE_NAME
FILESYSTEM_MODE = system_attributes.SYSTEM_FILESYSTEM_MODE
FILESYSTEM_MOUNTPOINT = system_attributes.SYSTEM_FILESYSTEM_MOUNTPOINT
FILESYSTEM_STATE = system_attributes.SYSTEM_FILESYSTEM_STATE
FILESYSTEM_TYPE = system_attributes.SYSTEM_FILESYSTEM_TYPE
DEVICE: str = getattr(system_attributes, "SYSTEM_DEVICE_NAME", system_attributes.SYSTEM_DEVICE)
"""``system.device``; conventions 1.45 rename it (https://github.com/open-telemetry/semantic-conventions/pull/4119)."""

# These changed their names between conventions; the older ones are deprecated where both exist.
FAULT_TYPE: str = getattr(system_attributes, "SYSTEM_PAGING_FAULT_TYPE", "") or system_attributes.SYSTEM_PAGING_TYPE
PROCESS_STATE: str = getattr(process_attributes, "PROCESS_STATE", "") or system_attributes.SYSTEM_PROCESS_STATUS
SLAB_STATE: str = getattr(system_attributes, "SYSTEM_MEMORY_LINUX_SLAB_STATE", "linux.memory.slab.state")
_AVAILABLE: str = getattr(names, "SYSTEM_MEMORY_LINUX_AVAILABLE", "") or names.SYSTEM_LINUX_MEMORY_AVAILABLE
_SHARED: str = getattr(names, "SYSTEM_MEMORY_LINUX_SHARED", "") or names.SYSTEM_MEMORY_SHARED
_SLAB: str = getattr(names, "SYSTEM_MEMORY_LINUX_SLAB_USAGE", "") or names.SYSTEM_LINUX_MEMORY_SLAB_USAGE

CPU_TIME = Metric(
    names.SYSTEM_CPU_TIME,
    Kind.COUNTER,
    Unit.SECOND,
    "Seconds each logical CPU spent on each mode.",
    attributes=(CPU_MODE, CPU_NUMBER),
)
CPU_UTILIZATION = Metric(
    names.SYSTEM_CPU_UTILIZATION,
    Kind.GAUGE,
    Unit.RATIO,
    "For each logical CPU, the utilization is calculated as the change in cumulative CPU time (cpu.time) over a "
    "measurement interval, divided by the elapsed time.",
    attributes=CPU_TIME.attributes,
    # Elapsed CPU time as the kernel counts it, so the modes add up to 1 whatever the tick or the number of CPUs online.
    derivation=Share(CPU_TIME, across=CPU_MODE),
)
CPU_FREQUENCY = Metric(
    names.SYSTEM_CPU_FREQUENCY,
    Kind.GAUGE,
    Unit.HERTZ,
    "Operating frequency of the logical CPU in Hertz.",
    attributes=(CPU_NUMBER,),
)
CPU_PHYSICAL_COUNT = Metric(
    names.SYSTEM_CPU_PHYSICAL_COUNT,
    Kind.UP_DOWN_COUNTER,
    Unit.CPU,
    "Reports the number of actual physical processor cores on the hardware.",
    integer=True,
)
CPU_LOGICAL_COUNT = Metric(
    names.SYSTEM_CPU_LOGICAL_COUNT,
    Kind.UP_DOWN_COUNTER,
    Unit.CPU,
    "Reports the number of logical (virtual) processor cores created by the operating system to manage multitasking.",
    integer=True,
)
MEMORY_USAGE = Metric(
    names.SYSTEM_MEMORY_USAGE,
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Reports memory in use by state.",
    attributes=(MEMORY_STATE,),
    integer=True,
)
MEMORY_LIMIT = Metric(
    names.SYSTEM_MEMORY_LIMIT,
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Total virtual memory available in the system.",
    integer=True,
)
MEMORY_UTILIZATION = Metric(
    names.SYSTEM_MEMORY_UTILIZATION,
    Kind.GAUGE,
    Unit.RATIO,
    "Percentage of memory bytes in use.",
    attributes=(MEMORY_STATE,),
    derivation=Quotient(MEMORY_USAGE, by=MEMORY_LIMIT),
)
MEMORY_AVAILABLE = Metric(
    _AVAILABLE,
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "An estimate of how much memory is available for starting new applications, without causing swapping.",
    integer=True,
)
MEMORY_SHARED = Metric(
    _SHARED,
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Shared memory used (mostly by tmpfs).",
    integer=True,
    detail=True,
)
MEMORY_SLAB = Metric(
    _SLAB,
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Reports the memory used by the Linux kernel for managing caches of frequently used objects.",
    attributes=(SLAB_STATE,),
    integer=True,
    detail=True,
)
PAGING_USAGE = Metric(
    names.SYSTEM_PAGING_USAGE,
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "UNIX swap or windows pagefile usage.",
    attributes=(PAGING_STATE,),
    integer=True,
)
PAGING_UTILIZATION = Metric(
    names.SYSTEM_PAGING_UTILIZATION,
    Kind.GAUGE,
    Unit.RATIO,
    "Swap (UNIX) or pagefile (windows) utilization.",
    attributes=(PAGING_STATE,),
)
PAGING_OPERATIONS = Metric(
    names.SYSTEM_PAGING_OPERATIONS,
    Kind.COUNTER,
    Unit.OPERATION,
    "The number of paging operations.",
    attributes=(PAGING_DIRECTION, FAULT_TYPE),
    integer=True,
)
PAGING_OPERATION_RATE = Metric(
    "hwmetrics.system.paging.operation.rate",
    Kind.GAUGE,
    Unit.OPERATION_PER_SECOND,
    "Pages swapped in and out per second, over the window.",
    attributes=PAGING_OPERATIONS.attributes,
    derivation=Rate(PAGING_OPERATIONS),
)
PAGING_FAULTS = Metric(
    names.SYSTEM_PAGING_FAULTS,
    Kind.COUNTER,
    Unit.FAULT,
    "The number of page faults.",
    attributes=(FAULT_TYPE,),
    integer=True,
)
DISK_IO = Metric(
    names.SYSTEM_DISK_IO,
    Kind.COUNTER,
    Unit.BYTE,
    "Disk bytes transferred.",
    attributes=(DEVICE, IO_DIRECTION),
    integer=True,
)
DISK_IO_RATE = Metric(
    "hwmetrics.system.disk.io.rate",
    Kind.GAUGE,
    Unit.BYTE_PER_SECOND,
    "Disk bytes transferred per second, over the window.",
    attributes=DISK_IO.attributes,
    derivation=Rate(DISK_IO),
)
DISK_OPERATIONS = Metric(
    names.SYSTEM_DISK_OPERATIONS,
    Kind.COUNTER,
    Unit.OPERATION,
    "Disk operations count.",
    attributes=DISK_IO.attributes,
    integer=True,
)
DISK_OPERATION_RATE = Metric(
    "hwmetrics.system.disk.operation.rate",
    Kind.GAUGE,
    Unit.OPERATION_PER_SECOND,
    "Disk operations completed per second, over the window.",
    attributes=DISK_OPERATIONS.attributes,
    derivation=Rate(DISK_OPERATIONS),
)
DISK_IO_TIME = Metric(
    names.SYSTEM_DISK_IO_TIME,
    Kind.COUNTER,
    Unit.SECOND,
    "Time disk spent activated.",
    attributes=(DEVICE,),
)
DISK_UTILIZATION = Metric(
    "hwmetrics.system.disk.utilization",
    Kind.GAUGE,
    Unit.RATIO,
    "Share of the window in which the disk had at least one operation under way.",
    attributes=DISK_IO_TIME.attributes,
    derivation=Rate(DISK_IO_TIME),
)
DISK_OPERATION_TIME = Metric(
    names.SYSTEM_DISK_OPERATION_TIME,
    Kind.COUNTER,
    Unit.SECOND,
    "Sum of the time each operation took to complete.",
    attributes=DISK_IO.attributes,
)
DISK_MERGED = Metric(
    names.SYSTEM_DISK_MERGED,
    Kind.COUNTER,
    Unit.OPERATION,
    "The number of disk reads/writes merged into single physical disk access operations.",
    attributes=DISK_IO.attributes,
    integer=True,
    detail=True,
)
FILESYSTEM_LIMIT = Metric(
    names.SYSTEM_FILESYSTEM_LIMIT,
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "The total storage capacity of the filesystem.",
    attributes=(DEVICE, FILESYSTEM_MODE, FILESYSTEM_MOUNTPOINT, FILESYSTEM_TYPE),
    integer=True,
)
FILESYSTEM_USAGE = Metric(
    names.SYSTEM_FILESYSTEM_USAGE,
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Reports a filesystem's space usage across different states.",
    attributes=(*FILESYSTEM_LIMIT.attributes, FILESYSTEM_STATE),
    integer=True,
)
FILESYSTEM_UTILIZATION = Metric(
    names.SYSTEM_FILESYSTEM_UTILIZATION,
    Kind.GAUGE,
    Unit.RATIO,
    "Fraction of filesystem bytes used.",
    attributes=FILESYSTEM_USAGE.attributes,
)
NETWORK_IO = Metric(
    names.SYSTEM_NETWORK_IO,
    Kind.COUNTER,
    Unit.BYTE,
    "The number of bytes transmitted and received.",
    attributes=(NETWORK_INTERFACE, NETWORK_DIRECTION),
    integer=True,
)
NETWORK_IO_RATE = Metric(
    "hwmetrics.system.network.io.rate",
    Kind.GAUGE,
    Unit.BYTE_PER_SECOND,
    "Bytes transmitted and received per second, over the window.",
    attributes=NETWORK_IO.attributes,
    derivation=Rate(NETWORK_IO),
)
NETWORK_PACKETS = Metric(
    names.SYSTEM_NETWORK_PACKET_COUNT,
    Kind.COUNTER,
    Unit.PACKET,
    "The number of packets transferred.",
    attributes=(DEVICE, NETWORK_DIRECTION),  # of all network metrics the only one for which the conventions say so
    integer=True,
)
NETWORK_DROPPED = Metric(
    names.SYSTEM_NETWORK_PACKET_DROPPED,
    Kind.COUNTER,
    Unit.PACKET,
    "Count of packets that are dropped or discarded even though there was no error.",
    attributes=NETWORK_IO.attributes,
    integer=True,
)
NETWORK_ERRORS = Metric(
    names.SYSTEM_NETWORK_ERRORS,
    Kind.COUNTER,
    Unit.ERROR,
    "Count of network errors detected.",
    attributes=NETWORK_IO.attributes,
    integer=True,
)
PROCESS_COUNT = Metric(
    names.SYSTEM_PROCESS_COUNT,
    Kind.UP_DOWN_COUNTER,
    Unit.PROCESS,
    "Total number of processes in each state.",
    attributes=(PROCESS_STATE,),
    integer=True,
)
PROCESS_CREATED = Metric(
    names.SYSTEM_PROCESS_CREATED,
    Kind.COUNTER,
    Unit.PROCESS,
    "Total number of processes created over uptime of the host.",
    integer=True,
)
UPTIME = Metric(names.SYSTEM_UPTIME, Kind.GAUGE, Unit.SECOND, "The time the system has been running.")

METRICS: tuple[Metric, ...] = (
    CPU_TIME,
    CPU_UTILIZATION,
    CPU_FREQUENCY,
    CPU_PHYSICAL_COUNT,
    CPU_LOGICAL_COUNT,
    MEMORY_USAGE,
    MEMORY_LIMIT,
    MEMORY_UTILIZATION,
    MEMORY_AVAILABLE,
    MEMORY_SHARED,
    MEMORY_SLAB,
    PAGING_USAGE,
    PAGING_UTILIZATION,
    PAGING_OPERATIONS,
    PAGING_OPERATION_RATE,
    PAGING_FAULTS,
    DISK_IO,
    DISK_IO_RATE,
    DISK_OPERATIONS,
    DISK_OPERATION_RATE,
    DISK_IO_TIME,
    DISK_UTILIZATION,
    DISK_OPERATION_TIME,
    DISK_MERGED,
    FILESYSTEM_LIMIT,
    FILESYSTEM_USAGE,
    FILESYSTEM_UTILIZATION,
    NETWORK_IO,
    NETWORK_IO_RATE,
    NETWORK_PACKETS,
    NETWORK_DROPPED,
    NETWORK_ERRORS,
    PROCESS_COUNT,
    PROCESS_CREATED,
    UPTIME,
)
