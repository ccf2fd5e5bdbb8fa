# SPDX-License-Identifier: Apache-2.0
"""A container's CPU time, limits and throttling, and its threads."""

from __future__ import annotations

import os

from opentelemetry.semconv._incubating.attributes.cpu_attributes import CpuModeValues

from otel_hwmetrics.catalog import container as rows
from otel_hwmetrics.sources.base import Reader, Unsupported
from otel_hwmetrics.sources.container.subject import Container, Pairs
from otel_hwmetrics.sources.linux.cgroup import EVERY, parse, smallest

_USER, _SYSTEM = CpuModeValues.USER.value, CpuModeValues.SYSTEM.value
_MICRO, _NANO = 10**6, 10**9
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def _read_time(container: Container) -> Pairs:
    text = container.text(container.cgroup("cpuacct"), "cpu.stat")  # which version 2 calls cpu
    yield container.series(rows.CPU_TIME, _USER), parse.value(text, b"user_usec") / _MICRO
    yield container.series(rows.CPU_TIME, _SYSTEM), parse.value(text, b"system_usec") / _MICRO


def _read_v1_time(container: Container) -> Pairs:
    # cpuacct.usage_user and _sys have nanoseconds, but split by what each tick of the clock happened to meet.
    text = container.text(container.cgroup("cpuacct"), "cpuacct.stat")
    yield container.series(rows.CPU_TIME, _USER), parse.value(text, b"user") / _TICKS
    yield container.series(rows.CPU_TIME, _SYSTEM), parse.value(text, b"system") / _TICKS


def _read_throttling(container: Container) -> Pairs:
    quota = container.held.quota
    if quota is None:
        return  # then nothing is counted
    text = container.text(quota.cgroup, "cpu.stat")
    key, unit = (b"throttled_time", _NANO) if quota.cgroup.version == 1 else (b"throttled_usec", _MICRO)
    yield container.series(rows.CPU_THROTTLED_TIME), parse.value(text, key) / unit
    yield container.series(rows.CPU_PERIODS), parse.value(text, b"nr_periods")
    yield container.series(rows.CPU_THROTTLED_PERIODS), parse.value(text, b"nr_throttled")


def _read_limit(container: Container) -> Pairs:
    if any(container.held.membership.hides(controller) for controller in ("cpu", "cpuset")):
        raise Unsupported  # there may be a smaller limit
    yield container.series(rows.CPU_LIMIT), container.held.cpus


def _read_quota(container: Container) -> Pairs:
    quota = container.held.quota
    if quota is not None:
        yield container.series(rows.CPU_QUOTA), quota.cpus


def _read_set_size(container: Container) -> Pairs:
    size = container.held.set_size
    if size is not None:
        yield container.series(rows.CPU_SET_SIZE), size


def _read_threads(container: Container) -> Pairs:
    count = parse.single(container.text(container.cgroup("pids"), "pids.current"))
    yield container.series(rows.THREAD_COUNT), count


def _read_thread_limit(container: Container) -> Pairs:
    limit = smallest(container.cgroup("pids"), "pids.max")
    if limit is not None:
        yield container.series(rows.THREAD_LIMIT), limit


_QUOTA_CALL = "cpu.max; cpu.cfs_quota_us, cpu.cfs_period_us"
_SET_CALL = "cpuset.cpus.effective; cpuset.effective_cpus"

LIMITS: tuple[Reader[Container], ...] = (
    Reader((rows.CPU_LIMIT,), _read_limit, call=f"{_QUOTA_CALL}; {_SET_CALL}", where="cgroups"),
    Reader((rows.CPU_QUOTA,), _read_quota, call=_QUOTA_CALL, where="a quota is set"),
    Reader((rows.CPU_SET_SIZE,), _read_set_size, call=_SET_CALL, where="the cpuset controller"),
)
THROTTLING: Reader[Container] = Reader(
    (rows.CPU_THROTTLED_TIME, rows.CPU_PERIODS, rows.CPU_THROTTLED_PERIODS),
    _read_throttling,
    call="cpu.stat",
    where="a quota is set",
)
TIME: dict[int, Reader[Container]] = {
    1: Reader((rows.CPU_TIME,), _read_v1_time, call="cpuacct.stat", where="version 1"),
    2: Reader((rows.CPU_TIME,), _read_time, call="cpu.stat", where="version 2"),
}
"""By the version of the cgroup that tells of CPU time."""
THREADS: tuple[Reader[Container], ...] = (
    Reader((rows.THREAD_COUNT,), _read_threads, call="pids.current", where="cgroups"),
    Reader((rows.THREAD_LIMIT,), _read_thread_limit, every=EVERY, call="pids.max", where="a limit is set"),
)
