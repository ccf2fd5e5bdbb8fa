# SPDX-License-Identifier: Apache-2.0
"""Writes a recording: what is given is kept until it is committed, all of it in one transaction.

Everything here is called by one thread at a time, which may wait for a disk. A kill takes what was not committed; what was
is whole (https://www.sqlite.org/wal.html; with ``synchronous=NORMAL`` a power cut may take the last commits, too).
"""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from ctypes import py_object, pythonapi
from dataclasses import asdict
from itertools import groupby
from typing import Any, Final

from otel_hwmetrics.folders import served
from otel_hwmetrics.model import Series
from otel_hwmetrics.recording import schema
from otel_hwmetrics.recording.codec import packed, packed_times, unpacked
from otel_hwmetrics.recording.minute import MINUTE, Look, OpenMinute, summed
from otel_hwmetrics.recording.nouns import (
    FIGURES,
    SUMMARY,
    About,
    Job,
    JobSample,
    RecordedAlert,
    RecordedFile,
    RecordedSpan,
    Totals,
)
from otel_hwmetrics.recording.tally import JobTally, any_figure
from otel_hwmetrics.recording.upkeep import Upkeep

PATIENCE: Final = 1.0
"""Seconds that a commit waits for somebody else who has the file locked."""
MOST_WAITING: Final = 600
"""Looks that wait for a commit while the disk refuses; of more the oldest are lost."""
MOST_SAMPLES: Final = 50_000
"""Looks at jobs, likewise."""
MOST_OTHERS: Final = 10_000
"""Spans, likewise; and alerts, and files."""
_WAL_LIMIT: Final = 2**23
_PRAGMAS: Final = (
    "synchronous = NORMAL",
    f"journal_size_limit = {_WAL_LIMIT}",
    "temp_store = MEMORY",
    "cache_size = -1024",
)
_HARD: Final = 6  # of zlib, for what stays

_Row = tuple[object, ...]


# Again the same minute, where the clock was set back.
_ADD_MINUTE: Final = """
INSERT INTO minutes VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (minute, series) DO UPDATE SET
  mean = (mean * looks + excluded.mean * excluded.looks) / (looks + excluded.looks), looks = looks + excluded.looks,
  low = min(low, excluded.low), high = max(high, excluded.high), last = excluded.last
"""


def _plain(value: Any) -> Any:
    """The same as SQLite takes it: text that is Unicode, as JSON and terminals need it, too, and numbers of 64 bits.

    Linux allows any bytes in a path and a command line; Python shows the odd ones as lone surrogates (PEP 383).
    """
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else float(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, tuple | list) else value


def _text(value: object) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))


class Writer:
    """One file, written by one process.

    Args:
        path: The file, empty or not there yet. Who cares for its mode makes it before.
        about: Who writes it.
        detail: Seconds for which every look is kept; of older ones there is a row a minute.
        size: Bytes that the file may have; of what takes most, the oldest goes first (`otel_hwmetrics.recording.upkeep`).

    Raises:
        sqlite3.Error: The file cannot be written.
        ValueError: It is somebody else's.
    """

    def __init__(self, path: str, about: About, *, detail: float = 86400.0, size: int = 2**30) -> None:
        self.path = path
        self.lost = 0
        """What was never written: the disk refused for too long, or it could not be written anywhere."""
        self._series_wanted = about.granularity != SUMMARY
        self._interval = about.interval
        # On a server's file system, processes have no memory in common, which WAL needs: https://www.sqlite.org/wal.html.
        journal = "TRUNCATE" if served(path) else "WAL"
        self._connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            self._connection.execute(f"PRAGMA journal_mode = {journal}")
            for pragma in _PRAGMAS:
                self._connection.execute(f"PRAGMA {pragma}")
            schema.prepare(self._connection)
            self._introduce(about)
        except BaseException:
            self._connection.close()
            raise
        self._upkeep = Upkeep(self._connection, detail, size)
        self._kept_at = about.started_ns // MINUTE
        self._most_journal = max(4 * _WAL_LIMIT, size // 4)
        self._ids: dict[Series, int] = {}
        self._layouts: dict[tuple[int, ...], int] = {}
        self._minute: OpenMinute | None = None
        self._tallies: dict[int, JobTally] = {}
        self._looks: deque[Look] = deque()
        self._jobs: dict[int, Job] = {}
        self._all_jobs: dict[int, Job] = {}
        self._samples: deque[tuple[int, JobSample]] = deque()
        self._spans: dict[str, RecordedSpan] = {}
        self._open_spans: dict[str, RecordedSpan] = {}
        self._count = itertools.count().__next__
        self._alerts: dict[int, RecordedAlert] = {}
        self._files: dict[int, RecordedFile] = {}

    def go_on_from(self, before: Writer) -> None:
        """Go on from another file of this process, which is written no further: sums of jobs begin where they were there."""
        self._tallies = before._tallies
        self._all_jobs = dict(before._all_jobs)
        self._jobs = dict(before._all_jobs)
        for span in before._open_spans.values():
            self.span(span)

    def look(self, time_ns: int, series: tuple[Series, ...], values: bytes) -> None:
        """One look at everything.

        Args:
            time_ns: When, in nanoseconds since the epoch.
            series: What was read; best the same object from look to look while it is the same.
            values: Of each a double, in this order and this machine's order of bytes.
        """
        if not self._series_wanted:
            return
        self._looks.append(Look(time_ns, series, values))
        if len(self._looks) > MOST_WAITING:
            self._looks.popleft()
            self.lost += 1

    def job(self, job: Job) -> None:
        """A job is known, or has changed; its `summary` is made of its samples, whatever is said here."""
        self._jobs[job.id] = self._all_jobs[job.id] = job
        tally = self._tallies.get(job.id)
        # The first look speaks of the time since the job began, which may not have been known before.
        if tally is None or tally.is_new:
            self._tallies[job.id] = JobTally(job.started_ns, self._interval)

    def sample(self, job_id: int, sample: JobSample, totals: Totals) -> None:
        """One look at a job; one without any figure tells what the job has used in all, as at its end."""
        self._tallies.setdefault(job_id, JobTally(interval=self._interval)).add(sample, totals)
        if self._series_wanted and any_figure(sample):
            self._samples.append((job_id, sample))
            if len(self._samples) > MOST_SAMPLES:
                self._samples.popleft()
                self.lost += 1

    def span(self, span: RecordedSpan) -> None:
        """A span has begun, or has ended."""
        self._spans[span.span_id] = span
        self._bound(self._spans)
        if span.ended_ns is None:
            self._open_spans[span.span_id] = span
            if len(self._open_spans) > MOST_OTHERS:
                del self._open_spans[next(iter(self._open_spans))]
        else:
            self._open_spans.pop(span.span_id, None)

    def alert(self, alert: RecordedAlert) -> None:
        """An alert was told of."""
        self._alerts[self._count()] = alert
        self._bound(self._alerts)

    def file(self, file: RecordedFile) -> None:
        """There is another file of this run."""
        self._files[self._count()] = file
        self._bound(self._files)

    def _bound(self, waiting: dict[Any, Any]) -> None:
        if len(waiting) > MOST_OTHERS:
            del waiting[next(iter(waiting))]
            self.lost += 1

    def commit(self, now_ns: int, *, ended: bool = False) -> None:
        """Write all that waits, in one transaction.

        Raises:
            sqlite3.Error: It cannot be; everything waits on.
            Exception: What waits cannot be written anywhere, ever: it is let go of, and counted in `lost`.
        """
        minute = self._minute.copy() if self._minute is not None else None
        ids, layouts = dict(self._ids), dict(self._layouts)
        run = self._connection.execute
        self._check_journal()
        run("BEGIN IMMEDIATE")
        try:
            for number, looks in groupby(self._looks, lambda look: look.at_ns // MINUTE):
                if minute is not None and (minute.number != number or len(minute.times) >= MOST_WAITING):
                    self._finish(minute, ids, layouts)
                    minute = None
                minute = minute or OpenMinute(number)
                self._go_on(minute, list(looks), ids, layouts)
            self._write_jobs()
            self._write_others()
            run("UPDATE writer SET heard_ns = ?, ended_ns = ? WHERE id = 1", (now_ns, now_ns if ended else None))
            kept_at = now_ns // MINUTE
            if kept_at != self._kept_at:
                self._upkeep.run(now_ns)
            run("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                run("ROLLBACK")
            if isinstance(error, Exception) and not _is_the_disks(error):
                self._let_go()
            raise
        self._minute, self._ids, self._layouts, self._kept_at = minute, ids, layouts, kept_at
        for waiting in self._waiting:
            waiting.clear()

    @property
    def _waiting(self) -> tuple[Any, ...]:
        return self._looks, self._jobs, self._samples, self._spans, self._alerts, self._files

    def _let_go(self) -> None:
        """What is no disk's fault would be the same at the next try, and keep everything else from being written."""
        self.lost += sum(map(len, self._waiting))
        for waiting in self._waiting:
            waiting.clear()

    def _check_journal(self) -> None:
        """The journal begins anew when all of it is in the file, for which nobody may be reading; it has its bound, too."""
        if _size_of(f"{self.path}-wal") <= self._most_journal:
            return
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if _size_of(f"{self.path}-wal") > self._most_journal:
            raise sqlite3.OperationalError("somebody reads it without an end, and its journal has grown too long")

    def close(self, now_ns: int) -> None:
        """Write what waits, and say that it was ended in good order.

        Raises:
            sqlite3.Error: It cannot be written; it is closed all the same.
        """
        try:
            self.commit(now_ns, ended=True)
            # So that whoever reads it needs to write nothing beside it; not while somebody does.
            with suppress(sqlite3.OperationalError):
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
                self._connection.execute("PRAGMA journal_mode = DELETE")
        finally:
            self._connection.close()

    def abandon(self) -> None:
        """Leave it to the parent, in a forked child: closing it there would let go of what the parent has.

        https://www.sqlite.org/howtocorrupt.html, "Carrying an open database connection across a fork()".
        """
        pythonapi.Py_IncRef(py_object(self._connection))

    def drop(self) -> None:
        """Write nothing more, and give back what is open; for a file that somebody has removed, of which nothing is left then.

        Raises:
            sqlite3.Error: It cannot be closed.
        """
        self._connection.close()

    def _introduce(self, about: About) -> None:
        told = {each: _text(dict(getattr(about, each))) for each in ("versions", "resource", "tags")}
        row = {name: _plain(value) for name, value in (asdict(about) | told).items()}
        names = ", ".join(row)
        marks = ", ".join(f":{name}" for name in row)
        self._connection.execute(f"INSERT INTO writer (id, {names}) VALUES (1, {marks})", row)  # noqa: S608 - our own names

    def _go_on(
        self, minute: OpenMinute, looks: Sequence[Look], ids: dict[Series, int], layouts: dict[tuple[int, ...], int]
    ) -> None:
        """Write some more looks of a minute that may not be over."""
        begin = len(minute.times)
        for look in looks:
            minute.add(look)
        layout = self._layout(minute, ids, layouts)
        minute.blocks.append(self._block(layout, minute.times[begin:], packed(minute.rows(begin)), is_open=True))

    def _finish(self, minute: OpenMinute, ids: Mapping[Series, int], layouts: dict[tuple[int, ...], int]) -> None:
        """A minute is over: its parts become one block, which takes less than they do, and a row for each series."""
        run = self._connection.execute
        block = packed(minute.rows(), _HARD)
        run(f"DELETE FROM blocks WHERE id IN ({', '.join(map(str, minute.blocks))})")  # noqa: S608 - our own numbers
        self._block(self._layout(minute, dict(ids), layouts), minute.times, block)
        rows: list[_Row] = []
        for series, column in zip(minute.columns, unpacked(block, len(minute.times)), strict=True):
            span = summed(column)
            if span is not None:
                rows.append((minute.number, ids[series], *span))
        rows.sort(key=lambda row: row[1])  # type: ignore[arg-type,return-value] # a number
        self._connection.executemany(_ADD_MINUTE, rows)

    def _layout(self, minute: OpenMinute, ids: dict[Series, int], layouts: dict[tuple[int, ...], int]) -> int:
        """The number of the layout that has a minute's columns; what is not known yet is written."""
        run = self._connection.execute
        for series in (each for each in minute.columns if each not in ids):
            metric = series.metric
            row = (metric.name, metric.unit.value, metric.kind.value, _text(dict(series.attributes)))
            found = run("SELECT id FROM series WHERE metric = ? AND attributes = ?", (row[0], row[3])).fetchone()
            insert = "INSERT INTO series (metric, unit, kind, attributes) VALUES (?, ?, ?, ?)"
            ids[series] = found[0] if found else int(run(insert, row).lastrowid or 0)
        columns = tuple(ids[series] for series in minute.columns)
        if columns not in layouts:
            layouts[columns] = int(run("INSERT INTO layouts (series) VALUES (?)", (_text(columns),)).lastrowid or 0)
        return layouts[columns]

    def _block(self, layout: int, times: Sequence[int], data: bytes, *, is_open: bool = False) -> int:
        row = (layout, times[0], times[-1], len(times), is_open, packed_times(times), data)
        insert = "INSERT INTO blocks (layout, first_ns, last_ns, looks, open, times, data) VALUES (?, ?, ?, ?, ?, ?, ?)"
        return int(self._connection.execute(insert, row).lastrowid or 0)

    def _write_jobs(self) -> None:
        self._insert("jobs", map(_job_row, self._jobs.values()))
        self._insert("job_samples", [(job, *each) for job, each in self._samples])
        changed = {*self._jobs, *(job for job, _ in self._samples)} if self._series_wanted else self._tallies.keys()
        self._insert("job_summary", [_summary_row(job, self._tallies[job]) for job in changed])

    def _write_others(self) -> None:
        self._insert("spans", map(_span_row, self._spans.values()))
        self._insert("alerts", map(_alert_row, self._alerts.values()))
        self._insert("files", [(None, *each) for each in self._files.values()])

    def _insert(self, table: str, rows: Iterable[_Row]) -> None:
        rows = [tuple(map(_plain, row)) for row in rows]
        if rows:
            marks = ", ".join("?" * len(rows[0]))
            self._connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", rows)  # noqa: S608 - our own names


def _is_the_disks(error: Exception) -> bool:
    """Whether it may be another time: full, locked, refused, damaged."""
    return isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError


def _size_of(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _job_row(job: Job) -> _Row:
    asked = job.request
    return (
        job.id, job.name, job.command, job.state, job.started_ns, job.ended_ns, job.exit_code,
        asked.cpus, asked.memory, asked.runtime, asked.gpus, asked.gpu_memory, _text(dict(asked.by)),
        _text(dict(job.tags)), _text(job.blocked_by),
    )  # fmt: skip


def _summary_row(job: int, tally: JobTally) -> _Row:
    summary = tally.summary
    parts = [part for name in FIGURES for part in summary.figures.get(name, (None, None, None))]
    return (
        job, summary.looks, summary.seconds, *parts,
        summary.cpu_seconds, summary.energy, summary.gpu_idle_seconds, summary.gpu_seconds, summary.max_rss,
    )  # fmt: skip


def _span_row(span: RecordedSpan) -> _Row:
    return (
        span.span_id, span.trace_id, span.parent_id, span.name, span.started_ns, span.ended_ns, span.status,
        _text(dict(span.attributes)),
    )  # fmt: skip


def _alert_row(alert: RecordedAlert) -> _Row:
    return (
        None, alert.at_ns, alert.rule, alert.state, alert.severity, alert.device, alert.message, alert.trace_id,
        alert.span_id, _text(dict(alert.attributes)),
    )  # fmt: skip
