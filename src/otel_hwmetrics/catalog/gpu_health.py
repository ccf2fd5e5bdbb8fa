# SPDX-License-Identifier: Apache-2.0
"""Whether a GPU is well: its status, its errors, and memory that has been taken out of use."""

from __future__ import annotations

from opentelemetry.semconv._incubating.attributes import hw_attributes
from opentelemetry.semconv._incubating.metrics import hw_metrics as names
from opentelemetry.semconv.attributes import error_attributes

from otel_hwmetrics.catalog.gpu import DEVICE
from otel_hwmetrics.model import Kind, Metric, Origin, Unit

HW_STATE = hw_attributes.HW_STATE
ERROR_TYPE = error_attributes.ERROR_TYPE
XID = "hwmetrics.gpu.xid"
"""NVIDIA's number for what went wrong; `otel_hwmetrics.catalog.xid` says what it means."""
REMAP_CAUSE = "hwmetrics.gpu.memory.remap.cause"
"""``corrected`` or ``uncorrected``: the kind of error for which memory was taken out of use."""

STATUS = Metric(
    names.HW_STATUS,
    Kind.UP_DOWN_COUNTER,
    Unit.RATIO,
    "Operational status: `1` (true) or `0` (false) for each of the possible states.",
    attributes=(*DEVICE, HW_STATE),
    integer=True,
)
ERRORS = Metric(
    names.HW_ERRORS,
    Kind.COUNTER,
    Unit.ERROR,
    "Number of errors encountered by the component.",
    attributes=(*DEVICE, ERROR_TYPE, XID),
    integer=True,
    # Sources count from their first look: the first XID of a code is growth, though no reading of 0 came before it.
    origin=Origin.ZERO,
)
REMAPPED_ROWS = Metric(
    "hwmetrics.gpu.memory.remapped_rows",
    Kind.UP_DOWN_COUNTER,
    Unit.ROW,
    "Rows of GPU memory (before Ampere, pages) that have been taken out of use in the board's life, by kind of error.",
    attributes=(*DEVICE, REMAP_CAUSE),
    integer=True,
    detail=True,
)
REMAP_PENDING = Metric(
    "hwmetrics.gpu.memory.remap.pending",
    Kind.UP_DOWN_COUNTER,
    Unit.RATIO,
    "Whether memory waits for a reset of the GPU to be taken out of use: 1 yes, 0 no.",
    attributes=DEVICE,
    integer=True,
)
REMAP_FAILED = Metric(
    "hwmetrics.gpu.memory.remap.failed",
    Kind.UP_DOWN_COUNTER,
    Unit.RATIO,
    "Whether memory could not be taken out of use, so that the board has to be replaced: 1 yes, 0 no.",
    attributes=DEVICE,
    integer=True,
)
RECOVERY_ACTION = Metric(
    "hwmetrics.gpu.recovery.action",
    Kind.UP_DOWN_COUNTER,
    Unit.RATIO,
    "What the driver asks for before the GPU can be used again: 0 nothing, 1 a reset, 2 a reboot of the node, 3 to drain "
    "peer-to-peer traffic, 4 to drain and reset; higher numbers as nvml.h has them.",
    attributes=DEVICE,
    integer=True,
)

METRICS: tuple[Metric, ...] = (
    STATUS,
    ERRORS,
    REMAPPED_ROWS,
    REMAP_PENDING,
    REMAP_FAILED,
    RECOVERY_ACTION,
)
