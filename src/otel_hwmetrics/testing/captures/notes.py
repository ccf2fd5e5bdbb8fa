# SPDX-License-Identifier: Apache-2.0
"""What is noted of each call, and under which name."""

from __future__ import annotations

import ctypes
from functools import partial
from typing import Any, Final

from otel_hwmetrics.testing.captures.calls import TRANSIENT, WAITS, Call, counter, take_apart
from otel_hwmetrics.testing.captures.capture import Answer, Capture, Ring, Series, Timeline
from otel_hwmetrics.testing.captures.layouts import COUNTED, Plain, Reader, address_of
from otel_hwmetrics.testing.captures.moments import MOMENT_FIELDS, Clocks, same_moment
from otel_hwmetrics.testing.captures.pseudonyms import PID_LISTS, Pseudonyms

# Return codes of nvml.h, which never renumbers them.
_INSUFFICIENT_SIZE: Final = 7
_TIMEOUT: Final = 10

# A call is told to have become slower or faster if it did by half, and by more than the scheduler's noise.
_LATENCY_CHANGE: Final = 0.5
_LATENCY_NOISE: Final = 200e-6


class Notes:
    """Writes a capture, call by call. Not for use from several threads at once.

    Args:
        capture: What to write to.
        clocks: Started at second 0.
        pseudonyms: For what identifies a machine or a person.
    """

    def __init__(self, capture: Capture, clocks: Clocks, pseudonyms: Pseudonyms) -> None:
        self._capture = capture
        self._clocks = clocks
        self._pseudonyms = pseudonyms
        self._reader = Reader(self._name, self._text, self._number, pseudonyms.struct)
        self._names: dict[tuple[str, int], str] = {}
        self._sampled: dict[int, tuple[str | None, list[Plain]]] = {}
        self._index: dict[tuple[str, str | None, str], Series] = {}
        self._ring_seen: dict[int, set[str]] = {}
        # The call that is being read: names and pseudonyms depend on the function.
        self._call = Call("")
        self._device: str | None = None
        self._now: dict[str, int] = {}

    def asked(self, function: str, arguments: tuple[object, ...]) -> Call:
        """Take a call apart before it is made; what the caller asks may be overwritten by the answer."""
        self._call = Call(function)
        call = take_apart(function, arguments, self._name, partial(self._text, None))
        call.asked = self._pseudonyms.inputs(function, call.asked)
        return call

    def begin_again(self, seconds: float) -> None:
        """Move second 0 to this one: what was noted so far counts as noted at 0."""
        for series in self._capture.series:
            series.told.times = [0.0] * len(series.told)
            if series.ring is not None:
                series.ring.rows = [(round(at - seconds, 6), row) for at, row in series.ring.rows]
        for latencies in self._capture.latencies.values():
            latencies.times = [0.0] * len(latencies)

    def note(self, call: Call, code: int, seconds: float, took: float, now: dict[str, int]) -> None:
        """Note what a call gave.

        Args:
            call: The call, taken apart.
            code: What it returned.
            seconds: When it was made, since the start.
            took: How long it took, in seconds.
            now: What the driver's clocks showed when it returned.
        """
        self._now = now
        self._call = call
        self._device = None if call.device is None else self._name("Device", address_of(call.device))
        if call.function in WAITS:
            if code != _TIMEOUT:
                told = self._series(call.function, None, []).told
                told.add(seconds, Answer(code, None if code else self._outputs(call)))
            return
        for address in call.transient:
            self._sampled[address] = (self._device, list(call.asked))
        if call.batch is not None:
            self._note_batch(call, code, seconds)
        elif call.metrics is not None:
            self._note_metrics(call, code, seconds)
        elif call.ring is not None:
            self._note_ring(call, code, seconds, call.ring)
        else:
            outputs = self._outputs(call) if code in (0, _INSUFFICIENT_SIZE) else None
            self._tell(call.function, self._device, call.asked, seconds, Answer(code, outputs))
        self._note_latency((call.function, self._device), seconds, took)

    def _note_batch(self, call: Call, code: int, seconds: float) -> None:
        for element in call.batch or ():
            answer: dict[str, Plain] = {"nvmlReturn": element.nvmlReturn}
            if not element.nvmlReturn and not code:
                answer = self._reader.read(element)  # type: ignore[assignment]
                # The time the driver took for one field is noise; what the whole call took is a latency.
                for name in ("fieldId", "scopeId", "latencyUsec"):
                    answer.pop(name, None)
            asked: list[Plain] = [element.fieldId, element.scopeId]
            self._tell(call.function, self._device, asked, seconds, Answer(code, None if code else [answer]))

    def _note_metrics(self, call: Call, code: int, seconds: float) -> None:
        struct = call.metrics
        self._device, instance = self._sampled.get(address_of(struct.sample2), (None, []))
        for metric in struct.metrics[: struct.numMetrics]:
            answer: dict[str, Plain] = {"nvmlReturn": metric.nvmlReturn}
            if not metric.nvmlReturn:
                answer["value"] = self._reader.read(ctypes.c_double(metric.value))
            asked = [metric.metricId, *instance]
            self._tell(call.function, self._device, asked, seconds, Answer(code, None if code else [answer]))

    def _note_ring(self, call: Call, code: int, seconds: float, place: int) -> None:
        series = self._series(call.function, self._device, call.asked)
        ring = series.ring = series.ring or Ring()
        outputs = None if code else self._outputs(call, leave_out=place)
        self._add(series, seconds, Answer(code, outputs))
        if code:
            return
        seen = self._ring_seen.setdefault(id(series), set())
        for element in self._elements(call, place):
            row = self._reader.read(element, value_type=self._value_type(call, place))
            assert isinstance(row, dict)  # noqa: S101 - rings are of structs
            flat = _flat({**row, "timeStamp": element.timeStamp})
            if repr(flat) in seen:
                continue
            seen.add(repr(flat))
            stamped = self._clocks.stamped(element.timeStamp)
            if stamped is None:
                # No time that the driver can have meant: kept as it is, at the time of the call.
                ring.add(seconds, flat)
            else:
                del flat["timeStamp"]
                ring.clock, at = stamped
                ring.add(at, flat)

    def _elements(self, call: Call, place: int) -> list[Any]:
        """Return the samples that a call of a ring gave."""
        output = call.outputs[place]
        if isinstance(output, ctypes.Array):
            count = counter(call, place)
            return list(output[: len(output) if count is None else count.value])
        name = next(name for name in COUNTED if hasattr(output, name))
        pointer = getattr(output, name)
        return list(pointer[: getattr(output, COUNTED[name])]) if pointer else []

    @staticmethod
    def _value_type(call: Call, place: int) -> int | None:
        """Return the type of the samples: what was written to the first of several numbers."""
        numbers = [output for output in call.outputs if isinstance(output, (ctypes.c_uint, ctypes.c_int))]
        return numbers[0].value if len(numbers) > 1 and numbers[0] is not counter(call, place) else None

    def _outputs(self, call: Call, leave_out: int | None = None) -> list[Plain]:
        """Return what a call wrote, without a ring's samples and their number."""
        unsaid = None if leave_out is None else counter(call, leave_out)
        outputs: list[Plain] = []
        for place, output in enumerate(call.outputs):
            if place == leave_out or output is unsaid:
                outputs.append(None)
                continue
            field = "pid" if call.function in PID_LISTS and isinstance(output, ctypes.Array) else None
            plain = self._reader.read(output, field)
            count = counter(call, place)
            if isinstance(plain, list) and count is not None:
                del plain[count.value :]
            outputs.append(_without_inputs(plain, call.asked))
        return outputs

    def _note_latency(self, key: tuple[str, str | None], seconds: float, took: float) -> None:
        timeline = self._capture.latencies.setdefault(key, Timeline())
        last = timeline.values[-1] if timeline else None
        if last is None or abs(took - last) > max(_LATENCY_NOISE, _LATENCY_CHANGE * last):
            timeline.add(seconds, float(f"{took:.2g}"))

    def _tell(self, function: str, of: str | None, asked: list[Plain], seconds: float, answer: Answer) -> None:
        self._add(self._series(function, of, asked), seconds, answer)

    def _series(self, function: str, of: str | None, asked: list[Plain]) -> Series:
        key = (function, of, repr(asked))
        if key not in self._index:
            self._index[key] = Series(function, of, asked)
            self._capture.series.append(self._index[key])
        return self._index[key]

    @staticmethod
    def _add(series: Series, seconds: float, answer: Answer) -> None:
        told = series.told
        if not told:
            told.add(seconds, answer)
            return
        last = told.values[-1]
        if answer.outputs is not None and last.outputs is not None:
            settled = _settled(last.outputs, answer.outputs)
            assert isinstance(settled, list)  # noqa: S101 - as what went in
            answer = Answer(answer.code, settled)
        if answer != last:
            told.add(seconds, answer)

    # What the reader asks.

    def _name(self, kind: str, address: int) -> str:
        if kind in TRANSIENT:
            return kind
        key = (kind, address)
        if key not in self._names:
            self._names[key] = self._new_name(kind)
        return self._names[key]

    def _new_name(self, kind: str) -> str:
        first = self._call.asked[0] if self._call.asked else None
        if kind == "Device" and isinstance(first, int):
            if self._call.function.startswith("nvmlDeviceGetHandleByIndex"):
                return f"gpu{first}"
            if self._call.function == "nvmlDeviceGetMigDeviceHandleByIndex":
                return f"{self._device}/mig{first}"
        before = {name for (other, _), name in self._names.items() if other == kind}
        return f"{kind.lower()}{len(before)}"

    def _text(self, field: str | None, text: str) -> str:
        return self._pseudonyms.text(self._call.function, field, text)

    def _number(self, field: str | None, number: int) -> int | str:
        if field in MOMENT_FIELDS:
            return self._clocks.moment(number, self._now)
        return self._pseudonyms.number(self._call.function, field, number)


def _without_inputs(plain: Plain, asked: list[Plain]) -> Plain:
    """Leave out of a struct what the caller had put there itself."""
    if not isinstance(plain, dict):
        return plain
    said = {name: value for inputs in asked if isinstance(inputs, dict) for name, value in inputs.items()}
    return {
        name: value
        for name, value in plain.items()
        if name != "lastSeenTimeStamp" and (name not in said or value != said[name])
    }


def _flat(row: dict[str, Plain]) -> dict[str, Plain]:
    flat: dict[str, Plain] = {}
    for name, value in row.items():
        inner = value.items() if isinstance(value, dict) else None
        flat.update({name: value} if inner is None else {f"{name}.{member}": each for member, each in inner})
    return flat


def _settled(before: Plain, now: Plain) -> Plain:
    """Return what a call gave, with the moments of the call before where they differ by nothing but jitter."""
    if isinstance(before, dict) and isinstance(now, dict):
        return {name: _settled(before.get(name), value) for name, value in now.items()}
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [_settled(one, other) for one, other in zip(before, now, strict=True)]
    return before if isinstance(before, str) and isinstance(now, str) and same_moment(before, now) else now
