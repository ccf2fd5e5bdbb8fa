# SPDX-License-Identifier: Apache-2.0
"""MIG: a GPU that is split into devices. Only these functions, memory, processes and GPM know of them.

https://docs.nvidia.com/deploy/nvml-api/group__nvmlMultiInstanceGPU.html
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import pynvml

from otel_hwmetrics.testing.symbols.core import (
    Device,
    MigDevice,
    Refused,
    device_call,
    mig_call,
    not_supported,
    out,
    uint,
    write,
)
from otel_hwmetrics.testing.symbols.device import give_handle

_MEBIBYTE: Final = 2**20


@device_call("nvmlDeviceGetMigMode", out(ctypes.c_uint), out(ctypes.c_uint))
def _mode(device: Device, current: ctypes.c_uint, pending: ctypes.c_uint) -> None:
    if not device.gpu.mig_capable:
        raise not_supported()
    current.value = pending.value = bool(device.mig)


@device_call("nvmlDeviceGetMaxMigDeviceCount", out(ctypes.c_uint))
def _max_count(device: Device, count: ctypes.c_uint) -> None:
    count.value = device.gpu.max_mig_devices if device.gpu.mig_capable else 0


@device_call("nvmlDeviceGetMigDeviceHandleByIndex", uint, out(pynvml.c_nvmlDevice_t))
def _handle_by_index(device: Device, index: int, handle: Any) -> None:
    if not device.gpu.mig_capable:
        raise not_supported()
    if index >= device.gpu.max_mig_devices:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    if index >= len(device.mig):
        raise Refused(pynvml.NVML_ERROR_NOT_FOUND)
    give_handle(device.mig[index], handle)


@device_call("nvmlDeviceIsMigDeviceHandle", out(ctypes.c_uint))
def _is_no_mig(_device: Device, answer: ctypes.c_uint) -> None:
    answer.value = 0


@mig_call("nvmlDeviceIsMigDeviceHandle")
def _is_mig(_device: MigDevice, answer: ctypes.c_uint) -> None:
    answer.value = 1


@device_call("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", out(pynvml.c_nvmlDevice_t))
def _no_parent(_device: Device, _handle: Any) -> None:
    raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)


@mig_call("nvmlDeviceGetDeviceHandleFromMigDeviceHandle")
def _parent(device: MigDevice, handle: Any) -> None:
    give_handle(device.parent, handle)


@device_call("nvmlDeviceGetGpuInstanceId", out(ctypes.c_uint))
@device_call("nvmlDeviceGetComputeInstanceId", out(ctypes.c_uint))
def _no_instance(_device: Device, _number: ctypes.c_uint) -> None:
    raise not_supported()


@mig_call("nvmlDeviceGetGpuInstanceId")
def _gpu_instance(device: MigDevice, number: ctypes.c_uint) -> None:
    number.value = device.gpu_instance_id


@mig_call("nvmlDeviceGetComputeInstanceId")
def _compute_instance(device: MigDevice, number: ctypes.c_uint) -> None:
    number.value = device.mig.compute_instance_id


@device_call("nvmlDeviceGetAttributes_v2", out(pynvml.c_nvmlDeviceAttributes))
def _no_attributes(_device: Device, _attributes: Any) -> None:
    raise not_supported()


@mig_call("nvmlDeviceGetAttributes_v2")
def _attributes(device: MigDevice, attributes: Any) -> None:
    attributes.multiprocessorCount = device.mig.multiprocessors
    attributes.gpuInstanceSliceCount = attributes.computeInstanceSliceCount = device.mig.slices
    attributes.sharedCopyEngineCount = device.mig.slices
    attributes.memorySizeMB = device.mig.memory_total // _MEBIBYTE


@mig_call("nvmlDeviceGetName")
def _name(device: MigDevice, buffer: ctypes.Array[ctypes.c_char], length: int) -> None:
    write(device.name, buffer, length)


@mig_call("nvmlDeviceGetUUID")
def _uuid(device: MigDevice, buffer: ctypes.Array[ctypes.c_char], length: int) -> None:
    write(device.mig.uuid, buffer, length)


@mig_call("nvmlDeviceGetIndex")
def _index(device: MigDevice, index: ctypes.c_uint) -> None:
    index.value = device.place
