# SPDX-License-Identifier: Apache-2.0
"""Readings of a machine whose figures are those of the example that users of training callbacks know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from otel_hwmetrics.catalog import gpu, pressure, process, system, tree
from otel_hwmetrics.model import Metric, Reading, Series, Snapshot, Window

MB = 1024**2


def of_gpu(number: int, **more: Any) -> dict[str, Any]:
    """Attributes of what is measured on a GPU."""
    return {gpu.HW_ID: f"GPU-{number}", gpu.HW_NAME: f"GPU {number}", gpu.GPU_INDEX: number, **more}


def gpu_readings(number: int, utilization: float = 0.873) -> Iterator[tuple[Metric, dict[str, Any], float]]:
    """Those of one GPU."""
    yield gpu.UTILIZATION, of_gpu(number, **{gpu.HW_GPU_TASK: "general"}), utilization
    yield gpu.UTILIZATION, of_gpu(number, **{gpu.HW_GPU_TASK: "encoder"}), 0.01
    yield gpu.MEMORY_USAGE, of_gpu(number), 8192 * MB
    yield gpu.MEMORY_LIMIT, of_gpu(number), 16384 * MB
    yield gpu.MEMORY_UTILIZATION, of_gpu(number), 0.5
    for location, degrees in (("memory", 88.0), ("gpu", 72.0)):
        yield (
            gpu.TEMPERATURE,
            of_gpu(number, **{gpu.HW_SENSOR_LOCATION: location, gpu.HW_PARENT: f"GPU-{number}"}),
            degrees,
        )
    yield gpu.POWER, of_gpu(number), 180.5


def host_readings(read: float = 0.0) -> Iterator[tuple[Metric, dict[str, Any], float]]:
    """Those of the host and of the job; of a CPU alone, of another pressure and of other directions, too."""
    for mode, share in {"user": 0.4, "system": 0.05, "steal": 0.002, "idle": 0.5, "iowait": 0.048}.items():
        yield system.CPU_UTILIZATION, {system.CPU_MODE: mode}, share
        yield system.CPU_UTILIZATION, {system.CPU_MODE: mode, system.CPU_NUMBER: 0}, 0.9
    for mode, share in {"user": 0.4, "system": 0.05125}.items():
        yield process.CPU_UTILIZATION, {process.CPU_MODE: mode}, share
    yield process.CPU_LIMIT, {}, 4.0
    yield system.MEMORY_LIMIT, {}, 16384 * MB
    yield system.MEMORY_AVAILABLE, {}, 8192 * MB
    for state, share in {"used": 0.5, "free": 0.1}.items():
        yield system.MEMORY_UTILIZATION, {system.MEMORY_STATE: state}, share
    yield process.MEMORY_USAGE, {}, 2048 * MB
    for direction, rate, total in (("read", 75.2, read), ("write", 6.3, 1.0)):
        yield tree.DISK_IO_RATE, {process.IO_DIRECTION: direction}, rate * MB
        yield tree.DISK_IO, {process.IO_DIRECTION: direction}, total * MB
        yield process.DISK_IO_RATE, {process.IO_DIRECTION: direction}, 1 * MB
    for resource, scope, share in (("io", "host", 0.2), ("io", "cgroup", 0.053), ("cpu", "cgroup", 0.7)):
        told = {pressure.RESOURCE: resource, pressure.KIND: "some", pressure.SCOPE: scope, pressure.METHOD: "psi"}
        yield pressure.STALL_SHARE, told, share


def snapshot(*parts: Iterator[tuple[Metric, dict[str, Any], float]], end: float = 1.0) -> Snapshot:
    """One of these readings."""
    readings = [Reading(Series(metric, told), value, end) for part in parts for metric, told, value in part]
    return Snapshot(readings, Window(end - 1.0, end), 0)
