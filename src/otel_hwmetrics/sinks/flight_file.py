# SPDX-License-Identifier: Apache-2.0
"""The format of a flight recording: JSON Lines in UTF-8, one object a line, each with its ``type``.

In this order, so that what is read of a file that was cut off makes sense:

- ``header``, the first line: what this is, who wrote it, when and why;
- ``series``, one for each column: its number, name, unit, kind, attributes. One table for the whole file, though
  series come and go: the newest sample's first, then those that only older samples have;
- ``sample``, the oldest first: when, and ``values`` in the table's order, null where a series could not be read;
- ``transition``, the oldest first: each step of each alert, pending and unknown ones too;
- ``stacks``, where the job stalls: when and of which alert, whose (``of``: ``process``, ``workers``), and the ``text``;
- ``end``: nothing is missing.

A counter's value is its total, that of anything else its level at that moment; numbers have the precision of a double.
There is no NaN. A reader passes over types and keys that it does not know; what it cannot pass over is a new version.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Any, NamedTuple

from otel_hwmetrics.alerts.transition import Transition
from otel_hwmetrics.model import Series
from otel_hwmetrics.sinks.base import event_attributes
from otel_hwmetrics.sinks.rows import Row

SUFFIX = ".flight.jsonl"
SCHEMA = "otel_hwmetrics.flight"
VERSION = 1

MOST_SERIES = 16384
"""Columns of a file; where every second has series of its own (processes that come and go), the oldest are left out."""


@dataclass(frozen=True)
class Flight:
    """A flight recording as plain Python values.

    Attributes:
        header: The first line.
        series: The columns: ``column`` (its place in ``values``), ``name``, ``unit``, ``kind``, ``attributes``.
        samples: ``time_unix_nano``, ``monotonic`` and ``values``, in the columns' order; None where there is none.
        transitions: ``time_unix_nano``, ``rule``, ``before``, ``state`` and the ``attributes`` of the alert's event.
        complete: Whether it was written to its end.
        stacks: Where threads stood: ``time_unix_nano``, ``reason``, ``of`` (``process``, ``workers``), ``text``.
    """

    header: dict[str, Any]
    series: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    transitions: list[dict[str, Any]] = field(default_factory=list)
    complete: bool = False
    stacks: list[dict[str, Any]] = field(default_factory=list)


class Stacks(NamedTuple):
    """Where threads stood at one moment.

    Attributes:
        time_unix_nano: When.
        reason: Of which alert, or end of the job.
        of: Whose threads: ``process``, ``workers``.
        text: The stacks.
    """

    time_unix_nano: int
    reason: str
    of: str
    text: str


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def _line(kind: str, fields: Mapping[str, object]) -> bytes:
    """One line. Of a name that is no Unicode (Linux allows any bytes in a path) the odd bytes become question marks."""
    told = {"type": kind, **fields}
    try:
        text = _encode(told)
    except ValueError:  # not finite: what a driver gave made no sense
        text = _encode(_finite(told))
    return text.encode("utf-8", "replace") + b"\n"


def _finite(value: object) -> object:
    """The same with null for a number that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list) else value


def lines(
    header: Mapping[str, object],
    rows: Sequence[Row],
    transitions: Iterable[Transition],
    stacks: Iterable[Stacks] = (),
) -> Iterator[bytes]:
    """A recording's lines.

    Args:
        header: What the first line says beside schema and version.
        rows: The samples, the oldest first.
        transitions: Likewise.
        stacks: Likewise.
    """
    columns, left_out = _columns(rows)
    told = {"schema": SCHEMA, "version": VERSION, **header}
    yield _line("header", told | ({"series_left_out": left_out} if left_out else {}))
    for series, column in columns.items():
        metric = series.metric
        what = {"column": column, "name": metric.name, "unit": metric.unit.value, "kind": metric.kind.value}
        yield _line("series", {**what, "attributes": dict(series.attributes)})
    yield from _samples(rows, columns)
    for step in transitions:
        yield _line(
            "transition",
            {
                "time_unix_nano": step.time_unix_nano,
                "rule": step.rule.name,
                "before": step.before.value,
                "state": step.state.value,
                "attributes": dict(event_attributes(step)),
            },
        )
    for each in stacks:
        yield _line("stacks", each._asdict())
    yield _line("end", {})


def _columns(rows: Sequence[Row]) -> tuple[dict[Series, int], int]:
    """The table of series with the place of each, and how many there was no room for."""
    columns: dict[Series, int] = {}
    left_out: set[Series] = set()
    last: tuple[Series, ...] = ()
    for row in reversed(rows):
        if row.series is last:
            continue
        last = row.series
        for series in last:
            if series not in columns:
                if len(columns) < MOST_SERIES:
                    columns[series] = len(columns)
                else:
                    left_out.add(series)
    return columns, len(left_out)


def _samples(rows: Iterable[Row], columns: Mapping[Series, int]) -> Iterator[bytes]:
    series: tuple[Series, ...] = ()
    places: list[int | None] = []
    for row in rows:
        if row.series is not series:
            series = row.series
            places = [columns.get(each) for each in series]
        values: list[float | None] = [None] * len(columns)
        for place, value in zip(places, Struct(f"{len(series)}d").unpack(row.values), strict=True):
            if place is not None:
                values[place] = value
        yield _line("sample", {"time_unix_nano": row.time_unix_nano, "monotonic": row.at, "values": values})


def read_flight(path: str) -> Flight:
    """Read a flight recording, also one that was cut off: then up to the last whole line.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no flight recording, or one of a later version.
    """
    with open(path, "rb") as file:
        whole = file.read().split(b"\n")[:-1]  # what comes after the last line's end is nothing, or was cut off
    try:
        told = [_object(line) for line in whole]
    except ValueError as error:
        raise ValueError(f"{path} is no flight recording: {error}") from error
    header = told[0] if told else {}
    version = header.get("version")
    if header.get("schema") != SCHEMA or not isinstance(version, int):
        raise ValueError(f"{path} is no flight recording: it does not begin as one")
    if version > VERSION:
        raise ValueError(f"{path} is a flight recording of version {version}; this package knows {VERSION}")
    by_type: dict[str, list[dict[str, Any]]] = {}
    for line in told:
        by_type.setdefault(str(line.pop("type", "")), []).append(line)
    return Flight(
        header,
        by_type.get("series", []),
        by_type.get("sample", []),
        by_type.get("transition", []),
        complete="end" in by_type,
        stacks=by_type.get("stacks", []),
    )


def _object(line: bytes) -> dict[str, Any]:
    found = json.loads(line)
    if not isinstance(found, dict):
        raise ValueError("not all of its lines are objects")  # noqa: TRY004 - of a file, not of an argument
    return found
