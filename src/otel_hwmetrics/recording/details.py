# SPDX-License-Identifier: Apache-2.0
"""What a file holds of the series: every look, as far back as that was kept, and every minute.

Nothing is read for longer than a moment at once: as long as somebody reads, a writer's journal only grows
(https://www.sqlite.org/wal.html, "Avoiding Excessively Large WAL Files").
"""

from __future__ import annotations

import json
import math
import sqlite3
from array import array
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple

from otel_hwmetrics.model import Kind
from otel_hwmetrics.recording.codec import column_of, unpacked, unpacked_times
from otel_hwmetrics.recording.minute import MINUTE, summed
from otel_hwmetrics.recording.nouns import Minute, RecordedSeries
from otel_hwmetrics.recording.opening import RecordingError, why_not

_FEW: Final = 4  # columns that are quicker had one by one than all of a block
_AT_ONCE: Final = 60  # blocks
_MINUTES_AT_ONCE: Final = 10
_EARLIEST, _LATEST = -(2**63), 2**63 - 1


class Block(NamedTuple):
    """Some looks at the same series.

    Attributes:
        times: Of each look, in nanoseconds since the epoch.
        columns: Each series with its values, one a look; NaN where it was not read.
    """

    times: array[int]
    columns: list[tuple[RecordedSeries, array[float]]]


class Details:
    """The series of one file; see `otel_hwmetrics.recording.Recording`."""

    path: str
    _connection: sqlite3.Connection
    _known: dict[int, RecordedSeries]
    _layouts: dict[int, tuple[int, ...]]

    def series(self) -> list[RecordedSeries]:
        """Every series, in the order in which they were met."""
        with self._moment():
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
        for times, layout, data in self._raw(start_ns, end_ns):
            begin, end = _part(times, start_ns, end_ns)
            wanted = found.keys() & set(layout)
            with self._telling():
                columns = unpacked(data, len(times)) if len(wanted) > _FEW else None
                for series_id in wanted:
                    place = layout.index(series_id)
                    column = columns[place] if columns else column_of(data, len(times), place)
                    _extend(found[series_id], times[begin:end], column[begin:end])
        return found

    def blocks(self, start_ns: int | None = None, end_ns: int | None = None) -> Iterator[Block]:
        """Everything in full detail, as far back as that was kept, a minute or less at a time."""
        for times, layout, data in self._raw(start_ns, end_ns):
            begin, end = _part(times, start_ns, end_ns)
            if not set(layout) <= self._known.keys():
                self.series()
            if begin < end:
                with self._telling():
                    columns = zip(layout, unpacked(data, len(times)), strict=True)
                    block = Block(
                        times[begin:end], [(self._known[each], values[begin:end]) for each, values in columns]
                    )
                yield block

    def minutes(self, series_id: int, start_ns: int | None = None, end_ns: int | None = None) -> list[Minute]:
        """One series by the minute, for the whole run, the minute that is being written included."""
        return self.minutes_of((series_id,), start_ns, end_ns)[series_id]

    def minutes_of(
        self, series_ids: Collection[int], start_ns: int | None = None, end_ns: int | None = None
    ) -> dict[int, list[Minute]]:
        """Several series at once, in one pass over the file; each as in `minutes`."""
        start, end = _between(start_ns, end_ns)
        found: dict[int, list[Minute]] = {each: [] for each in series_ids}
        query = f"SELECT * FROM minutes WHERE minute BETWEEN ? AND ? AND series IN ({_numbers(found)}) ORDER BY minute"  # noqa: S608
        with self._moment():
            for row in self._connection.execute(query, (start // MINUTE, end // MINUTE)):
                found[row["series"]].append(_minute(row))
            for series_id, tail in self._tail(found.keys()).items():
                found[series_id] += (each for each in tail if start <= each.start_ns + MINUTE and each.start_ns <= end)
        return found

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
        which = "" if only is None else f" AND series IN ({_numbers(only)})"
        query = f"SELECT * FROM minutes WHERE minute BETWEEN ? AND ?{which} ORDER BY minute, series"  # noqa: S608 - numbers
        begin, last = -(-start // MINUTE), end // MINUTE
        while True:
            with self._moment():
                next_one = "SELECT min(minute) FROM minutes WHERE minute BETWEEN ? AND ?"
                (begin,) = self._connection.execute(next_one, (begin, last)).fetchone()
                if begin is None:
                    return
                until = min(last, begin + _MINUTES_AT_ONCE - 1)
                rows = self._connection.execute(query, (begin, until)).fetchall()
            for number, found in groupby(rows, key=itemgetter("minute")):
                yield number * MINUTE, {row["series"]: _minute(row) for row in found}
            begin = until + 1

    @contextmanager
    def _moment(self) -> Iterator[None]:
        """Whatever is read within is of one moment, whatever a writer does meanwhile."""
        with self._telling():
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Whatever cannot be read within is told in a sentence."""
        try:
            yield
        except RecordingError:
            raise
        except (sqlite3.Error, KeyError, TypeError, ValueError) as error:
            raise RecordingError(why_not(self.path, error)) from error

    def _series(self) -> dict[int, RecordedSeries]:
        for row in self._connection.execute(
            "SELECT * FROM series WHERE id > ? ORDER BY id", (max(self._known, default=0),)
        ):
            self._known[row["id"]] = RecordedSeries(
                row["id"], row["metric"], row["unit"], Kind(row["kind"]), json.loads(row["attributes"])
            )
        return self._known

    def _raw(self, start_ns: int | None, end_ns: int | None) -> Iterator[tuple[array[int], tuple[int, ...], bytes]]:
        """The blocks that overlap a stretch of time, as they are: times, numbers of series, packed values.

        Whole minutes page by page; with the last page the parts of the minute that is being written, at the same moment, since
        they may be one block at the next.
        """
        start, end = _between(start_ns, end_ns)
        query = (
            "SELECT id, layout, first_ns, times, data FROM blocks WHERE last_ns >= ? AND first_ns <= ? AND open = ?"
            " AND (first_ns > ? OR (first_ns = ? AND id > ?)) ORDER BY first_ns, id LIMIT ?"
        )
        at, number, more = _EARLIEST, -1, True
        while more:
            with self._moment():
                rows = self._connection.execute(query, (start, end, 0, at, at, number, _AT_ONCE)).fetchall()
                more = len(rows) == _AT_ONCE
                if more:
                    at, number = rows[-1]["first_ns"], rows[-1]["id"]
                else:
                    rows += self._connection.execute(query, (start, end, 1, _EARLIEST, 0, 0, -1)).fetchall()
                found = [(unpacked_times(row["times"]), self._layout(row["layout"]), row["data"]) for row in rows]
            yield from found

    def _layout(self, number: int) -> tuple[int, ...]:
        if number not in self._layouts:
            row = self._connection.execute("SELECT series FROM layouts WHERE id = ?", (number,)).fetchone()
            self._layouts[number] = tuple(json.loads(row["series"]))
        return self._layouts[number]

    def _tail(self, wanted: Collection[int]) -> dict[int, list[Minute]]:
        """What the minute that is being written comes to by now, by series."""
        parts: dict[int, array[float]] = {}
        number = 0
        for row in self._connection.execute("SELECT * FROM blocks WHERE open = 1 ORDER BY id"):
            number = row["first_ns"] // MINUTE
            layout = self._layout(row["layout"])
            for series_id in set(layout) & set(wanted):
                column = column_of(row["data"], row["looks"], layout.index(series_id))
                parts.setdefault(series_id, array("d")).extend(column)
        told = {series_id: summed(column) for series_id, column in parts.items()}
        return {series_id: [Minute(number * MINUTE, *span)] for series_id, span in told.items() if span is not None}


def _numbers(ids: Collection[int]) -> str:
    return ", ".join(str(int(each)) for each in ids)


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


def _minute(row: sqlite3.Row) -> Minute:
    return Minute(row["minute"] * MINUTE, row["looks"], row["mean"], row["low"], row["high"], row["last"])
