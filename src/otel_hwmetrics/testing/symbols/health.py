# SPDX-License-Identifier: Apache-2.0
"""Errors of the memory, and repairs."""

from __future__ import annotations

import ctypes
from typing import Any, Final

import pynvml

from otel_hwmetrics.testing.symbols.core import Device, Refused, device_call, not_supported, out, uint

_CORRECTED: Final = pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED
_UNCORRECTED: Final = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED

_ECC: Final = {
    (_CORRECTED, pynvml.NVML_VOLATILE_ECC): "ecc_corrected_volatile",
    (_UNCORRECTED, pynvml.NVML_VOLATILE_ECC): "ecc_uncorrected_volatile",
    (_CORRECTED, pynvml.NVML_AGGREGATE_ECC): "ecc_corrected_aggregate",
    (_UNCORRECTED, pynvml.NVML_AGGREGATE_ECC): "ecc_uncorrected_aggregate",
}


def ecc_errors(device: Device, quantity: str) -> int:
    """Return a counter of memory errors.

    Raises:
        Refused: Error correction is off.
    """
    if not device.gpu.ecc:
        raise not_supported()
    return device.count(quantity)


def remapped(device: Device, quantity: str) -> int:
    """Return a figure of row remapping.

    Raises:
        Refused: The board does not repair by row.
    """
    if not device.gpu.row_remapping:
        raise not_supported()
    return device.count(quantity)


def retired(device: Device, quantity: str) -> int:
    """Return a figure of page retirement.

    Raises:
        Refused: The board does not repair by page.
    """
    if not device.gpu.page_retirement:
        raise not_supported()
    return device.count(quantity)


@device_call("nvmlDeviceGetEccMode", out(ctypes.c_uint), out(ctypes.c_uint))
def _ecc_mode(device: Device, current: ctypes.c_uint, pending: ctypes.c_uint) -> None:
    current.value = pending.value = device.gpu.ecc


@device_call("nvmlDeviceGetTotalEccErrors", uint, uint, out(ctypes.c_ulonglong))
def _total_ecc_errors(device: Device, kind: int, counter: int, errors: ctypes.c_ulonglong) -> None:
    if (kind, counter) not in _ECC:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    errors.value = ecc_errors(device, _ECC[kind, counter])


@device_call(
    "nvmlDeviceGetRemappedRows", out(ctypes.c_uint), out(ctypes.c_uint), out(ctypes.c_uint), out(ctypes.c_uint)
)
def _remapped_rows(
    device: Device,
    correctable: ctypes.c_uint,
    uncorrectable: ctypes.c_uint,
    pending: ctypes.c_uint,
    failure: ctypes.c_uint,
) -> None:
    correctable.value = remapped(device, "remapped_correctable")
    uncorrectable.value = remapped(device, "remapped_uncorrectable")
    pending.value = remapped(device, "remap_pending")
    failure.value = remapped(device, "remap_failure")


@device_call("nvmlDeviceGetRowRemapperHistogram", out(pynvml.c_nvmlRowRemapperHistogramValues))
def _histogram(device: Device, banks: Any) -> None:
    if not device.gpu.row_remapping:
        raise not_supported()
    banks.max, banks.high, banks.partial, banks.low, banks.none = device.gpu.remap_histogram


@device_call("nvmlDeviceGetRetiredPagesPendingStatus", out(ctypes.c_uint))
def _retired_pending(device: Device, pending: ctypes.c_uint) -> None:
    pending.value = retired(device, "retired_pending")
