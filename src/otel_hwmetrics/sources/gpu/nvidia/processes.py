# SPDX-License-Identifier: Apache-2.0
"""The job's own part of a GPU: memory and time of its processes.

NVML names processes by the numbers of the host. In a container with its own numbering those numbers mean others, and
nothing there tells which are ours; so what all processes on the device have is told then, and said to be that.
The process list costs the driver milliseconds (https://github.com/flightlessmango/MangoHud/issues/2104).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from otel_hwmetrics.catalog import gpu_activity as activity
from otel_hwmetrics.model import Reading
from otel_hwmetrics.sources.gpu.device import Items, within
from otel_hwmetrics.sources.gpu.nvidia.device import Gpu
from otel_hwmetrics.sources.gpu.nvidia.library import NOT_AVAILABLE

_MOST_PID: Final = 2**32 - 2
# All ones are nobody's.


class Processes:
    """Memory and time of the job's processes on one GPU."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._ours = gpu.ours
        self._seen = 0
        self._since: float | None = None

    def memory(self) -> Items:
        """Memory that the job's processes have allocated on it, or everybody's where ours cannot be told.

        Raises:
            NVMLError: The driver refuses.
            ValueError: It says what makes no sense; without the processes that it means the sum would be too small.
        """
        processes = self._list()
        for process in processes:
            within(process.pid, _MOST_PID, "the number of a process")
        self._ours.heard(
            self._gpu.identity.uuid,
            {
                process.pid: None if (size := process.usedGpuMemory) is None or size >= NOT_AVAILABLE else size
                for process in processes
            },
        )
        scope, chosen = self._choose(processes)
        if not chosen and scope == "device":
            # In a container the list may be empty because the driver hides it: no evidence of 0.
            return
        # All ones: the driver does not know (Windows' display model, MIG without rights). A part is not the sum.
        sizes = [process.usedGpuMemory for process in chosen]
        if all(size is not None and size < NOT_AVAILABLE for size in sizes):
            yield self._gpu.series(activity.PROCESS_MEMORY, (activity.PROCESS_SCOPE, scope)), sum(sizes)

    def _list(self) -> list[Any]:
        nvml, handle = self._gpu.nvml, self._gpu.handle
        try:
            processes = nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)
        except nvml.NVMLError_FunctionNotFound:  # drivers before 510
            processes = nvml.nvmlDeviceGetComputeRunningProcesses_v2(handle)
        return list(processes)

    def time(self) -> Items:
        """Share of time in which kernels of the job's processes ran, since the last call.

        Raises:
            NVMLError: The driver refuses.
        """
        at = self._gpu.clock()
        try:
            samples = self._gpu.nvml.nvmlDeviceGetProcessUtilization(self._gpu.handle, self._seen)
        except self._gpu.nvml.NVMLError_NotFound:
            samples = []
        # Drivers leave places of the list unfilled, with times of 0 and figures beyond the whole.
        samples = [
            sample
            for sample in samples
            if sample.timeStamp > self._seen and sample.smUtil <= 100  # noqa: PLR2004 - percent
        ]
        if samples:
            self._seen = max(sample.timeStamp for sample in samples)
        since, self._since = self._since, at
        if since is None:
            return
        scope, chosen = self._choose(samples)
        if chosen:
            by_process: dict[int, list[int]] = {}
            for sample in chosen:
                by_process.setdefault(sample.pid, []).append(sample.smUtil)
            total = sum(sum(values) / len(values) for values in by_process.values())
            series = self._gpu.series(activity.PROCESS_SM, (activity.PROCESS_SCOPE, scope))
            yield Reading(series, min(total / 100, 1.0), at, since)

    def _choose(self, entries: Iterable[Any]) -> tuple[str, list[Any]]:
        if self._ours.can_tell:
            return "tree", [entry for entry in entries if entry.pid in self._ours]
        return "device", list(entries)
