# SPDX-License-Identifier: Apache-2.0
"""Recording the NVML of a real machine, and replaying it where there is none.

    from otel_hwmetrics.testing.captures import load_capture, record

    with record("h200.json", note="one H200, idle") as recorder:  # on the machine with the GPU
        ...

    with load_capture("h200.json", clock=clock):                  # anywhere
        ...

A capture is text, small, and free of names: it can go into a bug report. `capture` describes the file, `recorder` how
to make one, `replay` how it answers. A script that records a machine is `benchmarks/record_nvml.py` in the project's
repository.

Importing this is cheap: `pynvml` is imported when something is recorded or replayed.
"""

from __future__ import annotations

from otel_hwmetrics.testing.captures.capture import Capture
from otel_hwmetrics.testing.captures.reader import CaptureError, read_capture
from otel_hwmetrics.testing.captures.recorder import Recorder, record
from otel_hwmetrics.testing.captures.replay import ReplayNvml, load_capture, load_machine

__all__ = [
    "Capture",
    "CaptureError",
    "Recorder",
    "ReplayNvml",
    "load_capture",
    "load_machine",
    "read_capture",
    "record",
]
