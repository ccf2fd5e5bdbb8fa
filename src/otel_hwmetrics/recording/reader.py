# SPDX-License-Identifier: Apache-2.0
"""Reads one file of a run, also while it is written, and one that was cut off."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import urllib.parse
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_hwmetrics.model import Kind
from otel_hwmetrics.recording import schema
from otel_hwmetrics.recording.codec import column_of, unpacked, unpacked_times
from otel_hwmetrics.recording.minute import MINUTE, summed
from otel_hwmetrics.recording.nouns import (
    FIGURES,
    About,
    Job,
    JobSample,
    Minute,
    RecordedAlert,
    RecordedFile,
    RecordedSeries,
    RecordedSpan,
    Request,
    Stat,
    Summary,
)

if TYPE_CHECKING:
    from typing_extensions import Self

_PATIENCE = 5.0
_FEW = 4  # columns that are quicker had one by one than all of a block
_EARLIEST, _LATEST = -(2**63), 2**63 - 1


class RecordingError(ValueError):
    """There is no such recording, or it cannot be read; the message says which, why, and what to do."""


class Block(NamedTuple):
    """Some looks at the same series.

    Attributes:
        times: Of each look, in nanoseconds since the epoch.
        columns: Each series with its values, one a look; NaN where it was not read.
    """

    times: array[int]
    columns: list[tuple[RecordedSeries, array[float]]]


class Recording:
    """One file. May be read from one thread at a time, and by as many readers as like.

    Args:
        path: Of the file.

    Raises:
        RecordingError: It is not there, no recording, damaged, or of a newer version of this package.

    Attributes:
        path: Of the file.
        about: Who wrote it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._connection = _opened(path)
        self._known: dict[int, RecordedSeries] = {}
        self._layouts: dict[int, tuple[int, ...]] = {}
        try:
            with self._reading():
                self.about = self._about()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def jobs(self) -> list[Job]:
        """The jobs that it tells of, by their numbers."""
        with self._reading():
            sums = {row["job_id"]: row for row in self._connection.execute("SELECT * FROM job_summary")}
            rows = self._connection.execute("SELECT * FROM jobs ORDER BY job_id").fetchall()
            return [self._job(row, sums.get(row["job_id"])) for row in rows]

    def job_samples(self, job_id: int, start_ns: int | None = None, end_ns: int | None = None) -> list[JobSample]:
        """The looks at a job, by their time.

        Args:
            job_id: Its number in this file.
            start_ns: None for the first.
            end_ns: None for the last; it is included.
        """
        names = ", ".join(FIGURES)
        query = f"SELECT at_ns, {names} FROM job_samples WHERE job_id = ? AND at_ns BETWEEN ? AND ? ORDER BY at_ns"  # noqa: S608 - our own names
        with self._reading():
            cursor = self._connection.execute(query, (job_id, *_between(start_ns, end_ns)))
            cursor.row_factory = None
            return [JobSample(*row) for row in cursor]

    def series(self) -> list[RecordedSeries]:
        """Every series, in the order in which they were met."""
        with self._reading():
            return list(self._series().values())

    def values(
        self, series_id: int, start_ns: int | None = None, end_ns: int | None = None
    ) -> tuple[array[int], array[float]]:
        """One series in full detail, as far back as that was kept: times and values, without NaN."""
        return self.values_of((series_id,), start_ns, end_ns)[series_id]

    def values_of(
        self, series_ids: Collection[int], start_ns: int | None = None, end_ns: int | None = None
    ) -> dict[int, tuple[array[int], array[float]]]:
        """Several series at once, in one pass over the file; each as in `values`."""
        found: dict[int, tuple[array[int], array[float]]] = {each: (array("q"), array("d")) for each in series_ids}
        with self._reading():
            for times, layout, data in self._raw(start_ns, end_ns):
                begin, end = _part(times, start_ns, end_ns)
                wanted = found.keys() & set(layout)
                columns = unpacked(data, len(times)) if len(wanted) > _FEW else None
                for series_id in wanted:
                    place = layout.index(series_id)
                    column = columns[place] if columns else column_of(data, len(times), place)
                    _extend(found[series_id], times[begin:end], column[begin:end])
        return found

    def blocks(self, start_ns: int | None = None, end_ns: int | None = None) -> Iterator[Block]:
        """Everything in full detail, as far back as that was kept, a minute or less at a time."""
        with self._reading():
            known = self._series()
            for times, layout, data in self._raw(start_ns, end_ns):
                begin, end = _part(times, start_ns, end_ns)
                known = known if set(layout) <= known.keys() else self._series()  # it is being written
                columns = zip(layout, unpacked(data, len(times)), strict=True)
                if begin < end:
                    yield Block(times[begin:end], [(known[each], column[begin:end]) for each, column in columns])

    def minutes(self, series_id: int, start_ns: int | None = None, end_ns: int | None = None) -> list[Minute]:
        """One series by the minute, for the whole run, the minute that is being written included."""
        start, end = _between(start_ns, end_ns)
        query = "SELECT * FROM minutes WHERE series = ? AND minute BETWEEN ? AND ? ORDER BY minute"
        with self._reading():
            rows = self._connection.execute(query, (series_id, start // MINUTE, end // MINUTE)).fetchall()
            told = [_minute(row) for row in rows]
            tail = (each for each in self._tail({series_id}).get(series_id, ()) if start <= each.start_ns <= end)
            return [*told, *tail]

    def every_minute(
        self, start_ns: int | None = None, end_ns: int | None = None, only: Collection[int] | None = None
    ) -> Iterator[tuple[int, dict[int, Minute]]]:
        """All series by the minute, a minute at a time: where it begins, and what there is of it by the number of the series.

        Args:
            start_ns: None for the first; the minutes that begin from here on.
            end_ns: None for the last; those that begin until here. The minute that is being written is not among them.
            only: The series that are wanted; None for all.
        """
        start, end = _between(start_ns, end_ns)
        which = "" if only is None else f" AND series IN ({', '.join(str(int(each)) for each in only)})"
        query = f"SELECT * FROM minutes WHERE minute BETWEEN ? AND ?{which} ORDER BY minute, series"  # noqa: S608 - numbers
        with self._reading():
            rows = self._connection.execute(query, (-(-start // MINUTE), end // MINUTE))
            for number, found in groupby(rows, key=itemgetter("minute")):
                yield number * MINUTE, {row["series"]: _minute(row) for row in found}

    def totals(self) -> dict[int, Minute]:
        """Every series over the whole run, by its number: a minute as long as the run, so to say.

        A mean is that of all looks; ``last`` is the last value, ``start_ns`` where its first minute begins.
        """
        query = (
            "SELECT series, min(minute) AS minute, sum(looks) AS looks, sum(mean * looks) / sum(looks) AS mean,"
            " min(low) AS low, max(high) AS high, 0.0 AS last FROM minutes GROUP BY series"
        )
        last = (
            "SELECT minutes.series, minutes.last FROM minutes JOIN (SELECT series, max(minute) AS minute FROM minutes"
            " GROUP BY series) AS newest USING (minute, series)"
        )
        with self._reading():
            lasts = {row[0]: row[1] for row in self._connection.execute(last)}
            found = {
                row["series"]: _minute(row)._replace(last=lasts[row["series"]])
                for row in self._connection.execute(query)
            }
            for series_id, tail in self._tail(None).items():
                for each in tail:
                    found[series_id] = _joined(found[series_id], each) if series_id in found else each
        return found

    def spans(self) -> list[RecordedSpan]:
        """The training spans, by their beginning."""
        with self._reading():
            rows = self._connection.execute("SELECT * FROM spans ORDER BY started_ns, span_id").fetchall()
            return [RecordedSpan(**_told(row, "attributes")) for row in rows]

    def alerts(self) -> list[RecordedAlert]:
        """The alerts that were told of, by their time."""
        with self._reading():
            rows = self._connection.execute("SELECT * FROM alerts ORDER BY at_ns, id").fetchall()
            return [RecordedAlert(**_told(row, "attributes", without="id")) for row in rows]

    def files(self) -> list[RecordedFile]:
        """Other files of the run, as far as this process has named them."""
        with self._reading():
            rows = self._connection.execute("SELECT at_ns, kind, path FROM files ORDER BY id").fetchall()
            return [RecordedFile(*row) for row in rows]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, KeyError, TypeError, ValueError) as error:
            if isinstance(error, RecordingError):
                raise
            raise RecordingError(_why_not(self.path, error)) from error

    def _about(self) -> About:
        version = schema.version_of(self._connection)
        if version > schema.VERSION:
            raise RecordingError(f"{self.path} was written by a newer version of otel-hwmetrics: update this one.")
        row = self._connection.execute("SELECT * FROM writer").fetchone() if version else None
        if row is None:
            raise RecordingError(f"{self.path} is empty: its writer was killed before it wrote anything.")
        return About(**_told(row, "versions", "resource", "tags", without="id"))

    def _series(self) -> dict[int, RecordedSeries]:
        for row in self._connection.execute(
            "SELECT * FROM series WHERE id > ? ORDER BY id", (max(self._known, default=0),)
        ):
            self._known[row["id"]] = RecordedSeries(
                row["id"], row["metric"], row["unit"], Kind(row["kind"]), json.loads(row["attributes"])
            )
        return self._known

    def _raw(self, start_ns: int | None, end_ns: int | None) -> Iterator[tuple[array[int], tuple[int, ...], bytes]]:
        """The blocks that overlap a stretch of time, as they are: times, numbers of series, packed values."""
        start, end = _between(start_ns, end_ns)
        query = "SELECT layout, times, data FROM blocks WHERE last_ns >= ? AND first_ns <= ? ORDER BY first_ns, id"
        for row in self._connection.execute(query, (start, end)):
            yield unpacked_times(row["times"]), self._layout(row["layout"]), row["data"]

    def _layout(self, number: int) -> tuple[int, ...]:
        if number not in self._layouts:
            row = self._connection.execute("SELECT series FROM layouts WHERE id = ?", (number,)).fetchone()
            self._layouts[number] = tuple(json.loads(row["series"]))
        return self._layouts[number]

    def _tail(self, wanted: Collection[int] | None) -> dict[int, list[Minute]]:
        """What the minutes come to that have no rows yet, by series: of the one that is being written."""
        (last,) = self._connection.execute("SELECT max(minute) FROM minutes").fetchone()
        parts: dict[int, dict[int, array[float]]] = {}
        for times, layout, data in self._raw(None if last is None else (last + 1) * MINUTE, None):
            for series_id, column in zip(layout, unpacked(data, len(times)), strict=True):
                if wanted is None or series_id in wanted:
                    parts.setdefault(series_id, {}).setdefault(times[0] // MINUTE, array("d")).extend(column)
        return {
            series_id: [
                Minute(number * MINUTE, *span)
                for number, column in by_minute.items()
                if (span := summed(column)) is not None
            ]
            for series_id, by_minute in parts.items()
        }

    def _job(self, row: sqlite3.Row, sums: sqlite3.Row | None) -> Job:
        asked = Request(
            row["requested_cpus"], row["requested_memory"], row["requested_runtime"], row["requested_gpus"],
            row["requested_gpu_memory"], json.loads(row["requested_by"]),
        )  # fmt: skip
        return Job(
            row["job_id"], row["name"], row["command"], row["state"], row["started_ns"], row["ended_ns"],
            self.about.heard_ns, row["exit_code"], asked, json.loads(row["tags"]), tuple(json.loads(row["blocked_by"])),
            self.about.host, self.about.rank, Summary() if sums is None else _summary(sums),
        )  # fmt: skip


def _opened(path: str) -> sqlite3.Connection:
    """A connection that writes nothing. Where not even the memory that writers share may be used, as of a file that is there already."""
    if not os.path.isfile(path):
        raise RecordingError(f"There is no file {path}.")
    where = f"file:{urllib.parse.quote(os.path.abspath(path))}"
    last: sqlite3.Error | None = None
    for how in ("mode=ro", "mode=ro&immutable=1"):
        try:
            connection = sqlite3.connect(f"{where}?{how}", uri=True, timeout=_PATIENCE, check_same_thread=False)
            connection.row_factory = sqlite3.Row
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            last = error
        else:
            return connection
    raise RecordingError(_why_not(path, last)) from last


def _why_not(path: str, error: Exception | None) -> str:
    text = str(error)
    if "not a database" in text or "no recording" in text:
        return f"{path} is no recording: {text}."
    if "locked" in text:
        return f"{path} is locked by another process: {text}. Try again."
    return f"{path} cannot be read: {text}. If it is damaged, `sqlite3 {path} .recover` gets out what can be had."


def _between(start_ns: int | None, end_ns: int | None) -> tuple[int, int]:
    return (_EARLIEST if start_ns is None else start_ns, _LATEST if end_ns is None else end_ns)


def _part(times: array[int], start_ns: int | None, end_ns: int | None) -> tuple[int, int]:
    """Which looks of a block are within a stretch of time."""
    start, end = _between(start_ns, end_ns)
    return sum(each < start for each in times), sum(each <= end for each in times)


def _extend(found: tuple[array[int], array[float]], times: array[int], values: array[float]) -> None:
    if math.isnan(sum(values)):
        for at, value in zip(times, values, strict=True):
            if not math.isnan(value):
                found[0].append(at)
                found[1].append(value)
    else:
        found[0].extend(times)
        found[1].extend(values)


def _told(row: sqlite3.Row, *of_json: str, without: str = "") -> dict[str, Any]:
    """A row as arguments."""
    told: Mapping[str, Any] = {key: row[key] for key in row.keys() if key != without}  # noqa: SIM118 - a row gives values
    return {key: json.loads(value) if key in of_json else value for key, value in told.items()}


def _minute(row: sqlite3.Row) -> Minute:
    return Minute(row["minute"] * MINUTE, row["looks"], row["mean"], row["low"], row["high"], row["last"])


def _joined(one: Minute, other: Minute) -> Minute:
    looks = one.looks + other.looks
    mean = (one.mean * one.looks + other.mean * other.looks) / looks
    return Minute(one.start_ns, looks, mean, min(one.low, other.low), max(one.high, other.high), other.last)


def _summary(row: sqlite3.Row) -> Summary:
    figures: Iterable[tuple[str, Stat]] = (
        (name, Stat(row[f"{name}_peak"], row[f"{name}_mean"], row[f"{name}_p95"]))
        for name in FIGURES
        if row[f"{name}_peak"] is not None
    )
    return Summary(
        row["looks"], row["seconds"], dict(figures), row["cpu_seconds"], row["energy_joules"],
        row["gpu_idle_seconds"], row["gpu_seconds"], row["max_rss_bytes"],
    )  # fmt: skip
