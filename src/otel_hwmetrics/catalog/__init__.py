# SPDX-License-Identifier: Apache-2.0
"""What is measured: one row a metric, whoever reads it.

Names and attribute keys are the constants of the semantic conventions, units and descriptions their words to the
letter; what the conventions lack lives below ``hwmetrics.``. Instruments, documentation and whatever else shows a
metric follow from these rows, so a metric is added by a row here and a reader in a source.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from opentelemetry.semconv.schemas import Schemas

from otel_hwmetrics.catalog import (
    container,
    dataset,
    distributed,
    framework,
    gpu,
    gpu_activity,
    gpu_health,
    gpu_links,
    own,
    pressure,
    process,
    sensors,
    system,
    training,
    tree,
)
from otel_hwmetrics.model import Metric

METRICS: tuple[Metric, ...] = (
    *system.METRICS,
    *pressure.METRICS,
    *container.METRICS,
    *process.METRICS,
    *tree.METRICS,
    *dataset.METRICS,
    *framework.METRICS,
    *training.METRICS,
    *distributed.METRICS,
    *gpu.METRICS,
    *gpu_activity.METRICS,
    *gpu_links.METRICS,
    *gpu_health.METRICS,
    *sensors.METRICS,
    *own.METRICS,
)
"""Every row, in the order in which people read them: the host, the process, its GPUs, ourselves."""

PER_PROCESS: frozenset[str] = frozenset(
    metric.name
    for metric in (
        *process.METRICS,
        *tree.METRICS,
        *framework.METRICS,
        *training.METRICS,
        *distributed.METRICS,
        *own.METRICS,
        *dataset.OF_PROCESS,
        *gpu_activity.OF_PROCESSES,
    )
)
"""Names of the metrics that are of this process and its children, or of ourselves in it; all others are of the machine, the
container or a device, and the same in each process of a job that looks."""

SCHEMA_URL: str = list(Schemas)[-1].value
"""The newest schema of the installed conventions, since the names above are its constants."""


def selected(patterns: Iterable[str]) -> frozenset[str]:
    """The names of the metrics that the option ``metrics`` asks for.

    Args:
        patterns: ``default`` (all but details), ``all``, or patterns of names; with a ``-`` before it, one takes away
            from those before it.
    """
    names: set[str] = set()
    for pattern in patterns:
        wanted = pattern.removeprefix("-")
        if wanted == "default":
            matching = {metric.name for metric in METRICS if not metric.detail}
        else:
            matching = {metric.name for metric in METRICS if wanted == "all" or fnmatchcase(metric.name, wanted)}
        names = names - matching if pattern.startswith("-") else names | matching
    return frozenset(names)


__all__ = ["METRICS", "PER_PROCESS", "SCHEMA_URL", "gpu", "own", "process", "selected", "system"]
