# SPDX-License-Identifier: Apache-2.0
"""The host as a source: its counters and levels, by whichever way this platform has."""

from __future__ import annotations

import sys
import time
from typing import Any, ClassVar

from otel_hwmetrics.sources.base import Batch, Bench, Clock, Source


class SystemSource(Source):
    """CPU, memory, paging, disks, network and processes of the machine. Read on the sampler's thread.

    Args:
        clock: Time of the readings, in seconds of the monotonic clock.
        per_cpu: Tell CPU time and frequency of each logical CPU, with ``cpu.logical_number``, instead of all together.
        proc_root: Where procfs is; Linux only.
        sys_root: Where sysfs is; Linux only.
    """

    name: ClassVar[str] = "system"

    def __init__(
        self,
        clock: Clock = time.monotonic,
        *,
        per_cpu: bool = False,
        proc_root: str = "/proc",
        sys_root: str = "/sys",
    ) -> None:
        self._clock = clock
        self._bench: Bench[Any]
        if sys.platform.startswith("linux"):
            from otel_hwmetrics.sources.system import linux

            host = linux.LinuxHost(clock, per_cpu=per_cpu, proc_root=proc_root, sys_root=sys_root)
            self._bench = linux.bench(host)
        else:
            from otel_hwmetrics.sources.system import portable

            self._bench = portable.bench(portable.PortableHost(clock, per_cpu=per_cpu))

    def read(self) -> Batch:
        """Read every counter and level of the host once."""
        batch = Batch()
        self._bench.read_into(batch, self._clock)
        return batch

    def close(self) -> None:
        """Let go of the files."""
        self._bench.subject.close()
