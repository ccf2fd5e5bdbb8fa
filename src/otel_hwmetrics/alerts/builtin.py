# SPDX-License-Identifier: Apache-2.0
"""The rules that come with the package: one row each; thresholds and durations are options."""

from __future__ import annotations

from dataclasses import dataclass

from opentelemetry.semconv._incubating.attributes.hw_attributes import HwGpuTaskValues
from opentelemetry.semconv._incubating.attributes.system_attributes import SystemMemoryStateValues

from otel_hwmetrics.alerts.conditions import Condition, Highest, Level, Rule, Severity, ShareOf, Side
from otel_hwmetrics.catalog import container, gpu, pressure, system
from otel_hwmetrics.config import Config


@dataclass(frozen=True)
class Row:
    """A rule before its options are known; the fields are those of `Rule`."""

    name: str
    severity: Severity
    condition: Condition
    side: Side
    slack: float
    message: str
    advice: str


_ANY_KERNEL = {gpu.HW_GPU_TASK: HwGpuTaskValues.GENERAL.value}
_HOST_MEMORY = Level(system.MEMORY_UTILIZATION, {system.MEMORY_STATE: SystemMemoryStateValues.USED.value})
# Of the whole host: storage that others keep busy is as slow for the job.
_WAITING_FOR_IO = {pressure.RESOURCE: "io", pressure.KIND: "some", pressure.SCOPE: "host"}

ROWS: tuple[Row, ...] = (
    Row(
        "gpu_memory_pressure",
        Severity.WARNING,
        Level(gpu.MEMORY_UTILIZATION),
        Side.ABOVE,
        slack=0.05,
        message="{value} of the memory of {device} is used ({beyond}).",
        advice="An out-of-memory error may be near: a smaller batch, gradient accumulation or activation checkpointing "
        "makes room.",
    ),
    Row(
        "gpu_hot",
        Severity.WARNING,
        Level(gpu.TEMPERATURE, {gpu.HW_SENSOR_LOCATION: "gpu"}),
        Side.ABOVE,
        slack=2.0,
        message="{device} is at {value} ({beyond}).",
        advice="It will slow itself down before it takes harm: check its cooling and its neighbours.",
    ),
    Row(
        "gpu_power_limit",
        Severity.INFO,
        ShareOf(gpu.POWER, gpu.POWER_LIMIT),
        Side.ABOVE,
        slack=0.05,
        message="{device} draws {value} of the power that it is held to ({beyond}).",
        advice="Its clocks are limited by power. Usual in dense training; if not wanted, raise the limit.",
    ),
    Row(
        "gpu_underused",
        Severity.WARNING,
        Level(gpu.UTILIZATION, _ANY_KERNEL),
        Side.BELOW,
        slack=0.05,
        message="{device} is busy {value} of the time ({beyond}).",
        advice="It may be waiting for data, for the CPU or for other ranks.",
    ),
    Row(
        "gpu_idle",
        Severity.CRITICAL,
        Level(gpu.UTILIZATION, _ANY_KERNEL),
        Side.BELOW,
        slack=0.0,
        message="{device} is busy {value} of the time ({beyond}).",
        advice="It has next to nothing to do: the job may hang, or does not use this GPU.",
    ),
    Row(
        "host_memory_pressure",
        Severity.WARNING,
        # In a container the kernel kills at the container's limit, however much the host has left.
        Highest((Level(container.MEMORY_UTILIZATION), _HOST_MEMORY)),
        Side.ABOVE,
        slack=0.05,
        message="{value} of the memory that the job may use is used ({beyond}).",
        advice="The kernel may soon kill a process: fewer data-loading workers or smaller caches make room.",
    ),
    Row(
        "io_bottleneck",
        Severity.WARNING,
        Level(pressure.STALL_SHARE, _WAITING_FOR_IO),
        Side.ABOVE,
        slack=0.1,
        message="Work waits for I/O {value} of the time ({beyond}).",
        advice="Storage is too slow for what is asked of it: more prefetching, larger reads or a faster disk help.",
    ),
)


def rules(config: Config) -> tuple[Rule, ...]:
    """The rules that are switched on, with their thresholds and durations from the options."""
    if not config.alerts:
        return ()
    return tuple(
        Rule(
            row.name,
            row.severity,
            row.condition,
            row.side,
            threshold=getattr(config, f"alert_{row.name}_threshold"),
            slack=row.slack,
            for_seconds=getattr(config, f"alert_{row.name}_for"),
            message=row.message,
            advice=row.advice,
        )
        for row in ROWS
        if getattr(config, f"alert_{row.name}")
    )
