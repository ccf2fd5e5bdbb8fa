# SPDX-License-Identifier: Apache-2.0
"""A container's memory: usage, working set, limits, events, swap, faults.

The working set is usage less the file cache that was not used lately, which the kernel gives up first; Kubernetes
evicts by it (https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#memory-signals).
"""

from __future__ import annotations

from typing import NamedTuple

from otel_hwmetrics.catalog import container as rows
from otel_hwmetrics.sources.base import Reader, Unsupported
from otel_hwmetrics.sources.container.subject import Container, Pairs
from otel_hwmetrics.sources.linux.cgroup import EVERY, Cgroup, Level, parse, smallest


class _Names(NamedTuple):
    """What a version calls it."""

    usage: str
    inactive_file: bytes
    rss: bytes
    faults: bytes
    major_faults: bytes


# Version 1 has two figures of each: of the cgroup itself, and with those below it.
_NAMES = {
    1: _Names("memory.usage_in_bytes", b"total_inactive_file", b"total_rss", b"total_pgfault", b"total_pgmajfault"),
    2: _Names("memory.current", b"inactive_file", b"anon", b"pgfault", b"pgmajfault"),
}
_STAT = "memory.stat"


def _working_set(container: Container, cgroup: Cgroup) -> int:
    names = _NAMES[cgroup.version]
    usage = parse.single(container.text(cgroup, names.usage))
    # The two are counted apart from each other, so the part may be larger than the whole for a moment.
    return max(0, usage - parse.value(container.text(cgroup, _STAT), names.inactive_file))


def _read_usage(container: Container) -> Pairs:
    cgroup = container.cgroup("memory")
    usage = parse.single(container.text(cgroup, _NAMES[cgroup.version].usage))
    yield container.series(rows.MEMORY_USAGE), usage


def _read_working_set(container: Container) -> Pairs:
    yield container.series(rows.MEMORY_WORKING_SET), _working_set(container, container.cgroup("memory"))


def _read_rss(container: Container) -> Pairs:
    cgroup = container.cgroup("memory")
    rss = parse.value(container.text(cgroup, _STAT), _NAMES[cgroup.version].rss)
    yield container.series(rows.MEMORY_RSS), rss


def _read_faults(container: Container) -> Pairs:
    cgroup = container.cgroup("memory")
    text, names = container.text(cgroup, _STAT), _NAMES[cgroup.version]
    major = parse.value(text, names.major_faults)
    yield container.series(rows.PAGING_FAULTS, "major"), major
    yield container.series(rows.PAGING_FAULTS, "minor"), max(0, parse.value(text, names.faults) - major)


def _read_limit(container: Container) -> Pairs:
    limit = container.held.memory.limit
    if limit is not None:
        yield container.series(rows.MEMORY_LIMIT), limit


def _read_available(container: Container) -> Pairs:
    # As the conventions define it: the container's own limit less its own working set.
    cgroup = container.cgroup("memory")
    for level in container.held.memory.levels:
        if level.cgroup == cgroup:
            yield container.series(rows.MEMORY_AVAILABLE), max(0, level.limit - _working_set(container, cgroup))


def _read_headroom(container: Container) -> Pairs:
    # A limit above the container is filled by all that is below it, so each limit goes with its own cgroup's usage.
    nearest: tuple[int, Level] | None = None
    for level in container.held.memory.levels:
        left = level.limit - _working_set(container, level.cgroup)
        if nearest is None or left < nearest[0]:
            nearest = left, level
    if nearest is not None:
        left, level = nearest
        yield container.series(rows.MEMORY_HEADROOM), max(0, left)  # a limit may be set below what is in use
        if level.limit > 0:
            yield container.series(rows.MEMORY_UTILIZATION), (level.limit - left) / level.limit


def _read_events(container: Container) -> Pairs:
    text = container.text(container.cgroup("memory"), "memory.events")
    for name in ("high", "max", "oom"):
        yield container.series(rows.MEMORY_EVENTS, name), parse.value(text, name.encode())
    if parse.has(text, b"oom_kill"):  # Linux 4.13 and newer
        yield container.series(rows.MEMORY_EVENTS, "oom_kill"), parse.value(text, b"oom_kill")


def _read_v1_failures(container: Container) -> Pairs:
    failures = parse.single(container.text(container.cgroup("memory"), "memory.failcnt"))
    yield container.series(rows.MEMORY_EVENTS, "max"), failures


def _read_v1_kills(container: Container) -> Pairs:
    text = container.text(container.cgroup("memory"), "memory.oom_control")
    if not parse.has(text, b"oom_kill") and parse.has(text, b"under_oom"):
        raise Unsupported  # before Linux 4.13
    yield container.series(rows.MEMORY_EVENTS, "oom_kill"), parse.value(text, b"oom_kill")


def _read_swap(container: Container) -> Pairs:
    swap = parse.single(container.text(container.cgroup("memory"), "memory.swap.current"))
    yield container.series(rows.PAGING_USAGE), swap


def _read_v1_swap(container: Container) -> Pairs:
    text = container.text(container.cgroup("memory"), _STAT)
    if not parse.has(text, b"total_swap") and parse.has(text, b"total_rss"):
        raise Unsupported  # swap is not accounted
    yield container.series(rows.PAGING_USAGE), parse.value(text, b"total_swap")


def _read_swap_limit(container: Container) -> Pairs:
    limit = smallest(container.cgroup("memory"), "memory.swap.max")
    if limit is not None:
        yield container.series(rows.PAGING_LIMIT), limit


_HEADROOM_CALL = "memory.max, memory.current, memory.stat; memory.limit_in_bytes, memory.usage_in_bytes, memory.stat"

_COMMON: tuple[Reader[Container], ...] = (
    Reader((rows.MEMORY_USAGE,), _read_usage, call="memory.current; memory.usage_in_bytes", where="cgroups"),
    Reader(
        (rows.MEMORY_WORKING_SET,),
        _read_working_set,
        call="memory.current, memory.stat; memory.usage_in_bytes, memory.stat",
        where="cgroups",
    ),
    Reader((rows.MEMORY_RSS,), _read_rss, call=_STAT, where="cgroups"),
    Reader((rows.PAGING_FAULTS,), _read_faults, call=_STAT, where="cgroups"),
    Reader((rows.MEMORY_LIMIT,), _read_limit, call="memory.max; memory.limit_in_bytes", where="a limit is set"),
    Reader((rows.MEMORY_AVAILABLE,), _read_available, call=_HEADROOM_CALL, where="a limit of its own is set"),
    Reader(
        (rows.MEMORY_HEADROOM, rows.MEMORY_UTILIZATION), _read_headroom, call=_HEADROOM_CALL, where="a limit is set"
    ),
)

READERS: dict[int, tuple[Reader[Container], ...]] = {
    1: (
        *_COMMON,
        Reader((rows.MEMORY_EVENTS,), _read_v1_failures, call="memory.failcnt", where="version 1"),
        Reader(
            (rows.MEMORY_EVENTS,), _read_v1_kills, call="memory.oom_control", where="version 1, Linux 4.13 and newer"
        ),
        Reader((rows.PAGING_USAGE,), _read_v1_swap, call=_STAT, where="version 1 with swap accounting"),
    ),
    2: (
        *_COMMON,
        Reader((rows.MEMORY_EVENTS,), _read_events, call="memory.events", where="version 2"),
        Reader((rows.PAGING_USAGE,), _read_swap, call="memory.swap.current", where="version 2 with swap accounting"),
        Reader(
            (rows.PAGING_LIMIT,),
            _read_swap_limit,
            every=EVERY,
            call="memory.swap.max",
            where="version 2; a limit is set",
        ),
    ),
}
"""By the version of the cgroup that tells of memory."""
