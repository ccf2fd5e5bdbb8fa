# SPDX-License-Identifier: Apache-2.0
"""The host, by the names of https://opentelemetry.io/docs/specs/semconv/system/system-metrics/.

What belongs to a container or a cgroup must not be called ``system.*`` (same page), so these rows are the machine's.
"""

from __future__ import annotations

from opentelemetry.semconv._incubating.attributes import (
    cpu_attributes,
    disk_attributes,
    network_attributes,
    system_attributes,
)
from opentelemetry.semconv._incubating.metrics import system_metrics as names

from otel_hwmetrics.model import Kind, Metric, Quotient, Rate, Share, Unit

CPU_MODE = cpu_attributes.CPU_MODE
MEMORY_STATE = system_attributes.SYSTEM_MEMORY_STATE
PAGING_STATE = system_attributes.SYSTEM_PAGING_STATE
IO_DIRECTION = disk_attributes.DISK_IO_DIRECTION
NETWORK_DIRECTION = network_attributes.NETWORK_IO_DIRECTION
NETWORK_INTERFACE = network_attributes.NETWORK_INTERFACE_NAME
DEVICE: str = getattr(system_attributes, "SYSTEM_DEVICE_NAME", system_attributes.SYSTEM_DEVICE)
"""``system.device``; conventions 1.45 rename it (https://github.com/open-telemetry/semantic-conventions/pull/4119)."""

_AVAILABLE: str = getattr(names, "SYSTEM_MEMORY_LINUX_AVAILABLE", "") or names.SYSTEM_LINUX_MEMORY_AVAILABLE
# The constant changed its place between conventions; the older one is deprecated where both exist.

CPU_TIME = Metric(
    names.SYSTEM_CPU_TIME,
    Kind.COUNTER,
    Unit.SECOND,
    "Seconds each logical CPU spent on each mode.",
    attributes=(CPU_MODE,),
)
CPU_UTILIZATION = Metric(
    names.SYSTEM_CPU_UTILIZATION,
    Kind.GAUGE,
    Unit.RATIO,
    "For each logical CPU, the utilization is calculated as the change in cumulative CPU time (cpu.time) over a "
    "measurement interval, divided by the elapsed time.",
    attributes=(CPU_MODE,),
    # Elapsed CPU time as the kernel counts it, so the modes add up to 1 whatever the tick or the number of CPUs online.
    derivation=Share(CPU_TIME, across=CPU_MODE),
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
PAGING_USAGE = Metric(
    names.SYSTEM_PAGING_USAGE,
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "UNIX swap or windows pagefile usage.",
    attributes=(PAGING_STATE,),
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
    attributes=(DEVICE, IO_DIRECTION),
    integer=True,
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

METRICS: tuple[Metric, ...] = (
    CPU_TIME,
    CPU_UTILIZATION,
    MEMORY_USAGE,
    MEMORY_LIMIT,
    MEMORY_UTILIZATION,
    MEMORY_AVAILABLE,
    PAGING_USAGE,
    DISK_IO,
    DISK_IO_RATE,
    DISK_OPERATIONS,
    NETWORK_IO,
    NETWORK_IO_RATE,
)
