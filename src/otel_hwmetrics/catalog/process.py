# SPDX-License-Identifier: Apache-2.0
"""This process, by the names of https://opentelemetry.io/docs/specs/semconv/system/process-metrics/.

Which process it is belongs to the Resource (`otel_hwmetrics.resource`). Where the provider's Resource does not say,
the keys of `otel_hwmetrics.ranks.identity` become attributes of these metrics: one process, one value.
"""

from __future__ import annotations

from opentelemetry.semconv._incubating.attributes import cpu_attributes, disk_attributes
from opentelemetry.semconv._incubating.metrics import process_metrics as names

from otel_hwmetrics.model import Kind, Metric, Origin, Rate, Unit

CPU_MODE = cpu_attributes.CPU_MODE
IO_DIRECTION = disk_attributes.DISK_IO_DIRECTION

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
    "Number of CPUs available to the process.",
    integer=True,
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

METRICS: tuple[Metric, ...] = (
    CPU_TIME,
    CPU_LIMIT,
    CPU_UTILIZATION,
    MEMORY_USAGE,
    MEMORY_VIRTUAL,
    DISK_IO,
    DISK_IO_RATE,
    THREAD_COUNT,
)
