# SPDX-License-Identifier: Apache-2.0
"""What a job's GPUs did, look by look, and what that comes to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from opentelemetry.semconv._incubating.attributes.hw_attributes import HwGpuTaskValues, HwTypeValues

from otel_hwmetrics.catalog import gpu, gpu_activity
from otel_hwmetrics.model import Metric, Reading, Snapshot

IDLE: Final = 0.05
"""Activity below which a GPU does next to nothing."""
_GENERAL: Final = (gpu.HW_GPU_TASK, HwGpuTaskValues.GENERAL.value)
_OF_A_GPU: Final = (gpu.HW_TYPE, HwTypeValues.GPU.value)


class GpuUse:
    """The GPUs of one job.

    Attributes:
        figures: Of the last look, by the names of `otel_hwmetrics.recording.nouns.JobSample`; what is not known is not there.
        energy: Joules, since the first look; None where none of them tells.
        idle_seconds: GPU-seconds in which one did next to nothing; None where none tells.
        seconds: GPU-seconds; None where there were none.
    """

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self.energy: float | None = None
        self.idle_seconds: float | None = None
        self.seconds: float | None = None
        self._joules: dict[str, float] = {}

    def look(self, snapshot: Snapshot, memory: Mapping[str, float], *, told: bool) -> dict[str, float]:
        """The figures of one look.

        Args:
            snapshot: The look.
            memory: The job's GPUs by their ids, each with the memory on it that is the job's.
            told: Whether the driver tells which GPUs are the job's: then none is none.
        """
        activity = {each: value for each, value in _activity(snapshot).items() if each in memory}
        self._add_up(snapshot, memory, activity)
        self.figures = _figures(snapshot, memory, activity) if memory else {"gpus": 0.0} if told else {}
        return self.figures

    def _add_up(self, snapshot: Snapshot, memory: Mapping[str, float], activity: Mapping[str, float]) -> None:
        seconds = snapshot.window.seconds
        for each, reading in _by_id(snapshot, gpu.ENERGY, _OF_A_GPU).items():
            before = self._joules.get(each, reading.value)
            self._joules[each] = reading.value
            if each in memory:
                self.energy = (self.energy or 0.0) + max(0.0, reading.value - before)
        if memory:
            self.seconds = (self.seconds or 0.0) + seconds * len(memory)
        if activity:
            idle = sum(1 for value in activity.values() if value < IDLE)
            self.idle_seconds = (self.idle_seconds or 0.0) + seconds * idle


def _figures(snapshot: Snapshot, memory: Mapping[str, float], activity: Mapping[str, float]) -> dict[str, float]:
    figures = {
        "gpus": float(len(memory)),
        "gpu_memory": sum(memory.values()),
        "gpu_memory_most": max(memory.values()),
    }
    if activity:
        figures["gpu_activity"] = sum(activity.values()) / len(activity)
    power = [reading.value for each, reading in _by_id(snapshot, gpu.POWER, _OF_A_GPU).items() if each in memory]
    if power:
        figures["gpu_power"] = sum(power)
    degrees = [
        reading
        for reading in snapshot.of(gpu.TEMPERATURE)
        if (reading.attributes.get(gpu.HW_PARENT) or reading.attributes.get(gpu.HW_ID)) in memory
    ]
    of_cores = [reading for reading in degrees if reading.attributes.get(gpu.HW_SENSOR_LOCATION) == "gpu"]
    if degrees:
        figures["gpu_temperature"] = max(reading.value for reading in of_cores or degrees)
    return figures


def _activity(snapshot: Snapshot) -> dict[str, float]:
    """How busy each GPU was; of an instance of one, which has no such figure, how busy its multiprocessors were."""
    found: dict[str, float] = {}
    for metric in (gpu_activity.SM_ACTIVITY, gpu_activity.GRAPHICS_ACTIVITY):
        found |= {each: reading.value for each, reading in _by_id(snapshot, metric).items()}
    return found | {each: reading.value for each, reading in _by_id(snapshot, gpu.UTILIZATION, _GENERAL).items()}


def _by_id(snapshot: Snapshot, metric: Metric, where: tuple[str, str] | None = None) -> dict[str, Reading]:
    return {
        str(reading.attributes[gpu.HW_ID]): reading
        for reading in snapshot.of(metric)
        if where is None or reading.attributes.get(where[0]) == where[1]
    }
