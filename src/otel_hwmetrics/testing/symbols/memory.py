# SPDX-License-Identifier: Apache-2.0
"""Memory: of the device, and the part of it that the host can map."""

from __future__ import annotations

from typing import Any

import pynvml

from otel_hwmetrics.testing.symbols.core import Device, MigDevice, device_call, mig_call, out


@device_call("nvmlDeviceGetMemoryInfo", out(pynvml.c_nvmlMemory_t))
def _memory_info(device: Device, memory: Any) -> None:
    _first(device, device.gpu.memory_total, device.gpu.memory_reserved, memory)


@mig_call("nvmlDeviceGetMemoryInfo")
def _mig_memory_info(device: MigDevice, memory: Any) -> None:
    _first(device, device.mig.memory_total, device.mig.memory_reserved, memory)


def _first(device: Device | MigDevice, total: int, reserved: int, memory: Any) -> None:
    memory.total = total
    memory.used = round(device.read("memory_used")) + reserved
    memory.free = memory.total - memory.used


@device_call("nvmlDeviceGetMemoryInfo_v2", out(pynvml.c_nvmlMemory_v2_t, pynvml.nvmlMemory_v2))
def _memory_info_v2(device: Device, memory: Any) -> None:
    _second(device, device.gpu.memory_total, device.gpu.memory_reserved, memory)


@mig_call("nvmlDeviceGetMemoryInfo_v2")
def _mig_memory_info_v2(device: MigDevice, memory: Any) -> None:
    _second(device, device.mig.memory_total, device.mig.memory_reserved, memory)


def _second(device: Device | MigDevice, total: int, reserved: int, memory: Any) -> None:
    memory.total = total
    memory.reserved = reserved
    memory.used = round(device.read("memory_used"))
    memory.free = memory.total - memory.reserved - memory.used


@device_call("nvmlDeviceGetBAR1MemoryInfo", out(pynvml.c_nvmlBAR1Memory_t))
def _bar1_memory_info(device: Device, memory: Any) -> None:
    memory.bar1Total = device.gpu.bar1_total
    memory.bar1Used = round(device.read("bar1_used"))
    memory.bar1Free = memory.bar1Total - memory.bar1Used
