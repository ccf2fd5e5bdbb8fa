# SPDX-License-Identifier: Apache-2.0
"""A run on disk: one SQLite file for each process that writes, which are read as one run.

`Writer` writes, `Run` and `Recording` read; `otel_hwmetrics.recording.nouns` is what they write and read, and
`otel_hwmetrics.recording.schema` the tables. Nothing here knows the hardware, OpenTelemetry or the training.
"""

from otel_hwmetrics.recording.details import Block
from otel_hwmetrics.recording.opening import RecordingError
from otel_hwmetrics.recording.reader import Recording
from otel_hwmetrics.recording.run import SUFFIX, Run, RunFiles, find_runs, open_run
from otel_hwmetrics.recording.writer import Writer

__all__ = ["SUFFIX", "Block", "Recording", "RecordingError", "Run", "RunFiles", "Writer", "find_runs", "open_run"]
