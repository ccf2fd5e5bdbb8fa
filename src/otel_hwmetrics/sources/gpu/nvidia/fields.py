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

COUNT_AGAIN_AFTER: Final = 10.0
"""Seconds after which a driver that could not say how many links there are is asked again."""
LONGEST_BETWEEN_LOOKS: Final = 5.0
"""Seconds between two looks that a counter of 32 bits has to bear to be of use."""


_NEWER: Final = {
    "NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP": 74,
    "NVML_FI_DEV_CLOCKS_EVENT_REASON_SYNC_BOOST": 76,
    "NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN": 269,
    "NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN": 270,
    "NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN": 271,
}
# Numbers that the oldest binding allowed has no name for. nvml.h never gives a number another meaning, and a driver may
# be newer than the binding.


def number_of(nvml: Any, constant: str) -> int | None:
    """The number of a field; None where it is not known."""
    number: int | None = getattr(nvml, constant, _NEWER.get(constant))
    return number


def links(gpu: Gpu) -> tuple[int, ...]:
    """A scope for each NVLink that the GPU has."""
    return tuple(range(gpu.links))


def with_links(gpu: Gpu) -> tuple[int, ...]:
    """The GPU as a whole, if it has NVLinks."""
    return (0,) if gpu.links else ()


def _as_it_is(value: float) -> float:
    return value


@dataclass(frozen=True)
class Field:
    """One field number and what it says.

    Attributes:
        constant: The name of its number in nvml.h.
        metric: What it reads.
        series: The series, of one GPU.
        convert: From NVML's unit to SI; raises ValueError for garbage, `Unsupported` for what says that the board has
            no such thing. Values of several scopes are added, then converted.
        scopes: Which parts of the GPU are asked for.
        each: Done with the value of each scope before they are added.
        every: Seconds between two times that it is asked for; 0 for every sample.
        fastest: Of a counter: the most it grows in a second, in NVML's unit; what grows faster, or falls, was reset.
        instead: Read where the board or the driver does not know the field: another, or a call.
        where: Which boards have it, for documentation.
    """

    constant: str
    metric: Metric
    series: Callable[[Gpu], Series]
    convert: Callable[[float], float]
    scopes: Callable[[Gpu], tuple[int, ...]] = lambda _: (0,)
    each: Callable[[float], float] = _as_it_is
    every: float = 0.0
    fastest: float = 0.0
    instead: Reader[Gpu] | Field | None = None
    where: str = ""


class _Seat:
    """A field at work on one GPU."""

    __slots__ = ("answered", "counter", "due", "field", "kept", "number", "scopes", "series")

    def __init__(self, field: Field, number: int, gpu: Gpu) -> None:
        self.field = field
        self.number = number
        self.scopes = field.scopes(gpu)
        self.series = field.series(gpu)
        self.due: float | None = None
        self.kept: Reading | None = None
        self.counter: Unwrapped | None = None
        self.answered = False


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
        self._waiting: list[Field] = []
        self._count_again_at = 0.0
        with contextlib.suppress(*permanent(gpu.nvml)):
            self._call = function(gpu.nvml, "nvmlDeviceGetFieldValues")
        counted = self._count_links()
        for field in table:
            if field.scopes in (links, with_links) and not counted:
                self._waiting.append(field)  # until the driver says how many links there are
            else:
                self._admit(field)

    def metrics(self) -> frozenset[str]:
        """The names of what is read by field at present."""
        return frozenset(seat.field.metric.name for seat in self._seats)

    def read_into(self, batch: Batch, clock: Clock) -> None:
        """Ask for every field that is due, in one call. Raises nothing that the driver can cause."""
        at = clock()
        if self._waiting:
            self._count_later(at)
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
            # A number that a driver has answered once is one that it knows.
            known = seat.answered and refused.code == self._gpu.nvml.NVML_ERROR_INVALID_ARGUMENT
            if refused.code in self._gone and not known:
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
        """What a field says: of several scopes, the sum of those that have it.

        Raises:
            _Refused: None has it.
            ValueError: It is garbage.
        """
        refused = [value.nvmlReturn for value in values if value.nvmlReturn]
        passing = [code for code in refused if code not in self._gone]
        if passing or len(refused) == len(values):
            raise _Refused((passing or refused)[0])
        if refused:
            # One link of many has gone: the others go on. Their sum has fallen, which is a reset to those who take growth.
            seat.scopes = tuple(s for s, value in zip(seat.scopes, values, strict=True) if not value.nvmlReturn)
            self._arrays.clear()
        total: float = 0
        for value in values:
            if not value.nvmlReturn:
                total += seat.field.each(self._number(value))
        if seat.field.fastest:
            total = self._unwrap(seat, int(total), values[0].valueType if len(values) == 1 else None, at)
        converted = seat.field.convert(total)
        if not math.isfinite(converted):
            raise ValueError(f"the driver says {total}")
        seat.answered = True
        return converted

    @staticmethod
    def _number(value: Any) -> float:
        if not 0 <= value.valueType < len(_MEMBERS):
            raise ValueError(f"the driver gives a value of type {value.valueType}")
        number: float = getattr(value.value, _MEMBERS[value.valueType])
        return number

    def _unwrap(self, seat: _Seat, raw: int, value_type: int | None, at: float) -> int:
        seat.field.convert(raw)  # garbage is none of its values
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
        number = number_of(self._gpu.nvml, field.constant)
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

    def _count_links(self) -> bool:
        """Ask how many NVLinks the GPU has; False when the driver cannot say now."""
        if self._call is None:
            return True
        nvml = self._gpu.nvml
        values = (nvml.c_nvmlFieldValue_t * 1)()
        values[0].fieldId = nvml.NVML_FI_DEV_NVLINK_LINK_COUNT
        try:
            self._call(self._gpu.handle, ctypes.c_int(1), ctypes.byref(values))
        except permanent(nvml):
            return True
        except nvml.NVMLError:
            return False
        if values[0].nvmlReturn:
            return values[0].nvmlReturn in self._gone
        count = values[0].value.uiVal
        self._gpu.links = count if count <= nvml.NVML_NVLINK_MAX_LINKS else 0
        return True

    def _count_later(self, at: float) -> None:
        if at >= self._count_again_at:
            self._count_again_at = at + COUNT_AGAIN_AFTER
            if self._count_links():
                waiting, self._waiting = self._waiting, []
                for field in waiting:
                    self._admit(field)
