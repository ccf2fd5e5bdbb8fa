# SPDX-License-Identifier: Apache-2.0
"""What a driver writes that says success and means nothing: all ones."""

from __future__ import annotations

import ctypes
from typing import Any, Final

from otel_hwmetrics.testing.symbols.core import pointed

# What the caller wrote, or needs to make sense of the rest; a number of entries, too, is no place for rubbish: a
# caller that believes it would ask for memory without end.
_KEPT: Final = frozenset(
    {
        "fieldId",
        "scopeId",
        "timestamp",
        "latencyUsec",
        "valueType",
        "nvmlReturn",
        "version",
        "numMetrics",
        "metricId",
        "metricInfo",
        "sensorType",
        "fan",
    }
)
_ASKED_TWICE: Final = frozenset(
    {
        "nvmlDeviceGetSamples",
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetGraphicsRunningProcesses_v3",
        "nvmlDeviceGetProcessUtilization",
    }
)


def garble(function: str, arguments: tuple[object, ...]) -> None:
    """Make every number that a function has written all ones: the greatest unsigned, -1, or not a number."""
    for raw in arguments:
        target = raw if isinstance(raw, ctypes.Array) else pointed(raw)
        if isinstance(target, ctypes.Structure):
            _fill(target)
        elif isinstance(target, ctypes.Array) and issubclass(target._type_, ctypes.Structure):
            for each in target:
                _fill(each)
        elif isinstance(target, ctypes._SimpleCData) and function not in _ASKED_TWICE:
            ctypes.memset(ctypes.addressof(target), 0xFF, ctypes.sizeof(target))


def _fill(struct: Any) -> None:
    # A handle, too, is a pointer to a struct: one without fields, that leads nowhere.
    for name, layout, *_ in getattr(struct, "_fields_", ()):
        if name in _KEPT or issubclass(layout, ctypes._Pointer):
            continue
        if issubclass(layout, ctypes.Array):
            if issubclass(layout._type_, ctypes.Structure):
                for each in getattr(struct, name):
                    _fill(each)
        else:
            place = ctypes.addressof(struct) + getattr(type(struct), name).offset
            ctypes.memset(place, 0xFF, ctypes.sizeof(layout))
