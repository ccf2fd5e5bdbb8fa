# SPDX-License-Identifier: Apache-2.0
"""What is summed up on a training span: one attribute a row."""

from __future__ import annotations

from dataclasses import dataclass

from otel_hwmetrics.model import Unit


@dataclass(frozen=True, eq=False)
class Figure:
    """One attribute of a training span; a row, and equal to itself alone.

    Attributes:
        name: The attribute.
        unit: Of its value.
        description: One sentence.
    """

    name: str
    unit: Unit
    description: str


def _figure(name: str, unit: Unit, description: str) -> Figure:
    return Figure(f"hwmetrics.summary.{name}", unit, description)


SUMMED_TIME = _figure(
    "time", Unit.SECOND, "The part of the span that the sums are of: from its start to the last look at the machine."
)
GPU_ENERGY = _figure("gpu.energy", Unit.JOULE, "Energy that the job's GPUs used while the span was open.")
GPU_UTILIZATION = _figure("gpu.utilization", Unit.RATIO, "Share of the time in which GPUs were busy, mean of all.")
GPU_UTILIZATION_PEAK = _figure("gpu.utilization.peak", Unit.RATIO, "Highest utilization of any GPU.")
SM_ACTIVITY = _figure("gpu.sm.activity", Unit.RATIO, "Activity of streaming multiprocessors, mean of all GPUs.")
SM_ACTIVITY_PEAK = _figure(
    "gpu.sm.activity.peak", Unit.RATIO, "Highest such activity of any GPU over one or two seconds."
)
TENSOR_ACTIVITY = _figure("gpu.tensor.activity", Unit.RATIO, "Activity of tensor cores, mean of all GPUs.")
TENSOR_ACTIVITY_PEAK = _figure(
    "gpu.tensor.activity.peak", Unit.RATIO, "Highest such activity of any GPU over one or two seconds."
)
GPU_MEMORY_PEAK = _figure("gpu.memory.peak", Unit.BYTE, "Most memory in use on any GPU, whoever used it.")
TORCH_MEMORY_PEAK = _figure("torch.memory.peak", Unit.BYTE, "Most memory of PyTorch's tensors on any device.")
THROTTLED_TIME = _figure(
    "gpu.throttled.time",
    Unit.SECOND,
    "Time for which heat or the power supply kept clocks down, of each GPU its worst cause, summed over GPUs.",
)
CPU_TIME = _figure("cpu.time", Unit.SECOND, "CPU time of the job's process tree.")
MEMORY_PEAK = _figure("memory.peak", Unit.BYTE, "Most physical memory in use by the job's process tree.")
BYTES_READ = _figure("disk.read", Unit.BYTE, "Bytes that storage gave the job's process tree.")
BYTES_WRITTEN = _figure("disk.written", Unit.BYTE, "Bytes that storage took from the job's process tree.")
STALL_CPU = _figure("stall.cpu", Unit.SECOND, "Time in which work stood still for want of CPU (PSI).")
STALL_MEMORY = _figure("stall.memory", Unit.SECOND, "Time in which work stood still for want of memory (PSI).")
STALL_IO = _figure("stall.io", Unit.SECOND, "Time in which work stood still for want of I/O (PSI).")
DATA_WAIT_SHARE = _figure("data.wait.share", Unit.RATIO, "Share of the steps' time that was spent waiting for data.")

FIGURES: tuple[Figure, ...] = (
    SUMMED_TIME,
    GPU_ENERGY,
    GPU_UTILIZATION,
    GPU_UTILIZATION_PEAK,
    SM_ACTIVITY,
    SM_ACTIVITY_PEAK,
    TENSOR_ACTIVITY,
    TENSOR_ACTIVITY_PEAK,
    GPU_MEMORY_PEAK,
    TORCH_MEMORY_PEAK,
    THROTTLED_TIME,
    CPU_TIME,
    MEMORY_PEAK,
    BYTES_READ,
    BYTES_WRITTEN,
    STALL_CPU,
    STALL_MEMORY,
    STALL_IO,
    DATA_WAIT_SHARE,
)
"""Every row, in the order in which people read them."""
