# SPDX-License-Identifier: Apache-2.0
"""Rules of the host, of the container that the job is in, and of the job's own processes.

Thresholds are those of the field: Prometheus' rules for hosts as people publish them, Facebook's oomd for pressure.
"""

from __future__ import annotations

from otel_hwmetrics.alerts.ahead import SUDDEN, Leaked, TimeToFull
from otel_hwmetrics.alerts.builtin.common import RECENT, has
from otel_hwmetrics.alerts.conditions import FirstOf, Highest, Less, Level, Lowest, ShareOf, Sum
from otel_hwmetrics.alerts.disks import DiskFull
from otel_hwmetrics.alerts.loops import Felt
from otel_hwmetrics.alerts.over import Aggregate, Over
from otel_hwmetrics.alerts.rule import Rule, Severity, Side
from otel_hwmetrics.catalog import container, pressure, system, tree
from otel_hwmetrics.model import Attribute
from otel_hwmetrics.stepclock import CHECKPOINT

# The working set of a container has page cache in it, all of which a job that reads a data set twice may turn into "active";
# the kernel gives that up before it kills anybody. What it cannot give up is memory of processes and shared memory. Of
# the latter only the host's is told, which is never less: the better of the two answers is still a cautious one.
_TAKEN = Sum((Level(container.MEMORY_RSS), Level(system.MEMORY_SHARED)))
_CONTAINER_LEFT = Highest((Level(container.MEMORY_HEADROOM), Less(Level(container.MEMORY_LIMIT), _TAKEN)))
_CONTAINER_USED = Lowest((Level(container.MEMORY_UTILIZATION), ShareOf(_TAKEN, Level(container.MEMORY_LIMIT))))
_HOST_USED = Level(system.MEMORY_UTILIZATION, {system.MEMORY_STATE: "used"})


def _pressure(resource: str, scope: str) -> Level:
    return Level(pressure.STALL_SHARE, {pressure.RESOURCE: resource, pressure.KIND: "some", pressure.SCOPE: scope})


_BUSY_CPUS = Sum(
    tuple(
        Level(system.CPU_UTILIZATION, {system.CPU_MODE: mode, system.CPU_NUMBER: None}) for mode in ("user", "system")
    ),
)

_BY_A_SIGNAL: frozenset[Attribute] = frozenset({tree.KILLED, tree.CRASHED})

RULES: tuple[Rule, ...] = (
    Rule(
        "oom_kill",
        Severity.CRITICAL,
        Over(container.MEMORY_EVENTS, Aggregate.INCREASE, RECENT, {container.MEMORY_EVENT: "oom_kill"}),
        **has(),
        message="The kernel killed a process in the job's container or session for want of memory ({value} in the last 5 min).",
        advice="See the kernel log (dmesg) for which one. Fewer data-loading workers, smaller caches or a higher limit make "
        "room.",
    ),
    Rule(
        "host_oom_ahead",
        Severity.CRITICAL,
        TimeToFull(
            Lowest((_CONTAINER_LEFT, Level(system.MEMORY_AVAILABLE))),
            seconds=600.0,
            since_first_step=True,
            sudden=SUDDEN,
        ),
        Side.BELOW,
        threshold=1200.0,
        slack=600.0,
        for_seconds=30.0,
        message="The memory that the job may use is full in about {value}, between {soonest_seconds} and {latest_seconds}, if "
        "it goes on like this; {left_bytes} are left.",
        advice="Save a checkpoint. The kernel kills the largest process: fewer data-loading workers or smaller caches make "
        "room.",
        samples=3,
        keep_firing_seconds=60.0,
        warm_up_seconds=900.0,  # models and data sets are loaded for minutes, evenly, and it looks like this
    ),
    Rule(
        "host_memory_pressure",
        Severity.WARNING,
        # In a container the kernel kills at the container's limit, however much the host has left.
        Highest((_CONTAINER_USED, _HOST_USED)),
        Side.ABOVE,
        threshold=0.9,
        slack=0.05,
        for_seconds=5.0,
        message="{value} of the memory that the job may use is used ({beyond}).",
        advice="The kernel may soon kill a process: fewer data-loading workers or smaller caches make room.",
    ),
    Rule(
        "host_memory_stalled",
        Severity.WARNING,
        Highest((_pressure("memory", "cgroup"), _pressure("memory", "host"))),
        Side.ABOVE,
        threshold=0.1,
        slack=0.05,
        for_seconds=60.0,
        message="Work stands still for want of memory {value} of the time ({beyond}).",
        advice="The kernel is busy making room, and everything is slower for it: fewer data-loading workers or smaller caches "
        "help.",
        keep_firing_seconds=30.0,
    ),
    Rule(
        "memory_leak",
        Severity.WARNING,
        # Files that are mapped (Arrow, safetensors) count as the processes' memory page by page as they are read; they are
        # not in that of the container, where there is one.
        Leaked(Lowest((Level(tree.MEMORY_USAGE), Level(container.MEMORY_RSS))), seconds=3600.0),
        Side.ABOVE,
        threshold=512 * 1024**2,
        slack=0.0,
        for_seconds=0.0,
        message="The job's processes take {value} more memory than at first, and {hourly_bytes} more each hour.",
        advice="Look for lists that only grow, and for Python objects in data sets that workers copy page by page "
        "(https://github.com/pytorch/pytorch/issues/13246).",
        keep_firing_seconds=600.0,
        inhibited_by=("host_oom_ahead",),
    ),
    Rule(
        "swap_thrash",
        Severity.WARNING,
        Lowest(
            tuple(Level(system.PAGING_OPERATION_RATE, {system.PAGING_DIRECTION: way}) for way in ("in", "out")),
        ),
        Side.ABOVE,
        threshold=1000.0,
        slack=500.0,
        for_seconds=30.0,
        message="Memory is swapped in and out at once, {value} either way ({beyond}).",
        advice="More memory is in use than there is: fewer data-loading workers or smaller caches, or no swap on the node.",
        keep_firing_seconds=30.0,
    ),
    Rule(
        "disk_full_ahead",
        Severity.WARNING,
        DiskFull(seconds=3600.0),
        Side.BELOW,
        threshold=14400.0,
        slack=7200.0,
        for_seconds=120.0,
        message="{device} fills up: {outlook}; {left_bytes} are left.",
        advice="Remove old checkpoints, or write them elsewhere, before the next one fails half-way.",
        samples=3,
        keep_firing_seconds=300.0,
        warm_up_seconds=600.0,
    ),
    Rule(
        "io_bottleneck",
        Severity.WARNING,
        # The job's own waits tell how slow storage is for it, whoever keeps that busy; the host's are anybody's, a backup's.
        # And workers may wait all day, if they are enough: a job that tells how long it waits for them is believed.
        Felt(FirstOf((_pressure("io", "cgroup"), _pressure("io", "host")))),
        Side.ABOVE,
        threshold=0.3,
        slack=0.1,
        for_seconds=30.0,
        message="Work waits for I/O {value} of the time ({beyond}).",
        advice="Storage is too slow for what is asked of it: more prefetching, larger reads or a faster disk help.",
        silent_in=(CHECKPOINT,),
    ),
    Rule(
        "cpu_saturated",
        Severity.INFO,
        FirstOf((_pressure("cpu", "cgroup"), _pressure("cpu", "host"), _BUSY_CPUS)),
        Side.ABOVE,
        threshold=0.9,
        slack=0.1,
        for_seconds=300.0,
        # The figure is the share of the time in which somebody waits or, where nobody counts that, in which CPUs are busy.
        message="There is more to do than the CPUs can {value} of the time ({beyond}).",
        advice="No harm while the GPUs are busy; else fewer workers or threads, or more CPUs for the job.",
        keep_firing_seconds=60.0,
    ),
    Rule(
        "cpu_throttled",
        Severity.WARNING,
        Level(container.CPU_THROTTLED_SHARE),
        Side.ABOVE,
        threshold=0.25,
        slack=0.1,
        for_seconds=60.0,
        message="The job has used up its CPU quota in {value} of the quota's periods ({beyond}).",
        advice="Its threads stand still for the rest of each: ask for more CPUs, or use fewer threads (OMP_NUM_THREADS) and "
        "workers.",
        keep_firing_seconds=30.0,
    ),
    Rule(
        "worker_died",
        Severity.WARNING,
        Over(tree.CHILDREN_FAILED, Aggregate.INCREASE, RECENT, {tree.EXIT_CAUSE: _BY_A_SIGNAL}),
        **has(),
        message="{value} of the job died by a signal in the last 5 min.",
        advice="A crash, or the kernel for want of memory (see dmesg): a data loader waits for a dead worker until it notices.",
    ),
    Rule(
        "worker_stuck",
        Severity.WARNING,
        Level(tree.UNINTERRUPTIBLE_TIME),
        Side.ABOVE,
        threshold=30.0,
        slack=0.0,
        for_seconds=0.0,
        message="A process of the job waits in the kernel for {value} ({beyond}), and cannot be interrupted.",
        advice="A disk or a file server does not answer, or a driver: see /proc/<pid>/stack and dmesg.",
    ),
)
