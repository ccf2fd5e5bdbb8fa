# SPDX-License-Identifier: Apache-2.0
"""JAX's allocators: read where the job has initialised a backend, which nothing here does."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from otel_hwmetrics.catalog import framework as rows
from otel_hwmetrics.catalog.gpu import CUDA_ORDINAL, HW_MODEL
from otel_hwmetrics.sources.base import Batch
from otel_hwmetrics.sources.jax import KEYS, READERS, JaxSource
from otel_hwmetrics.testing import ManualClock

STATS = {
    "num_allocs": 77,
    "bytes_in_use": 1_000,
    "peak_bytes_in_use": 3_000,
    "largest_alloc_size": 500,
    "bytes_limit": 60_000,
    "bytes_reserved": 0,
    "peak_bytes_reserved": 0,
    "largest_free_block_bytes": 0,
    "pool_bytes": 4_000,
    "peak_pool_bytes": 4_000,
}
"""What a GPU with JAX's default allocator tells; one with another allocator, or a TPU, tells less."""
TOLD = {
    "hwmetrics.jax.memory.allocated": 1_000,
    "hwmetrics.jax.memory.allocated.peak": 3_000,
    "hwmetrics.jax.memory.reserved": 4_000,
    "hwmetrics.jax.memory.limit": 60_000,
}


class ScriptedDevice:
    """A `jax.Device`."""

    def __init__(self, platform: str = "gpu", number: int = 8, stats: Any = None) -> None:
        self.platform = platform
        self.id = number
        self.local_hardware_id = number % 8
        self.device_kind = "NVIDIA H100 80GB HBM3"
        self.stats = dict(STATS) if stats is None else stats
        self.error: Exception | None = None

    def memory_stats(self) -> Any:
        """The allocator's statistics."""
        if self.error is not None:
            raise self.error
        return self.stats


class ScriptedClient:
    """An initialised backend."""

    def __init__(self, *devices: ScriptedDevice, version: str = "PJRT C API\ncuda 12090") -> None:
        self.devices_here = devices
        self.platform_version = version
        self.error: Exception | None = None

    def local_devices(self) -> list[ScriptedDevice]:
        """The devices of this host."""
        if self.error is not None:
            raise self.error
        return list(self.devices_here)


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A job that has imported JAX; anything but the table of backends that is asked for is a fault."""
    module: Any = ModuleType("jax._src.xla_bridge")
    module._backends = {}
    monkeypatch.setitem(sys.modules, "jax._src.xla_bridge", module)
    return module


def values(batch: Batch) -> dict[str, float]:
    """Every reading by the metric's name; one device at most."""
    told = {reading.metric.name: reading.value for reading in batch.readings}
    assert len(told) == len(batch.readings)
    return told


@pytest.mark.parametrize("platform", ["gpu", "tpu", "cuda", "rocm"])
def test_each_row_is_read_from_the_devices_of_this_host(bridge: Any, platform: str) -> None:
    """Bytes of each metric; the device by JAX's platform and number, and its kind."""
    bridge._backends = {
        "cpu": ScriptedClient(ScriptedDevice("cpu")),
        platform: ScriptedClient(ScriptedDevice(platform)),
    }
    batch = JaxSource(ManualClock().monotonic).read()
    assert (values(batch), dict(batch.lost)) == (TOLD, {})
    for reading in batch.readings:
        assert reading.attributes[rows.JAX_DEVICE] == f"{platform}:8"
        assert reading.attributes[HW_MODEL] == "NVIDIA H100 80GB HBM3"
        assert set(reading.attributes) <= set(reading.metric.attributes)


@pytest.mark.parametrize(
    ("version", "ordinal"), [("cuda 12090", 0), ("PJRT C API\ncuda 12090", 0), ("rocm 60400", None), ("", None)]
)
def test_cuda_s_number_is_told_of_cuda_s_devices_alone(bridge: Any, version: str, ordinal: int | None) -> None:
    """The opaque number of the hardware means something else elsewhere."""
    bridge._backends = {"x": ScriptedClient(ScriptedDevice(), version=version)}
    batch = JaxSource(ManualClock().monotonic).read()
    assert {reading.attributes.get(CUDA_ORDINAL) for reading in batch.readings} == {ordinal}


@pytest.mark.parametrize("table", [{}, None, [], "absent", "no jax"])
def test_nothing_is_told_before_the_job_has_initialised_a_backend(
    bridge: Any, monkeypatch: pytest.MonkeyPatch, table: Any
) -> None:
    """No JAX, one that is being imported, an empty table, a version that keeps it elsewhere: silence, and nothing lost."""
    if table == "no jax":
        monkeypatch.delitem(sys.modules, "jax._src.xla_bridge")
    elif table == "absent":
        del bridge._backends
    else:
        bridge._backends = table
    source = JaxSource(ManualClock().monotonic)
    source.open()
    batch = source.read()
    source.close()
    assert (batch.readings, dict(batch.lost)) == ([], {})


def test_new_backends_are_new_devices(bridge: Any) -> None:
    """A job may give its backends up and begin others; the old ones' devices are not asked again."""
    source = JaxSource(ManualClock().monotonic)
    old = ScriptedDevice()
    bridge._backends = {"cuda": ScriptedClient(old)}
    assert values(source.read()) == TOLD
    old.error = RuntimeError("its client is gone")
    bridge._backends = {}
    assert not source.read().readings
    bridge._backends = {"cuda": ScriptedClient(ScriptedDevice())}
    batch = source.read()
    assert (values(batch), dict(batch.lost)) == (TOLD, {})


@pytest.mark.parametrize("error", [RuntimeError("INTERNAL"), AttributeError("x"), NotImplementedError("memory_stats")])
def test_a_call_that_raises_is_counted_and_asked_again(bridge: Any, error: Exception) -> None:
    """One device's failure is its own; a backend's is one reading lost until it answers."""
    device, client = ScriptedDevice(), ScriptedClient(ScriptedDevice(number=9))
    client.devices_here += (device,)
    bridge._backends = {"cuda": client}
    source = JaxSource(ManualClock().monotonic)
    client.error = error
    assert dict(source.read().lost) == {type(error).__name__: 1}
    client.error, device.error = None, error
    batch = source.read()
    assert (values(batch), dict(batch.lost)) == (TOLD, {type(error).__name__: len(KEYS)})
    device.error = None
    assert len(source.read().readings) == 2 * len(TOLD)


@pytest.mark.parametrize("rubbish", [None, "missing", -1, 2**63 - 1, True, 1.5, "7"])
@pytest.mark.parametrize("key", KEYS.values())
def test_a_number_that_is_none_loses_its_own_metric_alone(bridge: Any, key: str, rubbish: Any) -> None:
    """A key that an allocator lacks is absent without a word, anything else is counted; the others are told."""
    stats = {name: value for name, value in STATS.items() if name != key}
    if rubbish != "missing":
        stats[key] = rubbish
    bridge._backends = {"cuda": ScriptedClient(ScriptedDevice(stats=stats))}
    batch = JaxSource(ManualClock().monotonic).read()
    lost = {metric.name for metric, name in KEYS.items() if name == key}
    assert values(batch) == {name: value for name, value in TOLD.items() if name not in lost}
    assert dict(batch.lost) == ({} if rubbish == "missing" else {"ValueError": 1})


def test_statistics_that_a_device_does_not_have_are_absent(bridge: Any) -> None:
    """None is JAX's word for them; anything that is no table is counted."""
    device = ScriptedDevice()
    device.stats = None
    bridge._backends = {"tpu": ScriptedClient(device)}
    batch = JaxSource(ManualClock().monotonic).read()
    assert (batch.readings, dict(batch.lost)) == ([], {})
    device.stats = [1]
    batch = JaxSource(ManualClock().monotonic).read()
    assert (batch.readings, dict(batch.lost)) == ([], {"TypeError": len(KEYS)})


@pytest.mark.parametrize("missing", ["platform", "id", "device_kind", "local_hardware_id"])
def test_a_device_of_another_version_brings_nothing_down(bridge: Any, missing: str) -> None:
    """What it is called is needed, and its kind is not."""
    device = SimpleNamespace(**vars(ScriptedDevice()), memory_stats=lambda: STATS)
    delattr(device, missing)
    bridge._backends = {"cuda": ScriptedClient(device)}  # type: ignore[arg-type]
    batch = JaxSource(ManualClock().monotonic).read()
    needed = missing in ("platform", "id")
    assert (values(batch), dict(batch.lost)) == (({}, {"AttributeError": 1}) if needed else (TOLD, {}))


def test_every_row_of_jax_has_its_reader_and_says_where_it_comes_from() -> None:
    """The table and the catalog name the same metrics."""
    read = {metric for reader in READERS for metric in reader.metrics}
    assert read == {metric for metric in rows.METRICS if metric.name.startswith("hwmetrics.jax.")}
    assert all(reader.call and reader.where for reader in READERS)
