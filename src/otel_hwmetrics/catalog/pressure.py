# SPDX-License-Identifier: Apache-2.0
"""Pressure: how long work stood still for want of CPU, memory or I/O, as the kernel counts it (PSI)."""

from __future__ import annotations

from otel_hwmetrics.model import Kind, Metric, Rate, Unit

RESOURCE = "hwmetrics.pressure.resource"
"""What was lacking: ``cpu``, ``memory``, ``io``; ``irq`` is time that interrupts took from tasks."""
KIND = "hwmetrics.pressure.kind"
"""``some``: at least one task stood still; ``full``: all that had anything to do did, so that nothing got done."""
SCOPE = "hwmetrics.pressure.scope"
"""``host``: every task of the machine; ``cgroup``: those of this process's own cgroup and the ones below it."""
METHOD = "hwmetrics.pressure.method"
"""``psi``: the kernel's count; ``iowait``: an estimate from the CPUs' iowait, where the kernel does not count."""

STALL_TIME = Metric(
    "hwmetrics.pressure.stall.time",
    Kind.COUNTER,
    Unit.SECOND,
    "Time in which some or all tasks stood still because they waited for CPU, memory or I/O.",
    attributes=(RESOURCE, KIND, SCOPE, METHOD),
    detail=True,
)
STALL_SHARE = Metric(
    "hwmetrics.pressure.stall.share",
    Kind.GAUGE,
    Unit.RATIO,
    "Share of the window in which some or all tasks stood still because they waited for CPU, memory or I/O.",
    attributes=STALL_TIME.attributes,
    derivation=Rate(STALL_TIME),
)

METRICS: tuple[Metric, ...] = (STALL_TIME, STALL_SHARE)
