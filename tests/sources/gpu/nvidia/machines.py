# SPDX-License-Identifier: Apache-2.0
"""Scripted machines for the tests of the NVIDIA source, and ways to look at what it tells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from otel_hwmetrics.model import Metric
from otel_hwmetrics.sources.base import Batch
from otel_hwmetrics.sources.gpu.nvidia import NvidiaSource
from otel_hwmetrics.sources.gpu.nvidia.ours import Ours
from otel_hwmetrics.testing import FakeGpu, FakeNvml, ManualClock

GIB = 1024**3

BUSY = FakeGpu(
    name="NVIDIA H100 80GB HBM3",
    utilization=0.87,
    memory_controller_utilization=0.41,
    encoder_utilization=0.05,
    decoder_utilization=0.07,
    memory_total=80 * GIB,
    memory_reserved=500 * 1024**2,
    memory_used=60_000_000_512,
    bar1_used=4_000_000_000,
    temperature=66.0,
    memory_temperature=71.0,
    power=612.345,
    power_limit=700.0,
    energy_offset=1_234_567.891,
    sm_activity=0.8,
    sm_occupancy=0.4,
    tensor_activity=0.6,
    dram_activity=0.5,
    fp64_activity=0.01,
    fp32_activity=0.02,
    fp16_activity=0.03,
    throttled_sw_power_cap=0.25,
    throttled_hw_thermal=0.125,
    pcie_rx=1e9,
    pcie_tx=2e9,
    nvlink_rx=3e9,
    nvlink_tx=4e9,
    fans=1,
)
"""A GPU that has a reading for everything."""

AGES = 301.0
"""Seconds after which every reader has had its turn again, whatever its cadence."""


class Machine:
    """A scripted machine with the source open on it."""

    def __init__(self, nvml: FakeNvml, source: NvidiaSource, clock: ManualClock) -> None:
        self.nvml = nvml
        self.source = source
        self.clock = clock

    def look(self, after: float = 0.0) -> Batch:
        """Let time pass, then look."""
        self.clock.advance(after)
        return self.source.read()

    def looks(self, count: int, every: float = 1.0) -> list[Batch]:
        """A look each second."""
        return [self.look(every) for _ in range(count)]


@contextmanager
def opened(
    *gpus: FakeGpu, visible: str = "all", environ: dict[str, str] | None = None, ours: Ours | None = None
) -> Iterator[Machine]:
    """The source over scripted GPUs, with time standing still."""
    clock = ManualClock(start=50.0)
    with FakeNvml(list(gpus), clock=clock) as nvml:
        source = NvidiaSource(visible, environ or {}, clock.monotonic, ours)
        source.open()
        try:
            yield Machine(nvml, source, clock)
        finally:
            source.close()


def values(batch: Batch, index: int = 0) -> dict[tuple[object, ...], float]:
    """What one look gave of one GPU, by metric and the values of what tells its series apart."""
    found: dict[tuple[object, ...], float] = {}
    for reading in batch.readings:
        if reading.attributes["hwmetrics.gpu.index"] != index or "mig" in str(reading.attributes["hw.id"]).lower():
            continue
        shown = (reading.metric, *(reading.attributes[key] for key in TELLING if key in reading.attributes))
        assert shown not in found, f"{shown} is told twice"
        found[shown] = reading.value
    return found


def metrics(batch: Batch, index: int = 0) -> set[Metric]:
    """The metrics that one look gave of one GPU."""
    return {reading.metric for reading in batch.readings if reading.attributes["hwmetrics.gpu.index"] == index}


TELLING = (
    "hw.gpu.task",
    "hw.state",
    "hw.limit_type",
    "hw.sensor_location",
    "network.io.direction",
    "error.type",
    "hwmetrics.gpu.xid",
    "hwmetrics.energy.method",
    "hwmetrics.gpu.power.scope",
    "hwmetrics.gpu.clock.domain",
    "hwmetrics.gpu.throttle.cause",
    "hwmetrics.gpu.precision",
    "hwmetrics.gpu.process.scope",
    "hwmetrics.gpu.memory.remap.cause",
)
"""Attributes by which the series of one metric on one GPU differ."""

LOOK_CALLS = (
    *("nvmlDeviceGetFieldValues", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetTemperatureV", "nvmlDeviceGetSamples"),
    *("nvmlDeviceGetUtilizationRates", "nvmlGpmSampleGet", "nvmlGpmMetricsGet", "nvmlGpmQueryDeviceSupport"),
    *("nvmlDeviceGetClockInfo", "nvmlDeviceGetMaxClockInfo", "nvmlDeviceGetPerformanceState", "nvmlDeviceGetNumFans"),
    *("nvmlDeviceGetMarginTemperature", "nvmlDeviceGetTemperatureThreshold", "nvmlDeviceGetEnforcedPowerLimit"),
    *("nvmlDeviceGetEncoderUtilization", "nvmlDeviceGetDecoderUtilization", "nvmlDeviceGetBAR1MemoryInfo"),
    *("nvmlDeviceGetCurrPcieLinkGeneration", "nvmlDeviceGetCurrPcieLinkWidth", "nvmlDeviceGetMaxPcieLinkGeneration"),
    *("nvmlDeviceGetMaxPcieLinkWidth", "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetProcessUtilization"),
    *("nvmlDeviceGetFanSpeed_v2", "nvmlDeviceGetFanSpeedRPM"),
)
"""Everything that a look asks; not what finding a GPU asks."""
