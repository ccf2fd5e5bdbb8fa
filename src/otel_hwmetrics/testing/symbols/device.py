# SPDX-License-Identifier: Apache-2.0
"""Finding a device, and what does not change about it."""

from __future__ import annotations

import ctypes
from typing import Any, Final

import pynvml

from otel_hwmetrics.testing.gpu import ARCHITECTURES
from otel_hwmetrics.testing.symbols.core import (
    Device,
    MigDevice,
    Refused,
    by_index,
    by_uuid,
    chars,
    device_call,
    mig_call,
    not_supported,
    out,
    symbol,
    uint,
    write,
)

_H100_SXM: Final = 0x2330_10DE
_NVIDIA_BOARD: Final = 0x16C1_10DE
_BUS_ID_SIZE: Final = 32
_LEGACY_BUS_ID_SIZE: Final = 16


@mig_call("nvmlDeviceGetHandleByUUID")
@symbol("nvmlDeviceGetHandleByIndex_v2", out(pynvml.c_nvmlDevice_t), find=by_index)
@symbol("nvmlDeviceGetHandleByUUID", out(pynvml.c_nvmlDevice_t), find=by_uuid)
def _handle(device: Device | MigDevice, handle: Any) -> None:
    give_handle(device, handle)


def give_handle(device: Device | MigDevice, handle: Any) -> None:
    """Write the handle of a device where the caller wants it."""
    ctypes.c_void_p.from_buffer(handle).value = device.address


@device_call("nvmlDeviceGetName", chars, uint)
def _name(device: Device, buffer: ctypes.Array[ctypes.c_char], length: int) -> None:
    write(device.gpu.name, buffer, length)


@device_call("nvmlDeviceGetUUID", chars, uint)
def _uuid(device: Device, buffer: ctypes.Array[ctypes.c_char], length: int) -> None:
    write(device.gpu.uuid, buffer, length)


@device_call("nvmlDeviceGetIndex", out(ctypes.c_uint))
def _index(device: Device, index: ctypes.c_uint) -> None:
    index.value = device.index


@device_call("nvmlDeviceGetSerial", chars, uint)
def _serial(device: Device, buffer: ctypes.Array[ctypes.c_char], length: int) -> None:
    if not device.gpu.serial:
        raise not_supported()
    write(device.gpu.serial, buffer, length)


@device_call("nvmlDeviceGetVbiosVersion", chars, uint)
def _vbios(device: Device, buffer: ctypes.Array[ctypes.c_char], length: int) -> None:
    write(device.gpu.vbios, buffer, length)


@device_call("nvmlDeviceGetArchitecture", out(ctypes.c_uint))
def _architecture(device: Device, architecture: ctypes.c_uint) -> None:
    architecture.value = pynvml.NVML_DEVICE_ARCH_KEPLER + ARCHITECTURES.index(device.gpu.architecture)


@device_call("nvmlDeviceGetCudaComputeCapability", out(ctypes.c_int), out(ctypes.c_int))
def _compute_capability(device: Device, major: ctypes.c_int, minor: ctypes.c_int) -> None:
    major.value, minor.value = device.gpu.compute_capability


@device_call("nvmlDeviceGetPersistenceMode", out(ctypes.c_uint))
def _persistence_mode(device: Device, mode: ctypes.c_uint) -> None:
    mode.value = device.gpu.persistence_mode


@device_call("nvmlDeviceGetPciInfo_v3", out(pynvml.nvmlPciInfo_t))
def _pci_info(device: Device, info: Any) -> None:
    bus_id = device.gpu.pci_bus_id or f"00000000:{0x1B + 0x10 * device.index:02X}:00.0"
    try:
        domain, bus, slot = bus_id.partition(".")[0].split(":")
        info.domain, info.bus, info.device = int(domain, 16), int(bus, 16), int(slot, 16)
    except ValueError:
        raise Refused(pynvml.NVML_ERROR_UNKNOWN) from None
    info.busId = bus_id[: _BUS_ID_SIZE - 1]
    info.busIdLegacy = bus_id[-(_LEGACY_BUS_ID_SIZE - 4) :]
    info.pciDeviceId, info.pciSubSystemId = _H100_SXM, _NVIDIA_BOARD
