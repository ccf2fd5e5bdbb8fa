# SPDX-License-Identifier: Apache-2.0
"""The job's own cgroup, by the names of https://opentelemetry.io/docs/specs/semconv/system/container-metrics/.

"The container" is the cgroup that the process is in, whoever made it: a container runtime, Kubernetes, Slurm, systemd.
Limits may also come from the cgroups above it; where they matter, descriptions say so.
"""

from __future__ import annotations

from opentelemetry.semconv._incubating.attributes import cpu_attributes, system_attributes
from opentelemetry.semconv._incubating.metrics import container_metrics as names

from otel_hwmetrics.catalog.system import DEVICE, IO_DIRECTION
from otel_hwmetrics.model import Kind, Metric, Rate, Ratio, Unit

CPU_MODE = cpu_attributes.CPU_MODE
FAULT_TYPE: str = getattr(system_attributes, "SYSTEM_PAGING_FAULT_TYPE", system_attributes.SYSTEM_PAGING_TYPE)
MEMORY_EVENT = "hwmetrics.container.memory.event"
"""As ``memory.events`` calls it: ``high``, ``max``, ``oom``, ``oom_kill``; version 1 counts the second and the last."""

CPU_TIME = Metric(
    names.CONTAINER_CPU_TIME,
    Kind.COUNTER,
    Unit.SECOND,
    "Total CPU time consumed.",
    attributes=(CPU_MODE,),
)
CPU_USAGE = Metric(
    names.CONTAINER_CPU_USAGE,
    Kind.GAUGE,
    Unit.CPU,
    "Container's CPU usage, measured in CPUs. Range from 0 to the number of allocatable CPUs.",
    attributes=(CPU_MODE,),
    derivation=Rate(CPU_TIME),
    detail=True,
)
CPU_LIMIT = Metric(
    "hwmetrics.container.cpu.limit",
    Kind.UP_DOWN_COUNTER,
    Unit.CPU,
    "CPUs that the container can have at most: the smallest of its quota and those above it, its CPU set and the host.",
)
CPU_UTILIZATION = Metric(
    "hwmetrics.container.cpu.utilization",
    Kind.GAUGE,
    Unit.RATIO,
    "CPU time of the container over the window, divided by the elapsed time and the CPUs that it can have at most.",
    attributes=(CPU_MODE,),
    derivation=Rate(CPU_TIME, over=CPU_LIMIT),
)
CPU_QUOTA = Metric(
    "hwmetrics.container.cpu.quota",
    Kind.UP_DOWN_COUNTER,
    Unit.CPU,
    "CPUs that the container's quota allows, or that of a cgroup above it if that allows fewer.",
    detail=True,
)
CPU_SET_SIZE = Metric(
    "hwmetrics.container.cpuset.size",
    Kind.UP_DOWN_COUNTER,
    Unit.CPU,
    "CPUs in the set on which the container's tasks may run.",
    integer=True,
    detail=True,
)
CPU_THROTTLED_TIME = Metric(
    "hwmetrics.container.cpu.throttled.time",
    Kind.COUNTER,
    Unit.SECOND,
    "Time for which CPUs were kept from tasks because the smallest quota of the container and the cgroups above it was "
    "used up, summed over CPUs.",
)
CPU_PERIODS = Metric(
    "hwmetrics.container.cpu.periods",
    Kind.COUNTER,
    Unit.PERIOD,
    "Periods of the smallest CPU quota of the container and the cgroups above it in which any task ran.",
    integer=True,
    detail=True,
)
CPU_THROTTLED_PERIODS = Metric(
    "hwmetrics.container.cpu.throttled.periods",
    Kind.COUNTER,
    Unit.PERIOD,
    "Those of the periods in which the quota was used up and tasks had to wait for the next period.",
    integer=True,
    detail=True,
)
CPU_THROTTLED_SHARE = Metric(
    "hwmetrics.container.cpu.throttled.share",
    Kind.GAUGE,
    Unit.RATIO,
    "Share of the window's periods in which the CPU quota was used up and tasks had to wait for the next period.",
    derivation=Ratio(CPU_THROTTLED_PERIODS, by=CPU_PERIODS),
)
MEMORY_USAGE = Metric(
    names.CONTAINER_MEMORY_USAGE,
    # A level may fall, so it is no counter, which conventions before 1.44 called it.
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Memory usage of the container.",
    integer=True,
)
MEMORY_WORKING_SET = Metric(
    getattr(names, "CONTAINER_MEMORY_WORKING_SET", "container.memory.working_set"),
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Container memory working set.",
    integer=True,
)
MEMORY_RSS = Metric(
    getattr(names, "CONTAINER_MEMORY_RSS", "container.memory.rss"),
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Container memory RSS.",
    integer=True,
    detail=True,
)
MEMORY_AVAILABLE = Metric(
    getattr(names, "CONTAINER_MEMORY_AVAILABLE", "container.memory.available"),
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Container memory available.",
    integer=True,
    detail=True,
)
MEMORY_LIMIT = Metric(
    "hwmetrics.container.memory.limit",
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "The smallest memory limit of the container and the cgroups above it; absent when none is below the host's memory.",
    integer=True,
)
MEMORY_HEADROOM = Metric(
    "hwmetrics.container.memory.headroom",
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Memory that the container can still take before a limit is reached: of itself and the cgroups above it that have "
    "a limit, the smallest limit less working set.",
    integer=True,
)
MEMORY_UTILIZATION = Metric(
    "hwmetrics.container.memory.utilization",
    Kind.GAUGE,
    Unit.RATIO,
    "Working set divided by limit, of that cgroup which has the least headroom: the container or one above it.",
)
MEMORY_EVENTS = Metric(
    "hwmetrics.container.memory.events",
    Kind.COUNTER,
    Unit.EVENT,
    "How often the container was slowed down for its memory (high), reached its limit (max), found no room below it (oom) "
    "and had a process killed for want of memory (oom_kill).",
    attributes=(MEMORY_EVENT,),
    integer=True,
)
PAGING_USAGE = Metric(
    "hwmetrics.container.paging.usage",
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Swap in use by the container.",
    integer=True,
    detail=True,
)
PAGING_LIMIT = Metric(
    "hwmetrics.container.paging.limit",
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "The smallest swap limit of the container and the cgroups above it; absent when there is none.",
    integer=True,
    detail=True,
)
PAGING_FAULTS = Metric(
    getattr(names, "CONTAINER_PAGING_FAULTS", "container.paging.faults"),
    Kind.COUNTER,
    Unit.FAULT,
    "Container memory paging faults.",
    attributes=(FAULT_TYPE,),
    integer=True,
    detail=True,
)
DISK_IO = Metric(
    names.CONTAINER_DISK_IO,
    Kind.COUNTER,
    Unit.BYTE,
    "Disk bytes for the container.",
    attributes=(DEVICE, IO_DIRECTION),
    integer=True,
)
DISK_IO_RATE = Metric(
    "hwmetrics.container.disk.io.rate",
    Kind.GAUGE,
    Unit.BYTE_PER_SECOND,
    "Disk bytes transferred for the container per second, over the window.",
    attributes=DISK_IO.attributes,
    derivation=Rate(DISK_IO),
)
DISK_OPERATIONS = Metric(
    "hwmetrics.container.disk.operations",
    Kind.COUNTER,
    Unit.OPERATION,
    "Disk operations for the container.",
    attributes=DISK_IO.attributes,
    integer=True,
    detail=True,
)
THREAD_COUNT = Metric(
    "hwmetrics.container.thread.count",
    Kind.UP_DOWN_COUNTER,
    Unit.THREAD,
    "Threads of all processes in the container, which is what its limit counts.",
    integer=True,
    detail=True,
)
THREAD_LIMIT = Metric(
    "hwmetrics.container.thread.limit",
    Kind.UP_DOWN_COUNTER,
    Unit.THREAD,
    "The smallest limit on threads of the container and the cgroups above it; absent when there is none.",
    integer=True,
    detail=True,
)

METRICS: tuple[Metric, ...] = (
    CPU_TIME,
    CPU_USAGE,
    CPU_LIMIT,
    CPU_UTILIZATION,
    CPU_QUOTA,
    CPU_SET_SIZE,
    CPU_THROTTLED_TIME,
    CPU_PERIODS,
    CPU_THROTTLED_PERIODS,
    CPU_THROTTLED_SHARE,
    MEMORY_USAGE,
    MEMORY_WORKING_SET,
    MEMORY_RSS,
    MEMORY_AVAILABLE,
    MEMORY_LIMIT,
    MEMORY_HEADROOM,
    MEMORY_UTILIZATION,
    MEMORY_EVENTS,
    PAGING_USAGE,
    PAGING_LIMIT,
    PAGING_FAULTS,
    DISK_IO,
    DISK_IO_RATE,
    DISK_OPERATIONS,
    THREAD_COUNT,
    THREAD_LIMIT,
)
