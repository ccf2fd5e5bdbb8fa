# SPDX-License-Identifier: Apache-2.0
"""GPUs, by the names of https://opentelemetry.io/docs/specs/semconv/hardware/, and below ``hwmetrics.gpu.`` the rest.

``hw.id`` is the driver's UUID, the key on which DCGM and the eBPF tools can be joined. A sensor has an id of its own
and its GPU as ``hw.parent``. ``hw.gpu.memory.utilization`` is the used share of memory, as the conventions define it,
and not NVML's ``utilization.memory``, which is how long the memory controller was busy.
"""

from __future__ import annotations

from opentelemetry.semconv._incubating.attributes import hw_attributes
from opentelemetry.semconv._incubating.metrics import hw_metrics as names

from otel_hwmetrics.model import Kind, Metric, Quotient, Rate, Unit

HW_ID = hw_attributes.HW_ID
HW_NAME = hw_attributes.HW_NAME
HW_TYPE = hw_attributes.HW_TYPE
HW_VENDOR = hw_attributes.HW_VENDOR
HW_MODEL = hw_attributes.HW_MODEL
HW_DRIVER_VERSION = hw_attributes.HW_DRIVER_VERSION
HW_PARENT = hw_attributes.HW_PARENT
HW_SENSOR_LOCATION = hw_attributes.HW_SENSOR_LOCATION
HW_GPU_TASK = hw_attributes.HW_GPU_TASK
GPU_INDEX = "hwmetrics.gpu.index"
"""The number by which the driver's own tools call the GPU; not CUDA's ordinal."""

_DEVICE = (HW_ID, HW_NAME, HW_TYPE, HW_VENDOR, HW_MODEL, HW_DRIVER_VERSION, GPU_INDEX)
_SENSOR = (HW_ID, HW_NAME, HW_PARENT, HW_SENSOR_LOCATION, HW_VENDOR, HW_MODEL, HW_DRIVER_VERSION, GPU_INDEX)

UTILIZATION = Metric(
    names.HW_GPU_UTILIZATION,
    Kind.GAUGE,
    Unit.RATIO,
    "Fraction of time spent in a specific task.",
    attributes=(*_DEVICE, HW_GPU_TASK),
)
MEMORY_USAGE = Metric(
    names.HW_GPU_MEMORY_USAGE,
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "GPU memory used.",
    attributes=_DEVICE,
    integer=True,
)
MEMORY_LIMIT = Metric(
    names.HW_GPU_MEMORY_LIMIT,
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Size of the GPU memory.",
    attributes=_DEVICE,
    integer=True,
)
MEMORY_UTILIZATION = Metric(
    names.HW_GPU_MEMORY_UTILIZATION,
    Kind.GAUGE,
    Unit.RATIO,
    "Fraction of GPU memory used.",
    attributes=_DEVICE,
    derivation=Quotient(MEMORY_USAGE, by=MEMORY_LIMIT),
)
ENERGY = Metric(
    names.HW_ENERGY,
    Kind.COUNTER,
    Unit.JOULE,
    "Energy consumed by the component.",
    attributes=_DEVICE,
)
POWER = Metric(
    names.HW_POWER,
    Kind.GAUGE,
    Unit.WATT,
    "Instantaneous power consumed by the component.",
    attributes=_DEVICE,
    derivation=Rate(ENERGY),
)
POWER_LIMIT = Metric(
    "hwmetrics.gpu.power.limit",
    Kind.UP_DOWN_COUNTER,
    Unit.WATT,
    "Power that the GPU is held to: the lowest of the limits that apply to it.",
    attributes=_DEVICE,
)
TEMPERATURE = Metric(
    names.HW_TEMPERATURE,
    Kind.GAUGE,
    Unit.CELSIUS,
    "Temperature in degrees Celsius.",
    attributes=_SENSOR,
)

METRICS: tuple[Metric, ...] = (
    UTILIZATION,
    MEMORY_USAGE,
    MEMORY_LIMIT,
    MEMORY_UTILIZATION,
    ENERGY,
    POWER,
    POWER_LIMIT,
    TEMPERATURE,
)
