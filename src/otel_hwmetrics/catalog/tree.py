# SPDX-License-Identifier: Apache-2.0
"""The job's whole process tree: this process, DataLoader workers, launched commands.

A tree is a process, its children, theirs, and so on; one that was met stays a member when its parent ends before it.
No attribute names a process: workers come and go, and each would be a series for ever.
"""

from __future__ import annotations

from opentelemetry.semconv._incubating.attributes import process_attributes, system_attributes

from otel_hwmetrics.catalog.process import CONTEXT_SWITCH_TYPE, CPU_LIMIT, CPU_MODE, FAULT_TYPE, IO_DIRECTION
from otel_hwmetrics.model import Kind, Metric, Origin, Rate, Unit

PROCESS_STATE: str = getattr(process_attributes, "PROCESS_STATE", system_attributes.SYSTEM_PROCESS_STATUS)
"""``system.process.status`` before conventions 1.38 renamed it."""

UNINTERRUPTIBLE = "uninterruptible"
"""A value of ``process.state`` that the conventions lack: waiting for a disk or a file server (Linux's D)."""

EXIT_CAUSE = "hwmetrics.tree.exit.cause"
"""``killed``: by SIGKILL, which is the kernel's OOM killer's, and the last resort of whoever has lost patience;
``crashed``: by a signal that stands for a fault or a limit (SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGSYS, SIGTRAP,
SIGXCPU, SIGXFSZ); ``terminated``: by any other signal, such as SIGTERM and SIGINT, which is most often somebody's
intent, as of a loader that shuts its workers down; ``status``: by itself, with an exit status other than 0"""

KILLED = "killed"
CRASHED = "crashed"
TERMINATED = "terminated"
STATUS = "status"
EXIT_CAUSES = (KILLED, CRASHED, TERMINATED, STATUS)

CPU_TIME = Metric(
    "hwmetrics.tree.cpu.time",
    Kind.COUNTER,
    Unit.SECOND,
    "CPU seconds of the process and its descendants, of those that have ended, too.",
    attributes=(CPU_MODE,),
    origin=Origin.ZERO,
)
CPU_UTILIZATION = Metric(
    "hwmetrics.tree.cpu.utilization",
    Kind.GAUGE,
    Unit.RATIO,
    "CPU time of the process and its descendants over the window, divided by its length and by the number of CPUs "
    "available to the process.",
    attributes=(CPU_MODE,),
    derivation=Rate(CPU_TIME, over=CPU_LIMIT),
)
MEMORY_USAGE = Metric(
    "hwmetrics.tree.memory.usage",
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Physical memory in use by the process and its descendants, a shared page once for each of them.",
    integer=True,
)
MEMORY_PSS = Metric(
    "hwmetrics.tree.memory.pss",
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Physical memory of the process and its descendants, of each shared page their part among all that share it.",
    integer=True,
)
DISK_IO = Metric(
    "hwmetrics.tree.disk.io",
    Kind.COUNTER,
    Unit.BYTE,
    "Bytes that the process and its descendants had storage read and write.",
    attributes=(IO_DIRECTION,),
    integer=True,
    origin=Origin.ZERO,
)
DISK_IO_RATE = Metric(
    "hwmetrics.tree.disk.io.rate",
    Kind.GAUGE,
    Unit.BYTE_PER_SECOND,
    "Bytes per second that the process and its descendants had storage read and write, over the window.",
    attributes=DISK_IO.attributes,
    derivation=Rate(DISK_IO),
)
DATA_IO = Metric(
    "hwmetrics.tree.data.io",
    Kind.COUNTER,
    Unit.BYTE,
    "Bytes that the process and its descendants passed through read and write calls, whether files, pipes or "
    "sockets, and whether storage or the page cache had them.",
    attributes=(IO_DIRECTION,),
    integer=True,
    origin=Origin.ZERO,
    detail=True,
)
DATA_IO_RATE = Metric(
    "hwmetrics.tree.data.io.rate",
    Kind.GAUGE,
    Unit.BYTE_PER_SECOND,
    "Bytes per second that the process and its descendants passed through read and write calls, over the window.",
    attributes=DATA_IO.attributes,
    derivation=Rate(DATA_IO),
    detail=True,
)
DATA_OPERATIONS = Metric(
    "hwmetrics.tree.data.operations",
    Kind.COUNTER,
    Unit.OPERATION,
    "Read and write calls of the process and its descendants.",
    attributes=(IO_DIRECTION,),
    integer=True,
    origin=Origin.ZERO,
    detail=True,
)
THREAD_COUNT = Metric(
    "hwmetrics.tree.thread.count",
    Kind.UP_DOWN_COUNTER,
    Unit.THREAD,
    "Threads of the process and its descendants.",
    integer=True,
)
PROCESS_COUNT = Metric(
    "hwmetrics.tree.process.count",
    Kind.UP_DOWN_COUNTER,
    Unit.PROCESS,
    "The process and its descendants, by the state of their main threads.",
    attributes=(PROCESS_STATE,),
    integer=True,
)
CHILDREN_STARTED = Metric(
    "hwmetrics.tree.children.started",
    Kind.COUNTER,
    Unit.CHILD,
    "Descendants met so far; one that came and went between two samples is in the CPU time, but was not met.",
    integer=True,
    origin=Origin.ZERO,
)
CHILDREN_ENDED = Metric(
    "hwmetrics.tree.children.ended",
    Kind.COUNTER,
    Unit.CHILD,
    "Descendants met that are gone.",
    integer=True,
    origin=Origin.ZERO,
)
CHILDREN_FAILED = Metric(
    "hwmetrics.tree.children.failed",
    Kind.COUNTER,
    Unit.CHILD,
    "Descendants that were seen to have ended by a signal or with an exit status other than 0; one whose parent waited "
    "for it before a sample saw it dead is not among them.",
    attributes=(EXIT_CAUSE,),
    integer=True,
    origin=Origin.ZERO,
)
UNINTERRUPTIBLE_TIME = Metric(
    "hwmetrics.tree.uninterruptible.time",
    Kind.GAUGE,
    Unit.SECOND,
    "How long the main thread of the process or of a descendant, of several the longest, has been in one uninterruptible "
    "sleep, from the second sample on that met it there; 0 when none is.",
)
FAULTS = Metric(
    "hwmetrics.tree.paging.faults",
    Kind.COUNTER,
    Unit.FAULT,
    "Page faults of the process and its descendants, of those that have ended, too.",
    attributes=(FAULT_TYPE,),
    integer=True,
    origin=Origin.ZERO,
    detail=True,
)
CONTEXT_SWITCHES = Metric(
    "hwmetrics.tree.context_switches",
    Kind.COUNTER,
    Unit.CONTEXT_SWITCH,
    "Context switches of the main threads of the process and its descendants, each as last seen.",
    attributes=(CONTEXT_SWITCH_TYPE,),
    integer=True,
    origin=Origin.ZERO,
    detail=True,
)

METRICS: tuple[Metric, ...] = (
    CPU_TIME,
    CPU_UTILIZATION,
    MEMORY_USAGE,
    MEMORY_PSS,
    DISK_IO,
    DISK_IO_RATE,
    DATA_IO,
    DATA_IO_RATE,
    DATA_OPERATIONS,
    THREAD_COUNT,
    PROCESS_COUNT,
    CHILDREN_STARTED,
    CHILDREN_ENDED,
    CHILDREN_FAILED,
    UNINTERRUPTIBLE_TIME,
    FAULTS,
    CONTEXT_SWITCHES,
)
