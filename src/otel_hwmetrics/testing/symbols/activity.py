# SPDX-License-Identifier: Apache-2.0
"""Utilization of the moment, and the ring of samples that the driver keeps."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any, Final

import pynvml

from otel_hwmetrics.testing.symbols.core import Device, Refused, array, device_call, not_supported, out, uint, ullong

_PERCENT: Final = 100
_MILLIWATTS: Final = 1000
_CODEC_PERIOD_US: Final = 167_000

# Which quantity each kind of sample is of, and how many of NVML's units one is.
_SAMPLED: Final = {
    pynvml.NVML_TOTAL_POWER_SAMPLES: ("power", _MILLIWATTS),
    pynvml.NVML_GPU_UTILIZATION_SAMPLES: ("utilization", _PERCENT),
    pynvml.NVML_MEMORY_UTILIZATION_SAMPLES: ("memory_controller_utilization", _PERCENT),
}
SAMPLE_KINDS: Final = frozenset(_SAMPLED)
"""The kinds of samples there are in a ring."""


@device_call("nvmlDeviceGetUtilizationRates", out(pynvml.c_nvmlUtilization_t))
def _utilization_rates(device: Device, percent: Any) -> None:
    device.refuse_if_split()
    percent.gpu = round(device.read("utilization") * _PERCENT)
    percent.memory = round(device.read("memory_controller_utilization") * _PERCENT)


@device_call("nvmlDeviceGetEncoderUtilization", out(ctypes.c_uint), out(ctypes.c_uint))
def _encoder_utilization(device: Device, percent: ctypes.c_uint, period: ctypes.c_uint) -> None:
    _codec(device, "encoder_utilization", percent, period)


@device_call("nvmlDeviceGetDecoderUtilization", out(ctypes.c_uint), out(ctypes.c_uint))
def _decoder_utilization(device: Device, percent: ctypes.c_uint, period: ctypes.c_uint) -> None:
    _codec(device, "decoder_utilization", percent, period)


def _codec(device: Device, quantity: str, percent: ctypes.c_uint, period: ctypes.c_uint) -> None:
    device.refuse_if_split()
    percent.value = round(device.read(quantity) * _PERCENT)
    period.value = _CODEC_PERIOD_US


def periods(device: Device) -> Iterator[tuple[float, float]]:
    """Yield the periods that the driver's ring holds samples of, oldest first: begin and end in seconds of the script."""
    length = device.gpu.sample_period
    # A clock that has come to the end of a period by many small steps may be a rounding short of it.
    latest = int(device.times.elapsed() / length + 1e-9)
    for number in range(max(1, latest - device.gpu.sample_count + 1), latest + 1):
        yield (number - 1) * length, number * length


def _ring(device: Device, kind: int) -> Iterator[tuple[int, int]]:
    """Yield timestamp and raw value of every sample of a kind, and after them the strays."""
    quantity, unit = _SAMPLED[kind]
    for start, end in periods(device):
        if unit == _PERCENT and device.gpu.idle_ring_is_empty and not device.signals["utilization"].mean(start, end):
            continue
        value = device.signals[quantity].mean(start, end)
        if value is not None:
            yield device.times.boot_us(end), round(value * unit)
    yield from ((timestamp, raw) for each, timestamp, raw in device.strays if each == kind)


@device_call(
    "nvmlDeviceGetSamples",
    uint,
    ullong,
    out(ctypes.c_uint),
    out(ctypes.c_uint),
    array(pynvml.c_nvmlSample_t),
)
def _samples(  # noqa: PLR0913, PLR0917 - the C function has as many
    device: Device, kind: int, last_seen: int, value_type: ctypes.c_uint, count: ctypes.c_uint, samples: Any
) -> None:
    if kind >= pynvml.NVML_SAMPLINGTYPE_COUNT:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    if kind not in _SAMPLED:
        raise not_supported()
    if kind != pynvml.NVML_TOTAL_POWER_SAMPLES:
        device.refuse_if_split()
    value_type.value = pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
    if samples is None:
        # The room that the ring may need, not the number of new samples: more may come before the second call.
        count.value = device.gpu.sample_count + len(device.strays)
        return
    # A stray of timestamp 0 is newer than nothing, but comes all the same: that is what makes it one.
    new = [(at, raw) for at, raw in _ring(device, kind) if at > last_seen or at == 0][: min(count.value, len(samples))]
    if not new:
        raise Refused(pynvml.NVML_ERROR_NOT_FOUND)
    for sample, (timestamp, raw) in zip(samples, new, strict=False):
        sample.timeStamp = timestamp
        sample.sampleValue.ullVal = 0
        sample.sampleValue.uiVal = raw
    count.value = len(new)
