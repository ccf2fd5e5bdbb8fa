# SPDX-License-Identifier: Apache-2.0
"""The series of the host on Linux: those that every machine has, and how those of a CPU, disk or interface are made."""

from __future__ import annotations

from typing import Final

from opentelemetry.semconv._incubating.attributes.cpu_attributes import CpuModeValues
from opentelemetry.semconv._incubating.attributes.disk_attributes import DiskIoDirectionValues
from opentelemetry.semconv._incubating.attributes.network_attributes import NetworkIoDirectionValues
from opentelemetry.semconv._incubating.attributes.system_attributes import (
    SystemMemoryStateValues,
    SystemPagingDirectionValues,
    SystemPagingStateValues,
)

from otel_hwmetrics.catalog import pressure
from otel_hwmetrics.catalog import system as rows
from otel_hwmetrics.model import Metric, Series

_MODES: Final = (
    CpuModeValues.USER,  # holds guest time already (proc(5), /proc/stat)
    CpuModeValues.NICE,
    CpuModeValues.SYSTEM,
    CpuModeValues.IDLE,
    CpuModeValues.IOWAIT,
    CpuModeValues.INTERRUPT,
    CpuModeValues.STEAL,
)
_READ, _WRITE = DiskIoDirectionValues.READ.value, DiskIoDirectionValues.WRITE.value
_RECEIVE, _TRANSMIT = NetworkIoDirectionValues.RECEIVE.value, NetworkIoDirectionValues.TRANSMIT.value


def _states(metric: Metric, key: str, *values: str) -> tuple[Series, ...]:
    return tuple(Series(metric, {key: value}) for value in values)


PROCESSES: Final = (
    Series(rows.PROCESS_CREATED),
    # The conventions have no word for what the kernel calls blocked, "sleeping" is not it, and others may be used.
    *_states(rows.PROCESS_COUNT, rows.PROCESS_STATE, "running", "blocked"),
)
MEMORY: Final = (
    Series(rows.MEMORY_LIMIT),
    *_states(
        rows.MEMORY_USAGE,
        rows.MEMORY_STATE,
        SystemMemoryStateValues.USED.value,
        SystemMemoryStateValues.FREE.value,
        SystemMemoryStateValues.BUFFERS.value,
        SystemMemoryStateValues.CACHED.value,
    ),
    Series(rows.MEMORY_AVAILABLE),
    Series(rows.MEMORY_SHARED),
    *_states(rows.MEMORY_SLAB, rows.SLAB_STATE, "reclaimable", "unreclaimable"),
)
_SWAP_STATES: Final = (SystemPagingStateValues.USED.value, SystemPagingStateValues.FREE.value)
SWAP: Final = _states(rows.PAGING_USAGE, rows.PAGING_STATE, *_SWAP_STATES)
SWAP_SHARES: Final = _states(rows.PAGING_UTILIZATION, rows.PAGING_STATE, *_SWAP_STATES)
PAGING: Final = (
    *(
        # A page that comes from swap is what a major fault waits for; so the collector's host receiver has it, too.
        Series(rows.PAGING_OPERATIONS, {rows.PAGING_DIRECTION: direction.value, rows.FAULT_TYPE: "major"})
        for direction in (SystemPagingDirectionValues.IN, SystemPagingDirectionValues.OUT)
    ),
    *_states(rows.PAGING_FAULTS, rows.FAULT_TYPE, "minor", "major"),
)
IO_STALL: Final = Series(
    pressure.STALL_TIME,
    {pressure.RESOURCE: "io", pressure.KIND: "some", pressure.SCOPE: "host", pressure.METHOD: "iowait"},
)
UPTIME: Final = Series(rows.UPTIME)
PHYSICAL: Final = Series(rows.CPU_PHYSICAL_COUNT)
LOGICAL: Final = Series(rows.CPU_LOGICAL_COUNT)


def of_cpu(number: int | None = None) -> tuple[Series, ...]:
    """CPU time by mode, of one logical CPU or of all together: user, nice, system, idle, iowait, interrupt, steal."""
    which = {} if number is None else {rows.CPU_NUMBER: number}
    return tuple(Series(rows.CPU_TIME, {rows.CPU_MODE: mode.value, **which}) for mode in _MODES)


def of_disk(name: str) -> tuple[Series, ...]:
    """Bytes, operations, their time and merged ones, each read and written; then the time that it was busy."""
    both = [{rows.DEVICE: name, rows.IO_DIRECTION: direction} for direction in (_READ, _WRITE)]
    of_both = (rows.DISK_IO, rows.DISK_OPERATIONS, rows.DISK_OPERATION_TIME, rows.DISK_MERGED)
    paired = (Series(metric, attributes) for metric in of_both for attributes in both)
    return (*paired, Series(rows.DISK_IO_TIME, {rows.DEVICE: name}))


def of_interface(name: str) -> tuple[Series, ...]:
    """In the order of `netdev.Interface`."""
    return tuple(
        # Packets have their interface under another key: the conventions say so.
        Series(metric, {metric.attributes[0]: name, rows.NETWORK_DIRECTION: direction})
        for direction in (_RECEIVE, _TRANSMIT)
        for metric in (rows.NETWORK_IO, rows.NETWORK_PACKETS, rows.NETWORK_ERRORS, rows.NETWORK_DROPPED)
    )
