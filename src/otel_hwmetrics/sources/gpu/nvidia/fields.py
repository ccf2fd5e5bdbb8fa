# SPDX-License-Identifier: Apache-2.0
"""Counters and levels by field number: everything of a GPU that has one, in one call of the driver.

``nvmlDeviceGetFieldValues`` takes any number of fields and answers each with a value and an error of its own; "if any
of the fieldIds are populated by the same driver call, the results will be populated from a single call" (nvml.h).
"""

from __future__ import annotations

import contextlib
import ctypes
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from otel_hwmetrics.model import Metric, Reading, Series
from otel_hwmetrics.sources.base import Batch, Bench, Clock, Reader, Unsupported, next_due
from otel_hwmetrics.sources.counters import Unwrapped
from otel_hwmetrics.sources.gpu.nvidia.device import Gpu
from otel_hwmetrics.sources.gpu.nvidia.library import function, permanent

ALL_LINKS: Final = 2**32 - 1
"""The scope that stands for all NVLinks together (nvml.h, NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX)."""

_MEMBERS: Final = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
# Of the union nvmlValue_t, by nvmlValueType_t.
_UNSIGNED_32: Final = 1

LONGEST_BETWEEN_LOOKS: Final = 5.0
"""Seconds between two looks that a counter of 32 bits has to bear to be of use."""


def links(gpu: Gpu) -> tuple[int, ...]:
    """A scope for each NVLink that the GPU has."""
    return tuple(range(gpu.links))


@dataclass(frozen=True)
class Field:
    """One field number and what it says.

    Attributes:
        constant: The name of its number in nvml.h.
        metric: What it reads.
        series: The series, of one GPU.
        convert: From NVML's unit to SI; raises ValueError for garbage, `Unsupported` for what says that the board has
            no such thing. Values of several scopes are converted, then
            added.
        scopes: Which parts of the GPU are asked for.
        every: Seconds between two times that it is asked for; 0 for every sample.
        fastest: For a counter that wraps: the most it grows in a second, in NVML's unit.
        instead: Read where the board or the driver does not know the field: another, or a call.
        where: Which boards have it, for documentation.
    """

    constant: str
    metric: Metric
    series: Callable[[Gpu], Series]
    convert: Callable[[float], float]
    scopes: Callable[[Gpu], tuple[int, ...]] = lambda _: (0,)
    every: float = 0.0
    fastest: float = 0.0
    instead: Reader[Gpu] | Field | None = None
    where: str = ""


class _Seat:
    """A field at work on one GPU."""

    __slots__ = ("counter", "due", "field", "kept", "number", "scopes", "series")

    def __init__(self, field: Field, number: int, gpu: Gpu) -> None:
        self.field = field
        self.number = number
        self.scopes = field.scopes(gpu)
        self.series = field.series(gpu)
        self.due: float | None = None
        self.kept: Reading | None = None
        self.counter: Unwrapped | None = None


class _Refused(Exception):
    """The driver answers a field with an error."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Fields:
    """The fields of one GPU that its board and driver know; the others' place is taken on the bench.

    Args:
        gpu: The GPU.
        bench: Where the readers that stand in are read.
        table: The fields.
        phase: As for `Bench`.
    """

    def __init__(self, gpu: Gpu, bench: Bench[Gpu], table: Iterable[Field], phase: float = 0.0) -> None:
        self._gpu = gpu
        self._bench = bench
        self._phase = phase
        self._seats: list[_Seat] = []
        self._call: Any = None
        self._arrays: dict[tuple[_Seat, ...], Any] = {}
        self._gone = {
            gpu.nvml.NVML_ERROR_NOT_SUPPORTED,
            gpu.nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            # A number that this driver has never heard of.
            gpu.nvml.NVML_ERROR_INVALID_ARGUMENT,
        }
        with contextlib.suppress(*permanent(gpu.nvml)):
            self._call = function(gpu.nvml, "nvmlDeviceGetFieldValues")
            gpu.links = self._count_links()
        for field in table:
            self._admit(field)

    def metrics(self) -> frozenset[str]:
        """The names of what is read by field at present."""
        return frozenset(seat.field.metric.name for seat in self._seats)

    def read_into(self, batch: Batch, clock: Clock) -> None:
        """Ask for every field that is due, in one call. Raises nothing that the driver can cause."""
        at = clock()
        due = tuple(seat for seat in self._seats if seat.due is None or at >= seat.due)
        batch.readings += (seat.kept for seat in self._seats if seat.kept is not None and seat not in due)
        if not due:
            return
        values = self._array(due)
        try:
            self._call(self._gpu.handle, ctypes.c_int(len(values)), ctypes.byref(values))
        except permanent(self._gpu.nvml):
            for seat in due:
                self._drop(seat)
            return
        except self._gpu.nvml.NVMLError as error:
            for seat in due:
                seat.kept = None
                batch.lose(type(error).__name__)
            return
        position = 0
        for seat in due:
            self._take(seat, values[position : position + len(seat.scopes)], at, batch)
            position += len(seat.scopes)

    def _take(self, seat: _Seat, values: list[Any], at: float, batch: Batch) -> None:
        seat.kept = None
        try:
            reading = Reading(seat.series, self._value(seat, values, at), at)
        except _Refused as refused:
            if refused.code in self._gone:
                self._drop(seat)
            else:
                batch.lose(type(self._gpu.nvml.NVMLError(refused.code)).__name__)
            return
        except Unsupported:
            self._drop(seat)
            return
        except ValueError as error:
            batch.lose(type(error).__name__)
            return
        batch.readings.append(reading)
        if seat.field.every:
            seat.due = next_due(at, seat.field.every, self._phase if seat.due is None else 0.0)
            seat.kept = reading

    def _value(self, seat: _Seat, values: list[Any], at: float) -> float:
        total: float = 0
        for value in values:
            if value.nvmlReturn:
                raise _Refused(value.nvmlReturn)
            if not 0 <= value.valueType < len(_MEMBERS):
                raise ValueError(f"the driver gives a value of type {value.valueType}")
            raw = getattr(value.value, _MEMBERS[value.valueType])
            if seat.field.fastest:
                raw = self._unwrap(seat, raw, value.valueType, at)
            converted = seat.field.convert(raw)
            if not math.isfinite(converted):
                raise ValueError(f"the driver says {raw}")
            total += converted
        return total

    def _unwrap(self, seat: _Seat, raw: int, value_type: int, at: float) -> int:
        if seat.counter is None:
            seat.counter = Unwrapped(2 ** (32 if value_type == _UNSIGNED_32 else 64), seat.field.fastest)
            if not seat.counter.resolves(LONGEST_BETWEEN_LOOKS):
                # A counter that may wrap many times between two looks says nothing.
                raise _Refused(self._gpu.nvml.NVML_ERROR_NOT_SUPPORTED)
        return seat.counter.advance(raw, at)

    def _array(self, seats: tuple[_Seat, ...]) -> Any:
        """The arguments of the call, made once for each set of fields that is due together."""
        if seats not in self._arrays:
            entries = [(seat.number, scope) for seat in seats for scope in seat.scopes]
            values = (self._gpu.nvml.c_nvmlFieldValue_t * len(entries))()
            for value, (number, scope) in zip(values, entries, strict=True):
                value.fieldId, value.scopeId = number, scope
            self._arrays[seats] = values
        return self._arrays[seats]

    def _drop(self, seat: _Seat) -> None:
        self._seats.remove(seat)
        self._arrays.clear()
        self._stand_in(seat.field)

    def _admit(self, field: Field) -> None:
        number = getattr(self._gpu.nvml, field.constant, None)  # the binding may be older than the field
        seat = _Seat(field, number, self._gpu) if number is not None and self._call is not None else None
        if seat is None or not seat.scopes:
            self._stand_in(field)
        else:
            self._seats.append(seat)

    def _stand_in(self, field: Field) -> None:
        if isinstance(field.instead, Field):
            self._admit(field.instead)
        elif field.instead is not None:
            self._bench.add(field.instead)

    def _count_links(self) -> int:
        """How many NVLinks the GPU has; 0 where it cannot say."""
        number = self._gpu.nvml.NVML_FI_DEV_NVLINK_LINK_COUNT
        values = (self._gpu.nvml.c_nvmlFieldValue_t * 1)()
        values[0].fieldId = number
        try:
            self._call(self._gpu.handle, ctypes.c_int(1), ctypes.byref(values))
        except self._gpu.nvml.NVMLError:
            return 0
        count = values[0].value.uiVal if not values[0].nvmlReturn else 0
        return count if count <= self._gpu.nvml.NVML_NVLINK_MAX_LINKS else 0
