# SPDX-License-Identifier: Apache-2.0
"""This process: from the kernel's own files on Linux, through psutil elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import ClassVar

from otel_hwmetrics.sources.base import Batch, Clock, Source
from otel_hwmetrics.sources.process.kernel import KernelProcess
from otel_hwmetrics.sources.process.library import LibraryProcess

PROC: str | None = "/proc" if sys.platform == "linux" else None
"""Where the kernel shows processes; None where it does not."""


class ProcessSource(Source):
    """CPU, memory, storage traffic, threads and descriptors of the process that opens it.

    Args:
        clock: Seconds of the monotonic clock.
        proc: Where the kernel shows processes; None to ask psutil.
        effective_cpus: Gives how many CPUs the process's container may use at once, None for as many as there are.
            Raises `OSError` or `ValueError` when it cannot tell. Called at each look.
    """

    name: ClassVar[str] = "process"

    def __init__(
        self,
        clock: Clock = time.monotonic,
        *,
        proc: str | None = PROC,
        effective_cpus: Callable[[], float | None] | None = None,
    ) -> None:
        self._subject = (
            KernelProcess(proc, clock, effective_cpus) if proc is not None else LibraryProcess(clock, effective_cpus)
        )

    def open(self) -> None:
        """Find this process.

        Raises:
            SourceUnavailable: It cannot be seen.
        """
        self._subject.open(self.name)

    def read(self) -> Batch:
        """Read every counter and level of the process once, each file of the kernel's with one call."""
        batch = Batch()
        self._subject.read_into(batch)
        return batch

    def close(self) -> None:
        """Close the kernel's files."""
        self._subject.close()
