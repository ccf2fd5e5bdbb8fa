# SPDX-License-Identifier: Apache-2.0
"""Follows this process from cgroup to cgroup, and reads the one that it is in."""

from __future__ import annotations

import time
from typing import ClassVar

from otel_hwmetrics.sources.base import Batch, Bench, Clock, Reader, Source, SourceUnavailable
from otel_hwmetrics.sources.container import cpu, io, memory
from otel_hwmetrics.sources.container.subject import Container
from otel_hwmetrics.sources.linux import cgroup


def readers_of(membership: cgroup.Membership) -> tuple[Reader[Container], ...]:
    """The readers for a process's cgroups: for each controller those of the version that tells of it."""
    readers: list[Reader[Container]] = []
    cpu_time = membership.of("cpuacct")
    if cpu_time is not None:
        readers.append(cpu.TIME[cpu_time.version])
    if membership.of("cpu") or membership.of("cpuset"):
        readers += (*cpu.LIMITS, cpu.THROTTLING)
    of_memory = membership.of("memory")
    if of_memory is not None:
        readers += memory.READERS[of_memory.version]
    of_disks = membership.of("blkio")  # version 2 calls it io
    if of_disks is not None:
        readers += io.READERS[of_disks.version]
    if membership.of("pids"):
        readers += cpu.THREADS
    return tuple(readers)


class ContainerSource(Source):
    """What the cgroup of this process uses, and what it and those above it hold it to.

    The machine's root cgroup is no container: all that it has is told as the host's, and so here nothing.

    Args:
        root: Put before every absolute path; a captured tree's directory.
        clock: Monotonic seconds.
        limits: Tells in which cgroup this process is and its limits, every few seconds; by default those that all share
            who ask for this process's.
    """

    name: ClassVar[str] = "container"

    def __init__(self, root: str = "", *, clock: Clock = time.monotonic, limits: cgroup.Limits | None = None) -> None:
        self._root = root
        self._clock = clock
        self._limits = limits or (cgroup.Limits(root, clock=clock) if root else cgroup.shared())
        self._container: Container | None = None
        self._bench: Bench[Container] | None = None
        self._continued = cgroup.Continued()

    def open(self) -> None:
        """Find the cgroup of this process.

        Raises:
            SourceUnavailable: There is none, or none but the machine's root. A process that is moved later is followed
                from here on only.
        """
        try:
            membership = self._limits.now().membership
        except OSError as error:
            raise SourceUnavailable(self.name, f"no cgroups: {error}", "is /proc mounted?") from error
        if not membership.is_visible:
            raise SourceUnavailable(self.name, "no cgroup of this process can be seen", "mount /sys/fs/cgroup")
        if membership.is_root:
            raise SourceUnavailable(self.name, "this process is in the machine's root cgroup, which limits nothing")

    def read(self) -> Batch:
        """Read every counter, level and limit of the container once; limits are those of a few seconds ago at most."""
        batch = Batch()
        if self._container is not None and self._container.gone:
            self._limits.look_again()
        try:
            self._follow(self._limits.now())
        except OSError as error:
            batch.lose(type(error).__name__)
        if self._container is not None and self._bench is not None:
            self._container.begin()
            self._bench.read_into(batch, self._clock)
        self._continued.apply(batch.readings)
        return batch

    def close(self) -> None:
        """Close the files."""
        if self._container is not None:
            self._container.close()

    def _follow(self, held: cgroup.Held) -> None:
        """Take up what the process is held to now; look for its files anew where they may be others."""
        before = self._container
        if before is not None and not before.gone:
            if held is before.held:
                return
            if self._is_same(before.held, held) and before.held.controllers == held.controllers:
                before.held = held
                return
        if before is not None and (before.gone or not self._is_same(before.held, held)):
            self._continued.moved()
        self.close()
        self._container = Container(self._root, held)
        self._bench = Bench(
            self._container,
            readers_of(held.membership),
            unsupported=(FileNotFoundError,),  # its controller is off, or its kernel older
            expected=(OSError, ValueError),
        )

    def _is_same(self, before: cgroup.Held, now: cgroup.Held) -> bool:
        """Whether counters are those of the same cgroups, the one that throttles among them."""
        return before.membership == now.membership and _throttled(before) == _throttled(now)


def _throttled(held: cgroup.Held) -> cgroup.Cgroup | None:
    try:
        quota = held.quota
    except (OSError, ValueError):
        return None
    return quota.cgroup if quota is not None else None
