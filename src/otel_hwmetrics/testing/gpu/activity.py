# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: RUF009 - the calls are `dataclasses.field`
"""How busy a GPU is, in the ways NVML can tell."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from otel_hwmetrics.testing.gpu.settings import RATIO, Settings, names, number, quantity, switch, whole
from otel_hwmetrics.testing.values import Value


@dataclass(frozen=True, kw_only=True)
class Activity(Settings):
    """What GPM (GPU Performance Monitoring) sees of a GPU or a MIG device, each a ratio from 0 to 1.

    Attributes:
        utilization: Share of time a kernel ran.
        sm_activity: Share of the multiprocessors that were busy.
        sm_occupancy: Warps that were active, of those that could be.
        tensor_activity: Share of time in tensor operations of any kind.
        dram_activity: Share of the memory bandwidth in use.
        fp64_activity: Share of time in FP64 operations outside the tensor cores.
        fp32_activity: Likewise FP32.
        fp16_activity: Likewise FP16.
    """

    utilization: Value = quantity(0.0, RATIO)
    sm_activity: Value = quantity(0.0, RATIO)
    sm_occupancy: Value = quantity(0.0, RATIO)
    tensor_activity: Value = quantity(0.0, RATIO)
    dram_activity: Value = quantity(0.0, RATIO)
    fp64_activity: Value = quantity(0.0, RATIO)
    fp32_activity: Value = quantity(0.0, RATIO)
    fp16_activity: Value = quantity(0.0, RATIO)


@dataclass(frozen=True, kw_only=True)
class Utilization(Activity):
    """What NVML's older calls see of a GPU, and the ring of samples that the driver keeps of it.

    Attributes:
        memory_controller_utilization: Share of time device memory was read or written, a ratio from 0 to 1.
        encoder_utilization: Share of time the video encoder was busy.
        decoder_utilization: Share of time the video decoder was busy.
        gpm: Whether the board has GPM, which Hopper and newer have.
        unsupported_gpm_metrics: Names or numbers of GPM metrics that answer NVML_ERROR_NOT_SUPPORTED.
        sample_period: Seconds from sample to sample in the ring. Sample k is that of the period that ends k periods
            after install, and is the mean over it.
        sample_count: How many samples the ring holds.
        idle_ring_is_empty: Whether utilization is not sampled while it is 0, as some drivers do; power is.
    """

    memory_controller_utilization: Value = quantity(0.0, RATIO)
    encoder_utilization: Value = quantity(0.0, RATIO)
    decoder_utilization: Value = quantity(0.0, RATIO)
    gpm: bool = switch(default=True)
    unsupported_gpm_metrics: Collection[str | int] = names("GPM metrics")
    sample_period: float = number(1 / 6, 1e-3, 3600.0, "seconds")
    sample_count: int = whole(100, 1, 100_000)
    idle_ring_is_empty: bool = switch(default=False)
