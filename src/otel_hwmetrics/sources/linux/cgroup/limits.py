# SPDX-License-Identifier: Apache-2.0
"""What a process is held to: by its cgroup, by every one above it that can be seen, and by the machine.

A limit of a cgroup holds for all that is below it, so the smallest on the way up is the one that counts, and it may be
filled by others than this process. Limits may change at any time; they are looked up every few seconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeVar

from otel_hwmetrics.sources.linux.affinity import granted_cpus
from otel_hwmetrics.sources.linux.cgroup import parse
from otel_hwmetrics.sources.linux.cgroup.membership import Cgroup, Membership, content, find

T = TypeVar("T")

EVERY = 5.0
"""Seconds for which what was looked up is taken to hold."""

_FILES = {1: "memory.limit_in_bytes", 2: "memory.max"}


class Level(NamedTuple):
    """A cgroup whose memory is limited, and to how many bytes."""

    cgroup: Cgroup
    limit: int


class Memory(NamedTuple):
    """The memory that a process can have.

    Attributes:
        levels: Its cgroup and those above it that have a limit below the machine's memory, nearest first.
        limit: The smallest limit, in bytes; None when there is none. Version 1 tells it also of cgroups that cannot be
            seen, so it may be smaller than any of ``levels``.
        total: Bytes of the machine; None when it does not say.
    """

    levels: tuple[Level, ...]
    limit: int | None
    total: int | None


class Quota(NamedTuple):
    """A cgroup whose CPU time is limited, and to how many CPUs' worth of it; half a CPU is one, too."""

    cgroup: Cgroup
    cpus: float


@dataclass(frozen=True)
class Held:
    """What a process is held to, as it was looked up at one moment.

    Attributes:
        membership: Its cgroups.
        controllers: Those of its cgroup of version 2, as the kernel lists them; files come and go with them.
        online: CPUs of the machine; None when it does not say.
    """

    membership: Membership
    controllers: bytes
    online: int | None
    _memory: Memory | OSError | ValueError
    _quota: Quota | OSError | ValueError | None
    _set_size: int | OSError | ValueError | None

    @property
    def memory(self) -> Memory:
        """The memory that it can have.

        Raises:
            OSError: A limit cannot be read, so that the smallest is not known.
            ValueError: A limit is no number.
        """
        return _known(self._memory)

    @property
    def quota(self) -> Quota | None:
        """The smallest quota of CPU time, of its cgroup and those above it; None when there is none.

        Raises:
            OSError: One cannot be read, so that the smallest is not known.
            ValueError: One is no number.
        """
        return _known(self._quota)

    @property
    def set_size(self) -> int | None:
        """How many CPUs the set of its cgroup holds; None when it has none.

        Raises:
            OSError: It cannot be read.
            ValueError: It is no list of CPUs.
        """
        return _known(self._set_size)

    @property
    def cpus(self) -> float:
        """How many CPUs it can have: the smallest of quota, CPU set and machine.

        Raises:
            OSError: A limit cannot be read, so that the smallest is not known.
            ValueError: A limit is no number, or nothing tells any.
        """
        quota = self.quota
        bounds = (quota.cpus if quota is not None else None, self.set_size, self.online)
        return float(min(bound for bound in bounds if bound is not None))


class Limits:
    """What a process is held to, looked up at most every few seconds. Opens nothing for longer than a look.

    Threads may share one: at worst two look at the same moment.

    Args:
        root: Put before every absolute path; a captured tree's directory.
        pid: Which process; this one by default, also after a fork.
        clock: Monotonic seconds.
        every: Seconds for which a look holds.
    """

    def __init__(
        self,
        root: str = "",
        *,
        pid: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        every: float = EVERY,
    ) -> None:
        self.root = root
        self._pid = pid
        self._clock = clock
        self._every = every
        self._held: tuple[float, Held] | None = None
        self._found: tuple[bytes, Membership] | None = None
        self._total: int | None = None

    def now(self) -> Held:
        """What the process is held to.

        Raises:
            OSError: /proc does not tell its cgroups.
        """
        now = self._clock()
        held = self._held
        if held is None or now >= held[0] + self._every:
            held = self._held = (now, self._look())
        return held[1]

    def look_again(self) -> None:
        """Look at the next call, whenever the last look was: a cgroup turned out to be gone."""
        self._held = None

    def _look(self) -> Held:
        membership = self._membership()
        controllers = b""
        if membership.unified is not None:
            try:
                controllers = content(f"{membership.unified.directory}/cgroup.controllers")
            except OSError:
                controllers = b""  # then files are looked for when the process changes its cgroup
        if self._total is None:
            self._total = _of_machine(self.root, "/proc/meminfo", _mem_total)
        online = _of_machine(self.root, "/sys/devices/system/cpu/online", parse.cpu_count)
        if online is None and not self.root:
            online = os.cpu_count()
        return Held(
            membership,
            controllers,
            online,
            _outcome(lambda: _memory(membership, self._total)),
            _outcome(lambda: _smallest_quota(membership.of("cpu"))),
            _outcome(lambda: _set_size(membership.of("cpuset"))),
        )

    def _membership(self) -> Membership:
        """The cgroups; the list of all mounts, which may be long, is read only when the process has moved."""
        text = content(f"{self.root}/proc/{'self' if self._pid is None else self._pid}/cgroup")
        found = self._found
        if found is None or found[0] != text:
            found = self._found = (text, find(self.root, self._pid))
        return found[1]


def smallest(cgroup: Cgroup, name: str) -> int | None:
    """The smallest limit that a file has, of a cgroup and those above it; None when none has one.

    Raises:
        OSError: One cannot be read. One that is absent limits nothing: its controller is off there.
        ValueError: One says neither a number nor ``max``.
    """
    found = (_of(level, name, parse.limit) for level in cgroup.lineage)
    return min((limit for limit in found if limit is not None), default=None)


def _memory(membership: Membership, total: int | None) -> Memory:
    # A limit that the machine cannot reach is none; version 1 writes "no limit" as a number of 2**63 less a page.
    none = parse.LARGEST // 2 if total is None else total
    cgroup = membership.of("memory")
    if cgroup is None:
        return Memory((), None, total)
    levels = []
    for level in cgroup.lineage:
        if level is not cgroup and level.version == 1 and _of(level, "memory.use_hierarchy", parse.single) == 0:
            break  # what is above holds for itself alone
        limit = _of(level, _FILES[level.version], parse.limit)
        if limit is not None and limit < none:
            levels.append(Level(level, limit))
    smallest_seen = [level.limit for level in levels]
    if cgroup.version == 1:
        unseen = _of(cgroup, "memory.stat", lambda text: parse.value(text, b"hierarchical_memory_limit"))
        smallest_seen += [unseen] if unseen is not None and unseen < none else []
    return Memory(tuple(levels), min(smallest_seen, default=None), total)


def _smallest_quota(cgroup: Cgroup | None) -> Quota | None:
    found: Quota | None = None
    for level in cgroup.lineage if cgroup is not None else ():
        cpus = _quota(level)
        if cpus is not None and (found is None or cpus < found.cpus):
            found = Quota(level, cpus)
    return found


def _quota(level: Cgroup) -> float | None:
    if level.version != 1:
        return _of(level, "cpu.max", parse.cpu_max)
    quota = _of(level, "cpu.cfs_quota_us", parse.limit)
    period = _of(level, "cpu.cfs_period_us", parse.single) if quota is not None else None
    return quota / period if quota is not None and period else None


def _set_size(cgroup: Cgroup | None) -> int | None:
    """The size of the CPU set; where the controller is off, that of the nearest cgroup above which has it."""
    for level in cgroup.lineage if cgroup is not None else ():
        name = "cpuset.effective_cpus" if level.version == 1 else "cpuset.cpus.effective"
        size = _of(level, name, parse.cpu_count)
        if size is not None:
            return size
    return None


def _mem_total(text: bytes) -> int:
    name, _, rest = text.partition(b"\n")[0].partition(b":")
    kibibytes, _, unit = rest.strip().partition(b" ")
    if name != b"MemTotal" or unit != b"kB":
        raise ValueError(f"does not begin with MemTotal in kB: {text[:40]!r}")
    return parse.number(kibibytes) * 1024


def _of(cgroup: Cgroup, name: str, parser: Callable[[bytes], T]) -> T | None:
    """What a cgroup's file says; None when it has no such file."""
    try:
        text = content(f"{cgroup.directory}/{name}")
    except FileNotFoundError:
        return None
    return parser(text)


def _of_machine(root: str, path: str, parser: Callable[[bytes], T]) -> T | None:
    """What a file of the machine says; None when it does not: what a cgroup says holds without it."""
    try:
        return parser(content(root + path))
    except (OSError, ValueError):
        return None


def _outcome(look: Callable[[], T]) -> T | OSError | ValueError:
    try:
        return look()
    except (OSError, ValueError) as error:
        return error


def _known(outcome: T | OSError | ValueError) -> T:
    if isinstance(outcome, OSError | ValueError):
        raise outcome.with_traceback(None)  # or each raise would add to the trace
    return outcome


@lru_cache(maxsize=1)
def shared() -> Limits:
    """Those of this process, for all who ask."""
    return Limits()


def effective_cpus() -> float:
    """How many CPUs this process can have: the smallest of quota, CPU set, machine, and its threads' affinity.

    As far as it can be seen: a container of version 1 does not see the quota of what it is in.

    Cheap: what the cgroups say is looked up every few seconds. Elsewhere than on Linux it is the machine's number.

    Raises:
        OSError: A limit cannot be read, so that the smallest is not known.
        ValueError: A limit is no number.
    """
    affinity = granted_cpus() or 1
    try:
        held = shared().now()
    except FileNotFoundError:  # no /proc, or a kernel without cgroups
        return float(affinity)
    return float(min(held.cpus, affinity))


def effective_memory() -> int | None:
    """How many bytes of memory this process can have: the smallest of all limits and the machine's; None when unknown.

    Raises:
        OSError: A limit cannot be read, so that the smallest is not known.
        ValueError: A limit is no number.
    """
    try:
        memory = shared().now().memory
    except FileNotFoundError:  # no /proc, or a kernel without cgroups
        return None
    return min((bound for bound in (memory.limit, memory.total) if bound is not None), default=None)


def bounds() -> tuple[float | None, int | None]:
    """CPUs and bytes that this process is held to below what the machine has; None where it is not, or nothing tells."""
    try:
        held = shared().now()
        cpus: float | None = held.cpus
        if held.online is not None and cpus is not None and cpus >= held.online:
            cpus = None
    except (OSError, ValueError):
        cpus = None
    try:
        memory = shared().now().memory.limit
    except (OSError, ValueError):
        memory = None
    return cpus, memory
