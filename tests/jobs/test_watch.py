# SPDX-License-Identifier: Apache-2.0
"""Promises of how jobs are watched from outside."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any, cast

import pytest

from otel_hwmetrics.jobs.children import Child
from otel_hwmetrics.jobs.gpus import GpuLists
from otel_hwmetrics.jobs.watch import Watch
from otel_hwmetrics.recording.nouns import WAITING, Job

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it needs /proc")


def test_cpu_is_counted_from_when_the_command_began() -> None:
    """Not from when the launcher came to look at it: what it did before would be CPUs that it did not have."""
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        watch = Watch([(Job(1, "a", state=WAITING), cast("Any", None))], GpuLists())
        watch.begin(1, Child(process.pid, time.time_ns() - 700_000_000, 0))
        watch.look()
        told = [sample.cpu for _, sample, _ in watch.ended(0, None)]
        watch.close()
        process.kill()
    assert told[:2] == [None, None], "waiting, and its beginning"
    assert len(told) == 3
    assert told[2] is not None
