# SPDX-License-Identifier: Apache-2.0
"""Power, temperatures and fans."""

from __future__ import annotations

import ctypes
from typing import Any, Final

import pynvml

from otel_hwmetrics.testing.symbols.core import Device, Refused, device_call, not_supported, out, uint

_THRESHOLDS: Final = {
    pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN: "temperature_shutdown",
    pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN: "temperature_slowdown",
    pynvml.NVML_TEMPERATURE_THRESHOLD_MEM_MAX: "temperature_memory_max",
    pynvml.NVML_TEMPERATURE_THRESHOLD_GPU_MAX: "temperature_gpu_max",
}


@device_call("nvmlDeviceGetPowerUsage", out(ctypes.c_uint))
def _power_usage(device: Device, milliwatts: ctypes.c_uint) -> None:
    milliwatts.value = round(device.read("power") * 1000)


@device_call("nvmlDeviceGetEnforcedPowerLimit", out(ctypes.c_uint))
@device_call("nvmlDeviceGetPowerManagementLimit", out(ctypes.c_uint))
def _power_limit(device: Device, milliwatts: ctypes.c_uint) -> None:
    milliwatts.value = round(device.read("power_limit") * 1000)


@device_call("nvmlDeviceGetPowerManagementDefaultLimit", out(ctypes.c_uint))
def _power_default_limit(device: Device, milliwatts: ctypes.c_uint) -> None:
    milliwatts.value = round(device.gpu.power_default_limit * 1000)


@device_call("nvmlDeviceGetTotalEnergyConsumption", out(ctypes.c_uint64))
def _total_energy(device: Device, millijoules: ctypes.c_uint64) -> None:
    millijoules.value = device.millijoules()


def _celsius(device: Device, sensor: int) -> int:
    if sensor != pynvml.NVML_TEMPERATURE_GPU:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    return round(device.read("temperature"))


@device_call("nvmlDeviceGetTemperatureV", out(pynvml.c_nvmlTemperature_v1_t, pynvml.nvmlTemperature_v1))
def _temperature_v(device: Device, reading: Any) -> None:
    reading.temperature = _celsius(device, reading.sensorType)


@device_call("nvmlDeviceGetTemperature", uint, out(ctypes.c_uint))
def _temperature(device: Device, sensor: int, celsius: ctypes.c_uint) -> None:
    celsius.value = _celsius(device, sensor)


@device_call("nvmlDeviceGetTemperatureThreshold", uint, out(ctypes.c_uint))
def _temperature_threshold(device: Device, threshold: int, celsius: ctypes.c_uint) -> None:
    if threshold >= pynvml.NVML_TEMPERATURE_THRESHOLD_COUNT:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    limit = getattr(device.gpu, _THRESHOLDS[threshold]) if threshold in _THRESHOLDS else None
    if limit is None:
        raise not_supported()
    celsius.value = round(limit)


@device_call(
    "nvmlDeviceGetMarginTemperature", out(pynvml.c_nvmlMarginTemperature_v1_t, pynvml.nvmlMarginTemperature_v1)
)
def _margin_temperature(device: Device, margin: Any) -> None:
    slowdown = device.gpu.temperature_slowdown
    if device.gpu.thermal_margin is not None:
        margin.marginTemperature = round(device.read("thermal_margin"))
    elif slowdown is not None:
        margin.marginTemperature = round(slowdown - device.read("temperature"))
    else:
        raise not_supported()


@device_call("nvmlDeviceGetNumFans", out(ctypes.c_uint))
def _num_fans(device: Device, count: ctypes.c_uint) -> None:
    count.value = device.gpu.fans


def _check_fan(device: Device, fan: int) -> None:
    if not device.gpu.fans:
        raise not_supported()
    if fan >= device.gpu.fans:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)


@device_call("nvmlDeviceGetFanSpeed_v2", uint, out(ctypes.c_uint))
def _fan_speed(device: Device, fan: int, percent: ctypes.c_uint) -> None:
    _check_fan(device, fan)
    percent.value = round(device.read("fan_speed") * 100)


@device_call("nvmlDeviceGetFanSpeedRPM", out(pynvml.c_nvmlFanSpeedInfo_t, pynvml.nvmlFanSpeedInfo_v1))
def _fan_rpm(device: Device, info: Any) -> None:
    _check_fan(device, info.fan)
    info.speed = round(device.read("fan_rpm"))
