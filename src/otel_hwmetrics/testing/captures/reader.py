# SPDX-License-Identifier: Apache-2.0
"""Reading a capture from a file, in the format that `capture` describes."""

from __future__ import annotations

import contextlib
import json
import math
import os
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from otel_hwmetrics.testing.captures.capture import FORMAT, Answer, Capture, Ring, Series, Timeline
from otel_hwmetrics.testing.captures.layouts import Plain
from otel_hwmetrics.testing.captures.moments import CLOCKS
from otel_hwmetrics.testing.scenario import ScenarioError
from otel_hwmetrics.testing.values import InvalidValueError, is_number

_ORIGINS: Final = ("real", "scripted")
_HEAD: Final = {"format", "origin", "note", "seconds", "binding", "anonymous", "absent", "answers", "latencies"}
_ENTRY: Final = {"call", "of", "asked", "told", "ring"}
_RING: Final = {"clock", "fields", "rows"}
_LATENCY: Final = {"call", "of", "seconds"}


class CaptureError(ScenarioError):
    """A capture file is wrong; the message names the file, the key, the value and what is allowed."""


def read_capture(path: str | os.PathLike[str]) -> Capture:
    """Read a file.

    Raises:
        CaptureError: It is not a capture, is cut short, or of a format that came later.
        OSError: It cannot be read.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_no_such_number)
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise CaptureError(f"{path}: not a JSON file, or cut short: {error}") from error
    try:
        return _capture(document)
    except InvalidValueError as error:
        where = error.key or "the file"
        raise CaptureError(f"{path}: {where} = {reprlib.repr(error.value)}: allowed is {error.allowed}") from error


def _no_such_number(constant: str) -> float:
    raise ValueError(f"{constant} is no number in JSON")


def _capture(document: Any) -> Capture:
    _keys(document, {"format"}, None)
    version = document["format"]
    if type(version) is not int or version < 1:
        raise InvalidValueError(version, "format", f"the number {FORMAT}")
    if version > FORMAT:
        raise InvalidValueError(version, "format", f"at most {FORMAT}: this file needs a newer otel-hwmetrics")
    _keys(document, {"origin", "seconds", "answers"}, _HEAD)
    capture = Capture(
        origin=_checked(document, "origin", document["origin"] in _ORIGINS, " or ".join(_ORIGINS)),
        note=_checked(document, "note", isinstance(document.get("note", ""), str), "a text", ""),
        seconds=_checked(document, "seconds", _is_time(document["seconds"]), "a number of seconds >= 0"),
        binding=_checked(document, "binding", isinstance(document.get("binding", ""), str), "a text", ""),
        anonymous=_checked(
            document, "anonymous", isinstance(document.get("anonymous", True), bool), "true or false", True
        ),
        absent=set(_checked(document, "absent", _are_texts(document.get("absent", [])), "a list of C functions", [])),
    )
    for index, entry in enumerate(_list(document, "answers")):
        with _inside(f"answers[{index}]"):
            capture.series.extend(_series(entry))
    for index, entry in enumerate(_list(document, "latencies")):
        with _inside(f"latencies[{index}]"):
            _keys(entry, {"call", "seconds"}, _LATENCY)
            call, of = _whose(entry)
            capture.latencies[call, of] = _numbers(entry)
    return capture


def _series(entry: Any) -> Iterator[Series]:
    _keys(entry, {"call", "told"}, _ENTRY)
    call, of = _whose(entry)
    told: Timeline[Answer] = Timeline()
    last: list[Plain] = []
    for index, point in enumerate(_list(entry, "told")):
        with _inside(f"told[{index}]"):
            seconds, outputs, code = _point(point)
            if told.times and seconds < told.times[-1]:
                raise InvalidValueError(seconds, "0", f"a time from {told.times[-1]} on: they are in order")
            if outputs is not None:
                outputs = last = [
                    _merge(last[place] if place < len(last) else None, value) for place, value in enumerate(outputs)
                ]
            told.add(seconds, Answer(code, outputs))
    if not told:
        raise InvalidValueError(entry["told"], "told", "at least one answer")
    ring = _ring(entry["ring"]) if "ring" in entry else None
    questions = entry.get("asked", [[]])
    if not isinstance(questions, list) or not all(isinstance(question, list) for question in questions):
        raise InvalidValueError(questions, "asked", "a list of lists")
    for question in questions:
        yield Series(call, of, question, told, ring)


def _point(point: Any) -> tuple[float, list[Plain] | None, int]:
    allowed = "[seconds, [what was written, ...] or null] and a return code where it is not 0"
    if not (isinstance(point, list) and len(point) in (2, 3) and _is_time(point[0])):
        raise InvalidValueError(point, "", allowed)
    outputs, code = point[1], point[2] if len(point) > 2 else 0  # noqa: PLR2004
    if not (outputs is None or isinstance(outputs, list)) or type(code) is not int or code < 0:
        raise InvalidValueError(point, "", allowed)
    return point[0], outputs, code


def _merge(before: Plain, change: Plain) -> Plain:
    if change is None:
        return before
    if isinstance(before, dict) and isinstance(change, dict):
        return {**before, **change}
    return change


def _ring(table: Any) -> Ring:
    with _inside("ring"):
        _keys(table, _RING, _RING)
        names = _checked(table, "fields", _are_texts(table["fields"]), "a list of names of fields")
        ring = Ring(_checked(table, "clock", table["clock"] in CLOCKS, " or ".join(CLOCKS)))
        for index, row in enumerate(_list(table, "rows")):
            # Before the start is before 0: the driver kept samples from then.
            if not (isinstance(row, list) and len(row) == len(names) + 1 and is_number(row[0])):
                raise InvalidValueError(row, f"rows[{index}]", f"[seconds, {', '.join(names)}]")
            ring.add(row[0], {name: value for name, value in zip(names, row[1:], strict=True) if value is not None})
    return ring


def _numbers(entry: Any) -> Timeline[float]:
    timeline: Timeline[float] = Timeline()
    for index, pair in enumerate(_list(entry, "seconds")):
        if not (isinstance(pair, list) and len(pair) == 2 and all(map(_is_time, pair))):  # noqa: PLR2004
            raise InvalidValueError(pair, f"seconds[{index}]", "a pair of numbers of seconds >= 0")
        timeline.add(*pair)
    if not timeline:
        raise InvalidValueError(entry["seconds"], "seconds", "at least one pair")
    return timeline


def _whose(entry: dict[str, Any]) -> tuple[str, str | None]:
    call = _checked(entry, "call", isinstance(entry["call"], str), "a C function")
    return call, _checked(entry, "of", isinstance(entry.get("of", ""), str), "a device such as gpu0", None)


def _keys(table: Any, required: set[str], known: set[str] | None) -> None:
    if not isinstance(table, dict):
        raise InvalidValueError(table, "", "a table")
    for key in sorted(required):
        if key not in table:
            raise InvalidValueError(None, key, "any value it can have: this key is required")
    for key in table:
        if known is not None and key not in known:
            raise InvalidValueError(table[key], key, f"one of the keys {', '.join(sorted(known))}")


def _checked(table: dict[str, Any], key: str, fine: bool, allowed: str, otherwise: Any = None) -> Any:  # noqa: FBT001
    if not fine:
        raise InvalidValueError(table[key], key, allowed)
    return table.get(key, otherwise)


def _list(table: dict[str, Any], key: str) -> list[Any]:
    found: list[Any] = _checked(table, key, isinstance(table.get(key, []), list), "a list", [])
    return found


def _is_time(value: object) -> bool:
    return is_number(value) and math.isfinite(value) and value >= 0  # type: ignore[arg-type,operator]


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


@contextlib.contextmanager
def _inside(place: str) -> Iterator[None]:
    """Say in which part of the file a value is wrong."""
    try:
        yield
    except InvalidValueError as error:
        raise InvalidValueError(error.value, f"{place}.{error.key}".rstrip("."), error.allowed) from error
