# SPDX-License-Identifier: Apache-2.0
"""This process, by the names of https://opentelemetry.io/docs/specs/semconv/system/process-metrics/.

Which process it is belongs to the Resource (`otel_hwmetrics.resource`). Where the provider's Resource does not say,
the keys of `otel_hwmetrics.ranks.identity` become attributes of these metrics: one process, one value.
"""

from __future__ import annotations

from opentelemetry.semconv._incubating.attributes import (
    cpu_attributes,
    disk_attributes,
    process_attributes,
    system_attributes,
)
from opentelemetry.semconv._incubating.metrics import process_metrics as names

from otel_hwmetrics.model import Kind, Metric, Origin, Rate, Unit

CPU_MODE = cpu_attributes.CPU_MODE
IO_DIRECTION = disk_attributes.DISK_IO_DIRECTION
CONTEXT_SWITCH_TYPE = process_attributes.PROCESS_CONTEXT_SWITCH_TYPE
FAULT_TYPE: str = getattr(system_attributes, "SYSTEM_PAGING_FAULT_TYPE", process_attributes.PROCESS_PAGING_FAULT_TYPE)
"""``process.paging.fault_type`` before conventions 1.38 renamed it."""

_UNIX_DESCRIPTORS: str = getattr(names, "PROCESS_UNIX_FILE_DESCRIPTOR_COUNT", "")
# Renamed between conventions, and described in other words; the older constant is deprecated where both exist.

CPU_TIME = Metric(
    names.PROCESS_CPU_TIME,
    Kind.COUNTER,
    Unit.SECOND,
    "Total CPU seconds broken down by different CPU modes.",
    attributes=(CPU_MODE,),
    origin=Origin.ZERO,
)
CPU_LIMIT = Metric(
    "hwmetrics.process.cpu.limit",
    Kind.UP_DOWN_COUNTER,
    Unit.CPU,
    # A quota of a container need not be whole.
    "Number of CPUs available to the process.",
)
CPU_UTILIZATION = Metric(
    names.PROCESS_CPU_UTILIZATION,
    Kind.GAUGE,
    Unit.RATIO,
    "Difference in process.cpu.time since the last measurement, divided by the elapsed time and number of CPUs "
    "available to the process.",
    attributes=(CPU_MODE,),
    derivation=Rate(CPU_TIME, over=CPU_LIMIT),
)
MEMORY_USAGE = Metric(
    names.PROCESS_MEMORY_USAGE,
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "The amount of physical memory in use.",
    integer=True,
)
MEMORY_VIRTUAL = Metric(
    names.PROCESS_MEMORY_VIRTUAL,
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "The amount of committed virtual memory.",
    integer=True,
)
DISK_IO = Metric(
    names.PROCESS_DISK_IO,
    Kind.COUNTER,
    Unit.BYTE,
    "Disk bytes transferred.",
    attributes=(IO_DIRECTION,),
    integer=True,
    origin=Origin.ZERO,
)
DISK_IO_RATE = Metric(
    "hwmetrics.process.disk.io.rate",
    Kind.GAUGE,
    Unit.BYTE_PER_SECOND,
    "Disk bytes transferred by the process per second, over the window.",
    attributes=DISK_IO.attributes,
    derivation=Rate(DISK_IO),
)
THREAD_COUNT = Metric(
    names.PROCESS_THREAD_COUNT,
    Kind.UP_DOWN_COUNTER,
    Unit.THREAD,
    "Process threads count.",
    integer=True,
)
CONTEXT_SWITCHES = Metric(
    names.PROCESS_CONTEXT_SWITCHES,
    Kind.COUNTER,
    Unit.CONTEXT_SWITCH,
    "Number of times the process has been context switched.",
    attributes=(CONTEXT_SWITCH_TYPE,),
    integer=True,
    origin=Origin.ZERO,
    detail=True,
)
FAULTS = Metric(
    names.PROCESS_PAGING_FAULTS,
    Kind.COUNTER,
    Unit.FAULT,
    "Number of page faults the process has made.",
    attributes=(FAULT_TYPE,),
    integer=True,
    origin=Origin.ZERO,
    detail=True,
)
FILE_DESCRIPTOR_COUNT = Metric(
    _UNIX_DESCRIPTORS or names.PROCESS_OPEN_FILE_DESCRIPTOR_COUNT,
    Kind.UP_DOWN_COUNTER,
    Unit.FILE_DESCRIPTOR,
    f"Number of {'UNIX ' if _UNIX_DESCRIPTORS else ''}file descriptors in use by the process.",
    integer=True,
)
UPTIME = Metric(
    names.PROCESS_UPTIME,
    Kind.GAUGE,
    Unit.SECOND,
    "The time the process has been running.",
)
MEMORY_PSS = Metric(
    "hwmetrics.process.memory.pss",
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Physical memory of the process, of each shared page its part among all processes that share it.",
    integer=True,
    detail=True,
)
MEMORY_USS = Metric(
    "hwmetrics.process.memory.uss",
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Physical memory of the process that it shares with no other, which would be free if it ended.",
    integer=True,
    detail=True,
)

METRICS: tuple[Metric, ...] = (
    CPU_TIME,
    CPU_LIMIT,
    CPU_UTILIZATION,
    MEMORY_USAGE,
    MEMORY_VIRTUAL,
    DISK_IO,
    DISK_IO_RATE,
    THREAD_COUNT,
    FILE_DESCRIPTOR_COUNT,
    UPTIME,
    CONTEXT_SWITCHES,
    FAULTS,
    MEMORY_PSS,
    MEMORY_USS,
)
