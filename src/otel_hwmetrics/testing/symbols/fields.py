# SPDX-License-Identifier: Apache-2.0
"""nvmlDeviceGetFieldValues: many answers by one call, each with a return code of its own."""

from __future__ import annotations

from typing import Any, Final

import pynvml

from otel_hwmetrics.testing.gpu import InvalidValueError
from otel_hwmetrics.testing.symbols.core import Device, MigDevice, Refused, array, device_call, mig_call, uint
from otel_hwmetrics.testing.symbols.field_table import FIELDS, SINT, UINT, ULLONG

# One greater than the last field of the driver's, not of the binding's.
_MAX: Final = max(308, pynvml.NVML_FI_MAX)
_NUMBERS: Final = {each.name: number for number, each in FIELDS.items()}
_MEMBERS: Final = {UINT: ("uiVal", 2**32), ULLONG: ("ullVal", 2**64), SINT: ("siVal", 0)}

# What is in the bytes of a value that its type does not use is undefined; a reader that looks finds out.
_UNDEFINED: Final = 0xA5A5_A5A5_A5A5_A5A5


def field_number(key: object, where: str) -> int:
    """Return the number of a field given by name or number.

    Raises:
        InvalidValueError: There is no such field here.
    """
    number = _NUMBERS.get(key) if isinstance(key, str) else key
    if type(number) is int and number in FIELDS:
        return number
    raise InvalidValueError(key, where, f"one of {', '.join(sorted(_NUMBERS))}, or its number")


def script_fields(device: Device) -> None:
    """Let the values that the script has for fields take the place of those that follow from the rest."""
    signals = device.gpu.field_signals()
    device.fields = {field_number(key, "fields"): each for key, each in signals.items()}
    device.unsupported_fields = frozenset(
        field_number(key, "unsupported_fields") for key in device.gpu.unsupported_fields
    )


@device_call("nvmlDeviceGetFieldValues", uint, array(pynvml.c_nvmlFieldValue_t))
def _field_values(device: Device, count: int, values: Any) -> None:
    for value in _asked(count, values):
        value.timestamp = device.times.epoch_us()
        value.nvmlReturn = pynvml.NVML_SUCCESS
        try:
            _answer(device, value)
        except Refused as refused:
            value.nvmlReturn = refused.code


@mig_call("nvmlDeviceGetFieldValues")
def _mig_field_values(_device: MigDevice, count: int, values: Any) -> None:
    for value in _asked(count, values):
        value.nvmlReturn = pynvml.NVML_ERROR_NOT_SUPPORTED


def _asked(count: int, values: Any) -> list[Any]:
    # The real library would read and write past the end of an array that is too short; say so instead.
    if values is None or not 0 < count <= len(values):
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    return list(values[:count])


def _answer(device: Device, value: Any) -> None:
    number = value.fieldId
    scripted = device.machine.error("field", number, device.index)
    if scripted:
        raise Refused(scripted)
    if not 0 < number < _MAX:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    known = FIELDS.get(number)
    if known is None or number in device.unsupported_fields:
        raise Refused(pynvml.NVML_ERROR_NOT_SUPPORTED)
    if number in device.fields:
        given = device.fields[number].at(device.times.elapsed())
        if given is None:
            raise Refused(pynvml.NVML_ERROR_NOT_SUPPORTED)
        raw = int(given)
    else:
        raw = known.answer(device, value.scopeId)
    value.valueType = known.kind(device) if callable(known.kind) else known.kind
    member, wrap = _MEMBERS[value.valueType]
    value.value.ullVal = _UNDEFINED
    setattr(value.value, member, raw % wrap if wrap else raw)
    value.latencyUsec = 0
