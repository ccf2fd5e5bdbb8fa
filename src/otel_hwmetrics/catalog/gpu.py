# SPDX-License-Identifier: Apache-2.0
"""GPUs, by the names of https://opentelemetry.io/docs/specs/semconv/hardware/, and below ``hwmetrics.gpu.`` the rest.

``hw.id`` is the driver's UUID, the key on which DCGM and the eBPF tools can be joined. A sensor has an id of its own
and its GPU as ``hw.parent``. ``hw.gpu.memory.utilization`` is the used share of memory, as the conventions define it,
and not NVML's ``utilization.memory``, which is how long the memory controller was busy.
"""

from __future__ import annotations

from opentelemetry.semconv._incubating.attributes import hw_attributes
from opentelemetry.semconv._incubating.metrics import hw_metrics as names

from otel_hwmetrics.model import Kind, Metric, Peak, Quotient, Rate, Unit

HW_ID = hw_attributes.HW_ID
HW_NAME = hw_attributes.HW_NAME
HW_TYPE = hw_attributes.HW_TYPE
HW_VENDOR = hw_attributes.HW_VENDOR
HW_MODEL = hw_attributes.HW_MODEL
HW_DRIVER_VERSION = hw_attributes.HW_DRIVER_VERSION
HW_PARENT = hw_attributes.HW_PARENT
HW_SENSOR_LOCATION = hw_attributes.HW_SENSOR_LOCATION
HW_GPU_TASK = hw_attributes.HW_GPU_TASK
HW_LIMIT_TYPE = hw_attributes.HW_LIMIT_TYPE
GPU_INDEX = "hwmetrics.gpu.index"
"""The number by which the driver's own tools call the GPU; not CUDA's ordinal."""
CUDA_ORDINAL = "hwmetrics.cuda.ordinal"
"""The number by which the job calls it (``cuda:0``), where that can be known."""
ENERGY_METHOD = "hwmetrics.energy.method"
"""Where energy comes from: ``counter``, the hardware's own; ``integrated``, the sum of power over time, read by us."""
POWER_SCOPE = "hwmetrics.gpu.power.scope"
"""What a power is that of: ``gpu``, its ``memory``, or the ``module`` that it shares with a CPU (Grace Hopper)."""

DEVICE = (HW_ID, HW_NAME, HW_PARENT, HW_TYPE, HW_VENDOR, HW_MODEL, HW_DRIVER_VERSION, GPU_INDEX, CUDA_ORDINAL)
"""Keys of what is measured on a GPU as a whole, or on a MIG instance, whose parent is its GPU."""
SENSOR = (
    HW_ID,
    HW_NAME,
    HW_PARENT,
    HW_SENSOR_LOCATION,
    HW_VENDOR,
    HW_MODEL,
    HW_DRIVER_VERSION,
    GPU_INDEX,
    CUDA_ORDINAL,
)
"""Keys of a sensor."""

UTILIZATION = Metric(
    names.HW_GPU_UTILIZATION,
    Kind.GAUGE,
    Unit.RATIO,
    "Fraction of time spent in a specific task.",
    attributes=(*DEVICE, HW_GPU_TASK),
)
UTILIZATION_PEAK = Metric(
    "hwmetrics.gpu.utilization.peak",
    Kind.GAUGE,
    Unit.RATIO,
    "Highest utilization within the window, of the driver's own samples of about a sixth of a second each.",
    attributes=UTILIZATION.attributes,
    derivation=Peak(UTILIZATION),
)
MEMORY_CONTROLLER_UTILIZATION = Metric(
    "hwmetrics.gpu.memory.controller.utilization",
    Kind.GAUGE,
    Unit.RATIO,
    "Share of time in which GPU memory was being read or written.",
    attributes=DEVICE,
)
MEMORY_USAGE = Metric(
    names.HW_GPU_MEMORY_USAGE,
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "GPU memory used.",
    attributes=DEVICE,
    integer=True,
)
MEMORY_LIMIT = Metric(
    names.HW_GPU_MEMORY_LIMIT,
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Size of the GPU memory.",
    attributes=DEVICE,
    integer=True,
)
MEMORY_UTILIZATION = Metric(
    names.HW_GPU_MEMORY_UTILIZATION,
    Kind.GAUGE,
    Unit.RATIO,
    "Fraction of GPU memory used.",
    attributes=DEVICE,
    derivation=Quotient(MEMORY_USAGE, by=MEMORY_LIMIT),
)
MEMORY_PEAK = Metric(
    "hwmetrics.gpu.memory.usage.peak",
    Kind.GAUGE,
    Unit.BYTE,
    "Most GPU memory in use within the window, as samples saw it.",
    attributes=DEVICE,
    integer=True,
    derivation=Peak(MEMORY_USAGE),
)
MEMORY_RESERVED = Metric(
    "hwmetrics.gpu.memory.reserved",
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "GPU memory that the driver and firmware keep for themselves; neither used nor free.",
    attributes=DEVICE,
    integer=True,
    detail=True,
)
MEMORY_FREE = Metric(
    "hwmetrics.gpu.memory.free",
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "GPU memory that can be allocated.",
    attributes=DEVICE,
    integer=True,
    detail=True,
)
BAR1_USAGE = Metric(
    "hwmetrics.gpu.bar1.usage",
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Part of BAR1 in use, the window through which the CPU and other devices reach GPU memory.",
    attributes=DEVICE,
    integer=True,
    detail=True,
)
BAR1_LIMIT = Metric(
    "hwmetrics.gpu.bar1.limit",
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Size of BAR1.",
    attributes=DEVICE,
    integer=True,
    detail=True,
)
ENERGY = Metric(
    names.HW_ENERGY,
    Kind.COUNTER,
    Unit.JOULE,
    "Energy consumed by the component.",
    attributes=(*DEVICE, ENERGY_METHOD),
)
POWER = Metric(
    names.HW_POWER,
    Kind.GAUGE,
    Unit.WATT,
    "Instantaneous power consumed by the component.",
    attributes=ENERGY.attributes,
    derivation=Rate(ENERGY),
)
POWER_INSTANT = Metric(
    "hwmetrics.gpu.power.instant",
    Kind.GAUGE,
    Unit.WATT,
    "Power at the moments of sampling, averaged over the window; hw.power is the exact mean, this shows what a sensor shows.",
    attributes=(*DEVICE, POWER_SCOPE),
    detail=True,
)
POWER_AVERAGE = Metric(
    "hwmetrics.gpu.power.average",
    Kind.GAUGE,
    Unit.WATT,
    "Power as the driver averages it, over about a second before each sample.",
    attributes=(*DEVICE, POWER_SCOPE),
    detail=True,
)
POWER_LIMIT = Metric(
    "hwmetrics.gpu.power.limit",
    Kind.UP_DOWN_COUNTER,
    Unit.WATT,
    "Power that the GPU is held to: the lowest of the limits that apply to it.",
    attributes=DEVICE,
)
TEMPERATURE = Metric(
    names.HW_TEMPERATURE,
    Kind.GAUGE,
    Unit.CELSIUS,
    "Temperature in degrees Celsius.",
    attributes=SENSOR,
)

TEMPERATURE_PEAK = Metric(
    "hwmetrics.temperature.peak",
    Kind.GAUGE,
    Unit.CELSIUS,
    "Highest temperature within the window, as samples saw it.",
    attributes=SENSOR,
    derivation=Peak(TEMPERATURE),
)
TEMPERATURE_LIMIT = Metric(
    names.HW_TEMPERATURE_LIMIT,
    Kind.GAUGE,
    Unit.CELSIUS,
    "Temperature limit in degrees Celsius.",
    attributes=(*SENSOR, HW_LIMIT_TYPE),
)
TEMPERATURE_MARGIN = Metric(
    "hwmetrics.gpu.temperature.margin",
    Kind.GAUGE,
    Unit.CELSIUS,
    "Degrees that are left before the GPU slows itself down.",
    attributes=DEVICE,
)
TEMPERATURE_MARGIN_LIMIT = Metric(
    "hwmetrics.gpu.temperature.margin.limit",
    Kind.GAUGE,
    Unit.CELSIUS,
    "Margin at which the limit of this type is reached, on boards that tell limits as margins.",
    attributes=(*SENSOR, HW_LIMIT_TYPE),
    detail=True,
)
FAN_SPEED_RATIO = Metric(
    names.HW_FAN_SPEED_RATIO,
    Kind.GAUGE,
    Unit.RATIO,
    "Fan speed expressed as a fraction of its maximum speed.",
    attributes=SENSOR,
)
FAN_SPEED = Metric(
    names.HW_FAN_SPEED,
    Kind.GAUGE,
    Unit.RPM,
    "Fan speed in revolutions per minute.",
    attributes=SENSOR,
    integer=True,
    detail=True,
)

METRICS: tuple[Metric, ...] = (
    UTILIZATION,
    UTILIZATION_PEAK,
    MEMORY_CONTROLLER_UTILIZATION,
    MEMORY_USAGE,
    MEMORY_LIMIT,
    MEMORY_UTILIZATION,
    MEMORY_PEAK,
    MEMORY_RESERVED,
    MEMORY_FREE,
    BAR1_USAGE,
    BAR1_LIMIT,
    ENERGY,
    POWER,
    POWER_INSTANT,
    POWER_AVERAGE,
    POWER_LIMIT,
    TEMPERATURE,
    TEMPERATURE_PEAK,
    TEMPERATURE_LIMIT,
    TEMPERATURE_MARGIN,
    TEMPERATURE_MARGIN_LIMIT,
    FAN_SPEED_RATIO,
    FAN_SPEED,
)
