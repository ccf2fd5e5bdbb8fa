# SPDX-License-Identifier: Apache-2.0
"""PCI Express and NVLink."""

from __future__ import annotations

import ctypes
from typing import Final

import pynvml

from otel_hwmetrics.testing.symbols.core import Device, Refused, device_call, not_supported, out, uint

_KIBIBYTE: Final = 1024

# By NVML_NVLINK_ERROR_DL_*.
_NVLINK_ERRORS: Final = {
    pynvml.NVML_NVLINK_ERROR_DL_REPLAY: "nvlink_replays",
    pynvml.NVML_NVLINK_ERROR_DL_RECOVERY: "nvlink_recoveries",
    pynvml.NVML_NVLINK_ERROR_DL_CRC_FLIT: "nvlink_crc_flit_errors",
    pynvml.NVML_NVLINK_ERROR_DL_CRC_DATA: "nvlink_crc_data_errors",
}


@device_call("nvmlDeviceGetCurrPcieLinkGeneration", out(ctypes.c_uint))
def _generation(device: Device, generation: ctypes.c_uint) -> None:
    generation.value = device.count("pcie_generation")


@device_call("nvmlDeviceGetCurrPcieLinkWidth", out(ctypes.c_uint))
def _width(device: Device, width: ctypes.c_uint) -> None:
    width.value = device.count("pcie_width")


@device_call("nvmlDeviceGetMaxPcieLinkGeneration", out(ctypes.c_uint))
def _generation_max(device: Device, generation: ctypes.c_uint) -> None:
    generation.value = device.gpu.pcie_generation_max


@device_call("nvmlDeviceGetMaxPcieLinkWidth", out(ctypes.c_uint))
def _width_max(device: Device, width: ctypes.c_uint) -> None:
    width.value = device.gpu.pcie_width_max


@device_call("nvmlDeviceGetGpuMaxPcieLinkGeneration", out(ctypes.c_uint))
def _gpu_generation_max(device: Device, generation: ctypes.c_uint) -> None:
    generation.value = device.gpu.gpu_pcie_generation_max


@device_call("nvmlDeviceGetPcieReplayCounter", out(ctypes.c_uint))
def _replays(device: Device, count: ctypes.c_uint) -> None:
    count.value = device.count("pcie_replays")


# The driver counts for 20 ms before it answers.
@device_call("nvmlDeviceGetPcieThroughput", uint, out(ctypes.c_uint), takes=0.020)
def _throughput(device: Device, direction: int, kibibytes: ctypes.c_uint) -> None:
    if direction >= pynvml.NVML_PCIE_UTIL_COUNT:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    quantity = "pcie_tx" if direction == pynvml.NVML_PCIE_UTIL_TX_BYTES else "pcie_rx"
    kibibytes.value = round(device.read(quantity) / _KIBIBYTE)


def check_link(device: Device, link: int) -> None:
    """Refuse a link that the GPU has not got.

    Raises:
        Refused: It has none at all, or not this one.
    """
    if not device.gpu.nvlinks:
        raise not_supported()
    if link >= device.gpu.nvlinks:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)


def nvlink_bytes(device: Device, quantity: str, link: int | None) -> int:
    """Return what went over one link, or over all, since the driver was loaded."""
    total = device.total(quantity)
    if link is None:
        return int(total)
    up = [each for each in range(device.gpu.nvlinks) if each not in device.gpu.nvlinks_down]
    return int(total / len(up)) if link in up else 0


def nvlink_errors(device: Device, counter: int, link: int | None) -> int:
    """Return an error counter of one link, or of all.

    Raises:
        Refused: There is no such counter.
    """
    if counter not in _NVLINK_ERRORS:
        raise not_supported()
    return device.count(_NVLINK_ERRORS[counter]) if link in (None, 0) else 0


@device_call("nvmlDeviceGetNvLinkState", uint, out(ctypes.c_uint))
def _link_state(device: Device, link: int, active: ctypes.c_uint) -> None:
    check_link(device, link)
    active.value = link not in device.gpu.nvlinks_down


@device_call("nvmlDeviceGetNvLinkErrorCounter", uint, uint, out(ctypes.c_ulonglong))
def _link_errors(device: Device, link: int, counter: int, errors: ctypes.c_ulonglong) -> None:
    check_link(device, link)
    if counter >= pynvml.NVML_NVLINK_ERROR_COUNT:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    errors.value = nvlink_errors(device, counter, link)
