# SPDX-License-Identifier: Apache-2.0
"""What a GPU really does: the activity of its parts, its clocks, what holds it back, and the job's own part in it.

``hw.gpu.utilization`` says for how long any kernel ran, and one busy multiprocessor of a hundred makes that 100 %.
The activities here are hardware counters of the parts themselves (GPU Performance Monitoring, GPM), which Hopper and
newer give to any user, without a profiler's lock.
"""

from __future__ import annotations

from otel_hwmetrics.catalog.gpu import DEVICE
from otel_hwmetrics.model import Kind, Metric, Rate, Unit

CLOCK_DOMAIN = "hwmetrics.gpu.clock.domain"
"""``graphics``, ``sm``, ``memory`` or ``video``."""
THROTTLE_CAUSE = "hwmetrics.gpu.throttle.cause"
"""What kept the clocks down: ``sw_power_cap``, ``sw_thermal``, ``hw_thermal``, ``hw_power_brake``, ``sync_boost``,
``board_limit``, ``reliability``, ``low_utilization``; of drivers that do not tell the thermal ones apart, ``thermal``. AMD's: ``prochot``, ``power``, ``socket_thermal``,
``vr_thermal``, ``memory_thermal``."""
PRECISION = "hwmetrics.gpu.precision"
"""``fp64``, ``fp32`` or ``fp16``."""
PROCESS_SCOPE = "hwmetrics.gpu.process.scope"
"""``tree``: this process and its descendants; ``device``: whoever is on the GPU, where a container's own numbering of
processes hides which of them are ours."""


def _activity(name: str, description: str, *attributes: str, detail: bool = False) -> Metric:
    return Metric(
        f"hwmetrics.gpu.{name}", Kind.GAUGE, Unit.RATIO, description, attributes=(*DEVICE, *attributes), detail=detail
    )


SM_ACTIVITY = _activity("sm.activity", "Share of the streaming multiprocessors that were busy, over the whole window.")
SM_OCCUPANCY = _activity("sm.occupancy", "Warps that were resident, as a share of the most that could be.")
TENSOR_ACTIVITY = _activity("tensor.activity", "Share of the window in which tensor cores were at work.")
DRAM_ACTIVITY = _activity("dram.activity", "Bandwidth of GPU memory that was used, as a share of the most there is.")
FP_ACTIVITY = _activity(
    "fp.activity",
    "Share of the window in which arithmetic units of this precision were at work, tensor cores not counted.",
    PRECISION,
    detail=True,
)
GRAPHICS_ACTIVITY = _activity("graphics.activity", "Share of the window in which any kernel was at work.", detail=True)
CLOCK = Metric(
    "hwmetrics.gpu.clock.frequency",
    Kind.GAUGE,
    Unit.HERTZ,
    "Clock frequency of a domain of the GPU.",
    attributes=(*DEVICE, CLOCK_DOMAIN),
)
CLOCK_LIMIT = Metric(
    "hwmetrics.gpu.clock.frequency.limit",
    Kind.GAUGE,
    Unit.HERTZ,
    "Highest clock frequency of a domain of the GPU.",
    attributes=CLOCK.attributes,
    detail=True,
)
PERFORMANCE_STATE = Metric(
    "hwmetrics.gpu.performance.state",
    Kind.UP_DOWN_COUNTER,
    Unit.RATIO,
    "Performance state of the GPU: 0, the highest, to 15.",
    attributes=DEVICE,
    integer=True,
    detail=True,
)
THROTTLE_TIME = Metric(
    "hwmetrics.gpu.throttle.time",
    Kind.COUNTER,
    Unit.SECOND,
    "Time for which a cause kept the clocks down.",
    attributes=(*DEVICE, THROTTLE_CAUSE),
    detail=True,
)
THROTTLE_SHARE = Metric(
    "hwmetrics.gpu.throttle.share",
    Kind.GAUGE,
    Unit.RATIO,
    "Share of the window for which a cause kept the clocks down.",
    attributes=THROTTLE_TIME.attributes,
    derivation=Rate(THROTTLE_TIME),
)
PROCESS_MEMORY = Metric(
    "hwmetrics.gpu.process.memory.usage",
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "GPU memory that the job's own processes have allocated, contexts and libraries included.",
    attributes=(*DEVICE, PROCESS_SCOPE),
    integer=True,
)
PROCESS_SM = Metric(
    "hwmetrics.gpu.process.sm.utilization",
    Kind.GAUGE,
    Unit.RATIO,
    "Share of time in which kernels of the job's own processes ran.",
    attributes=(*DEVICE, PROCESS_SCOPE),
    detail=True,
)

OF_PROCESSES: tuple[Metric, ...] = (PROCESS_MEMORY, PROCESS_SM)
"""Of the job's processes, as each of them sees itself and its descendants."""

METRICS: tuple[Metric, ...] = (
    SM_ACTIVITY,
    SM_OCCUPANCY,
    TENSOR_ACTIVITY,
    DRAM_ACTIVITY,
    FP_ACTIVITY,
    GRAPHICS_ACTIVITY,
    CLOCK,
    CLOCK_LIMIT,
    PERFORMANCE_STATE,
    THROTTLE_TIME,
    THROTTLE_SHARE,
    PROCESS_MEMORY,
    PROCESS_SM,
)
