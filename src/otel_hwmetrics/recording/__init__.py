# SPDX-License-Identifier: Apache-2.0
"""A run on disk: one SQLite file for each process that writes, which are read as one run.

`Writer` writes, `Run` and `Recording` read; `otel_hwmetrics.recording.nouns` is what they write and read, and
`otel_hwmetrics.recording.schema` the tables. Nothing here knows the hardware, OpenTelemetry or the training.

The names below are loaded when they are first used: a command is run, too, where Python was built without sqlite3.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_hwmetrics.recording.details import Block
    from otel_hwmetrics.recording.opening import RecordingError
    from otel_hwmetrics.recording.reader import Recording
    from otel_hwmetrics.recording.run import SUFFIX, Run, RunFiles, find_runs, open_run
    from otel_hwmetrics.recording.writer import Writer

__all__ = ["SUFFIX", "Block", "Recording", "RecordingError", "Run", "RunFiles", "Writer", "find_runs", "open_run"]

_HOMES = {
    "SUFFIX": "run",
    "Block": "details",
    "Recording": "reader",
    "RecordingError": "opening",
    "Run": "run",
    "RunFiles": "run",
    "Writer": "writer",
    "find_runs": "run",
    "open_run": "run",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
