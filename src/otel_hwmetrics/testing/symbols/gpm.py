# SPDX-License-Identifier: Apache-2.0
"""GPM (GPU Performance Monitoring): two samples, and the means between them.

https://docs.nvidia.com/deploy/nvml-api/group__nvmlGpmFunctions.html
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import pynvml

from otel_hwmetrics.testing.gpu import InvalidValueError
from otel_hwmetrics.testing.symbols.core import (
    Device,
    Machine,
    MigDevice,
    Refused,
    device_call,
    library_call,
    mig_call,
    not_supported,
    out,
    pointed,
    symbol,
    uint,
)
from otel_hwmetrics.testing.symbols.machine import ADDRESSES, GpmSample

_PERCENT: Final = 100.0
_MIBIBYTES: Final = 1 / 2**20

# "The interval between these two nvmlGpmSampleGet() API calls should be greater than 100ms due to the internal sample
# refresh rate." What the driver answers otherwise is not said; an error is what a reader must not run into.
_SHORTEST: Final = 0.100

METRICS: Final = {
    "NVML_GPM_METRIC_GRAPHICS_UTIL": ("utilization", _PERCENT),
    "NVML_GPM_METRIC_SM_UTIL": ("sm_activity", _PERCENT),
    "NVML_GPM_METRIC_SM_OCCUPANCY": ("sm_occupancy", _PERCENT),
    "NVML_GPM_METRIC_ANY_TENSOR_UTIL": ("tensor_activity", _PERCENT),
    "NVML_GPM_METRIC_DRAM_BW_UTIL": ("dram_activity", _PERCENT),
    "NVML_GPM_METRIC_FP64_UTIL": ("fp64_activity", _PERCENT),
    "NVML_GPM_METRIC_FP32_UTIL": ("fp32_activity", _PERCENT),
    "NVML_GPM_METRIC_FP16_UTIL": ("fp16_activity", _PERCENT),
    "NVML_GPM_METRIC_PCIE_TX_PER_SEC": ("pcie_tx", _MIBIBYTES),
    "NVML_GPM_METRIC_PCIE_RX_PER_SEC": ("pcie_rx", _MIBIBYTES),
    "NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC": ("nvlink_tx", _MIBIBYTES),
    "NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC": ("nvlink_rx", _MIBIBYTES),
}
"""The metrics that are scripted, by NVML's names: their quantity, and how many of NVML's units one of it is."""

_BY_NUMBER: Final = {getattr(pynvml, name): what for name, what in METRICS.items()}
_QUANTITIES: Final = tuple(quantity for quantity, _ in METRICS.values())


def metric_number(key: object, where: str) -> int:
    """Return the number of a GPM metric given by name or number.

    Raises:
        InvalidValueError: There is no such metric here.
    """
    number = getattr(pynvml, key) if isinstance(key, str) and key in METRICS else key
    if type(number) is int and number in _BY_NUMBER:
        return number
    raise InvalidValueError(key, where, f"one of {', '.join(METRICS)}, or its number")


def _gpm_sample(raw: object) -> int:
    """Take the handle of a sample buffer."""
    if isinstance(raw, pynvml.c_nvmlGpmSample_t):
        return ctypes.cast(raw, ctypes.c_void_p).value or 0
    raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)


@library_call("nvmlGpmSampleAlloc", out(pynvml.c_nvmlGpmSample_t))
def _alloc(machine: Machine, sample: Any) -> None:
    address = next(ADDRESSES)
    machine.gpm_samples[address] = None
    ctypes.c_void_p.from_buffer(sample).value = address


@library_call("nvmlGpmSampleFree", _gpm_sample)
def _free(machine: Machine, address: int) -> None:
    _check(machine, address)
    del machine.gpm_samples[address]


def _check(machine: Machine, address: int) -> None:
    if address not in machine.gpm_samples:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)


@device_call("nvmlGpmQueryDeviceSupport", out(pynvml.c_nvmlGpmSupport_t, pynvml.NVML_GPM_SUPPORT_VERSION))
def _support(device: Device, support: Any) -> None:
    support.isSupportedDevice = device.gpu.gpm


@mig_call("nvmlGpmQueryDeviceSupport")
def _mig_support(device: MigDevice, support: Any) -> None:
    support.isSupportedDevice = device.parent.gpu.gpm


@device_call("nvmlGpmSampleGet", _gpm_sample)
def _sample(device: Device, address: int) -> None:
    _take(device, device, address)


@device_call("nvmlGpmMigSampleGet", uint, _gpm_sample)
def _mig_sample(device: Device, gpu_instance_id: int, address: int) -> None:
    for mig in device.mig:
        if mig.gpu_instance_id == gpu_instance_id:
            _take(device, mig, address)
            return
    raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)


def _take(parent: Device, device: Device | MigDevice, address: int) -> None:
    _check(parent.machine, address)
    if not parent.gpu.gpm:
        raise not_supported()
    areas = {quantity: device.area(quantity) for quantity in _QUANTITIES}
    parent.machine.gpm_samples[address] = GpmSample(device, device.times.elapsed(), areas)


def _samples(machine: Machine, raw: object) -> tuple[GpmSample, GpmSample]:
    asked: Any = pointed(raw)
    if type(asked) is not pynvml.c_nvmlGpmMetricsGet_t:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    first, second = (machine.gpm_samples.get(_gpm_sample(each)) for each in (asked.sample1, asked.sample2))
    if first is None or second is None or first.device is not second.device:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    return first, second


def _by_samples(machine: Machine, raw: object) -> Device:
    """Find the device whose samples are compared; of a MIG device, its GPU."""
    device = _samples(machine, raw)[0].device
    return device.parent if isinstance(device, MigDevice) else device


@symbol(
    "nvmlGpmMetricsGet",
    out(pynvml.c_nvmlGpmMetricsGet_t, pynvml.NVML_GPM_METRICS_GET_VERSION),
    find=_by_samples,
    inside=True,
)
def _metrics(device: Device, asked: Any) -> None:
    first, second = _samples(device.machine, ctypes.pointer(asked))
    seconds = second.taken - first.taken
    # A hair less than is asked for: a clock that goes by decimal fractions of a second is not a reader's fault.
    if not 0 < asked.numMetrics <= len(asked.metrics) or seconds < _SHORTEST - 1e-9:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    refused = {metric_number(key, "unsupported_gpm_metrics") for key in device.gpu.unsupported_gpm_metrics}
    for metric in asked.metrics[: asked.numMetrics]:
        metric.nvmlReturn = device.machine.error("metric", metric.metricId, device.index)
        if metric.nvmlReturn == pynvml.NVML_SUCCESS:
            quantity, unit = _BY_NUMBER.get(metric.metricId, ("", 0.0))
            begin, end = first.areas.get(quantity), second.areas.get(quantity)
            if begin is None or end is None or metric.metricId in refused:
                metric.nvmlReturn = pynvml.NVML_ERROR_NOT_SUPPORTED
            else:
                metric.value = (end - begin) / seconds * unit
