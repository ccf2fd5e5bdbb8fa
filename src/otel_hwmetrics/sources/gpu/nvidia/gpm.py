# SPDX-License-Identifier: Apache-2.0
"""The activity of a GPU's parts, from its performance monitoring counters (GPM, Hopper and newer).

A GPM sample holds counters, and a metric is the mean between two samples. The sample before is kept, so every metric
is that of the whole time since, and nothing between two looks is missed; the SDK of nobody else is in the way, since
GPM takes no profiler's lock (https://github.com/NVIDIA/DCGM/issues/62).
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.semconv._incubating.attributes.network_attributes import NetworkIoDirectionValues

from otel_hwmetrics.catalog import gpu_activity as activity
from otel_hwmetrics.catalog import gpu_links as links
from otel_hwmetrics.model import Metric, Reading, Series
from otel_hwmetrics.sources.base import Unsupported
from otel_hwmetrics.sources.gpu.device import Items, ratio, within
from otel_hwmetrics.sources.gpu.nvidia.device import Gpu
from otel_hwmetrics.sources.gpu.nvidia.library import function

SHORTEST: Final = 0.1
"""Seconds that the driver wants between two samples (nvml.h, nvmlGpmMetricsGet)."""
_LONGEST_GAP: Final = 600.0
# After a pause that long (a suspended machine) a mean over all of it says little of either side.

_MOST_MEBIBYTES: Final = 10_000_000
_MEBIBYTE: Final = 2**20


def _bytes(mebibytes: float) -> float:
    # nvml.h says "MiB/sec"; the figure is often taken for bytes.
    return within(mebibytes, _MOST_MEBIBYTES, "a rate in MiB/s") * _MEBIBYTE


def _percent(value: float) -> float:
    return ratio(value, "an activity")


@dataclass(frozen=True)
class Part:
    """One GPM metric.

    Attributes:
        constant: The name of its number in nvml.h.
        metric: What it reads.
        pairs: Attributes besides the device's.
        convert: From NVML's unit to SI.
    """

    constant: str
    metric: Metric
    pairs: tuple[tuple[str, str], ...] = ()
    convert: Callable[[float], float] = _percent


_RECEIVED = ((links.DIRECTION, NetworkIoDirectionValues.RECEIVE.value),)
_SENT = ((links.DIRECTION, NetworkIoDirectionValues.TRANSMIT.value),)

PARTS: tuple[Part, ...] = (
    Part("NVML_GPM_METRIC_SM_UTIL", activity.SM_ACTIVITY),
    Part("NVML_GPM_METRIC_SM_OCCUPANCY", activity.SM_OCCUPANCY),
    Part("NVML_GPM_METRIC_ANY_TENSOR_UTIL", activity.TENSOR_ACTIVITY),
    Part("NVML_GPM_METRIC_DRAM_BW_UTIL", activity.DRAM_ACTIVITY),
    Part("NVML_GPM_METRIC_FP64_UTIL", activity.FP_ACTIVITY, ((activity.PRECISION, "fp64"),)),
    Part("NVML_GPM_METRIC_FP32_UTIL", activity.FP_ACTIVITY, ((activity.PRECISION, "fp32"),)),
    Part("NVML_GPM_METRIC_FP16_UTIL", activity.FP_ACTIVITY, ((activity.PRECISION, "fp16"),)),
    Part("NVML_GPM_METRIC_GRAPHICS_UTIL", activity.GRAPHICS_ACTIVITY),
    # Rates of the links, where the counters themselves cannot be read: what follows from counters is exact, so their
    # series take precedence (`Gpm.counted`).
    Part("NVML_GPM_METRIC_PCIE_RX_PER_SEC", links.IO_RATE, _RECEIVED, _bytes),
    Part("NVML_GPM_METRIC_PCIE_TX_PER_SEC", links.IO_RATE, _SENT, _bytes),
    Part("NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC", links.NVLINK_IO_RATE, _RECEIVED, _bytes),
    Part("NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC", links.NVLINK_IO_RATE, _SENT, _bytes),
)


class Gpm:
    """GPM of one GPU or MIG instance.

    Args:
        gpu: The device; a MIG instance is asked for by its parent's handle and its own number.
        counted: Gives the metrics that are known from counters, and so are not taken from here.
    """

    def __init__(self, gpu: Gpu, counted: Callable[[], frozenset[str]] = frozenset) -> None:
        self._gpu = gpu
        self._counted = counted
        self._parts: dict[int, tuple[Part, Series]] = {}
        self._request: Any = None
        self._sample: Callable[[Any], None] = lambda _: None
        self._samples: list[Any] = []
        self._since: float | None = None
        self._last: list[Reading] = []

    def read(self) -> Items:
        """The activities since the last call. The first call has none; one too soon after the last repeats it.

        Raises:
            Unsupported: The GPU has no GPM.
            NVMLError: The driver refuses; the next two calls begin anew.
        """
        if self._request is None:
            self._begin()
        at = self._gpu.clock()
        if self._since is not None and 0 <= at - self._since < SHORTEST:
            yield from self._last
            return
        since, self._since, self._last = self._since, None, []
        earlier, later = self._samples
        self._sample(later)
        if since is not None and at - since <= _LONGEST_GAP:
            self._request.sample1, self._request.sample2 = earlier, later
            self._metrics_get(ctypes.byref(self._request))
            self._last = list(self._readings(at, since))
        self._samples.reverse()
        self._since = at
        yield from self._last

    def close(self) -> None:
        """Give the samples back to the driver's library. Raises nothing that it can cause."""
        samples, self._samples, self._request = self._samples, [], None
        for sample in samples:
            # Where the driver has gone, so has its library's memory.
            with contextlib.suppress(self._gpu.nvml.NVMLError):
                self._gpu.nvml.nvmlGpmSampleFree(sample)

    def _begin(self) -> None:
        gpu, nvml = self._gpu, self._gpu.nvml
        if not hasattr(nvml, "nvmlGpmQueryDeviceSupport"):
            raise Unsupported
        support = nvml.nvmlGpmQueryDeviceSupport(gpu.handle if gpu.instance is None else gpu.parent)
        if not support.isSupportedDevice:
            raise Unsupported
        self._metrics_get = function(nvml, "nvmlGpmMetricsGet")
        if gpu.instance is None:
            sample_get = function(nvml, "nvmlGpmSampleGet")
            self._sample = lambda sample: sample_get(gpu.handle, sample)
        else:
            mig_sample_get = function(nvml, "nvmlGpmMigSampleGet")
            instance = ctypes.c_uint(gpu.instance)
            self._sample = lambda sample: mig_sample_get(gpu.parent, instance, sample)
        while len(self._samples) < 2:  # noqa: PLR2004 - a mean is between two
            self._samples.append(nvml.nvmlGpmSampleAlloc())
        request = nvml.c_nvmlGpmMetricsGet_t()
        request.version = nvml.NVML_GPM_METRICS_GET_VERSION
        known = [(getattr(nvml, part.constant, None), part) for part in PARTS]
        for position, (number, part) in enumerate((number, part) for number, part in known if number is not None):
            request.metrics[position].metricId = number
            self._parts[position] = (part, gpu.series(part.metric, *part.pairs))
        request.numMetrics = len(self._parts)
        self._request = request

    def _readings(self, at: float, since: float) -> Iterator[Reading]:
        counted = self._counted()
        for position, (part, series) in self._parts.items():
            answer = self._request.metrics[position]
            if answer.nvmlReturn or part.metric.name in counted:
                continue  # this board does not count it
            try:
                value = part.convert(answer.value)
            except ValueError:
                continue
            yield Reading(series, value, at, since)
