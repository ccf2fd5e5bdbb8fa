# SPDX-License-Identifier: Apache-2.0
"""Reads one file of a run, also while it is written, and one that was cut off."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from otel_hwmetrics.recording import schema
from otel_hwmetrics.recording.details import Details
from otel_hwmetrics.recording.nouns import (
    FIGURES,
    About,
    Job,
    JobPart,
    JobSample,
    RecordedAlert,
    RecordedFile,
    RecordedSeries,
    RecordedSpan,
    Request,
    Stat,
    Summary,
)
from otel_hwmetrics.recording.opening import RecordingError, opened

if TYPE_CHECKING:
    from typing_extensions import Self


class Recording(Details):
    """One file. May be read from one thread at a time, and by as many readers as like.

    Args:
        path: Of the file.

    Raises:
        RecordingError: It is not there, no recording, damaged, or of a newer version of this package. Whatever is read later
            on may raise it, too.

    Attributes:
        path: Of the file.
        about: Who wrote it, as of when it was opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._known: dict[int, RecordedSeries] = {}
        self._layouts: dict[int, tuple[int, ...]] = {}
        with ExitStack() as ways_out:
            self._connection = opened(path, ways_out)
            with self._moment():
                self.about = self._about()
            self._ways_out = ways_out.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._ways_out.close()

    def jobs(self) -> list[Job]:
        """The jobs that it tells of, by their numbers."""
        with self._moment():
            heard = self._about().heard_ns
            sums = {row["job_id"]: row for row in self._connection.execute("SELECT * FROM job_summary")}
            rows = self._connection.execute("SELECT * FROM jobs ORDER BY job_id").fetchall()
            return [self._job(row, sums.get(row["job_id"]), heard) for row in rows]

    def job_samples(self, job_id: int, start_ns: int | None = None, end_ns: int | None = None) -> list[JobSample]:
        """The looks at a job, by their time.

        Args:
            job_id: Its number in this file.
            start_ns: None for the first.
            end_ns: None for the last; it is included.
        """
        names = ", ".join(FIGURES)
        query = f"SELECT at_ns, {names} FROM job_samples WHERE job_id = ? AND at_ns BETWEEN ? AND ? ORDER BY at_ns"  # noqa: S608 - our own names
        start, end = (-(2**63) if start_ns is None else start_ns), (2**63 - 1 if end_ns is None else end_ns)
        with self._moment():
            cursor = self._connection.execute(query, (job_id, start, end))
            cursor.row_factory = None
            return [JobSample(*row) for row in cursor]

    def job_parts(self, job_id: int, start_ns: int, end_ns: int, parts: int) -> list[JobPart]:
        """What a job did over parts of a stretch of time, all as long; whatever the number of looks, little is kept of it.

        Args:
            job_id: Its number in this file.
            start_ns: Where the first part begins; earlier looks are of that one.
            end_ns: Where the last part ends; later looks are of that one.
            parts: How many there are. Those without a look are left out.
        """
        names = ", ".join(f"count({name}), avg({name})" for name in FIGURES)
        query = (
            f"SELECT min(max((at_ns - ?) / ?, 0), ?) AS part, {names} FROM job_samples WHERE job_id = ?"  # noqa: S608 - our own names
            " GROUP BY part ORDER BY part"
        )
        width = max(1, -((start_ns - end_ns) // parts))
        with self._moment():
            cursor = self._connection.execute(query, (start_ns, width, parts - 1, job_id))
            cursor.row_factory = None
            rows = cursor.fetchall()
        return [
            JobPart(
                number,
                {name: (told[2 * n], told[2 * n + 1]) for n, name in enumerate(FIGURES) if told[2 * n]},
            )
            for number, *told in rows
        ]

    def spans(self) -> list[RecordedSpan]:
        """The training spans, by their beginning."""
        with self._moment():
            rows = self._connection.execute("SELECT * FROM spans ORDER BY started_ns, span_id").fetchall()
            return [RecordedSpan(**_told(row, "attributes")) for row in rows]

    def alerts(self) -> list[RecordedAlert]:
        """The alerts that were told of, by their time."""
        with self._moment():
            rows = self._connection.execute("SELECT * FROM alerts ORDER BY at_ns, id").fetchall()
            return [RecordedAlert(**_told(row, "attributes", without="id")) for row in rows]

    def files(self) -> list[RecordedFile]:
        """Other files of the run, as far as this process has named them."""
        with self._moment():
            rows = self._connection.execute("SELECT at_ns, kind, path FROM files ORDER BY id").fetchall()
            return [RecordedFile(*row) for row in rows]

    def _about(self) -> About:
        version = schema.version_of(self._connection)
        if version > schema.VERSION:
            raise RecordingError(f"{self.path} was written by a newer version of otel-hwmetrics: update this one.")
        row = self._connection.execute("SELECT * FROM writer").fetchone() if version else None
        if row is None:
            raise RecordingError(f"{self.path} is empty: its writer was killed before it wrote anything.")
        return About(**_told(row, "versions", "resource", "tags", without="id"))

    def _job(self, row: sqlite3.Row, sums: sqlite3.Row | None, heard_ns: int) -> Job:
        asked = Request(
            row["requested_cpus"], row["requested_memory"], row["requested_runtime"], row["requested_gpus"],
            row["requested_gpu_memory"], json.loads(row["requested_by"]),
        )  # fmt: skip
        return Job(
            row["job_id"], row["name"], row["command"], row["state"], row["started_ns"], row["ended_ns"],
            heard_ns, row["exit_code"], asked, json.loads(row["tags"]), tuple(json.loads(row["blocked_by"])),
            self.about.host, self.about.rank, Summary() if sums is None else _summary(sums),
        )  # fmt: skip


def _told(row: sqlite3.Row, *of_json: str, without: str = "") -> dict[str, Any]:
    """A row as arguments."""
    told: Mapping[str, Any] = {key: row[key] for key in row.keys() if key != without}  # noqa: SIM118 - a row gives values
    return {key: json.loads(value) if key in of_json else value for key, value in told.items()}


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
