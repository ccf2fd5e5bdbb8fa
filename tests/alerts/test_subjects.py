# SPDX-License-Identifier: Apache-2.0
"""What alerts are about."""

from __future__ import annotations

from typing import Any

import pytest

from looks import gpu_attributes, sensor_attributes
from otel_hwmetrics.alerts.subjects import HOST, MOST_SUBJECTS, Memory, Subject, subject_of
from otel_hwmetrics.catalog import dataset, framework, gpu, gpu_health, own, system
from otel_hwmetrics.model import Attribute, Metric, Series

CPU_SENSOR: dict[str, Attribute] = {
    gpu.HW_ID: "cpu-package-0/temperature/package",
    gpu.HW_NAME: "CPU package 0 temperature",
    gpu.HW_PARENT: "cpu-package-0",
    gpu.HW_SENSOR_LOCATION: "package",
}
NOWHERE: dict[str, Attribute] = {
    gpu.HW_ID: "cpu-sensor-hwmon3/temperature",
    gpu.HW_NAME: "CPU sensor hwmon3 temperature",
    gpu.HW_SENSOR_LOCATION: "cpu",
}
TORCH: dict[str, Attribute] = {
    gpu.HW_ID: "GPU-0",
    gpu.HW_MODEL: "H200",
    gpu.CUDA_ORDINAL: 5,
    framework.TORCH_DEVICE: "cuda:5",
}


def of(metric: Metric, attributes: dict[str, Attribute]) -> Subject:
    """The subject of a series."""
    return subject_of(Series(metric, attributes))


def test_a_device_is_known_by_its_id() -> None:
    """The GPU's UUID is the key; its attributes go with the event, the task and such do not."""
    subject = of(gpu.UTILIZATION, gpu_attributes(3) | {gpu.HW_GPU_TASK: "general"})
    assert subject.key == "GPU-3"
    assert dict(subject.attributes) == gpu_attributes(3)


@pytest.mark.parametrize(("kind", "location"), [("temperature", "gpu"), ("temperature", "memory"), ("fan", "0")])
def test_a_sensor_speaks_for_its_gpu(kind: str, location: str) -> None:
    """`hw.id`, `hw.name` and `hw.type` are the GPU's, not the sensor's; the sensor's own attributes are gone."""
    subject = of(gpu.TEMPERATURE, sensor_attributes(0, location, kind))
    assert subject == of(gpu.UTILIZATION, gpu_attributes(0))
    assert dict(subject.attributes) == gpu_attributes(0)


def test_a_sensor_of_a_cpu_speaks_for_the_cpu() -> None:
    """It is none of a GPU's, and its package is called by the package's name, as energy's series call it."""
    subject = of(gpu.TEMPERATURE, CPU_SENSOR)
    assert (subject.key, subject.name) == ("cpu-package-0", "CPU package 0")
    assert dict(subject.attributes) == {gpu.HW_ID: "cpu-package-0", gpu.HW_NAME: "CPU package 0"}


def test_a_sensor_that_nobody_can_place_speaks_for_itself() -> None:
    """Without a parent it is a device of its own, and not the host."""
    subject = of(gpu.TEMPERATURE, NOWHERE)
    assert (subject.key, subject.name) == (NOWHERE[gpu.HW_ID], NOWHERE[gpu.HW_NAME])


def test_a_part_of_a_gpu_is_a_device_of_its_own() -> None:
    """A MIG instance has its GPU as parent, and is judged by itself; so is a sensor on it."""
    instance = gpu_attributes(3) | {gpu.HW_ID: "MIG-1", gpu.HW_PARENT: "GPU-3", gpu.HW_NAME: "GPU 3 MIG 1"}
    subject = of(gpu.MEMORY_UTILIZATION, instance)
    assert (subject.key, subject.name) == ("MIG-1", "GPU 3 MIG 1")
    assert dict(subject.attributes) == instance
    sensor = sensor_attributes(3) | {gpu.HW_PARENT: "MIG-1", gpu.HW_ID: "MIG-1/temperature/gpu"}
    assert of(gpu.TEMPERATURE, sensor | {gpu.HW_NAME: "GPU 3 MIG 1 gpu temperature"}).name == "GPU 3 MIG 1"


@pytest.mark.parametrize(
    ("metric", "attributes", "key", "name"),
    [
        (system.CPU_UTILIZATION, {system.CPU_MODE: "iowait"}, "", ""),
        (system.MEMORY_LIMIT, {}, "", ""),
        (own.SOURCE_UP, {own.SOURCE: "nvidia"}, f"{own.SOURCE}=nvidia", "nvidia"),
        (
            system.FILESYSTEM_USAGE,
            {system.DEVICE: "/dev/sda1", system.FILESYSTEM_MOUNTPOINT: "/data", system.FILESYSTEM_STATE: "free"},
            f"{system.FILESYSTEM_MOUNTPOINT}=/data",
            "/data",
        ),
        (dataset.METRICS[0], {dataset.DATASET_PATH: "/data/a"}, f"{dataset.DATASET_PATH}=/data/a", "/data/a"),
        (framework.TORCH_ALLOCATED, {framework.TORCH_DEVICE: "xpu:1"}, f"{framework.TORCH_DEVICE}=xpu:1", "xpu:1"),
        (framework.TORCH_ALLOCATED, TORCH, "GPU-0", "cuda:5"),
        (gpu.UTILIZATION, {gpu.HW_ID: "GPU-7", gpu.HW_MODEL: "H200"}, "GPU-7", "GPU-7"),
        (gpu.TEMPERATURE, {gpu.HW_PARENT: "GPU-7", gpu.HW_SENSOR_LOCATION: "gpu", gpu.GPU_INDEX: 2}, "GPU-7", "GPU 2"),
        (gpu.TEMPERATURE, {gpu.HW_PARENT: "GPU-7", gpu.HW_SENSOR_LOCATION: "gpu"}, "GPU-7", "GPU-7"),
        (gpu_health.ERRORS, {gpu.HW_ID: 7}, "", ""),
    ],
)
def test_keys_and_names(metric: Metric, attributes: dict[str, Attribute], key: str, name: str) -> None:
    """The id, else what tells it from its like, else the host; and what people call it."""
    subject = of(metric, attributes)
    assert (subject.key, subject.name) == (key, name)
    assert (subject is HOST) == (key == "")


def test_attributes_of_a_subject_cannot_be_changed() -> None:
    """It is cached and shared."""
    attributes: Any = of(gpu.UTILIZATION, gpu_attributes()).attributes
    with pytest.raises(TypeError):
        attributes["hw.id"] = "other"


def test_what_is_remembered_of_subjects_is_bounded() -> None:
    """Those that were met first are remembered; interfaces that come and go for days fill no memory."""
    memory: Memory[list[int]] = Memory(list)
    first = [memory.of(Subject(str(number))) for number in range(MOST_SUBJECTS)]
    assert all(each is memory.of(Subject(str(number))) for number, each in enumerate(first))
    assert memory.of(Subject("one more")) is None
    assert memory.of(Subject("0")) is first[0] is not first[1]
