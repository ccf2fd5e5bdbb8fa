# SPDX-License-Identifier: Apache-2.0
"""What every C function of the scripted NVML is made of.

To add a function, write what it answers in the module of its subject, and decorate it with its C name and its
parameters:

    @device_call("nvmlDeviceGetPowerUsage", out(ctypes.c_uint))
    def _power_usage(device: Device, milliwatts: ctypes.c_uint) -> None:
        milliwatts.value = round(device.read("power") * 1000)

Counting, scripted faults, initialisation and finding the GPU are `FakeNvml`'s; checking and unwrapping the ctypes
arguments is the parameters'. An answer returns None for success and raises `Refused` for any other return code.

The modules of this package import `pynvml`, so the light modules of the package import it inside functions only.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

import pynvml

from otel_hwmetrics.testing.symbols.machine import Device, Machine, MigDevice, Refused, not_supported, return_code

__all__ = [
    "MIG_ANSWERS",
    "SYMBOLS",
    "Device",
    "Machine",
    "MigDevice",
    "Refused",
    "Symbol",
    "not_supported",
    "return_code",
]

Decode: TypeAlias = Callable[[object], Any]
Find: TypeAlias = Callable[[Machine, object], "Device | MigDevice"]
# Called with the device that the C function names, else the Machine, and the decoded arguments.
Answer: TypeAlias = Callable[..., "bytes | None"]


@dataclass(frozen=True)
class Symbol:
    """One C function.

    Attributes:
        name: The C name.
        parameters: How to check and unwrap each argument after the one that names the device, or from it on where
            `inside`.
        answer: What it does.
        find: How the first argument names a device; None for a function without one.
        needs_init: Whether it answers UNINITIALIZED before nvmlInit.
        blocks: Whether the answer may wait for something: other calls go on meanwhile, on other threads.
        inside: Whether the first argument says more than which device is meant.
        takes: Seconds that every call takes.
    """

    name: str
    parameters: tuple[Decode, ...]
    answer: Answer
    find: Find | None
    needs_init: bool = True
    blocks: bool = False
    inside: bool = False
    takes: float = 0.0

    @property
    def arity(self) -> int:
        """How many arguments it has."""
        return len(self.parameters) + (self.find is not None and not self.inside)

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
        if len(arguments) != self.arity:
            return int(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        try:
            target: Device | MigDevice | Machine = machine
            answer = self.answer
            if self.find is not None:
                target = self.find(machine, arguments[0])
                arguments = arguments if self.inside else arguments[1:]
            decoded = [decode(raw) for decode, raw in zip(self.parameters, arguments, strict=True)]
            if isinstance(target, MigDevice):
                answer = MIG_ANSWERS.get(self.name, _not_on_mig)
            result = answer(target, *decoded)
        except Refused as refused:
            return refused.code
        return int(pynvml.NVML_SUCCESS) if result is None else result


def _not_on_mig(_device: MigDevice, *_: object) -> None:
    raise not_supported()


SYMBOLS: Final[dict[str, Symbol]] = {}
MIG_ANSWERS: Final[dict[str, Answer]] = {}
"""What C functions do that are given a MIG device; the others answer NOT_SUPPORTED then."""

_A = TypeVar("_A", bound=Answer)


def symbol(name: str, *parameters: Decode, find: Find | None, **more: Any) -> Callable[[_A], _A]:
    """Put what is decorated into the table as the C function `name`; `more` are attributes of `Symbol`."""

    def register(answer: _A) -> _A:
        SYMBOLS[name] = Symbol(name, parameters, answer, find, **more)
        return answer

    return register


def library_call(name: str, *parameters: Decode, **more: Any) -> Callable[[_A], _A]:
    """A C function that names no device; it is answered with the `Machine`."""
    return symbol(name, *parameters, find=None, **more)


def device_call(name: str, *parameters: Decode, **more: Any) -> Callable[[_A], _A]:
    """A C function whose first argument is a handle; it is answered with the `Device`."""
    return symbol(name, *parameters, find=by_handle, **more)


def mig_call(name: str) -> Callable[[_A], _A]:
    """What a C function does that is given the handle of a MIG device; it is answered with the `MigDevice`."""

    def register(answer: _A) -> _A:
        MIG_ANSWERS[name] = answer
        return answer

    return register


# How arguments name a device.


def by_handle(machine: Machine, raw: object) -> Device | MigDevice:
    """Find a device by its opaque handle."""
    if not isinstance(raw, pynvml.c_nvmlDevice_t):
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    return machine.at(ctypes.cast(raw, ctypes.c_void_p).value)


def by_index(machine: Machine, raw: object) -> Device:
    """Find a device by its place among the others."""
    index = uint(raw)
    if index >= len(machine.devices):
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    return machine.devices[index]


def by_uuid(machine: Machine, raw: object) -> Device | MigDevice:
    """Find a device by its UUID."""
    if not isinstance(raw, ctypes.c_char_p) or raw.value is None:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    for device in machine.devices:
        if device.gpu.uuid.encode() == raw.value:
            return device
        for mig in device.mig:
            if mig.mig.uuid.encode() == raw.value:
                return mig
    raise Refused(pynvml.NVML_ERROR_NOT_FOUND)


# How the other arguments are passed.


def uint(raw: object) -> int:
    """Take an unsigned int by value; ctypes passes a plain int, and an int of the same bits, the same way."""
    value = raw.value if isinstance(raw, (ctypes.c_uint, ctypes.c_int)) else raw
    if type(value) is not int or not 0 <= value < 2**32:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    return value


def ullong(raw: object) -> int:
    """Take an unsigned long long by value."""
    value = raw.value if isinstance(raw, ctypes.c_ulonglong) else raw
    if type(value) is not int or not 0 <= value < 2**64:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    return value


def chars(raw: object) -> ctypes.Array[ctypes.c_char]:
    """Take a char array to write into."""
    if isinstance(raw, ctypes.Array) and raw._type_ is ctypes.c_char:
        return raw
    raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)


def out(layout: type[Any], version: int | None = None) -> Decode:
    """Take a pointer to exactly this layout, and of this version where the struct carries one."""

    def decode(raw: object) -> object:
        target: Any = pointed(raw)
        if type(target) is not layout:
            raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        if version is not None and target.version != version:
            raise Refused(pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH)
        return target

    return decode


def array(layout: type[Any]) -> Decode:
    """Take an array to write into, or a null pointer, which is None; an array is as good as a pointer to one."""

    def decode(raw: object) -> object:
        target: Any = raw if raw is None or isinstance(raw, ctypes.Array) else pointed(raw)
        if raw is not None and not (isinstance(target, ctypes.Array) and target._type_ is layout):
            raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return target

    return decode


def pointed(raw: object) -> object:
    """Return what a `byref()` or a pointer leads to, None if it is neither or leads nowhere."""
    if isinstance(raw, ctypes._Pointer):
        try:
            return raw.contents
        except ValueError:  # a null pointer
            return None
    return getattr(raw, "_obj", None)


def room(wanted: int, given: ctypes.c_uint, array: object) -> bool:
    """Keep the protocol of functions that are asked twice: for the number of entries, then for the entries.

    Returns:
        Whether there is an array to fill.

    Raises:
        Refused: There are more entries than fit; their number is told.
    """
    capacity = 0 if array is None else given.value
    given.value = wanted
    if wanted > capacity:
        raise Refused(pynvml.NVML_ERROR_INSUFFICIENT_SIZE)
    return array is not None


def write(text: str, buffer: ctypes.Array[ctypes.c_char], length: int) -> None:
    """Write text with its final zero.

    Raises:
        Refused: It does not fit.
    """
    encoded = text.encode() + b"\0"
    if length > len(buffer):  # The real library would write past the end; say so instead.
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    if len(encoded) > length:
        raise Refused(pynvml.NVML_ERROR_INSUFFICIENT_SIZE)
    ctypes.memmove(buffer, encoded, len(encoded))
