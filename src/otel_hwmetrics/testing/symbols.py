# SPDX-License-Identifier: Apache-2.0
"""The C functions of the scripted NVML, one entry each.

To add a function, write what it answers and decorate it with its C name and its parameters:

    @_device("nvmlDeviceGetPowerUsage", _out(ctypes.c_uint))
    def _power_usage(device: Device, milliwatts: ctypes.c_uint) -> None:
        milliwatts.value = round(device.read("power") * 1000)

Counting, scripted faults, initialisation and finding the GPU are `FakeNvml`'s; checking and unwrapping the ctypes
arguments is the parameters'. An answer returns None for success and raises `Refused` for any other return code.

This module imports `pynvml`, so the light modules of the package import it inside functions only.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

import pynvml

from otel_hwmetrics.testing.gpu import FakeGpu, InvalidValueError

# A handle is an opaque pointer that nobody follows. No address is given twice, so that one from an earlier install is
# never taken for a GPU of this one.
_ADDRESSES: Final = itertools.count(0x5EED_0000, 16)

# The 580 driver branch is CUDA 13.0, which NVML writes as 1000 * major + 10 * minor.
_CUDA_DRIVER_VERSION: Final = 13000

_ERRORS: Final[dict[str, int]] = {name: value for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_")}
# The driver's own texts where the binding has them; taken once, because the binding later adds what we answer.
_TEXTS: Final[dict[int, str]] = {
    pynvml.NVML_SUCCESS: "The operation was successful",
    **{value: name.removeprefix("NVML_ERROR_").replace("_", " ").capitalize() for name, value in _ERRORS.items()},
    **pynvml.NVMLError._errcode_to_string,
}


class Refused(Exception):
    """The C function answers `code` instead of success."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def return_code(code: object) -> int:
    """Return an NVML error code given as a number or as the constant's name.

    Raises:
        InvalidValueError: It is neither; the message lists the names.
    """
    number = _ERRORS.get(code) if isinstance(code, str) else code
    if type(number) is int and number > 0:
        return number
    raise InvalidValueError(code, "code", f"a number above 0 or one of {', '.join(sorted(_ERRORS))}")


class Device:
    """A GPU as NVML has it: an index, a handle, and quantities at this moment."""

    def __init__(self, index: int, gpu: FakeGpu, elapsed: Callable[[], float]) -> None:
        self.index = index
        self.gpu = gpu
        self.address = next(_ADDRESSES)
        self._elapsed = elapsed
        self._signals = gpu.signals()
        self._millijoules = 0
        self.millijoules()  # A power given as a function is integrated from its first reading: take that now.

    def read(self, quantity: str) -> float:
        """Return one quantity now, in the unit of `FakeGpu`'s field of that name.

        Raises:
            Refused: The script has no value at this moment.
        """
        value = self._signals[quantity].at(self._elapsed())
        if value is None:
            raise Refused(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return value

    def millijoules(self) -> int:
        """Return the lifetime energy counter in whole mJ, never less than before."""
        joules = self.gpu.energy_offset + self._signals["power"].integral(self._elapsed())
        # The last bit of a float sum may fall where the true sum rises; a counter must not.
        self._millijoules = max(self._millijoules, round(joules * 1000))
        return self._millijoules


@dataclass
class Machine:
    """The driver: its version, its GPUs, and how many times it is initialised."""

    driver_version: str
    devices: tuple[Device, ...]
    references: int = 0


Decode: TypeAlias = Callable[[object], Any]
Find: TypeAlias = Callable[[Machine, object], Device]
# Called with the Device the C function names, else the Machine, and the decoded arguments.
Answer: TypeAlias = Callable[..., "bytes | None"]


@dataclass(frozen=True)
class Symbol:
    """One C function.

    Attributes:
        name: The C name.
        parameters: How to check and unwrap each argument after the one that names the device.
        answer: What it does.
        find: How the first argument names a device; None for a function without one.
        needs_init: Whether it answers UNINITIALIZED before nvmlInit.
    """

    name: str
    parameters: tuple[Decode, ...]
    answer: Answer
    find: Find | None
    needs_init: bool

    def gpu(self, machine: Machine, arguments: tuple[object, ...]) -> int | None:
        """Return the index of the GPU the call is about, None if it names none that exists."""
        if self.find is None or not arguments:
            return None
        try:
            return self.find(machine, arguments[0]).index
        except Refused:
            return None

    def call(self, machine: Machine, arguments: tuple[object, ...]) -> int | bytes:
        """Do what the C function does, and return what it returns."""
        expected = len(self.parameters) + (self.find is not None)
        if len(arguments) != expected:
            return int(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        try:
            target: Device | Machine = machine
            if self.find is not None:
                target, arguments = self.find(machine, arguments[0]), arguments[1:]
            decoded = [decode(raw) for decode, raw in zip(self.parameters, arguments, strict=True)]
            result = self.answer(target, *decoded)
        except Refused as refused:
            return refused.code
        return int(pynvml.NVML_SUCCESS) if result is None else result


SYMBOLS: Final[dict[str, Symbol]] = {}

_A = TypeVar("_A", bound=Answer)


def _symbol(name: str, *parameters: Decode, find: Find | None, needs_init: bool = True) -> Callable[[_A], _A]:
    def register(answer: _A) -> _A:
        SYMBOLS[name] = Symbol(name, parameters, answer, find, needs_init)
        return answer

    return register


def _library(name: str, *parameters: Decode, needs_init: bool = True) -> Callable[[_A], _A]:
    return _symbol(name, *parameters, find=None, needs_init=needs_init)


def _device(name: str, *parameters: Decode) -> Callable[[_A], _A]:
    return _symbol(name, *parameters, find=_by_handle)


# How arguments name a device.


def _by_handle(machine: Machine, raw: object) -> Device:
    if isinstance(raw, pynvml.c_nvmlDevice_t):
        address = ctypes.cast(raw, ctypes.c_void_p).value
        for device in machine.devices:
            if device.address == address:
                return device
    raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)


def _by_index(machine: Machine, raw: object) -> Device:
    index = _uint(raw)
    if index >= len(machine.devices):
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    return machine.devices[index]


def _by_uuid(machine: Machine, raw: object) -> Device:
    if not isinstance(raw, ctypes.c_char_p) or raw.value is None:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    for device in machine.devices:
        if device.gpu.uuid.encode() == raw.value:
            return device
    raise Refused(pynvml.NVML_ERROR_NOT_FOUND)


# How the other arguments are passed.


def _uint(raw: object) -> int:
    """Take an unsigned int by value; ctypes passes a plain int the same way."""
    value = raw.value if isinstance(raw, ctypes.c_uint) else raw
    if type(value) is not int or not 0 <= value < 2**32:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    return value


def _chars(raw: object) -> ctypes.Array[ctypes.c_char]:
    """Take a char array to write into."""
    if isinstance(raw, ctypes.Array) and raw._type_ is ctypes.c_char:
        return raw
    raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)


def _out(layout: type[Any], version: int | None = None) -> Decode:
    """Take a `byref()` of exactly this layout, and of this version where the struct carries one."""

    def decode(raw: object) -> object:
        pointed: Any = getattr(raw, "_obj", None)
        if type(pointed) is not layout:
            raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        if version is not None and pointed.version != version:
            raise Refused(pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH)
        return pointed

    return decode


def _write(text: str, buffer: ctypes.Array[ctypes.c_char], length: int) -> None:
    encoded = text.encode() + b"\0"
    if length > len(buffer):  # The real library would write past the end; say so instead.
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    if len(encoded) > length:
        raise Refused(pynvml.NVML_ERROR_INSUFFICIENT_SIZE)
    ctypes.memmove(buffer, encoded, len(encoded))


# The library.


@_library("nvmlInitWithFlags", _uint, needs_init=False)
def _init(machine: Machine, _flags: int) -> None:
    machine.references += 1


@_library("nvmlShutdown")
def _shutdown(machine: Machine) -> None:
    machine.references -= 1


@_library("nvmlErrorString", _uint, needs_init=False)
def _error_string(_machine: Machine, code: int) -> bytes:
    return _TEXTS.get(code, "Unknown Error").encode()


@_library("nvmlSystemGetDriverVersion", _chars, _uint)
def _driver_version(machine: Machine, buffer: ctypes.Array[ctypes.c_char], length: int) -> None:
    _write(machine.driver_version, buffer, length)


@_library("nvmlSystemGetNVMLVersion", _chars, _uint)
def _nvml_version(machine: Machine, buffer: ctypes.Array[ctypes.c_char], length: int) -> None:
    _write(f"{_CUDA_DRIVER_VERSION // 1000}.{machine.driver_version}", buffer, length)


@_library("nvmlSystemGetCudaDriverVersion_v2", _out(ctypes.c_int))
def _cuda_driver_version(_machine: Machine, version: ctypes.c_int) -> None:
    version.value = _CUDA_DRIVER_VERSION


@_library("nvmlDeviceGetCount_v2", _out(ctypes.c_uint))
def _count(machine: Machine, count: ctypes.c_uint) -> None:
    count.value = len(machine.devices)


# Finding a device.


@_symbol("nvmlDeviceGetHandleByIndex_v2", _out(pynvml.c_nvmlDevice_t), find=_by_index)
@_symbol("nvmlDeviceGetHandleByUUID", _out(pynvml.c_nvmlDevice_t), find=_by_uuid)
def _handle(device: Device, handle: Any) -> None:
    ctypes.c_void_p.from_buffer(handle).value = device.address


# What a device says of itself.


@_device("nvmlDeviceGetName", _chars, _uint)
def _name(device: Device, buffer: ctypes.Array[ctypes.c_char], length: int) -> None:
    _write(device.gpu.name, buffer, length)


@_device("nvmlDeviceGetUUID", _chars, _uint)
def _uuid(device: Device, buffer: ctypes.Array[ctypes.c_char], length: int) -> None:
    _write(device.gpu.uuid, buffer, length)


@_device("nvmlDeviceGetIndex", _out(ctypes.c_uint))
def _index(device: Device, index: ctypes.c_uint) -> None:
    index.value = device.index


@_device("nvmlDeviceGetUtilizationRates", _out(pynvml.c_nvmlUtilization_t))
def _utilization_rates(device: Device, percent: Any) -> None:
    percent.gpu = round(device.read("utilization") * 100)
    percent.memory = round(device.read("memory_controller_utilization") * 100)


@_device("nvmlDeviceGetMemoryInfo", _out(pynvml.c_nvmlMemory_t))
def _memory_info(device: Device, memory: Any) -> None:
    memory.total = device.gpu.memory_total
    memory.used = round(device.read("memory_used")) + device.gpu.memory_reserved
    memory.free = memory.total - memory.used


@_device("nvmlDeviceGetMemoryInfo_v2", _out(pynvml.c_nvmlMemory_v2_t, pynvml.nvmlMemory_v2))
def _memory_info_v2(device: Device, memory: Any) -> None:
    memory.total = device.gpu.memory_total
    memory.reserved = device.gpu.memory_reserved
    memory.used = round(device.read("memory_used"))
    memory.free = memory.total - memory.reserved - memory.used


@_device("nvmlDeviceGetPowerUsage", _out(ctypes.c_uint))
def _power_usage(device: Device, milliwatts: ctypes.c_uint) -> None:
    milliwatts.value = round(device.read("power") * 1000)


@_device("nvmlDeviceGetEnforcedPowerLimit", _out(ctypes.c_uint))
@_device("nvmlDeviceGetPowerManagementLimit", _out(ctypes.c_uint))
def _power_limit(device: Device, milliwatts: ctypes.c_uint) -> None:
    milliwatts.value = round(device.read("power_limit") * 1000)


@_device("nvmlDeviceGetTotalEnergyConsumption", _out(ctypes.c_uint64))
def _total_energy(device: Device, millijoules: ctypes.c_uint64) -> None:
    millijoules.value = device.millijoules()


def _celsius(device: Device, sensor: int) -> int:
    if sensor != pynvml.NVML_TEMPERATURE_GPU:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    return round(device.read("temperature"))


@_device("nvmlDeviceGetTemperatureV", _out(pynvml.c_nvmlTemperature_v1_t, pynvml.nvmlTemperature_v1))
def _temperature_v(device: Device, reading: Any) -> None:
    reading.temperature = _celsius(device, reading.sensorType)


@_device("nvmlDeviceGetTemperature", _uint, _out(ctypes.c_uint))
def _temperature(device: Device, sensor: int, celsius: ctypes.c_uint) -> None:
    celsius.value = _celsius(device, sensor)
