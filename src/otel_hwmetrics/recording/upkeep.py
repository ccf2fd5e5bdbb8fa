# SPDX-License-Identifier: Apache-2.0
"""What a recording forgets, so that it stays within its bounds."""

from __future__ import annotations

import sqlite3
from typing import Final

from otel_hwmetrics.recording.minute import MINUTE

_FULL: Final = 0.9
"""Part of the bound from which on something goes."""
_TENTH: Final = 10
_MOST_STEPS: Final = 50
_KEPT: Final = 600_000_000_000
"""Nanoseconds of full detail that stay in any case."""


class Upkeep:
    """Deletes what is too old or too much. Called within a transaction, once a minute.

    The space of what was deleted is used again by what comes; the file does not shrink.

    Args:
        connection: To the recording.
        detail: Seconds for which every look is kept.
        size: Bytes that the file may have.
    """

    def __init__(self, connection: sqlite3.Connection, detail: float, size: int) -> None:
        self._connection = connection
        self._detail_ns = round(detail * 1e9)
        self._size = size

    def run(self, now_ns: int) -> None:
        """Delete looks that are older than they may be; then, as long as it is too much, the oldest of what can be spared."""
        self._connection.execute("DELETE FROM blocks WHERE last_ns < ?", (now_ns - self._detail_ns,))
        for _ in range(_MOST_STEPS):
            if self._used() <= _FULL * self._size or not (self._thin_blocks(now_ns) or self._thin_minutes(now_ns)):
                break

    def _used(self) -> int:
        pages, free, size = (
            int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def _thin_blocks(self, now_ns: int) -> int:
        """The oldest looks go; gives how many rows."""
        run = self._connection.execute
        (blocks,) = run("SELECT count(*) FROM blocks WHERE last_ns < ?", (now_ns - _KEPT,)).fetchone()
        if not blocks:
            return 0
        oldest = "SELECT id FROM blocks ORDER BY first_ns LIMIT ?"
        return run(f"DELETE FROM blocks WHERE id IN ({oldest})", (max(1, blocks // _TENTH),)).rowcount  # noqa: S608 - our own text

    def _thin_minutes(self, now_ns: int) -> int:
        """Where no looks are to spare, the oldest minutes go, and the looks at the jobs; what these came to is kept."""
        run = self._connection.execute
        gone = 0
        for table, column, newest in (
            ("minutes", "minute", (now_ns - _KEPT) // MINUTE),
            ("job_samples", "at_ns", now_ns - _KEPT),
        ):
            (first,) = run(f"SELECT min({column}) FROM {table}").fetchone()  # noqa: S608 - our own names
            if first is not None and first < newest:
                until = first + max(1, (newest - first) // _TENTH)
                gone += run(f"DELETE FROM {table} WHERE {column} < ?", (until,)).rowcount  # noqa: S608 - likewise
        return gone
