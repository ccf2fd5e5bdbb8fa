# SPDX-License-Identifier: Apache-2.0
"""A training script that knows nothing of us: spans of its own, some work, some files."""

from __future__ import annotations

import os
import sys
import tempfile
import time

from opentelemetry import trace

SECONDS = float(sys.argv[1])

tracer = trace.get_tracer("job")


def work(seconds: float) -> None:
    """Burn some CPU and write some bytes for a while."""
    end = time.monotonic() + seconds
    with tempfile.TemporaryFile() as file:
        while time.monotonic() < end:
            file.write(b"x" * 65536)
            os.fsync(file.fileno())
            sum(range(20000))
            time.sleep(0.02)


with tracer.start_as_current_span("train"):
    for number in range(2):
        with tracer.start_as_current_span("epoch", attributes={"epoch": number}):
            work(SECONDS / 2)
print("trained")
