# SPDX-License-Identifier: Apache-2.0
"""A run as rows, one a look, all of its files together by time."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from otel_hwmetrics.display.export.choice import Choice
from otel_hwmetrics.display.export.columns import Column
from otel_hwmetrics.display.export.looks import Looks, Part, job_looks_of, looks_of

_WHOLE: Final = 2.0**63


class Told(NamedTuple):
    """What one stream of a file tells at one moment.

    Attributes:
        at_ns: When, in nanoseconds since the epoch.
        part: Number of the file.
        stream: Which of its streams: each job is one, and all series together.
        columns: What was read.
        values: Of each; NaN where it was not.
    """

    at_ns: int
    part: int
    stream: int
    columns: list[Column]
    values: tuple[float, ...]


def moments_of(parts: Sequence[Part], choice: Choice) -> Iterator[list[Told]]:
    """Every look, by time: what the streams of one file tell at the same moment, each once."""
    streams = [
        _told(part.number, number, stream)
        for part in parts
        for number, stream in enumerate((looks_of(part, choice), *job_looks_of(part, choice)))
    ]
    together: list[Told] = []
    for told in heapq.merge(*streams, key=itemgetter(0, 1)):
        # A clock that was set back tells one moment twice: these are two looks.
        if together and (told[:2] != together[0][:2] or any(told.stream == each.stream for each in together)):
            yield together
            together = []
        together.append(told)
    if together:
        yield together


def _told(part: int, number: int, stream: Iterator[Looks]) -> Iterator[Told]:
    for looks in stream:
        columns = [column for column, _ in looks.columns]
        values = zip(*(values for _, values in looks.columns), strict=True)
        for at_ns, told in zip(looks.times, values, strict=True):
            yield Told(at_ns, part, number, columns, told)


class Row(NamedTuple):
    """One look of one process.

    Attributes:
        at_ns: When, in nanoseconds since the epoch.
        part: Number of the file.
        cells: A text for each column; empty where it was not read.
    """

    at_ns: int
    part: int
    cells: list[str]


def header_of(parts: Sequence[Part]) -> list[str]:
    """The names of the columns of all files, each once, as people look for them.

    One name is one column: two files of a run, so two processes, have rows of their own.
    """
    columns = {column.name: column for part in parts for column in part.columns}
    return [column.name for column in sorted(columns.values(), key=lambda column: column.order)]


def rows_of(parts: Sequence[Part], choice: Choice, header: Sequence[str]) -> Iterator[Row]:
    """Every look as texts, by time; what one process has read at one moment is one row."""
    places = {name: place for place, name in enumerate(header)}
    for together in moments_of(parts, choice):
        cells = [""] * len(header)
        for told in together:
            for column, value in zip(told.columns, told.values, strict=True):
                cells[places[column.name]] = text_of(column, value)
        yield Row(together[0].at_ns, together[0].part, cells)


def text_of(column: Column, value: float) -> str:
    """A value that reads as the very number that was recorded: a whole one where such are counted; empty if absent."""
    told = number_of(column, value)
    return "" if told is None else repr(told)


def number_of(column: Column, value: float) -> int | float | None:
    """A value as a whole number where such are counted, else as it is; None if absent."""
    if not math.isfinite(value):
        return None
    if column.integer and value.is_integer() and abs(value) < _WHOLE:
        return int(value)
    return value
