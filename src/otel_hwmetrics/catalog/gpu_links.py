# SPDX-License-Identifier: Apache-2.0
"""What goes in and out of a GPU: PCIe and NVLink.

Bytes are the hardware's own counters. NVML's ``nvmlDeviceGetPcieThroughput`` is a rate over 20 ms that takes 20 ms a
direction to have, so nothing here comes from it.
"""

from __future__ import annotations

from opentelemetry.semconv._incubating.attributes import network_attributes
from opentelemetry.semconv._incubating.metrics import hw_metrics as names
from opentelemetry.semconv.attributes import error_attributes

from otel_hwmetrics.catalog.gpu import DEVICE
from otel_hwmetrics.model import Kind, Metric, Rate, Unit

DIRECTION = network_attributes.NETWORK_IO_DIRECTION
ERROR_TYPE = error_attributes.ERROR_TYPE

IO = Metric(
    names.HW_GPU_IO,
    Kind.COUNTER,
    Unit.BYTE,
    "Received and transmitted bytes by the GPU.",
    attributes=(*DEVICE, DIRECTION),
    integer=True,
)
IO_RATE = Metric(
    "hwmetrics.gpu.io.rate",
    Kind.GAUGE,
    Unit.BYTE_PER_SECOND,
    "Bytes that the GPU received and transmitted over PCIe per second, over the window.",
    attributes=IO.attributes,
    derivation=Rate(IO),
)
PCIE_GENERATION = Metric(
    "hwmetrics.gpu.pcie.generation",
    Kind.UP_DOWN_COUNTER,
    Unit.RATIO,
    "Generation that the PCIe link runs at; an idle GPU lowers it to save power.",
    attributes=DEVICE,
    integer=True,
    detail=True,
)
PCIE_GENERATION_LIMIT = Metric(
    "hwmetrics.gpu.pcie.generation.limit",
    Kind.UP_DOWN_COUNTER,
    Unit.RATIO,
    "Highest generation that the GPU and its slot can agree on.",
    attributes=DEVICE,
    integer=True,
    detail=True,
)
PCIE_WIDTH = Metric(
    "hwmetrics.gpu.pcie.width",
    Kind.UP_DOWN_COUNTER,
    Unit.LANE,
    "Lanes that the PCIe link uses.",
    attributes=DEVICE,
    integer=True,
    detail=True,
)
PCIE_WIDTH_LIMIT = Metric(
    "hwmetrics.gpu.pcie.width.limit",
    Kind.UP_DOWN_COUNTER,
    Unit.LANE,
    "Most lanes that the GPU and its slot can agree on.",
    attributes=DEVICE,
    integer=True,
    detail=True,
)
PCIE_ERRORS = Metric(
    "hwmetrics.gpu.pcie.errors",
    Kind.COUNTER,
    Unit.ERROR,
    "Errors on the PCIe link, by type.",
    attributes=(*DEVICE, ERROR_TYPE),
    integer=True,
    detail=True,
)
NVLINK_IO = Metric(
    "hwmetrics.gpu.nvlink.io",
    Kind.COUNTER,
    Unit.BYTE,
    "Bytes of data received and transmitted over NVLink, all links together.",
    attributes=(*DEVICE, DIRECTION),
    integer=True,
    detail=True,
)
NVLINK_IO_RATE = Metric(
    "hwmetrics.gpu.nvlink.io.rate",
    Kind.GAUGE,
    Unit.BYTE_PER_SECOND,
    "Bytes of data received and transmitted over NVLink per second, over the window.",
    attributes=NVLINK_IO.attributes,
    derivation=Rate(NVLINK_IO),
)
NVLINK_ACTIVE = Metric(
    "hwmetrics.gpu.nvlink.active",
    Kind.UP_DOWN_COUNTER,
    Unit.LINK,
    "NVLinks that are up.",
    attributes=DEVICE,
    integer=True,
)
NVLINK_LIMIT = Metric(
    "hwmetrics.gpu.nvlink.limit",
    Kind.UP_DOWN_COUNTER,
    Unit.LINK,
    "NVLinks that the GPU has.",
    attributes=DEVICE,
    integer=True,
    detail=True,
)
NVLINK_ERRORS = Metric(
    "hwmetrics.gpu.nvlink.errors",
    Kind.COUNTER,
    Unit.ERROR,
    "Errors on the NVLinks, all links together, by type.",
    attributes=(*DEVICE, ERROR_TYPE),
    integer=True,
)

METRICS: tuple[Metric, ...] = (
    IO,
    IO_RATE,
    PCIE_GENERATION,
    PCIE_GENERATION_LIMIT,
    PCIE_WIDTH,
    PCIE_WIDTH_LIMIT,
    PCIE_ERRORS,
    NVLINK_IO,
    NVLINK_IO_RATE,
    NVLINK_ACTIVE,
    NVLINK_LIMIT,
    NVLINK_ERRORS,
)
