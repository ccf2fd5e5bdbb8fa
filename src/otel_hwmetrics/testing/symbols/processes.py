# SPDX-License-Identifier: Apache-2.0
"""Who uses a GPU."""

from __future__ import annotations

import ctypes
from typing import Any, Final

import pynvml

from otel_hwmetrics.testing.gpu import FakeProcess
from otel_hwmetrics.testing.symbols.activity import periods
from otel_hwmetrics.testing.symbols.core import (
    Device,
    MigDevice,
    Refused,
    array,
    device_call,
    mig_call,
    out,
    room,
    ullong,
)
from otel_hwmetrics.testing.values import Signal

_NO_INSTANCE: Final = 2**32 - 1
_NOT_AVAILABLE: Final = 2**64 - 1
_PERCENT: Final = 100

_LIST: Final = (out(ctypes.c_uint), array(pynvml.c_nvmlProcessInfo_v3_t))


def _there(device: Device, kind: str | None = None) -> list[FakeProcess]:
    now = device.times.elapsed()
    return [each for each in device.gpu.processes if each.since <= now < each.until and kind in (None, each.kind)]


def _fill(found: list[FakeProcess], now: float, count: ctypes.c_uint, infos: Any) -> None:
    if not room(len(found), count, infos):
        return
    for info, process in zip(infos, found, strict=False):
        memory = process.signals().get("memory")
        used = None if memory is None else memory.at(now)
        info.pid = process.pid
        info.usedGpuMemory = _NOT_AVAILABLE if used is None else round(used)
        info.gpuInstanceId = _NO_INSTANCE if process.gpu_instance_id is None else process.gpu_instance_id
        info.computeInstanceId = _NO_INSTANCE if process.compute_instance_id is None else process.compute_instance_id


@device_call("nvmlDeviceGetComputeRunningProcesses_v3", *_LIST)
def _compute(device: Device, count: ctypes.c_uint, infos: Any) -> None:
    _fill(_there(device, "compute"), device.times.elapsed(), count, infos)


@device_call("nvmlDeviceGetGraphicsRunningProcesses_v3", *_LIST)
def _graphics(device: Device, count: ctypes.c_uint, infos: Any) -> None:
    _fill(_there(device, "graphics"), device.times.elapsed(), count, infos)


@mig_call("nvmlDeviceGetComputeRunningProcesses_v3")
def _mig_compute(device: MigDevice, count: ctypes.c_uint, infos: Any) -> None:
    found = [
        each
        for each in _there(device.parent, "compute")
        if each.gpu_instance_id == device.gpu_instance_id
        and each.compute_instance_id in (None, device.mig.compute_instance_id)
    ]
    _fill(found, device.times.elapsed(), count, infos)


@device_call(
    "nvmlDeviceGetProcessUtilization",
    array(pynvml.c_nvmlProcessUtilizationSample_t),
    out(ctypes.c_uint),
    ullong,
)
def _utilization(device: Device, samples: Any, count: ctypes.c_uint, last_seen: int) -> None:
    """Give the newest sample of each process that was there for all of the period."""
    device.refuse_if_split()
    period = next(reversed(list(periods(device))), None)
    found = [] if period is None else [each for each in _there(device) if each.since <= period[0]]
    if period is None or not found or device.times.boot_us(period[1]) <= last_seen:
        raise Refused(pynvml.NVML_ERROR_NOT_FOUND)
    if not room(len(found), count, samples):
        return
    for sample, process in zip(samples, found, strict=False):
        signals = process.signals()
        sample.pid = process.pid
        sample.timeStamp = device.times.boot_us(period[1])
        sample.smUtil = _percent(signals["sm_utilization"], period)
        sample.memUtil = _percent(signals["memory_utilization"], period)
        sample.encUtil = _percent(signals["encoder_utilization"], period)
        sample.decUtil = _percent(signals["decoder_utilization"], period)


def _percent(signal: Signal, period: tuple[float, float]) -> int:
    mean = signal.mean(*period)
    return 0 if mean is None else round(mean * _PERCENT)
