# SPDX-License-Identifier: Apache-2.0
"""A snapshot as a flat dictionary: names that say what they are, that stay, and that loggers take as they are."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_hwmetrics import flat
from otel_hwmetrics.catalog import METRICS, framework, gpu, own, pressure, process, system
from otel_hwmetrics.model import Kind, Metric, Reading, Series, Snapshot, Unit, Window

ALLOWED_BY_MLFLOW = re.compile(r"[/\w.\- ]{1,250}", re.ASCII)
"""mlflow.utils.validation._validate_metric_name, in the strict form that older servers have; and the length of a key."""
CHANGED_BY_TENSORBOARD = re.compile(r"[^-/\w.]")
"""torch.utils.tensorboard.summary._clean_tag."""

GPU: dict[str, Any] = {
    gpu.HW_ID: "GPU-5a1e0000",
    gpu.HW_NAME: "GPU 0",
    gpu.HW_TYPE: "gpu",
    gpu.HW_VENDOR: "nvidia",
    gpu.HW_MODEL: "NVIDIA H100 80GB HBM3",
    gpu.HW_DRIVER_VERSION: "580.95.05",
    gpu.GPU_INDEX: 0,
    gpu.CUDA_ORDINAL: 1,
}
SENSOR = GPU | {gpu.HW_PARENT: "GPU-5a1e0000", gpu.HW_ID: "GPU-5a1e0000/temperature/gpu", gpu.HW_SENSOR_LOCATION: "gpu"}
MIG = GPU | {gpu.HW_NAME: "GPU 0 MIG 1/0", gpu.HW_PARENT: "GPU-5a1e0000", gpu.HW_ID: "MIG-77"}
LONG = Metric("hwmetrics.long", Kind.GAUGE, Unit.RATIO, "Nearly too long.", (*gpu.DEVICE, "a", "b", "c", "d"))


def snapshot(*series: Series) -> Snapshot:
    """One with a reading for each, whose values are their places."""
    return Snapshot([Reading(each, place, 1.0) for place, each in enumerate(series)], Window(0.0, 1.0), 0)


@pytest.mark.parametrize(
    ("metric", "attributes", "name"),
    [
        (gpu.UTILIZATION, GPU | {gpu.HW_GPU_TASK: "general"}, "hw.gpu.utilization/gpu_0.general"),
        (gpu.MEMORY_USAGE, GPU, "hw.gpu.memory.usage/gpu_0"),
        (gpu.MEMORY_USAGE, MIG, "hw.gpu.memory.usage/gpu_0_mig_1_0"),
        (gpu.TEMPERATURE, SENSOR, "hw.temperature/gpu_0.gpu"),
        (
            gpu.TEMPERATURE,
            {gpu.HW_ID: "cpu-0/t", gpu.HW_NAME: "CPU 0 temperature", gpu.HW_SENSOR_LOCATION: "package"},
            "hw.temperature/cpu_0_temperature.package",
        ),
        (
            framework.TORCH_ALLOCATED,
            {gpu.CUDA_ORDINAL: 1, gpu.HW_ID: "GPU-5a"},
            "hwmetrics.torch.memory.allocated/cuda_1",
        ),
        (system.MEMORY_USAGE, {system.MEMORY_STATE: "used"}, "system.memory.usage/used"),
        (system.CPU_UTILIZATION, {system.CPU_MODE: "user"}, "system.cpu.utilization/user"),
        (system.CPU_UTILIZATION, {system.CPU_MODE: "user", system.CPU_NUMBER: 3}, "system.cpu.utilization/user.3"),
        (system.UPTIME, {}, "system.uptime"),
        (
            pressure.STALL_SHARE,
            {pressure.RESOURCE: "io", pressure.KIND: "some", pressure.SCOPE: "host", pressure.METHOD: "psi"},
            "hwmetrics.pressure.stall.share/io.some.host.psi",
        ),
        (
            system.FILESYSTEM_USAGE,
            {
                system.DEVICE: "/dev/nvme0n1p2",
                system.FILESYSTEM_MODE: "rw",
                system.FILESYSTEM_MOUNTPOINT: "/data",
                system.FILESYSTEM_TYPE: "ext4",
                system.FILESYSTEM_STATE: "used",
            },
            "system.filesystem.usage/dev_nvme0n1p2--f55a9f01.rw.data--bd47413b.ext4.used",
        ),
        (
            own.ALERT_ACTIVE,
            {
                own.ALERT_RULE: "disk_full_ahead",
                own.ALERT_SEVERITY: "warning",
                own.ALERT_STATE: "firing",
                system.FILESYSTEM_MOUNTPOINT: "/data",
            },
            "hwmetrics.alert.active/disk_full_ahead.warning.firing.system.filesystem.mountpoint--data--bd47413b",
        ),
    ],
)
def test_a_name_is_of_the_metric_the_device_and_the_attribute_values(
    metric: Metric, attributes: dict[str, Any], name: str
) -> None:
    """A device goes by its number and not by its UUID; values follow in the order of the row, with keys where one is missing."""
    assert list(snapshot(Series(metric, attributes)).as_dict()) == [name]


def test_values_are_floats_in_the_unit_of_the_metric() -> None:
    """Whole numbers, too, since loggers tell the two apart."""
    found = Snapshot(
        [Reading(Series(process.MEMORY_USAGE), 2 * 1024**3, 1.0), Reading(Series(system.UPTIME), 0.5, 1.0)],
        Window(0.0, 1.0),
        0,
    ).as_dict()
    assert found == {"process.memory.usage": 2147483648.0, "system.uptime": 0.5}
    assert all(type(value) is float for value in found.values())


def test_what_was_not_read_is_not_there() -> None:
    """No name without a reading, and none with a 0 in place of it."""
    assert snapshot().as_dict() == {}


def test_a_value_that_looks_like_anothers_name_is_not_taken_for_it() -> None:
    """What stands for a value with other characters is no value's own name; nor is one that the row does not know another's."""
    states = ("/data", "data", "data--bd47413b")
    memory = [Series(system.MEMORY_USAGE, {system.MEMORY_STATE: state}) for state in states]
    names = list(snapshot(*memory).as_dict())
    assert names[:2] == ["system.memory.usage/data--bd47413b", "system.memory.usage/data"]
    assert len(set(names)) == 3
    assert not re.search(r"data--bd47413b--[0-9a-f]{8}--", names[2])
    assert list(snapshot(Series(system.UPTIME, {"since": "boot"})).as_dict()) == ["system.uptime/since--boot"]


AMD = GPU | {gpu.HW_ID: "0000:03:00.0", gpu.HW_VENDOR: "AMD"}


def test_gpus_of_two_vendors_with_one_number_keep_their_names() -> None:
    """Whether the other one is there or not, and whatever driver it has."""
    newer = AMD | {gpu.HW_DRIVER_VERSION: "6.16.13"}
    found = [
        list(snapshot(*(Series(gpu.MEMORY_USAGE, each) for each in told)).as_dict())
        for told in ((GPU, AMD), (GPU,), (AMD,), (newer,))
    ]
    ours, other = "hw.gpu.memory.usage/gpu_0", "hw.gpu.memory.usage/amd_gpu_0"
    assert found == [[ours, other], [ours], [other], [other]]


@pytest.mark.parametrize("metric", [gpu.MEMORY_USAGE, LONG])
def test_devices_that_share_all_of_a_name_have_one_each_all_the_same(metric: Metric) -> None:
    """Of 250 characters at most, and another driver changes none of them."""
    more = dict.fromkeys(metric.attributes, "x" * 55) if metric is LONG else {}
    names = []
    for driver in ("580.95.05", "590.1"):
        pair = [more | GPU | {gpu.HW_ID: each, gpu.HW_DRIVER_VERSION: driver} for each in ("GPU-a", "GPU-b")]
        names.append(list(snapshot(*(Series(metric, each) for each in pair)).as_dict()))
    assert names[0] == names[1]
    assert len(set(names[0])) == 2
    assert all(re.fullmatch(r".*--[0-9a-f]{8}", name) and len(name) <= 250 for name in names[0])


def test_the_keys_of_devices_are_those_of_the_catalog() -> None:
    """They are written twice, since the catalog is on a floor above."""
    assert frozenset(gpu.DEVICE) == flat.OF_DEVICES
    assert (flat.HW_ID, flat.HW_NAME, flat.HW_VENDOR, flat.HW_DRIVER_VERSION, flat.GPU_INDEX, flat.CUDA_ORDINAL) == (
        gpu.HW_ID,
        gpu.HW_NAME,
        gpu.HW_VENDOR,
        gpu.HW_DRIVER_VERSION,
        gpu.GPU_INDEX,
        gpu.CUDA_ORDINAL,
    )


VALUES = st.one_of(
    st.text(max_size=80),
    st.text(alphabet="/data.-_ ", max_size=12),
    st.sampled_from(
        ["used", "/data", "data", "_data", "data--bd47413b", "..", "", "a.b", "-", "a/b", "a b", "GPU 0 MIG 1/0"]
    ),
)
NUMBERED = frozenset({gpu.GPU_INDEX, gpu.CUDA_ORDINAL, system.CPU_NUMBER})


@st.composite
def series(draw: st.DrawFn) -> Series:
    """Any of the catalog's metrics with any values, of any part of its attributes; devices by their numbers."""
    metric = draw(st.sampled_from(METRICS))
    told: dict[str, Any] = {}
    for key in metric.attributes:
        if key in flat.OF_DEVICES and key not in (gpu.GPU_INDEX, gpu.HW_NAME):
            continue
        if draw(st.booleans()):
            told[key] = draw(st.integers(0, 300) if key in NUMBERED else VALUES)
    if gpu.GPU_INDEX in told:  # as sources call them
        told[gpu.HW_NAME] = f"GPU {told[gpu.GPU_INDEX]}"
    elif gpu.HW_NAME in told:
        told[gpu.HW_NAME] = draw(st.sampled_from(["cpu 0", "package 1 DRAM"]))
    return Series(metric, told)


@settings(max_examples=300, deadline=None)
@given(st.lists(series(), min_size=1, max_size=12, unique=True))
def test_names_are_unique_stay_and_are_taken_by_loggers(all_series: list[Series]) -> None:
    """Whatever the attributes hold: a name each, the same one in another snapshot, and legal for three loggers."""
    found = snapshot(*all_series).as_dict()
    assert len(found) == len(all_series)
    alone = [name for each in all_series for name in snapshot(each).as_dict()]
    assert sorted(alone) == sorted(found)
    for name in found:
        assert ALLOWED_BY_MLFLOW.fullmatch(name)
        assert not CHANGED_BY_TENSORBOARD.search(name)
        assert "" not in name.split("/")
        assert name.count("/") <= 1
        assert not {".", ".."} & set(name.split("/"))


def test_a_long_name_is_cut_and_still_its_own() -> None:
    """MLflow takes 250 characters."""
    keys = [key for key in system.FILESYSTEM_USAGE.attributes if key != system.FILESYSTEM_STATE]
    long = [
        Series(system.FILESYSTEM_USAGE, dict.fromkeys(keys, "x" * 64) | {system.FILESYSTEM_STATE: state})
        for state in ("used", "free")
    ]
    names = list(snapshot(*long).as_dict())
    assert [len(name) for name in names] == [250, 250]
    assert names[0][:240] == names[1][:240]
    assert names[0] != names[1]
