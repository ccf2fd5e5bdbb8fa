# SPDX-License-Identifier: Apache-2.0
"""A call of a C function, taken apart: about which device, what is asked, and where the answer goes.

`recorder` and `replay` both go by this, so that a question is the same question to either. Three functions of NVML
answer more than the one question that their arguments spell out, and are told by the shape of their arguments:

- *batches* (nvmlDeviceGetFieldValues): an array of structs with a `fieldId` each, one question per element;
- *metrics* (nvmlGpmMetricsGet): a struct with two samples and an array of `metrics`, one question per element, about
  the device of which the samples were taken;
- *rings* (nvmlDeviceGetSamples and the process utilizations): structs with a `timeStamp`, newer than a given time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from otel_hwmetrics.testing.captures.layouts import (
    COUNTED,
    INPUT_FIELDS,
    Plain,
    address_of,
    get,
    is_counter_of,
    is_handle,
    is_text,
    kind_of,
    members,
    pointed,
)

# Handles that a program makes for itself. Which of them it is says nothing about the answer.
TRANSIENT: Final = frozenset({"EventSet", "GpmSample", "SystemEventSet"})
# Functions that wait until something happens. Their answers are events: each is told once.
WAITS: Final = frozenset({"nvmlEventSetWait", "nvmlEventSetWait_v2"})

_STAMP: Final = "timeStamp"


@dataclass
class Call:
    """A call, taken apart.

    Attributes:
        function: The C function.
        device: The handle of the first device among the arguments, None if there is none.
        asked: What else was passed by value, and the inputs of structs.
        outputs: What the driver may write to, in order.
        transient: Addresses of the program's own handles among the arguments.
        since: The time after which samples are asked for, None if there is no such argument.
    """

    function: str
    device: Any = None
    asked: list[Plain] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    transient: list[int] = field(default_factory=list)
    since: int | None = None

    @property
    def batch(self) -> list[Any] | None:
        """The fields that are asked for at once, None if this is no such call."""
        for output in self.outputs:
            if isinstance(output, ctypes.Array) and "fieldId" in dict(members(output._type_)):
                count = self.asked[0] if self.asked else None
                return list(output[:count] if isinstance(count, int) else output)
        return None

    @property
    def metrics(self) -> Any:
        """The struct in which GPM metrics are asked for, None if this is no such call."""
        for output in self.outputs:
            if {"sample1", "sample2", "metrics"} <= dict(members(output)).keys():
                return output
        return None

    @property
    def ring(self) -> int | None:
        """Which of the outputs samples newer than `since` are written to, None if this is no such call."""
        if self.since is not None:
            for place, output in enumerate(self.outputs):
                if _STAMP in dict(members(element_type(output))) and not _is_null(output):
                    return place
        return None


def take_apart(
    function: str, arguments: Sequence[object], name: Callable[[str, int], str], text: Callable[[str], str] = str
) -> Call:
    """Return a call's parts.

    Args:
        function: The C function.
        arguments: As ctypes gets them.
        name: Names a handle, given its kind and address.
        text: What to write for a text that is passed by value.
    """
    call = Call(function)
    for place, argument in enumerate(arguments):
        target = pointed(argument)
        if target is not None:
            call.outputs.append(target)
            _ask_in_struct(call, target, text)
        elif argument is not None and is_handle(type(argument)):
            _ask_by_handle(call, argument, name)
        elif isinstance(argument, ctypes.c_ulonglong):
            call.since = argument.value
        elif not (place and is_text(arguments[place - 1])):  # else it is the length of a buffer for text
            value: Any = getattr(argument, "value", argument)
            call.asked.append(text(value.decode("utf-8", "replace")) if isinstance(value, bytes) else value)
    return call


def _ask_by_handle(call: Call, handle: Any, name: Callable[[str, int], str]) -> None:
    kind = kind_of(type(handle))
    if kind in TRANSIENT:
        call.transient.append(address_of(handle))
    elif kind == "Device" and call.device is None:
        call.device = handle
    else:
        call.asked.append(name(kind, address_of(handle)))


def _ask_in_struct(call: Call, target: Any, text: Callable[[str], str]) -> None:
    if not isinstance(target, ctypes.Structure):
        return
    inputs: dict[str, Plain] = {}
    for name, kind in members(target):
        if name in INPUT_FIELDS and not issubclass(kind, ctypes.Array):
            inputs[name] = get(target, name)
        elif name in COUNTED and not get(target, name):
            inputs[name] = None
        elif name == "lastSeenTimeStamp":
            call.since = get(target, name)
        elif issubclass(kind, ctypes.Union) and "str" in dict(members(kind)):  # nvmlUUID_t, which is an input
            inputs[name] = text(get(get(target, name), "str").decode("utf-8", "replace"))
    if inputs and call.metrics is None:
        call.asked.append(inputs)


def element_type(output: Any) -> Any:
    """Return what an array, or the array that a struct points to, is made of; the output's own type if it is none."""
    if isinstance(output, ctypes.Array):
        return output._type_
    for name, kind in members(output):
        if name in COUNTED:
            return kind._type_
    return type(output)


def _is_null(output: Any) -> bool:
    """Say whether a struct should point to an array, and points to nothing."""
    return any(name in COUNTED and not get(output, name) for name, _ in members(output))


def counter(call: Call, place: int) -> Any:
    """Return the argument that counts the elements of an output which is an array, None if there is none."""
    found = is_counter_of(call.outputs, place)
    return None if found is None else call.outputs[found]


def without_versions(asked: Iterable[Plain]) -> list[Plain]:
    """Return a question without the versions of its structs, and without structs that then say nothing."""
    bare: list[Plain] = []
    for value in asked:
        if isinstance(value, dict):
            rest = {name: inner for name, inner in value.items() if name != "version"}
            if rest:
                bare.append(rest)
        else:
            bare.append(value)
    return bare
