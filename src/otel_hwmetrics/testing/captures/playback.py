# SPDX-License-Identifier: Apache-2.0
"""How one installed replay answers: its handles, and what each of them asks of the capture."""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
import time
from bisect import bisect_left
from collections import Counter
from typing import Final

from otel_hwmetrics.testing.captures.calls import TRANSIENT, WAITS, Call, counter, take_apart, without_versions
from otel_hwmetrics.testing.captures.capture import Answer, Capture, Ring, Series, Timeline
from otel_hwmetrics.testing.captures.layouts import (
    COUNTED,
    Plain,
    TooSmallError,
    Writer,
    address_of,
    get,
    is_handle,
    members,
)
from otel_hwmetrics.testing.captures.moments import Clocks
from otel_hwmetrics.testing.captures.pseudonyms import SELF

# Return codes of nvml.h, which never renumbers them.
SUCCESS: Final = 0
UNINITIALIZED: Final = 1
INVALID_ARGUMENT: Final = 2
NOT_SUPPORTED: Final = 3
INSUFFICIENT_SIZE: Final = 7
TIMEOUT: Final = 10

INIT: Final = "nvmlInitWithFlags"
SHUTDOWN: Final = "nvmlShutdown"
REGISTER: Final = "nvmlDeviceRegisterEvents"
# What a program makes and frees for itself works also where the recording ended before, given that it has the other.
OWN: Final = {
    INIT: None,
    SHUTDOWN: None,
    "nvmlGpmSampleAlloc": "nvmlGpmMetricsGet",
    "nvmlGpmSampleFree": "nvmlGpmMetricsGet",
    "nvmlEventSetCreate": REGISTER,
    "nvmlEventSetFree": REGISTER,
    "nvmlEventSetWait_v2": REGISTER,
}

# A handle is an opaque pointer that nobody follows. No address is given twice, so that one from an earlier install is
# never taken for a GPU of this one.
_ADDRESSES: Final = itertools.count(0x7EA1_0000, 16)
# How often a waiting call looks whether its event has come: the clock may be one that a test moves.
_LOOK_EVERY_S: Final = 0.01

Question = tuple[str, "str | None", str]


class Questions:
    """The answers of a capture by what was asked."""

    def __init__(self, capture: Capture) -> None:
        self._series: dict[Question, Series] = {}
        for series in capture.series:
            # What was told under one version of a struct answers another, unless that was asked itself.
            self._series.setdefault((series.call, series.of, repr(without_versions(series.asked))), series)
        for series in capture.series:
            self._series[series.call, series.of, repr(series.asked)] = series

    def find(self, function: str, of: str | None, asked: list[Plain]) -> Series | None:
        """Return the answers to a question, None if it was never asked."""
        exact = self._series.get((function, of, repr(asked)))
        return exact or self._series.get((function, of, repr(without_versions(asked))))

    def find_field(self, function: str, of: str | None, asked: list[Plain]) -> Series | None:
        """Return the answers to a field or a metric: one that is refused without a scope is so in each."""
        series = self.find(function, of, asked)
        if series is None and len(asked) > 1:
            series = self.find(function, of, [asked[0], 0])
            if series is not None and not all(map(_is_refusal, series.told.values)):
                return None
        return series


class Waiting:
    """What an event set waits for.

    Attributes:
        kinds: The events it was registered for, a bit mask by device.
        next: The number of the event that it has not looked at yet.
    """

    def __init__(self, first: int) -> None:
        self.kinds: dict[str | None, int] = {}
        self.next = first


class Playback:
    """One installation of a capture. Every method but `wait` is called under the replay's lock.

    Args:
        capture: What to answer.
        questions: The same, by question.
        clocks: Started at second 0.
        loop: Begin again at the end.
        unknown: Counts what was asked and never answered.
    """

    def __init__(
        self, capture: Capture, questions: Questions, clocks: Clocks, *, loop: bool, unknown: Counter[Question]
    ) -> None:
        self._capture = capture
        self._questions = questions
        self._clocks = clocks
        self._started = clocks.start()
        self._loop = loop and capture.seconds > 0
        self._unknown = unknown
        self._writer = Writer(self._address, self._number)
        self._addresses: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._sampled: dict[int, tuple[str | None, list[Plain]]] = {}
        self._waiting: dict[int, Waiting] = {}
        self.references = 0
        self.gone = threading.Event()

    def elapsed(self) -> float:
        """Return the seconds since installation."""
        # The last bits of a difference of floats must not put a moment before the one that it is.
        return round(self._clocks.monotonic() - self._started, 6)

    def second(self) -> float:
        """Return which second of the recording it is."""
        elapsed = self.elapsed()
        return elapsed % self._capture.seconds if self._loop else elapsed

    def take_apart(self, function: str, arguments: tuple[object, ...]) -> tuple[Call, str | None]:
        """Return a call's parts, and the name of its device if it is one of ours."""
        call = take_apart(function, arguments, lambda _kind, address: self._names.get(address, ""))
        return call, None if call.device is None else self._names.get(address_of(call.device))

    # Answering.

    def answer(self, call: Call, of: str | None) -> int:
        """Do what the C function did, and return what it returned.

        Raises:
            TypeError: The capture has another type of value than the caller's struct.
        """
        if not self.references and call.function != INIT:
            return UNINITIALIZED
        if call.device is not None and of is None:
            return INVALID_ARGUMENT
        if call.batch is not None:
            return self._answer_batch(call, of)
        if call.metrics is not None:
            return self._answer_metrics(call)
        code = self._answer_one(call, of)
        if code == SUCCESS:
            self._remember(call, of)
        return code

    def _remember(self, call: Call, of: str | None) -> None:
        self.references += (call.function == INIT) - (call.function == SHUTDOWN)
        for address in call.transient:
            if call.function == REGISTER:
                waiting = self._waiting.setdefault(address, Waiting(self._first_event()))
                waiting.kinds[of] = call.since or 0
            else:
                self._sampled[address] = (of, list(call.asked))

    def _answer_one(self, call: Call, of: str | None) -> int:
        series = self._questions.find(call.function, of, call.asked)
        if series is None:
            if call.function not in OWN:
                self._miss(call.function, of, call.asked)
                return NOT_SUPPORTED
            for output in call.outputs:
                if is_handle(type(output)):
                    self._writer.write(output, call.function)
            return SUCCESS
        answer = series.told.at(self.second())
        try:
            if answer.code == SUCCESS and series.ring is not None and call.ring is not None:
                self._write_ring(call, call.ring, series.ring)
            elif answer.outputs is not None:
                self._make_room(call, answer.outputs)
            for output, value in zip(call.outputs, answer.outputs or (), strict=False):
                self._writer.write(output, value)
        except TooSmallError:
            return INSUFFICIENT_SIZE
        return answer.code

    def _make_room(self, call: Call, outputs: list[Plain]) -> None:
        """Say how long an array would have to be that is too short, as the driver does."""
        for place, (output, value) in enumerate(zip(call.outputs, outputs, strict=False)):
            if isinstance(output, ctypes.Array) and isinstance(value, list) and len(value) > len(output):
                count = counter(call, place)
                if count is not None:
                    count.value = len(value)
                raise TooSmallError

    def _answer_batch(self, call: Call, of: str | None) -> int:
        codes: list[int] = []
        for element in call.batch or ():
            answer = self._told(call.function, of, [element.fieldId, element.scopeId])
            codes.append(answer.code)
            element.nvmlReturn = answer.code
            if not answer.code and answer.outputs:
                self._writer.write(element, answer.outputs[0])
        return _refusal(codes)

    def _answer_metrics(self, call: Call) -> int:
        struct = call.metrics
        first, second = (self._sampled.get(address_of(sample)) for sample in (struct.sample1, struct.sample2))
        if first is None or first != second:
            return INVALID_ARGUMENT
        codes: list[int] = []
        for metric in struct.metrics[: struct.numMetrics]:
            answer = self._told(call.function, first[0], [metric.metricId, *first[1]])
            codes.append(answer.code)
            metric.nvmlReturn = answer.code
            if not answer.code and answer.outputs:
                self._writer.write(metric, answer.outputs[0])
        return _refusal(codes)

    def _told(self, function: str, of: str | None, asked: list[Plain]) -> Answer:
        series = self._questions.find_field(function, of, asked)
        if series is None:
            self._miss(function, of, asked)
            return Answer(0, [{"nvmlReturn": NOT_SUPPORTED}])
        return series.told.at(self.second())

    def _miss(self, function: str, of: str | None, asked: list[Plain]) -> None:
        self._unknown[function, of, repr(asked)] += 1

    # Samples.

    def _write_ring(self, call: Call, place: int, ring: Ring) -> None:
        """Write the samples since the asked time, the newest ones if there is no room for all."""
        output, since = call.outputs[place], call.since or 0
        rows = self._rows(ring, since)
        if not isinstance(output, ctypes.Array):
            name = next(name for name, _ in members(output) if name in COUNTED)
            room = get(output, COUNTED[name])
            self._writer.write(output, {name: rows[max(0, len(rows) - room) :], COUNTED[name]: min(len(rows), room)})
            return
        rows = rows[max(0, len(rows) - len(output)) :]
        for index, row in enumerate(rows):
            self._writer.write(output[index], row)
        count = counter(call, place)
        if count is not None:
            count.value = len(rows)

    def _rows(self, ring: Ring, since: int) -> list[Plain]:
        elapsed, length = self.elapsed(), self._capture.seconds
        rounds = int(elapsed // length) if self._loop else 0
        found: list[Plain] = []
        for shift in range(max(0, rounds - 1), rounds + 1):
            for seconds, row in ring.rows:
                if self._loop and (seconds >= length or (shift and seconds < 0)):
                    continue
                at = seconds + shift * length
                stamp = self._clocks.stamp(ring.clock, at)
                if at <= elapsed and stamp > since:
                    found.append({"timeStamp": stamp, **_nested(row)})
        return found

    # Events.

    def wait(self, call: Call, timeout_s: float, lock: threading.RLock) -> int:
        """Wait for an event, without the lock: other calls go on."""
        waiting = self._waiting.get(call.transient[0]) if call.transient else None
        until = time.monotonic() + timeout_s
        while not self.gone.is_set():
            with lock:
                event = None if waiting is None else self._next_event(waiting)
                if event is not None:
                    if event.outputs:
                        self._writer.write(call.outputs[0], event.outputs[0])
                    return event.code
            left = until - time.monotonic()
            if left <= 0:
                return TIMEOUT
            self.gone.wait(min(left, _LOOK_EVERY_S))
        return UNINITIALIZED

    def _events(self) -> Timeline[Answer] | None:
        found = (self._questions.find(function, None, []) for function in sorted(WAITS))
        return next((series.told for series in found if series is not None), None)

    def _first_event(self) -> int:
        """Return the number of the first event that is still to come."""
        events = self._events()
        if events is None:
            return 0
        rounds = int(self.elapsed() // self._capture.seconds) if self._loop else 0
        return rounds * len(events) + bisect_left(events.times, self.second())

    def _next_event(self, waiting: Waiting) -> Answer | None:
        events = self._events()
        while events is not None and (self._loop or waiting.next < len(events)):
            rounds, number = divmod(waiting.next, len(events))
            if events.times[number] + rounds * self._capture.seconds > self.elapsed():
                return None
            waiting.next += 1
            event = events.values[number]
            if event.code or _wanted(event, waiting.kinds):
                return event
        return None

    # What the writer asks.

    def _address(self, name: str) -> int:
        if name in TRANSIENT or name in OWN:
            return next(_ADDRESSES)
        if name not in self._addresses:
            self._addresses[name] = next(_ADDRESSES)
            self._names[self._addresses[name]] = name
        return self._addresses[name]

    def _number(self, text: str) -> int:
        if text == SELF:
            return os.getpid()
        stamp = self._clocks.resolve(text)
        if stamp is None:
            raise TypeError(f"{text!r} is no number")
        return stamp


def _is_refusal(answer: Answer) -> bool:
    value = answer.outputs[0] if answer.outputs else None
    return bool(answer.code or (isinstance(value, dict) and value.get("nvmlReturn")))


def _refusal(codes: list[int]) -> int:
    """Return the code with which a whole call failed: it did if it failed for each of its questions."""
    return codes[0] if codes and all(codes) else SUCCESS


def _wanted(event: Answer, kinds: dict[str | None, int]) -> bool:
    data = event.outputs[0] if event.outputs else None
    if not isinstance(data, dict):
        return False
    device, kind = data.get("device"), data.get("eventType")
    return isinstance(kind, int) and any(kind & mask for name, mask in kinds.items() if device in (None, name))


def _nested(row: dict[str, Plain]) -> dict[str, Plain]:
    nested: dict[str, Plain] = {}
    for name, value in row.items():
        outer, _, inner = name.partition(".")
        nested[outer] = {inner: value} if inner else value
    return nested
