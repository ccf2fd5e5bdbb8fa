# SPDX-License-Identifier: Apache-2.0
"""Clocks, and what holds them back."""

from __future__ import annotations

import ctypes
from typing import Any, Final

import pynvml

from otel_hwmetrics.testing.symbols.core import Device, Refused, device_call, not_supported, out, uint

_MEGAHERTZ: Final = 1e6
_IDLE: Final = 0x1  # nvmlClocksEventReasonGpuIdle
_CLOCKS: Final = {
    pynvml.NVML_CLOCK_GRAPHICS: "graphics_clock",
    pynvml.NVML_CLOCK_SM: "sm_clock",
    pynvml.NVML_CLOCK_MEM: "memory_clock",
    pynvml.NVML_CLOCK_VIDEO: "video_clock",
}
# The bits of nvmlClocksEventReason*; what slows by heat or brake is "hardware slowdown", too.
_REASONS: Final = {
    "throttled_sw_power_cap": 0x4,
    "throttled_sync_boost": 0x10,
    "throttled_sw_thermal": 0x20,
    "throttled_hw_thermal": 0x48,
    "throttled_hw_power_brake": 0x88,
}

POLICIES: Final = {
    pynvml.NVML_PERF_POLICY_POWER: ("throttled_sw_power_cap",),
    pynvml.NVML_PERF_POLICY_THERMAL: ("throttled_sw_thermal", "throttled_hw_thermal"),
    pynvml.NVML_PERF_POLICY_SYNC_BOOST: ("throttled_sync_boost",),
    pynvml.NVML_PERF_POLICY_BOARD_LIMIT: ("throttled_board_limit",),
    pynvml.NVML_PERF_POLICY_LOW_UTILIZATION: ("throttled_low_utilization",),
    pynvml.NVML_PERF_POLICY_RELIABILITY: ("throttled_reliability",),
    pynvml.NVML_PERF_POLICY_TOTAL_APP_CLOCKS: ("throttled_app_clocks",),
    pynvml.NVML_PERF_POLICY_TOTAL_BASE_CLOCKS: ("throttled_base_clocks",),
}
"""What each performance policy counts the time of."""


def held_back(device: Device, policy: int) -> int:
    """Return for how many nanoseconds a performance policy has held the clocks back.

    Raises:
        Refused: There is no such policy.
    """
    if policy not in POLICIES:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    return sum(device.nanoseconds(cause) for cause in POLICIES[policy])


@device_call("nvmlDeviceGetClockInfo", uint, out(ctypes.c_uint))
def _clock_info(device: Device, clock: int, megahertz: ctypes.c_uint) -> None:
    if clock not in _CLOCKS:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    megahertz.value = round(device.read(_CLOCKS[clock]) / _MEGAHERTZ)


@device_call("nvmlDeviceGetMaxClockInfo", uint, out(ctypes.c_uint))
def _max_clock_info(device: Device, clock: int, megahertz: ctypes.c_uint) -> None:
    if clock not in _CLOCKS:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    megahertz.value = round(getattr(device.gpu, f"{_CLOCKS[clock]}_max") / _MEGAHERTZ)


@device_call("nvmlDeviceGetPerformanceState", out(ctypes.c_uint))
def _performance_state(device: Device, state: ctypes.c_uint) -> None:
    state.value = device.count("performance_state")


@device_call("nvmlDeviceGetCurrentClocksEventReasons", out(ctypes.c_ulonglong))
@device_call("nvmlDeviceGetCurrentClocksThrottleReasons", out(ctypes.c_ulonglong))
def _event_reasons(device: Device, reasons: ctypes.c_ulonglong) -> None:
    if device.gpu.clocks_event_reasons is not None:
        reasons.value = device.count("clocks_event_reasons")
        return
    mask = 0
    for cause, bits in _REASONS.items():
        if device.read(cause) > 0:
            mask |= bits
    reasons.value = mask if device.read("utilization") > 0 else mask | _IDLE


@device_call("nvmlDeviceGetViolationStatus", uint, out(pynvml.c_nvmlViolationTime_t))
def _violation_status(device: Device, policy: int, times: Any) -> None:
    if policy >= pynvml.NVML_PERF_POLICY_COUNT:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    if policy not in POLICIES:
        raise not_supported()
    times.referenceTime = device.times.epoch_us()
    times.violationTime = held_back(device, policy)
