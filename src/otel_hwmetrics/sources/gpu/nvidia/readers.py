# SPDX-License-Identifier: Apache-2.0
"""What is read of an NVIDIA GPU: one row a field number or a call, with its cadence and what stands in for it.

Costly calls, and those whose answers hardly change, have cadences of seconds; together all rows make at most six calls
a GPU and second (tests/sources/gpu/nvidia). NVML's units (milliwatts, millijoules, percent, KiB, megahertz, nanoseconds)
become SI here. https://docs.nvidia.com/deploy/nvml-api/
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from opentelemetry.semconv._incubating.attributes.hw_attributes import HwGpuTaskValues, HwLimitTypeValues

from otel_hwmetrics.catalog import gpu as rows
from otel_hwmetrics.catalog import gpu_activity as activity
from otel_hwmetrics.catalog import gpu_links as links
from otel_hwmetrics.model import Metric
from otel_hwmetrics.sources.base import Item, Reader, Unsupported
from otel_hwmetrics.sources.gpu.device import Items, celsius, ratio, within
from otel_hwmetrics.sources.gpu.nvidia.device import Gpu, watts
from otel_hwmetrics.sources.gpu.nvidia.library import NOT_AVAILABLE, permanent
from otel_hwmetrics.sources.gpu.nvidia.processes import Processes
from otel_hwmetrics.sources.gpu.nvidia.ring import Ring

CLOCKS_EVERY: Final = 10.0
LINKS_EVERY: Final = 30.0
SLOW: Final = 30.0
"""Seconds between two looks at what changes slowly, or costs the driver milliseconds."""

_MEGAHERTZ: Final = 1_000_000


def _memory_v2(gpu: Gpu) -> Items:
    # The second version tells what the driver reserves for itself apart from "used"; the first adds the two.
    memory = gpu.nvml.nvmlDeviceGetMemoryInfo(gpu.handle, version=gpu.nvml.nvmlMemory_v2)
    yield from _memory_of(gpu, memory)
    yield gpu.series(rows.MEMORY_RESERVED), within(memory.reserved, memory.total, "memory reserved")


def _memory_v1(gpu: Gpu) -> Items:
    return _memory_of(gpu, gpu.nvml.nvmlDeviceGetMemoryInfo(gpu.handle))


def _memory_of(gpu: Gpu, memory: Any) -> Items:
    # A GPU without memory of its own (GB10, Tegra) says so by an error, or by a size of 0.
    if memory.total == 0:
        raise Unsupported
    yield gpu.series(rows.MEMORY_LIMIT), within(memory.total, NOT_AVAILABLE - 1, "memory size")
    yield gpu.series(rows.MEMORY_USAGE), within(memory.used, memory.total, "memory used")
    yield gpu.series(rows.MEMORY_FREE), within(memory.free, memory.total, "memory free")


def _bar1(gpu: Gpu) -> Items:
    memory = gpu.nvml.nvmlDeviceGetBAR1MemoryInfo(gpu.handle)
    yield gpu.series(rows.BAR1_LIMIT), within(memory.bar1Total, NOT_AVAILABLE - 1, "the size of BAR1")
    yield gpu.series(rows.BAR1_USAGE), within(memory.bar1Used, memory.bar1Total, "BAR1 used")


def _temperature_v(gpu: Gpu) -> Items:
    degrees = gpu.nvml.nvmlDeviceGetTemperatureV(gpu.handle, gpu.nvml.NVML_TEMPERATURE_GPU)
    yield gpu.sensor(rows.TEMPERATURE, "temperature", "gpu"), celsius(degrees)


def _temperature_before_v(gpu: Gpu) -> Items:
    # Deprecated in NVML 13; drivers before 575 have only this.
    degrees = gpu.nvml.nvmlDeviceGetTemperature(gpu.handle, gpu.nvml.NVML_TEMPERATURE_GPU)
    yield gpu.sensor(rows.TEMPERATURE, "temperature", "gpu"), celsius(degrees)


def _margin(gpu: Gpu) -> Items:
    yield gpu.series(rows.TEMPERATURE_MARGIN), celsius(gpu.nvml.nvmlDeviceGetMarginTemperature(gpu.handle))


def _margin_to_slowdown(gpu: Gpu) -> Items:
    # Boards before Ada tell the threshold, in degrees.
    slowdown = gpu.nvml.nvmlDeviceGetTemperatureThreshold(gpu.handle, gpu.nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)
    if not slowdown:
        raise Unsupported
    try:
        now = gpu.nvml.nvmlDeviceGetTemperatureV(gpu.handle, gpu.nvml.NVML_TEMPERATURE_GPU)
    except gpu.nvml.NVMLError_FunctionNotFound:  # drivers before 575
        now = gpu.nvml.nvmlDeviceGetTemperature(gpu.handle, gpu.nvml.NVML_TEMPERATURE_GPU)
    yield gpu.series(rows.TEMPERATURE_MARGIN), celsius(slowdown) - celsius(now)


_THRESHOLDS: Final = (
    ("NVML_TEMPERATURE_THRESHOLD_SHUTDOWN", "gpu", HwLimitTypeValues.HIGH_CRITICAL.value),
    ("NVML_TEMPERATURE_THRESHOLD_SLOWDOWN", "gpu", HwLimitTypeValues.THROTTLED.value),
    ("NVML_TEMPERATURE_THRESHOLD_GPU_MAX", "gpu", HwLimitTypeValues.MAX.value),
    ("NVML_TEMPERATURE_THRESHOLD_MEM_MAX", "memory", HwLimitTypeValues.MAX.value),
)


def _threshold(constant: str, location: str, limit_type: str) -> Reader[Gpu]:
    def read(gpu: Gpu) -> Items:
        degrees = gpu.nvml.nvmlDeviceGetTemperatureThreshold(gpu.handle, getattr(gpu.nvml, constant))
        if not degrees:
            raise Unsupported  # 0 is what boards say that have no such limit
        pair = (rows.HW_LIMIT_TYPE, limit_type)
        yield gpu.sensor(rows.TEMPERATURE_LIMIT, "temperature", location, pair), celsius(degrees)

    return Reader(
        (rows.TEMPERATURE_LIMIT,),
        read,
        every=10 * SLOW,
        call=f"nvmlDeviceGetTemperatureThreshold({constant})",
        where="boards before Ada; newer ones tell margins",
    )


_GENERAL: Final = (rows.HW_GPU_TASK, HwGpuTaskValues.GENERAL.value)


def _ring(gpu: Gpu) -> Ring:
    return Ring(gpu, "NVML_GPU_UTILIZATION_SAMPLES", rows.UTILIZATION, rows.UTILIZATION_PEAK, _GENERAL)


def _memory_ring(gpu: Gpu) -> Ring:
    return Ring(gpu, "NVML_MEMORY_UTILIZATION_SAMPLES", rows.MEMORY_CONTROLLER_UTILIZATION)


def _utilization(gpu: Gpu) -> Items:
    """From the driver's ring; an idle GPU's is empty, and then the figure of the moment stands in."""
    yield from _from_ring(gpu, gpu.keep("utilization", lambda: _ring(gpu)), _utilization_of_the_moment)


def _utilization_of_the_moment(gpu: Gpu) -> Items:
    rates = gpu.nvml.nvmlDeviceGetUtilizationRates(gpu.handle)
    yield gpu.series(rows.UTILIZATION, _GENERAL), ratio(rates.gpu, "utilization")


def _memory_controller(gpu: Gpu) -> Items:
    ring = gpu.keep("memory controller", lambda: _memory_ring(gpu))
    yield from _from_ring(gpu, ring, _memory_controller_of_the_moment)


def _from_ring(gpu: Gpu, ring: Ring, of_the_moment: Callable[[Gpu], Items]) -> list[Item]:
    """What the ring says, else what the moment does: of an idle GPU it is empty, and a driver may refuse it for now.

    Raises:
        NVMLError: The board keeps no ring, or the driver refuses both.
    """
    refused: Exception | None = None
    try:
        if items := list(ring.read()):
            return items
    except permanent(gpu.nvml):
        raise
    except gpu.nvml.NVMLError as error:
        refused = error
    try:
        return list(of_the_moment(gpu))
    except gpu.nvml.NVMLError:
        if refused is not None:
            raise refused from None
        return []  # what a moment cannot tell does not make the ring any worse


def _memory_controller_of_the_moment(gpu: Gpu) -> Items:
    rates = gpu.nvml.nvmlDeviceGetUtilizationRates(gpu.handle)
    yield gpu.series(rows.MEMORY_CONTROLLER_UTILIZATION), ratio(rates.memory, "memory controller utilization")


def _engine(call: str, task: str) -> Reader[Gpu]:
    def read(gpu: Gpu) -> Items:
        percent, _ = getattr(gpu.nvml, call)(gpu.handle)
        yield gpu.series(rows.UTILIZATION, (rows.HW_GPU_TASK, task)), ratio(percent, f"{task} utilization")

    return Reader((rows.UTILIZATION,), read, every=SLOW, call=call, where="boards with the engine; not MIG")


def _clock(constant: str, domain: str) -> Reader[Gpu]:
    def read(gpu: Gpu) -> Items:
        megahertz = gpu.nvml.nvmlDeviceGetClockInfo(gpu.handle, getattr(gpu.nvml, constant))
        yield _hertz(gpu, activity.CLOCK, domain, megahertz)

    call = f"nvmlDeviceGetClockInfo({constant})"
    return Reader(
        (activity.CLOCK,),
        read,
        every=CLOCKS_EVERY if domain in {"sm", "memory"} else SLOW,
        call=call,
        where="all but MIG",
    )


def _clock_limit(constant: str, domain: str) -> Reader[Gpu]:
    def read(gpu: Gpu) -> Items:
        megahertz = gpu.nvml.nvmlDeviceGetMaxClockInfo(gpu.handle, getattr(gpu.nvml, constant))
        yield _hertz(gpu, activity.CLOCK_LIMIT, domain, megahertz)

    call = f"nvmlDeviceGetMaxClockInfo({constant})"
    return Reader((activity.CLOCK_LIMIT,), read, every=10 * SLOW, call=call, where="all but MIG")


def _hertz(gpu: Gpu, metric: Metric, domain: str, megahertz: int) -> Any:
    series = gpu.series(metric, (activity.CLOCK_DOMAIN, domain))
    return series, within(megahertz, 100_000, "a clock in MHz") * _MEGAHERTZ


_CLOCKS: Final = (
    ("NVML_CLOCK_SM", "sm"),
    ("NVML_CLOCK_MEM", "memory"),
    ("NVML_CLOCK_GRAPHICS", "graphics"),
    ("NVML_CLOCK_VIDEO", "video"),
)


def _performance_state(gpu: Gpu) -> Items:
    state = gpu.nvml.nvmlDeviceGetPerformanceState(gpu.handle)
    yield gpu.series(activity.PERFORMANCE_STATE), within(state, 15, "the performance state")


def _enforced_power_limit(gpu: Gpu) -> Items:
    yield gpu.series(rows.POWER_LIMIT), watts(gpu.nvml.nvmlDeviceGetEnforcedPowerLimit(gpu.handle))


def _managed_power_limit(gpu: Gpu) -> Items:
    yield gpu.series(rows.POWER_LIMIT), watts(gpu.nvml.nvmlDeviceGetPowerManagementLimit(gpu.handle))


def _fans(gpu: Gpu) -> Items:
    fans = gpu.keep("fans", lambda: within(gpu.nvml.nvmlDeviceGetNumFans(gpu.handle), 32, "the number of fans"))
    if not fans:
        raise Unsupported
    for fan in range(int(fans)):
        percent = gpu.nvml.nvmlDeviceGetFanSpeed_v2(gpu.handle, fan)
        # The speed that is asked for, as a share of the highest without a boost: it may be beyond the whole.
        yield gpu.sensor(rows.FAN_SPEED_RATIO, "fan", str(fan)), within(percent, 200, "fan speed") / 100


def _fan_rpm(gpu: Gpu) -> Items:
    if not hasattr(gpu.nvml, "nvmlDeviceGetFanSpeedRPM"):
        raise Unsupported
    answer = gpu.nvml.nvmlDeviceGetFanSpeedRPM(gpu.handle)
    yield gpu.sensor(rows.FAN_SPEED, "fan", "0"), within(getattr(answer, "speed", answer), 100_000, "fan speed in rpm")


def _processes(gpu: Gpu) -> Processes:
    return gpu.keep("processes", lambda: Processes(gpu))


def _link(call: str, metric: Metric, most: int, every: float) -> Reader[Gpu]:
    def read(gpu: Gpu) -> Items:
        yield gpu.series(metric), within(getattr(gpu.nvml, call)(gpu.handle), most, call, least=1)

    return Reader((metric,), read, every=every, call=call, where="boards on PCIe")


READERS: tuple[Reader[Gpu], ...] = (
    Reader(
        (rows.UTILIZATION, rows.UTILIZATION_PEAK),
        _utilization,
        call="nvmlDeviceGetSamples(NVML_GPU_UTILIZATION_SAMPLES)",
        where="all but MIG; the figure of the moment where the driver keeps no ring or it is empty",
        instead=Reader(
            (rows.UTILIZATION,), _utilization_of_the_moment, call="nvmlDeviceGetUtilizationRates", where="all but MIG"
        ),
    ),
    Reader(
        (rows.MEMORY_CONTROLLER_UTILIZATION,),
        _memory_controller,
        every=CLOCKS_EVERY,
        call="nvmlDeviceGetSamples(NVML_MEMORY_UTILIZATION_SAMPLES)",
        where="all but MIG",
        instead=Reader(
            (rows.MEMORY_CONTROLLER_UTILIZATION,),
            _memory_controller_of_the_moment,
            every=CLOCKS_EVERY,
            call="nvmlDeviceGetUtilizationRates",
            where="all but MIG",
        ),
    ),
    Reader(
        (rows.MEMORY_USAGE, rows.MEMORY_LIMIT, rows.MEMORY_FREE, rows.MEMORY_RESERVED),
        _memory_v2,
        call="nvmlDeviceGetMemoryInfo_v2",
        where="all with memory of their own, MIG instances too",
        instead=Reader(
            (rows.MEMORY_USAGE, rows.MEMORY_LIMIT, rows.MEMORY_FREE),
            _memory_v1,
            call="nvmlDeviceGetMemoryInfo",
            where="drivers before 510; used includes reserved",
        ),
    ),
    Reader(
        (rows.TEMPERATURE,),
        _temperature_v,
        call="nvmlDeviceGetTemperatureV",
        where="all but MIG",
        instead=Reader(
            (rows.TEMPERATURE,), _temperature_before_v, call="nvmlDeviceGetTemperature", where="drivers before 575"
        ),
    ),
    Reader(
        (rows.TEMPERATURE_MARGIN,),
        _margin,
        every=CLOCKS_EVERY,
        call="nvmlDeviceGetMarginTemperature",
        where="Ada, Hopper and newer",
        instead=Reader(
            (rows.TEMPERATURE_MARGIN,),
            _margin_to_slowdown,
            every=CLOCKS_EVERY,
            call="nvmlDeviceGetTemperatureThreshold(NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)",
            where="boards that tell the threshold",
        ),
    ),
    *(_threshold(*row) for row in _THRESHOLDS),
    Reader(
        (rows.POWER_LIMIT,),
        _enforced_power_limit,
        every=CLOCKS_EVERY,
        call="nvmlDeviceGetEnforcedPowerLimit",
        where="all with power management",
        instead=Reader(
            (rows.POWER_LIMIT,),
            _managed_power_limit,
            every=CLOCKS_EVERY,
            call="nvmlDeviceGetPowerManagementLimit",
            where="older boards",
        ),
    ),
    *(_clock(*row) for row in _CLOCKS),
    *(_clock_limit(*row) for row in _CLOCKS),
    Reader(
        (activity.PERFORMANCE_STATE,),
        _performance_state,
        every=CLOCKS_EVERY,
        call="nvmlDeviceGetPerformanceState",
        where="all but MIG",
    ),
    _engine("nvmlDeviceGetEncoderUtilization", HwGpuTaskValues.ENCODER.value),
    _engine("nvmlDeviceGetDecoderUtilization", HwGpuTaskValues.DECODER.value),
    Reader((rows.FAN_SPEED_RATIO,), _fans, every=SLOW, call="nvmlDeviceGetFanSpeed_v2", where="boards with fans"),
    Reader(
        (rows.FAN_SPEED,), _fan_rpm, every=SLOW, call="nvmlDeviceGetFanSpeedRPM", where="boards with fans, driver 565"
    ),
    Reader((rows.BAR1_USAGE, rows.BAR1_LIMIT), _bar1, every=SLOW, call="nvmlDeviceGetBAR1MemoryInfo", where="all"),
    _link("nvmlDeviceGetCurrPcieLinkGeneration", links.PCIE_GENERATION, 16, LINKS_EVERY),
    _link("nvmlDeviceGetCurrPcieLinkWidth", links.PCIE_WIDTH, 64, LINKS_EVERY),
    _link("nvmlDeviceGetMaxPcieLinkGeneration", links.PCIE_GENERATION_LIMIT, 16, 10 * SLOW),
    _link("nvmlDeviceGetMaxPcieLinkWidth", links.PCIE_WIDTH_LIMIT, 64, 10 * SLOW),
    Reader(
        (activity.PROCESS_MEMORY,),
        lambda gpu: _processes(gpu).memory(),
        every=SLOW,
        call="nvmlDeviceGetComputeRunningProcesses_v3",
        where="all; in a container's own numbering of processes, everybody's",
    ),
    Reader(
        (activity.PROCESS_SM,),
        lambda gpu: _processes(gpu).time(),
        every=SLOW,
        call="nvmlDeviceGetProcessUtilization",
        where="Maxwell and newer; not MIG",
    ),
)
"""Of a whole GPU, besides its fields."""

INSTANCE_READERS: tuple[Reader[Gpu], ...] = tuple(
    reader for reader in READERS if reader.metrics[0] in {rows.MEMORY_USAGE, activity.PROCESS_MEMORY}
)
"""Of a MIG instance: the rest is its GPU's, and NVML does not tell it of a part."""
