# SPDX-License-Identifier: Apache-2.0
"""Utilization between two looks, from the samples that the driver itself takes about six times a second.

``nvmlDeviceGetSamples`` hands out a ring of them, those newer than the last one seen. Asked only for the figure of the
moment, one sees a sixth of a second of each second; a ring that is read in time shows all of it, with its peaks.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Any, Final

from otel_hwmetrics.model import Metric, Reading
from otel_hwmetrics.sources.gpu.device import Items, within
from otel_hwmetrics.sources.gpu.nvidia.device import Gpu
from otel_hwmetrics.sources.gpu.nvidia.library import function

_FORGET_AFTER: Final = 30.0
# Seconds of an empty ring after which what was seen last may be of another life of the driver.
_MOST_SAMPLES: Final = 4096


class Ring:
    """One kind of sample of one GPU.

    Args:
        gpu: The GPU.
        kind: The name of the kind's number in nvml.h.
        metric: Whose mean the samples have.
        peak: Whose peak they have, if any.
        pairs: Attributes of both, besides the device's.
    """

    def __init__(
        self, gpu: Gpu, kind: str, metric: Metric, peak: Metric | None = None, *pairs: tuple[str, str]
    ) -> None:
        self._gpu = gpu
        self._kind = ctypes.c_uint(getattr(gpu.nvml, kind))
        self._mean = gpu.series(metric, *pairs)
        self._peak = gpu.series(peak, *pairs) if peak is not None else None
        self._call: Any = None
        self._buffer: Any = None
        self._seen = 0  # microseconds by the driver's clock, typically since boot: comparable with each other only
        self._since: float | None = None

    def read(self) -> Items:
        """Mean and peak since the last call; nothing where the driver has taken no sample since, as of an idle GPU.

        Raises:
            NVMLError: The driver refuses.
        """
        if self._call is None:
            self._begin()
        at = self._gpu.clock()
        values, span = self._new()
        since = self._since
        if since is None:
            # What the ring held before the first look is older than the job: only where it ends is of interest.
            self._since = at
            return
        if not values:
            if at - since > _FORGET_AFTER:
                self._seen, self._since = 0, None
            return
        self._since = at
        if len(values) == len(self._buffer):
            # More was taken than the ring holds: what it has is of its own length, and of the time before nothing is known.
            since = max(since, at - span)
        yield Reading(self._mean, sum(values) / len(values) / 100, at, since)
        if self._peak is not None:
            yield Reading(self._peak, max(values) / 100, at, since)

    def _begin(self) -> None:
        call = function(self._gpu.nvml, "nvmlDeviceGetSamples")
        size = ctypes.c_uint(0)
        value_type = ctypes.c_uint(0)
        # With no array to fill it says how large one has to be.
        # An idle GPU may have none to size the answer by: then it is asked again at the next look.
        with contextlib.suppress(self._gpu.nvml.NVMLError_NotFound):
            call(
                self._gpu.handle, self._kind, ctypes.c_ulonglong(0), ctypes.byref(value_type), ctypes.byref(size), None
            )
        size.value = int(within(size.value, _MOST_SAMPLES, "the size of its ring"))
        self._buffer = (self._gpu.nvml.c_nvmlSample_t * size.value)()
        self._call = call if size.value else None

    def _new(self) -> tuple[list[int], float]:
        """Percentages that the ring has got since the last call, oldest first, and how many seconds they reach back."""
        if not len(self._buffer):
            return [], 0.0
        count = ctypes.c_uint(len(self._buffer))
        value_type = ctypes.c_uint(0)
        try:
            self._call(
                self._gpu.handle,
                self._kind,
                ctypes.c_ulonglong(self._seen),
                ctypes.byref(value_type),
                ctypes.byref(count),
                ctypes.byref(self._buffer),
            )
        except self._gpu.nvml.NVMLError_NotFound:
            return [], 0.0
        # Time 0 and values beyond 100 are places of the ring that were never filled.
        samples = [
            (sample.timeStamp, sample.sampleValue.uiVal)
            for sample in self._buffer[: min(count.value, len(self._buffer))]
            if sample.timeStamp > self._seen and sample.sampleValue.uiVal <= 100  # noqa: PLR2004 - percent
        ]
        if not samples:
            return [], 0.0
        times = [time for time, _ in samples]
        self._seen = max(times)
        return [value for _, value in samples], (self._seen - min(times)) / 1e6
