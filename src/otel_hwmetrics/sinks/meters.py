# SPDX-License-Identifier: Apache-2.0
"""From a snapshot to what the sums on a span are made of: totals, peaks and levels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from opentelemetry.semconv._incubating.attributes.disk_attributes import DiskIoDirectionValues
from opentelemetry.semconv._incubating.attributes.hw_attributes import HwGpuTaskValues, HwTypeValues

from otel_hwmetrics.alerts.conditions import Readings
from otel_hwmetrics.alerts.gpus import HARMFUL_CAUSES
from otel_hwmetrics.catalog import framework, gpu, gpu_activity, pressure, process, training, tree
from otel_hwmetrics.catalog import summary as rows
from otel_hwmetrics.catalog.summary import Figure
from otel_hwmetrics.model import Snapshot


class Key(NamedTuple):
    """One of the totals that a figure is made of.

    Attributes:
        figure: The figure.
        over: What tells this total from the figure's others.
    """

    figure: Figure
    over: tuple[str, ...]


PART, WHOLE = ("part",), ("whole",)
"""Of a mean: the integral, and the time that it is over."""


_GENERAL: Final = {gpu.HW_GPU_TASK: HwGpuTaskValues.GENERAL.value}
_READ: Final = {process.IO_DIRECTION: DiskIoDirectionValues.READ.value}
_WRITTEN: Final = {process.IO_DIRECTION: DiskIoDirectionValues.WRITE.value}
_SOME: Final = {pressure.KIND: "some"}

_COUNTERS: Final[tuple[tuple[Figure, Readings, tuple[str, ...]], ...]] = (
    (rows.GPU_ENERGY, Readings(gpu.ENERGY, {gpu.HW_TYPE: HwTypeValues.GPU.value}), (gpu.HW_ID, gpu.ENERGY_METHOD)),
    (
        rows.THROTTLED_TIME,
        Readings(gpu_activity.THROTTLE_TIME, {gpu_activity.THROTTLE_CAUSE: HARMFUL_CAUSES}),
        (gpu.HW_ID, gpu_activity.THROTTLE_CAUSE),
    ),
    (rows.CPU_TIME, Readings(tree.CPU_TIME), (process.CPU_MODE,)),
    (rows.BYTES_READ, Readings(tree.DISK_IO, _READ), ()),
    (rows.BYTES_WRITTEN, Readings(tree.DISK_IO, _WRITTEN), ()),
    (rows.STALL_CPU, Readings(pressure.STALL_TIME, {pressure.RESOURCE: "cpu", **_SOME}), (pressure.SCOPE,)),
    (rows.STALL_MEMORY, Readings(pressure.STALL_TIME, {pressure.RESOURCE: "memory", **_SOME}), (pressure.SCOPE,)),
    (rows.STALL_IO, Readings(pressure.STALL_TIME, {pressure.RESOURCE: "io", **_SOME}), (pressure.SCOPE,)),
)
_MEANS: Final = (
    (rows.GPU_UTILIZATION, Readings(gpu.UTILIZATION, _GENERAL)),
    (rows.SM_ACTIVITY, Readings(gpu_activity.SM_ACTIVITY)),
    (rows.TENSOR_ACTIVITY, Readings(gpu_activity.TENSOR_ACTIVITY)),
)
_PEAKS: Final = (
    (rows.GPU_UTILIZATION_PEAK, Readings(gpu.UTILIZATION_PEAK, _GENERAL)),
    (rows.SM_ACTIVITY_PEAK, Readings(gpu_activity.SM_ACTIVITY)),
    (rows.TENSOR_ACTIVITY_PEAK, Readings(gpu_activity.TENSOR_ACTIVITY)),
    (rows.GPU_MEMORY_PEAK, Readings(gpu.MEMORY_PEAK)),
    (rows.TORCH_MEMORY_PEAK, Readings(framework.TORCH_ALLOCATED)),
    (rows.MEMORY_PEAK, Readings(tree.MEMORY_USAGE)),
)
_LEVELS: Final = (
    (rows.GPU_UTILIZATION_PEAK, Readings(gpu.UTILIZATION, _GENERAL)),
    (rows.GPU_MEMORY_PEAK, Readings(gpu.MEMORY_USAGE)),
    *(row for row in _PEAKS if row[0] not in (rows.GPU_UTILIZATION_PEAK, rows.GPU_MEMORY_PEAK)),
)


def sums_of(snapshot: Snapshot, before: Mapping[Key, float]) -> dict[Key, float]:
    """The totals that a snapshot tells, by figure and by what they are added up over.

    Args:
        snapshot: Of the time since the look before.
        before: The totals then; means are integrals that go on from there.
    """
    sums: dict[Key, float] = {}
    for figure, readings, keys in _COUNTERS:
        for _, reading in readings.of(snapshot):
            sums[Key(figure, tuple(str(reading.attributes.get(key, "")) for key in keys))] = reading.value
    for figure, readings in _MEANS:
        values = [reading.value for _, reading in readings.of(snapshot)]
        if values:
            part, whole = Key(figure, PART), Key(figure, WHOLE)
            sums[part] = before.get(part, 0.0) + sum(values) * snapshot.window.seconds
            sums[whole] = before.get(whole, 0.0) + len(values) * snapshot.window.seconds
    for over, metric in ((PART, training.DATA_WAIT_TIME), (WHOLE, training.STEP_TIME)):
        for reading in snapshot.of(metric):
            sums[Key(rows.DATA_WAIT_SHARE, over)] = reading.value
    return sums


def peaks_of(snapshot: Snapshot) -> dict[Figure, float]:
    """The highest levels of a snapshot's window, of all devices."""
    return dict(_highest(_PEAKS, snapshot))


def levels_of(snapshot: Snapshot) -> dict[Figure, float]:
    """The highest levels at a snapshot's end, of all devices."""
    return dict(_highest(_LEVELS, snapshot))


def _highest(table: Iterable[tuple[Figure, Readings]], snapshot: Snapshot) -> Iterator[tuple[Figure, float]]:
    for figure, readings in table:
        values = [reading.value for _, reading in readings.of(snapshot)]
        if values:
            yield figure, max(values)
