# SPDX-License-Identifier: Apache-2.0
"""A run as a stream of looks, each file of it for itself: what all formats are made of.

Of the time of which a recording has kept every look there is each of them; of the time before that, of which it has a row a
minute, a look a minute: the mean of a gauge, the highest of a peak, the last of what counts.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

from otel_hwmetrics.display.export.choice import Choice
from otel_hwmetrics.display.export.columns import Column, columns_of, columns_of_job
from otel_hwmetrics.model import Kind
from otel_hwmetrics.recording import Recording, Run
from otel_hwmetrics.recording.nouns import FIGURES, PARENT, Job, Minute

MINUTE: Final = 60_000_000_000
_AT_ONCE: Final = 10 * MINUTE  # of what is read of a job at once
_TOGETHER: Final = 60  # rows of minutes that are handed on at once


class Looks(NamedTuple):
    """Some looks at the same columns.

    Attributes:
        times: Of each look, in nanoseconds since the epoch.
        columns: Each with its values, one a look; NaN where it was not read.
    """

    times: array[int]
    columns: list[tuple[Column, array[float]]]


@dataclass(frozen=True)
class Part:
    """One file of a run.

    Attributes:
        number: Its place among them, from 0.
        recording: The file.
        series: Its wanted columns, by the number of the series.
        jobs: The wanted columns of each job that it tells of, by the job's number in the file.
        rolled_until: Until when there are only minutes, in nanoseconds since the epoch; None where every look was kept.
    """

    number: int
    recording: Recording
    series: Mapping[int, Column]
    jobs: Mapping[int, tuple[Column | None, ...]]
    rolled_until: int | None

    @property
    def columns(self) -> list[Column]:
        """All of them."""
        of_jobs = (column for columns in self.jobs.values() for column in columns if column is not None)
        return [*of_jobs, *self.series.values()]


def parts_of(run: Run, choice: Choice) -> list[Part]:
    """The files of a run with what is wanted of them."""
    launchers = [each for each in run.recordings if each.about.role == PARENT]
    telling = launchers or list(run.recordings)
    parts, numbered = [], 0
    for number, recording in enumerate(run.recordings):
        jobs: dict[int, tuple[Column | None, ...]] = {}
        for job in recording.jobs() if recording in telling else ():
            numbered += 1
            jobs[job.id] = _wanted(job.id if len(telling) == 1 else numbered, job, choice)
        named = columns_of(recording.series())
        wanted = {each: column for each, column in named.items() if choice.takes(column.metric)}
        parts.append(Part(number, recording, wanted, jobs, _rolled_until(recording)))
    return parts


def _wanted(number: int, job: Job, choice: Choice) -> tuple[Column | None, ...]:
    """The columns of a job, in the order of its figures; None for one that is not wanted, or was never known."""
    known = job.summary.figures
    return tuple(
        column if name in known and choice.takes(column.metric) else None
        for name, column in zip(FIGURES, columns_of_job(number, job), strict=True)
    )


def _rolled_until(recording: Recording) -> int | None:
    """Where the first minute begins of which every look is there, if there are minutes before it."""
    first_row = next(recording.every_minute(), None)
    if first_row is None:
        return None
    first_block = next(recording.blocks(), None)
    until = (first_block.times[0] // MINUTE if first_block is not None else 2**62 // MINUTE) * MINUTE
    return until if first_row[0] < until else None


def looks_of(part: Part, choice: Choice) -> Iterator[Looks]:
    """The series of a file, by time."""
    return _thinned(_in_detail(part, choice), choice.every)


def _in_detail(part: Part, choice: Choice) -> Iterator[Looks]:
    if not part.series:
        return
    if part.rolled_until is not None:
        yield from _minutes(part, choice, part.rolled_until)
    for block in part.recording.blocks(choice.start_ns, choice.end_ns):
        columns = [(part.series[series.id], values) for series, values in block.columns if series.id in part.series]
        if columns:
            yield Looks(block.times, columns)


def _minutes(part: Part, choice: Choice, until: int) -> Iterator[Looks]:
    """A look at the end of each minute of which no more is known."""
    last = until - MINUTE if choice.end_ns is None else min(until, choice.end_ns) - MINUTE
    start = None if choice.start_ns is None else choice.start_ns - MINUTE
    minutes = part.recording.every_minute(start, last, part.series.keys())
    while found := list(islice(minutes, _TOGETHER)):
        yield _as_looks(part, found)


def _as_looks(part: Part, minutes: Sequence[tuple[int, Mapping[int, Minute]]]) -> Looks:
    times = array("q", (begin + MINUTE for begin, _ in minutes))
    columns = []
    for series in {series: None for _, found in minutes for series in found}:
        column = part.series[series]
        values = (_value(column, found.get(series)) for _, found in minutes)
        columns.append((column, array("d", values)))
    return Looks(times, columns)


def _value(column: Column, minute: Minute | None) -> float:
    if minute is None:
        return math.nan
    if column.kind is not Kind.GAUGE:
        return minute.last
    return minute.high if column.peak else minute.mean


def job_looks_of(part: Part, choice: Choice) -> list[Iterator[Looks]]:
    """The jobs that a file tells of, each by time."""
    return [_thinned(_of_job(part, number, columns, choice), choice.every) for number, columns in part.jobs.items()]


def _of_job(part: Part, number: int, columns: tuple[Column | None, ...], choice: Choice) -> Iterator[Looks]:
    if not any(columns):
        return
    about = part.recording.about
    begin: int | None = choice.start_ns
    end = about.started_ns + _AT_ONCE if begin is None else begin + _AT_ONCE
    while True:
        last = end >= about.heard_ns or (choice.end_ns is not None and end >= choice.end_ns)
        samples = part.recording.job_samples(number, begin, choice.end_ns if last else end)
        if samples:
            values = zip(*(sample[1:] for sample in samples), strict=True)
            yield Looks(
                array("q", (sample.at_ns for sample in samples)),
                [
                    (column, array("d", (math.nan if each is None else each for each in told)))
                    for column, told in zip(columns, values, strict=True)
                    if column is not None
                ],
            )
        if last:
            return
        begin, end = end + 1, end + _AT_ONCE


def _thinned(stream: Iterator[Looks], every: float | None) -> Iterator[Looks]:
    """One look for so many seconds: at the time of the last of them, with the mean of a gauge and the last of a sum."""
    if every is None:
        yield from stream
        return
    step = max(1, round(every * 1e9))
    window, last, gathered = None, 0, _Window()
    for looks in stream:
        for place, at in enumerate(looks.times):
            if window is not None and at // step != window:
                yield gathered.look(last)
                gathered = _Window()
            window, last = at // step, at
            gathered.add(looks, place)
    if window is not None:
        yield gathered.look(last)


class _Window:
    """Looks that become one."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[Column, list[float]]] = {}

    def add(self, looks: Looks, place: int) -> None:
        for column, values in looks.columns:
            value = values[place]
            if not math.isnan(value):
                self._of.setdefault(column.name, (column, []))[1].append(value)

    def look(self, at: int) -> Looks:
        return Looks(
            array("q", [at]), [(column, array("d", [_one(column, told)])) for column, told in self._of.values()]
        )


def _one(column: Column, values: list[float]) -> float:
    if column.kind is not Kind.GAUGE:
        return values[-1]
    return max(values) if column.peak else min(max(values), max(min(values), math.fsum(values) / len(values)))
