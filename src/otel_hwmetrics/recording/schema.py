# SPDX-License-Identifier: Apache-2.0
"""The tables of a recording, and how an older file becomes one of today.

``user_version`` counts the migrations that a file has seen, ``application_id`` says that it is ours
(https://www.sqlite.org/pragma.html). docs/how-to/recordings.md tells people what is where.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from otel_hwmetrics.recording.nouns import FIGURES

APPLICATION: Final = 0x6F68776D
"""``ohwm``: what ``file`` and `PRAGMA application_id` see of ours."""

_COLUMNS = ", ".join(f"{name} REAL" for name in FIGURES)
_SUMS = ", ".join(f"{name}_{part} REAL" for name in FIGURES for part in ("peak", "mean", "p95"))

_FIRST = f"""
CREATE TABLE writer (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  run TEXT NOT NULL, name TEXT NOT NULL, role TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL,
  rank INTEGER, world_size INTEGER,
  started_ns INTEGER NOT NULL, heard_ns INTEGER NOT NULL, ended_ns INTEGER,
  interval REAL NOT NULL, batch REAL NOT NULL, granularity TEXT NOT NULL,
  versions TEXT NOT NULL, resource TEXT NOT NULL, tags TEXT NOT NULL
);
CREATE TABLE jobs (
  job_id INTEGER PRIMARY KEY, name TEXT NOT NULL, command TEXT NOT NULL, state TEXT NOT NULL,
  started_ns INTEGER, ended_ns INTEGER, exit_code INTEGER,
  requested_cpus REAL, requested_memory INTEGER, requested_runtime REAL, requested_gpus REAL, requested_gpu_memory INTEGER,
  requested_by TEXT NOT NULL, tags TEXT NOT NULL, blocked_by TEXT NOT NULL
);
CREATE TABLE job_samples (job_id INTEGER NOT NULL, at_ns INTEGER NOT NULL, {_COLUMNS});
CREATE INDEX job_samples_of ON job_samples (job_id, at_ns);
CREATE INDEX job_samples_when ON job_samples (at_ns);
CREATE TABLE job_summary (
  job_id INTEGER PRIMARY KEY, looks INTEGER NOT NULL, seconds REAL NOT NULL, {_SUMS},
  cpu_seconds REAL, energy_joules REAL, gpu_idle_seconds REAL, gpu_seconds REAL, max_rss_bytes INTEGER
);
CREATE TABLE series (
  id INTEGER PRIMARY KEY, metric TEXT NOT NULL, unit TEXT NOT NULL, kind TEXT NOT NULL, attributes TEXT NOT NULL,
  UNIQUE (metric, attributes)
);
CREATE TABLE layouts (id INTEGER PRIMARY KEY, series TEXT NOT NULL);
CREATE TABLE blocks (
  id INTEGER PRIMARY KEY, layout INTEGER NOT NULL REFERENCES layouts (id),
  first_ns INTEGER NOT NULL, last_ns INTEGER NOT NULL, looks INTEGER NOT NULL, open INTEGER NOT NULL,
  times BLOB NOT NULL, data BLOB NOT NULL
);
CREATE INDEX blocks_when ON blocks (open, first_ns, id);
CREATE TABLE minutes (
  minute INTEGER NOT NULL, series INTEGER NOT NULL, looks INTEGER NOT NULL,
  mean REAL NOT NULL, low REAL NOT NULL, high REAL NOT NULL, last REAL NOT NULL,
  PRIMARY KEY (minute, series)
) WITHOUT ROWID;
CREATE TABLE spans (
  span_id TEXT PRIMARY KEY, trace_id TEXT NOT NULL, parent_id TEXT NOT NULL, name TEXT NOT NULL,
  started_ns INTEGER NOT NULL, ended_ns INTEGER, status TEXT NOT NULL, attributes TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX spans_when ON spans (started_ns);
CREATE TABLE alerts (
  id INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, rule TEXT NOT NULL, state TEXT NOT NULL, severity TEXT NOT NULL,
  device TEXT NOT NULL, message TEXT NOT NULL, trace_id TEXT NOT NULL, span_id TEXT NOT NULL, attributes TEXT NOT NULL
);
CREATE TABLE files (id INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, kind TEXT NOT NULL, path TEXT NOT NULL);

CREATE VIEW job_resource_samples AS
  SELECT job_id, at_ns / 1e9 AS timestamp, cpu * 100 AS cpu_percent, CAST(memory AS INTEGER) AS memory_bytes,
         CAST(processes AS INTEGER) AS num_processes, gpu_activity * 100 AS gpu_percent,
         CAST(gpu_memory AS INTEGER) AS gpu_memory_bytes, gpu_power AS gpu_power_watts,
         gpu_temperature AS gpu_temperature_celsius
  FROM job_samples;
CREATE VIEW job_metadata AS
  SELECT job_id, name AS job_name, command, state, started_ns / 1e9 AS start_time, ended_ns / 1e9 AS end_time, exit_code,
         requested_cpus, requested_memory AS requested_memory_bytes, requested_runtime AS requested_runtime_seconds,
         requested_gpus, tags
  FROM jobs;
CREATE VIEW metrics_by_minute AS
  SELECT minutes.minute * 60 AS timestamp, series.metric, series.unit, series.attributes, minutes.looks,
         minutes.mean, minutes.low, minutes.high, minutes.last
  FROM minutes JOIN series ON series.id = minutes.series;
"""  # noqa: S608 - our own names

MIGRATIONS: Final[tuple[str, ...]] = (_FIRST,)
"""What makes a file of the next version, each; a released one is never changed."""

VERSION: Final = len(MIGRATIONS)


def prepare(connection: sqlite3.Connection) -> None:
    """Make an empty file a recording, or an older recording one of today.

    Raises:
        ValueError: It is somebody else's file, or of a newer version of this package.
        sqlite3.Error: It cannot be written.
    """
    version = version_of(connection)
    if version > VERSION:
        raise ValueError(
            f"it was written by a newer version of this package: {version} is its schema's, {VERSION} ours"
        )
    for number, migration in enumerate(MIGRATIONS[version:], version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{migration}\nPRAGMA application_id = {APPLICATION};\nPRAGMA user_version = {number};\nCOMMIT;"
        )


def version_of(connection: sqlite3.Connection) -> int:
    """The version of a file's schema; 0 for an empty one.

    Raises:
        ValueError: It is somebody else's file.
        sqlite3.Error: It cannot be read.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION and tables:
        raise ValueError("it is an SQLite file, and no recording")
    return int(version) if application == APPLICATION else 0
