# SPDX-License-Identifier: Apache-2.0
"""The simulated host: its memory, its disks, how it stalls, the job's processes, and our own sources."""

from __future__ import annotations

import math
from typing import Final

from alerts.simulation.gpus import Mean, Told
from alerts.simulation.world import Activity, World
from otel_hwmetrics.catalog import container, own, pressure, system, tree
from otel_hwmetrics.model import Attribute, Metric, Reading, Series

GB: Final = 1e9
TOTAL: Final = 2000 * GB
"""Memory of the host."""
MACHINE: Final = 40 * GB
"""What the host itself uses of it."""

SOURCES: Final = ("container", "filesystem", "nvidia", "pressure", "process", "system", "torch", "training", "tree")
RESOURCES: Final = ("cpu", "memory", "io")
SCOPES: Final = ("host", "cgroup")

ROOT, CHECKPOINTS, SCRATCH = "/", "/checkpoints", "/scratch"

_FILESYSTEMS_EVERY: Final = 10.0
_HEAP_FILLS_IN: Final = 600.0
_COPIED_IN: Final = 7200.0
_MAPPED: Final = 400 * GB


class Host:
    """The machine without its GPUs.

    Args:
        world: Time and chance.
        limit: Bytes of memory that the job's container may use; None where nobody limits it.

    Attributes:
        main: Bytes of the training process.
        workers: How many there are that load data.
        started: When these were.
        inherited: Bytes of the training process that each of them shares with it, and RSS counts once for each.
        mapped: Bytes of the data set's files that are mapped into the training process and have been read.
        cache: Bytes of the page cache that the kernel counts as in use (active), of the container.
        free: Bytes that are free, by mount.
    """

    def __init__(self, world: World, limit: float | None) -> None:
        self._world = world
        self._limit = limit
        self.main = 0.4 * GB
        self.workers = 0
        self.started = 0.0
        self.inherited = 1.2 * GB
        self.mapped = 0.0
        self.cache = 20 * GB
        self.free = {ROOT: 180 * GB, CHECKPOINTS: 900 * GB, SCRATCH: 3400 * GB}
        self.ends: dict[str, int] = dict.fromkeys(tree.EXIT_CAUSES, 0)
        self.oom_kills = 0
        # What is wrong.
        self.leak = self.leaked = 0.0  # bytes a second that somebody of the job does not give back, and all of them
        self.hog = self.hogged = 0.0  # likewise others, in the same container
        self.filling: dict[str, float] = {}  # bytes a second, by mount
        self.at_least: dict[str, float] = {}  # stalls, by resource
        self.quota = 0.0  # share of the periods in which the quota is used up
        self.swapping = 0.0  # pages a second, either way
        self.stuck_since: float | None = None
        self.down: set[str] = set()
        self.cost = 0.012  # seconds of CPU time of one look
        self._sampling = 0.0
        self._filesystems: list[Reading] = []
        self._filesystems_due = 0.0
        self._make_series()

    def _make_series(self) -> None:
        self._available = Series(system.MEMORY_AVAILABLE)
        self._utilization = Series(system.MEMORY_UTILIZATION, {system.MEMORY_STATE: "used"})
        self._shared = Series(system.MEMORY_SHARED)
        self._anonymous = Series(container.MEMORY_RSS)
        self._container_limit = Series(container.MEMORY_LIMIT)
        self._headroom = Series(container.MEMORY_HEADROOM)
        self._of_limit = Series(container.MEMORY_UTILIZATION)
        self._events = _by(container.MEMORY_EVENTS, container.MEMORY_EVENT, ("high", "max", "oom", "oom_kill"))
        self._throttled = Series(container.CPU_THROTTLED_SHARE)
        self._modes = _by(system.CPU_UTILIZATION, system.CPU_MODE, ("user", "system", "idle", "iowait"))
        self._stalls = {
            (resource, kind, scope): Series(
                pressure.STALL_SHARE,
                {
                    pressure.RESOURCE: resource,
                    pressure.KIND: kind,
                    pressure.SCOPE: scope,
                    pressure.METHOD: "psi",
                },
            )
            for resource in RESOURCES
            for kind in ("some", "full")
            for scope in SCOPES
        }
        self._paging = _by(system.PAGING_OPERATION_RATE, system.PAGING_DIRECTION, ("in", "out"))
        self._free = {
            mount: Series(
                system.FILESYSTEM_USAGE,
                {
                    system.FILESYSTEM_MOUNTPOINT: mount,
                    system.FILESYSTEM_STATE: "free",
                    system.FILESYSTEM_MODE: "rw",
                    system.FILESYSTEM_TYPE: "ext4",
                },
            )
            for mount in self.free
        }
        self._resident = Series(tree.MEMORY_USAGE)
        self._counts = _by(tree.PROCESS_COUNT, tree.PROCESS_STATE, ("running", "sleeping", tree.UNINTERRUPTIBLE))
        self._failed = _by(tree.CHILDREN_FAILED, tree.EXIT_CAUSE, tree.EXIT_CAUSES)
        self._uninterruptible = Series(tree.UNINTERRUPTIBLE_TIME)
        self._up = _by(own.SOURCE_UP, own.SOURCE, SOURCES)
        self._sampling_time = Series(own.SAMPLING_TIME)

    def start_workers(self, count: int) -> None:
        """Start the workers that load data; those before have ended, some of them only when they were told to twice."""
        if self.workers:
            self.ends[tree.TERMINATED] += int(3 * next(self._world.chance))
        self.workers, self.started = count, self._world.now

    def tell(self, told: Told, mean: Mean, doing: Activity, seconds: float, *, late: frozenset[str]) -> None:
        """Let so much time pass, and tell of it all; of sources that are late nothing."""
        at = self._world.now
        self._live(doing, seconds)
        self._tell_memory(told, at)
        self._tell_stalls(told, mean, at)
        self._tell_processes(told, doing, at)
        if at >= self._filesystems_due:
            self._filesystems_due = at + _FILESYSTEMS_EVERY - 0.1
            self._filesystems = [Reading(series, self.free[mount], at) for mount, series in self._free.items()]
        gone = self.down | late
        if "filesystem" not in gone:
            told[system.FILESYSTEM_USAGE.name] = self._filesystems
        told[own.SOURCE_UP.name] = [Reading(series, int(name not in gone), at) for name, series in self._up.items()]
        self._sampling += self.cost * (1.0 + 0.2 * next(self._world.noise))
        told[own.SAMPLING_TIME.name] = [Reading(self._sampling_time, self._sampling, at)]

    def _live(self, doing: Activity, seconds: float) -> None:
        self.leaked += self.leak * seconds
        self.hogged += self.hog * seconds
        self.mapped = min(_MAPPED, self.mapped + doing.read * seconds)
        if self.mapped >= _MAPPED:  # what is read a second time is in use, says the kernel
            self.cache += doing.read * seconds
        self.free[CHECKPOINTS] -= doing.written * seconds
        self.free[ROOT] -= 400 * seconds  # a log
        for mount, rate in self.filling.items():
            self.free[mount] = max(0.0, self.free[mount] - rate * seconds)

    def _tell_memory(self, told: Told, at: float) -> None:
        noise = self._world.noise
        age = at - self.started
        # A collector of garbage comes around; an allocator's heap fills up to what it needs; pages that a worker has
        # written to are copied, which its RSS does not show.
        garbage = 1.5 * GB * ((at / 213) % 1) + 0.02 * GB * next(noise)
        heap = self.workers * 0.25 * GB * (1 - math.exp(-age / _HEAP_FILLS_IN))
        copied = self.workers * 0.03 * GB * min(1.0, age / _COPIED_IN)
        private = self.main + garbage + heap + self.leaked
        resident = private + self.mapped + self.workers * self.inherited
        told[tree.MEMORY_USAGE.name] = [Reading(self._resident, resident, at)]
        used = MACHINE + private + copied + self.hogged + 0.1 * GB * next(noise)
        told[system.MEMORY_AVAILABLE.name] = [Reading(self._available, max(0.0, TOTAL - used), at)]
        told[system.MEMORY_UTILIZATION.name] = [Reading(self._utilization, min(1.0, used / TOTAL), at)]
        told[system.MEMORY_SHARED.name] = [Reading(self._shared, 6 * GB, at)]
        anonymous = private + copied + self.hogged
        told[container.MEMORY_RSS.name] = [Reading(self._anonymous, anonymous, at)]
        if self._limit is not None:
            # The page cache makes room, but not for nothing: the kernel keeps some of what is in use.
            self.cache = min(self.cache, max(4 * GB, 0.985 * self._limit - anonymous))
            working_set = min(self._limit, anonymous + self.cache)
            told[container.MEMORY_LIMIT.name] = [Reading(self._container_limit, self._limit, at)]
            told[container.MEMORY_HEADROOM.name] = [Reading(self._headroom, self._limit - working_set, at)]
            told[container.MEMORY_UTILIZATION.name] = [Reading(self._of_limit, working_set / self._limit, at)]
            events = {"high": 0, "max": self.oom_kills, "oom": self.oom_kills, "oom_kill": self.oom_kills}
            told[container.MEMORY_EVENTS.name] = [Reading(self._events[name], events[name], at) for name in events]

    def _tell_stalls(self, told: Told, mean: Mean, at: float) -> None:
        world = self._world
        burst = 0.5 if at % 97 < 22 else 0.0  # workers fill up their queues
        shares: dict[str, float] = {}
        for resource, share in (("cpu", max(mean.cpu, burst)), ("memory", mean.memory), ("io", mean.io)):
            shaken = share * (1.0 + 0.3 * next(world.noise)) + 0.01 * abs(next(world.noise))
            least = self.at_least.get(resource, 0.0) * (1.0 + 0.01 * next(world.noise))
            shares[resource] = min(1.0, max(shaken, least))
        told[pressure.STALL_SHARE.name] = [
            Reading(
                series, shares[resource] * (0.4 if kind == "full" else 1.0) * (0.95 if scope == "cgroup" else 1.0), at
            )
            for (resource, kind, scope), series in self._stalls.items()
        ]
        user = min(0.9, 0.35 + burst)
        parts = {"user": user, "system": 0.08, "iowait": 0.02, "idle": 0.9 - user}
        told[system.CPU_UTILIZATION.name] = [Reading(self._modes[mode], part, at) for mode, part in parts.items()]
        if self._limit is not None:
            quota = min(1.0, max(self.quota, 0.6 * burst) * (1 + 0.1 * next(world.noise)))
            told[container.CPU_THROTTLED_SHARE.name] = [Reading(self._throttled, quota, at)]
        told[system.PAGING_OPERATION_RATE.name] = self._swapped(mean, at)

    def _swapped(self, mean: Mean, at: float) -> list[Reading]:
        world = self._world
        if self.swapping:
            rates = [self.swapping * (1 + 0.2 * next(world.noise)) for _ in self._paging]
        else:
            # Some is brought back now and then; while the page cache is filled, some goes out.
            rates = [max(0.0, 20 * next(world.noise)), 2000 * next(world.chance) if mean.memory > 0.02 else 0.0]
        return [Reading(series, max(0.0, rate), at) for series, rate in zip(self._paging.values(), rates, strict=True)]

    def _tell_processes(self, told: Told, doing: Activity, at: float) -> None:
        count = 1 + self.workers
        blocked = int(doing.blocked or self.stuck_since is not None)
        states = {"running": min(count, 9), "sleeping": max(0, count - 9 - blocked), tree.UNINTERRUPTIBLE: blocked}
        told[tree.PROCESS_COUNT.name] = [Reading(self._counts[name], number, at) for name, number in states.items()]
        told[tree.CHILDREN_FAILED.name] = [Reading(self._failed[why], number, at) for why, number in self.ends.items()]
        # A writer sleeps so for some seconds at a time.
        waits = at % 17 if doing.blocked else 0.0
        if self.stuck_since is not None:
            waits = at - self.stuck_since
        told[tree.UNINTERRUPTIBLE_TIME.name] = [Reading(self._uninterruptible, waits, at, at)]


def _by(metric: Metric, key: str, values: tuple[str, ...]) -> dict[str, Series]:
    """A series for each value of an attribute."""
    told: dict[str, dict[str, Attribute]] = {value: {key: value} for value in values}
    return {value: Series(metric, attributes) for value, attributes in told.items()}
