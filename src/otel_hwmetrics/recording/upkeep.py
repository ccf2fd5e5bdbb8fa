# SPDX-License-Identifier: Apache-2.0
"""What a recording forgets, so that it stays within its bounds."""

from __future__ import annotations

import sqlite3
from typing import Final

_FULL: Final = 0.9
"""Part of the bound from which on something goes."""
_TENTH: Final = 10
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
        """Delete looks that are older than they may be, and of too much the oldest tenth: next minute, the next one."""
        self._connection.execute("DELETE FROM blocks WHERE last_ns < ?", (now_ns - self._detail_ns,))
        if self._used() > _FULL * self._size:
            self._thin(now_ns)

    def _used(self) -> int:
        pages, free, size = (
            int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def _thin(self, now_ns: int) -> None:
        """The oldest looks; where there are none to spare, the oldest minutes and every other look at the jobs."""
        run = self._connection.execute
        (blocks,) = run("SELECT count(*) FROM blocks WHERE last_ns < ?", (now_ns - _KEPT,)).fetchone()
        if blocks:
            oldest = "SELECT id FROM blocks ORDER BY first_ns LIMIT ?"
            run(f"DELETE FROM blocks WHERE id IN ({oldest})", (max(1, blocks // _TENTH),))  # noqa: S608 - our own text
            return
        first, last = run("SELECT min(minute), max(minute) FROM minutes").fetchone()
        if first is not None and first < last:
            run("DELETE FROM minutes WHERE minute < ?", (first + max(1, (last - first) // _TENTH),))
        run(
            "DELETE FROM job_samples WHERE rowid % 2 = 0 AND at_ns < ?"
            " AND rowid <= (SELECT (min(rowid) + max(rowid)) / 2 FROM job_samples)",
            (now_ns - _KEPT,),
        )
