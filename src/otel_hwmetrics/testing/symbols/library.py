# SPDX-License-Identifier: Apache-2.0
"""The library itself: starting, versions, counting, texts of errors."""

from __future__ import annotations

import ctypes
from typing import Final

import pynvml

from otel_hwmetrics.testing.symbols.core import Machine, Refused, chars, library_call, out, uint, write
from otel_hwmetrics.testing.symbols.machine import ERRORS

# The 580 driver branch is CUDA 13.0, which NVML writes as 1000 * major + 10 * minor.
_CUDA_DRIVER_VERSION: Final = 13000

# The driver's own texts where the binding has them; taken once, because the binding later adds what we answer.
_TEXTS: Final[dict[int, str]] = {
    pynvml.NVML_SUCCESS: "The operation was successful",
    **{value: name.removeprefix("NVML_ERROR_").replace("_", " ").capitalize() for name, value in ERRORS.items()},
    **pynvml.NVMLError._errcode_to_string,
}


@library_call("nvmlInitWithFlags", uint, needs_init=False)
def _init(machine: Machine, _flags: int) -> None:
    if machine.away:
        raise Refused(machine.away)
    machine.references += 1


@library_call("nvmlShutdown")
def _shutdown(machine: Machine) -> None:
    machine.references -= 1


@library_call("nvmlErrorString", uint, needs_init=False)
def _error_string(_machine: Machine, code: int) -> bytes:
    return _TEXTS.get(code, "Unknown Error").encode()


@library_call("nvmlSystemGetDriverVersion", chars, uint)
def _driver_version(machine: Machine, buffer: ctypes.Array[ctypes.c_char], length: int) -> None:
    write(machine.driver_version, buffer, length)


@library_call("nvmlSystemGetNVMLVersion", chars, uint)
def _nvml_version(machine: Machine, buffer: ctypes.Array[ctypes.c_char], length: int) -> None:
    write(f"{_CUDA_DRIVER_VERSION // 1000}.{machine.driver_version}", buffer, length)


@library_call("nvmlSystemGetCudaDriverVersion_v2", out(ctypes.c_int))
def _cuda_driver_version(_machine: Machine, version: ctypes.c_int) -> None:
    version.value = _CUDA_DRIVER_VERSION


@library_call("nvmlDeviceGetCount_v2", out(ctypes.c_uint))
def _count(machine: Machine, count: ctypes.c_uint) -> None:
    count.value = len(machine.devices)
