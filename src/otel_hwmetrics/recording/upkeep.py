# SPDX-License-Identifier: Apache-2.0
"""What a recording forgets, so that it stays within its bounds."""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

from otel_hwmetrics.recording.minute import MINUTE

_FULL: Final = 0.9
"""Part of the bound from which on something goes."""
_TENTH: Final = 10
_MOST_STEPS: Final = 50
_KEPT: Final = 600_000_000_000
"""Nanoseconds of full detail that stay in any case."""
_OF_A_SPAN: Final = 30_000
"""One span, and one alert, to so many bytes of the bound: a twentieth of it, or less."""


class _Part(NamedTuple):
    """A table that grows with time, and how the oldest of it goes.

    Attributes:
        name: Of the table.
        when: The column by which it is old.
        unit: Nanoseconds of one of that column.
        bytes: What its rows take, an expression.
    """

    name: str
    when: str
    unit: int
    bytes: str


_PARTS: Final = (
    _Part("blocks", "first_ns", 1, "sum(length(times) + length(data))"),
    _Part("minutes", "minute", MINUTE, "45 * count(*)"),
    _Part("job_samples", "at_ns", 1, "100 * count(*)"),
)


class Upkeep:
    """Deletes what is too old or too much. Called within a transaction, once a minute.

    The space of what was deleted is used again by what comes; the file does not shrink.

    Args:
        connection: To the recording.
        detail: Seconds for which every look at every series is kept.
        size: Bytes that the file may have.
    """

    def __init__(self, connection: sqlite3.Connection, detail: float, size: int) -> None:
        self._connection = connection
        self._detail_ns = round(detail * 1e9)
        self._size = size

    def run(self, now_ns: int) -> None:
        """Delete looks that are older than they may be; then, as long as it is too much, the oldest of the largest table."""
        self._forget_detail(now_ns)
        self._forget("spans", "started_ns", "span_id", "ended_ns IS NOT NULL AND parent_id <> ''")
        self._forget("alerts", "at_ns", "id", "1")
        for _ in range(_MOST_STEPS):
            if self._used() <= _FULL * self._size or not self._thin(now_ns):
                break

    def _forget_detail(self, now_ns: int) -> None:
        """A tenth at most at once: should the clock be wrong for a moment, most is still there."""
        (blocks,) = self._one("SELECT count(*) FROM blocks")
        old = "SELECT id FROM blocks WHERE open = 0 AND last_ns < ? ORDER BY first_ns LIMIT ?"
        most = max(2, blocks // _TENTH)
        self._connection.execute(f"DELETE FROM blocks WHERE id IN ({old})", (now_ns - self._detail_ns, most))  # noqa: S608

    def _forget(self, table: str, when: str, key: str, which: str) -> None:
        """Of many spans, or alerts, the oldest go, those alone that are no roots."""
        most = max(100, self._size // _OF_A_SPAN)
        (there,) = self._one(f"SELECT count(*) FROM {table}")  # noqa: S608 - our own names, here and below
        if there > most:
            oldest = f"SELECT {key} FROM {table} WHERE {which} ORDER BY {when} LIMIT ?"  # noqa: S608
            self._connection.execute(f"DELETE FROM {table} WHERE {key} IN ({oldest})", (there - most + most // _TENTH,))  # noqa: S608

    def _used(self) -> int:
        names = ("page_count", "freelist_count", "page_size")
        pages, free, size = (int(self._one(f"PRAGMA {name}")[0]) for name in names)
        return (pages - free) * size

    def _thin(self, now_ns: int) -> bool:
        """The oldest tenth of what takes most goes, but for the last minutes; says whether there was anything to spare."""
        for part in sorted(_PARTS, key=self._weight, reverse=True):
            newest = (now_ns - _KEPT) // part.unit
            (first,) = self._one(f"SELECT min({part.when}) FROM {part.name}")  # noqa: S608
            if first is not None and first < newest:
                until = first + max(1, (newest - first) // _TENTH)
                if self._connection.execute(f"DELETE FROM {part.name} WHERE {part.when} < ?", (until,)).rowcount:  # noqa: S608
                    return True
        return False

    def _weight(self, part: _Part) -> float:
        return self._one(f"SELECT {part.bytes} FROM {part.name}")[0] or 0  # noqa: S608 - our own names

    def _one(self, query: str) -> tuple[float, ...]:
        return tuple(self._connection.execute(query).fetchone())
