# SPDX-License-Identifier: Apache-2.0
"""How each metric is read: by which source, from where, who has it, how often."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from otel_hwmetrics.catalog import gpu_health, own
from otel_hwmetrics.model import Metric
from otel_hwmetrics.sources import dataset, exchange, jax, pressure, sensors, torch, training, tree
from otel_hwmetrics.sources.base import Reader
from otel_hwmetrics.sources.container import cpu as container_cpu
from otel_hwmetrics.sources.container import io as container_io
from otel_hwmetrics.sources.container import memory as container_memory
from otel_hwmetrics.sources.gpu.amd import readers as amd
from otel_hwmetrics.sources.gpu.nvidia import readers as nvidia
from otel_hwmetrics.sources.gpu.nvidia.board import GPM_EVERY
from otel_hwmetrics.sources.gpu.nvidia.fields import Field
from otel_hwmetrics.sources.gpu.nvidia.gpm import PARTS, Part
from otel_hwmetrics.sources.gpu.nvidia.table import FIELDS
from otel_hwmetrics.sources.process import kernel as process_kernel
from otel_hwmetrics.sources.process import library as process_library
from otel_hwmetrics.sources.system import filesystems, portable
from otel_hwmetrics.sources.system import linux as system_linux

Row = Reader[Any] | Field | Part

Table = Sequence[Row] | Mapping[Any, Sequence[Row]]
"""Of one kind of subject, or of several by what tells them apart."""

TABLES: Final[tuple[tuple[str, Table], ...]] = (
    ("system", system_linux.READERS),
    ("system", portable.READERS),
    ("filesystem", filesystems.READERS),
    ("pressure", pressure.READERS),
    ("container", (*container_cpu.TIME.values(), *container_cpu.LIMITS, container_cpu.THROTTLING)),
    ("container", container_memory.READERS),
    ("container", container_io.READERS),
    ("container", container_cpu.THREADS),
    ("process", process_kernel.READERS),
    ("process", process_library.READERS),
    ("tree", tree.READERS),
    ("dataset", (*dataset.INFO_READERS, *dataset.NFS_READERS)),
    ("training", training.READERS),
    ("torch", torch.READERS),
    ("torch", (exchange.READER,)),
    ("jax", jax.READERS),
    ("nvidia", FIELDS),
    ("nvidia", nvidia.READERS),
    ("nvidia", PARTS),
    ("amd", amd.READERS),
    ("sensors", (*sensors.THERMOMETER_READERS, *sensors.METER_READERS)),
)
"""What every source reads, by the source's name."""


class Way(NamedTuple):
    """One way to a metric.

    Attributes:
        source: The source's name.
        call: The file or call, or in words what it follows from.
        where: Who has it.
        every: Seconds between two readings; 0 for every sample.
        stands_in: Whether it is taken only where another way is not supported.
    """

    source: str
    call: str
    where: str
    every: float = 0.0
    stands_in: bool = False


def rows_of(table: Table) -> Iterator[Row]:
    """Every row of a table."""
    for rows in table.values() if isinstance(table, Mapping) else (table,):
        yield from rows


def ways_of(source: str, row: Row | None) -> Iterator[tuple[Metric, Way]]:
    """The ways that a row of a source's table gives to metrics, with those that stand in for it."""
    stands_in = False
    while row is not None:
        if isinstance(row, Part):
            where = "Hopper and newer, MIG instances too"
            if row.metric.derivation is not None:
                where += "; where the counter cannot be read"
            yield row.metric, Way(source, f"nvmlGpmMetricsGet({row.constant})", where, GPM_EVERY)
            return
        call = f"nvmlDeviceGetFieldValues({row.constant})" if isinstance(row, Field) else row.call
        for metric in (row.metric,) if isinstance(row, Field) else row.metrics:
            yield metric, Way(source, call, row.where, row.every, stands_in)
        row, stands_in = row.instead, True


def all_ways() -> dict[Metric, list[Way]]:
    """Every way to every metric that a source reads, in the order of the tables."""
    found: dict[Metric, list[Way]] = {}
    for source, table in TABLES:
        for row in rows_of(table):
            for metric, way in ways_of(source, row):
                if way not in found.setdefault(metric, []):
                    found[metric].append(way)
    return found


JUDGED: Final[Mapping[Metric, str]] = {
    gpu_health.STATUS: "Of NVIDIA GPUs, but not of MIG instances, it is judged at each sample by whether the driver "
    "answers, and by `hwmetrics.gpu.recovery.action` and `hwmetrics.gpu.memory.remap.*`.",
    gpu_health.ERRORS: "XID errors are counted as the driver tells of them (`nvmlEventSetWait_v2`), on a thread that only "
    "waits.",
    **dict.fromkeys(own.METRICS, "Kept by the instrumentation itself."),
}
"""Where figures come from that no table has."""
