# SPDX-License-Identifier: Apache-2.0
"""The figures that `ResourceMonitorCallback` shows and writes, by the names that users of such callbacks know.

One table: each name with the metric that it is, which of its series, and the factor from its unit. Percent are of 100, MB
are of 1024 * 1024 bytes, as psutil's users have them. What cannot be read has no figure.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Final, NamedTuple

from otel_hwmetrics.alerts.subjects import subject_of
from otel_hwmetrics.catalog import gpu, pressure, process, system, tree
from otel_hwmetrics.model import Attribute, Metric, Reading, Snapshot

PERCENT: Final = 100.0
PER_MB: Final = 1 / 1024**2
NVIDIA: Final = "NVIDIA"
"""As ``hw.vendor`` tells it: whose numbers stay as they are."""
GPU, CPU, IO = "gpu", "cpu", "io"
"""Kinds of figures; the callback has a switch for each. Memory of the host goes with its CPUs."""

Where = Mapping[str, frozenset[Attribute | None]]
"""Which series are meant: attributes, and the values that each may have; None for one that is missing."""


class Sum(NamedTuple):
    """The readings of some series of a metric, added up.

    Attributes:
        metric: Whose.
        where: Which series.
        times: A metric with one series that the sum is multiplied by.
    """

    metric: Metric
    where: Where = {}  # noqa: RUF012 - never changed
    times: Metric | None = None

    def among(self, readings: Iterable[Reading], snapshot: Snapshot) -> float | None:
        """Its value among the readings of its metric; None where none is of a series that is meant."""
        found = [each.value for each in readings if _is_meant(each, self.where)]
        if not found:
            return None
        if self.times is None:
            return sum(found)
        by = snapshot.of(self.times)
        return sum(found) * by[0].value if by else None


class Figure(NamedTuple):
    """A row of the table.

    Attributes:
        name: Of the figure; of one that each GPU has, with ``{}`` for its number.
        kind: `GPU`, `CPU` or `IO`.
        sums: What it is; the first that can be read.
        factor: From the metric's unit.
        grows: Whether it is what a counter has grown by since the last look.
    """

    name: str
    kind: str
    sums: tuple[Sum, ...]
    factor: float = 1.0
    grows: bool = False


def _of(key: str, *values: Attribute | None) -> Where:
    return {key: frozenset(values)}


def _io(metric: Metric, direction: str) -> Sum:
    return Sum(metric, _of(process.IO_DIRECTION, direction))


_WHOLE: Final = _of(system.CPU_NUMBER, None)  # and not each CPU
_BUSY: Final = {
    **_of(system.CPU_MODE, "user", "nice", "system", "interrupt", "steal"),
    **_WHOLE,
}  # psutil's cpu_percent
_WAITING: Final = {**_of(system.CPU_MODE, "iowait"), **_WHOLE}
_SOME_IO: Final = {**_of(pressure.RESOURCE, "io"), **_of(pressure.KIND, "some")}

TABLE: Final = (
    # The order of columns: first those that a plot of a run is made of.
    Figure("gpu_{}_util", GPU, (Sum(gpu.UTILIZATION, _of(gpu.HW_GPU_TASK, "general")),), PERCENT),
    Figure("gpu_{}_memory_pct", GPU, (Sum(gpu.MEMORY_UTILIZATION),), PERCENT),
    Figure("cpu_percent", CPU, (Sum(system.CPU_UTILIZATION, _BUSY),), PERCENT),
    Figure("memory_percent", CPU, (Sum(system.MEMORY_UTILIZATION, _of(system.MEMORY_STATE, "used")),), PERCENT),
    # Of the job's processes together: it is the workers of a DataLoader that read.
    Figure("io_read_rate_mbps", IO, (_io(tree.DISK_IO_RATE, "read"), _io(process.DISK_IO_RATE, "read")), PER_MB),
    Figure("gpu_{}_memory_used_mb", GPU, (Sum(gpu.MEMORY_USAGE),), PER_MB),
    Figure("gpu_{}_memory_total_mb", GPU, (Sum(gpu.MEMORY_LIMIT),), PER_MB),
    Figure(
        "gpu_{}_temp_c",
        GPU,
        tuple(Sum(gpu.TEMPERATURE, _of(gpu.HW_SENSOR_LOCATION, where)) for where in ("gpu", "edge", "junction")),
    ),
    Figure("gpu_{}_power_w", GPU, (Sum(gpu.POWER),)),
    # Of one CPU: beyond 100 where several are at work for this process.
    Figure("cpu_process_percent", CPU, (Sum(process.CPU_UTILIZATION, times=process.CPU_LIMIT),), PERCENT),
    Figure("memory_system_mb", CPU, (Sum(system.MEMORY_LIMIT),), PER_MB),
    Figure("memory_available_mb", CPU, (Sum(system.MEMORY_AVAILABLE),), PER_MB),
    Figure("memory_process_mb", CPU, (Sum(process.MEMORY_USAGE),), PER_MB),
    Figure("disk_read_mb", IO, (_io(tree.DISK_IO, "read"), _io(process.DISK_IO, "read")), PER_MB, grows=True),
    Figure("disk_write_mb", IO, (_io(tree.DISK_IO, "write"), _io(process.DISK_IO, "write")), PER_MB, grows=True),
    Figure("io_write_rate_mbps", IO, (_io(tree.DISK_IO_RATE, "write"), _io(process.DISK_IO_RATE, "write")), PER_MB),
    # As the rule io_bottleneck judges it; where the kernel tells of no stalls, what CPUs wait.
    Figure(
        "io_wait_pct",
        IO,
        (
            *(Sum(pressure.STALL_SHARE, {**_SOME_IO, **_of(pressure.SCOPE, scope)}) for scope in ("cgroup", "host")),
            Sum(system.CPU_UTILIZATION, _WAITING),
        ),
        PERCENT,
    ),
)
"""Every figure, in the order of columns."""


class Figures:
    """Takes figures from snapshots. Used by one thread.

    Args:
        kinds: Of the figures that are wanted.
    """

    def __init__(self, kinds: Iterable[str]) -> None:
        wanted = frozenset(kinds)
        self._table = [figure for figure in TABLE if figure.kind in wanted]
        self.numbers: dict[str, int] = {}
        """Of the GPUs that were met, by their subjects' keys. No two share one."""
        self._totals: dict[tuple[str, str], float] = {}
        self._until: float | None = None  # where the last look's snapshot ended

    def of(self, snapshot: Snapshot) -> dict[str, float]:
        """Every figure that can be read, by its name, in the order of columns.

        Growth is since the last look; there is none at the first, nor where the snapshot is still the same.
        """
        new, self._until = snapshot.window.end != self._until, snapshot.window.end
        self._meet_gpus(snapshot)
        found: dict[str, float] = {}
        for figure in self._table:
            for name, metric, value in self._values(figure, snapshot):
                if not figure.grows:
                    found[name] = value
                elif new:
                    before = self._totals.get((name, metric.name))
                    self._totals[name, metric.name] = value
                    if before is not None:
                        found[name] = value - before
        return found

    def _meet_gpus(self, snapshot: Snapshot) -> None:
        """Give each GPU a number of its own: the driver's; where another vendor's has that already, the next one that is free.

        A GPU keeps it to the end.
        """
        metrics = {each.metric for figure in self._table if figure.kind == GPU for each in figure.sums}
        met: dict[str, tuple[bool, int, str]] = {}
        for reading in (reading for metric in metrics for reading in snapshot.of(metric)):
            index, key = _index(reading), subject_of(reading.series).key
            if index is not None and key not in self.numbers:
                vendor = str(reading.attributes.get(gpu.HW_VENDOR, NVIDIA))
                met[key] = (vendor.lower() != NVIDIA.lower(), index, key)
        taken = set(self.numbers.values())
        free = 1 + max((index for _, index, _ in met.values()), default=-1)
        for _, index, key in sorted(met.values()):
            number = index if index not in taken else next(each for each in count(free) if each not in taken)
            self.numbers[key] = number
            taken.add(number)

    def _values(self, figure: Figure, snapshot: Snapshot) -> Iterator[tuple[str, Metric, float]]:
        """The figure's values, one for each GPU or one in all."""
        for each in figure.sums:
            groups: dict[str, list[Reading]] = {}
            for reading in snapshot.of(each.metric):
                if figure.kind != GPU:
                    groups.setdefault(figure.name, []).append(reading)
                elif _index(reading) is not None:
                    number = self.numbers[subject_of(reading.series).key]
                    groups.setdefault(figure.name.format(number), []).append(reading)
            values = {name: each.among(readings, snapshot) for name, readings in sorted(groups.items())}
            if any(value is not None for value in values.values()):
                yield from (
                    (name, each.metric, value * figure.factor) for name, value in values.items() if value is not None
                )
                return


def _index(reading: Reading) -> int | None:
    """By what number the driver's tools call the GPU; None for a part of one (MIG), and for what is none."""
    attributes = reading.attributes
    if gpu.HW_PARENT in attributes and gpu.HW_SENSOR_LOCATION not in attributes:
        return None
    number = attributes.get(gpu.GPU_INDEX)
    return number if isinstance(number, int) else None


def _is_meant(reading: Reading, where: Where) -> bool:
    return all(reading.attributes.get(key) in values for key, values in where.items())


def gpus_of(names: Iterable[str]) -> list[int]:
    """The numbers of the GPUs that figures are of, in order."""
    return sorted({number for name in names if (number := _number(name)) is not None})


def in_order(names: Iterable[str]) -> list[str]:
    """Names of figures in the order of columns: further GPUs after all else, and at the end what the table does not know."""
    rows = {figure.name: place for place, figure in enumerate(TABLE)}
    told = list(names)
    first = min(gpus_of(told), default=None)

    def place(name: str) -> tuple[int, int]:
        number = _number(name)
        if number is None:
            return (-1, rows[name]) if name in rows else (sys.maxsize, told.index(name))
        row = rows.get(name.replace(f"gpu_{number}_", "gpu_{}_", 1), len(rows))
        return -1 if number == first else number, row

    return sorted(told, key=place)


def _number(name: str) -> int | None:
    of_gpu = re.match(r"gpu_(\d+)_", name)
    return int(of_gpu[1]) if of_gpu is not None else None
