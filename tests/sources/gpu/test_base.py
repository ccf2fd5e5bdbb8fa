# SPDX-License-Identifier: Apache-2.0
"""What GPUs and their sensors are called."""

from __future__ import annotations

import pytest

from otel_hwmetrics.catalog import gpu as rows
from otel_hwmetrics.sources.gpu.base import Identity

UUID = "GPU-5a1e0000-0000-4000-8000-000000000000"


@pytest.mark.parametrize("driver", ["580.95.05", None])
def test_attributes_are_those_of_the_rows(driver: str | None) -> None:
    """A device and its sensors carry what their rows allow; what the driver does not tell is left out, not empty."""
    identity = Identity(UUID, 3, "NVIDIA H100", "NVIDIA", driver)
    device, sensor = identity.device(), identity.sensor("temperature", "gpu")
    assert set(device) <= set(rows.ENERGY.attributes)
    unknown = {"hw.driver_version"} if driver is None else set()
    assert set(sensor) == set(rows.TEMPERATURE.attributes) - {"hwmetrics.cuda.ordinal"} - unknown
    assert ("hw.driver_version" in device) is (driver is not None)
    assert (device["hw.id"], device["hwmetrics.gpu.index"], device["hw.type"]) == (UUID, 3, "gpu")
    assert (sensor["hw.id"], sensor["hw.parent"]) == (f"{UUID}/temperature/gpu", UUID)


def test_a_part_of_a_gpu_has_its_own_name_and_the_gpu_as_parent() -> None:
    """A MIG instance is a device of its own, and CUDA's number is told where it is known."""
    identity = Identity("MIG-1", 3, "NVIDIA H100 MIG 1g.10gb", "NVIDIA", None, 0, parent=UUID, part="MIG 7/0")
    device = identity.device()
    assert set(device) <= set(rows.MEMORY_USAGE.attributes)
    assert (device["hw.id"], device["hw.parent"], device["hw.name"]) == ("MIG-1", UUID, "GPU 3 MIG 7/0")
    assert device["hwmetrics.cuda.ordinal"] == 0
