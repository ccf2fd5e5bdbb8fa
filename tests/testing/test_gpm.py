# SPDX-License-Identifier: Apache-2.0
"""GPM: the mean between two samples is the true one."""

from __future__ import annotations

import ctypes
from fractions import Fraction
from itertools import pairwise

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.testing import FakeGpu, FakeNvml, ManualClock
from otel_hwmetrics.testing.symbols.gpm import METRICS

from .scripted import MIB, SPLIT, gpm_metrics, gpu_sampler, handle, mig_handle

BUSY = FakeGpu(
    utilization=0.99,
    sm_activity=0.5,
    sm_occupancy=0.25,
    tensor_activity=0.75,
    dram_activity=0.625,
    fp64_activity=0.03125,
    fp32_activity=0.0625,
    fp16_activity=0.125,
    pcie_tx=3.0 * MIB,
    pcie_rx=4.0 * MIB,
    nvlink_tx=500.0 * MIB,
    nvlink_rx=600.0 * MIB,
)
EXPECTED = {
    "NVML_GPM_METRIC_GRAPHICS_UTIL": 99.0,
    "NVML_GPM_METRIC_SM_UTIL": 50.0,
    "NVML_GPM_METRIC_SM_OCCUPANCY": 25.0,
    "NVML_GPM_METRIC_ANY_TENSOR_UTIL": 75.0,
    "NVML_GPM_METRIC_DRAM_BW_UTIL": 62.5,
    "NVML_GPM_METRIC_FP64_UTIL": 3.125,
    "NVML_GPM_METRIC_FP32_UTIL": 6.25,
    "NVML_GPM_METRIC_FP16_UTIL": 12.5,
    "NVML_GPM_METRIC_PCIE_TX_PER_SEC": 3.0,
    "NVML_GPM_METRIC_PCIE_RX_PER_SEC": 4.0,
    "NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC": 500.0,
    "NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC": 600.0,
}
TENSOR = pynvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL
NOT_SUPPORTED = pynvml.NVML_ERROR_NOT_SUPPORTED


def test_every_metric_by_one_call(clock: ManualClock) -> None:
    """Percent and MiB/s, all by one call, which counts for the GPU of the samples."""
    assert set(EXPECTED) == set(METRICS)
    wanted = [getattr(pynvml, name) for name in EXPECTED]
    with FakeNvml([FakeGpu(), BUSY], clock=clock) as nvml:
        pynvml.nvmlInit()
        found = gpm_metrics(gpu_sampler(handle(1)), *wanted, clock=clock, seconds=60)
        assert [code for code, _ in found] == [0] * len(wanted)
        assert [value for _, value in found] == pytest.approx(list(EXPECTED.values()))
        assert nvml.calls["nvmlGpmMetricsGet", 1] == 1


levels = st.lists(st.tuples(st.integers(0, 100), st.floats(0, 1)), min_size=1, max_size=6).map(
    lambda frames: sorted(frames, key=lambda frame: frame[0])
)


@given(frames=levels, start=st.integers(0, 120), length=st.integers(1, 120))
def test_the_mean_is_that_of_the_script(frames: list[tuple[int, float]], start: int, length: int) -> None:
    """Whatever the activity does between the samples, the metric is its mean over that time."""
    clock = ManualClock()
    with FakeNvml([FakeGpu(tensor_activity=frames)], clock=clock):
        pynvml.nvmlInit()
        clock.advance(start)
        ((code, value),) = gpm_metrics(gpu_sampler(handle()), TENSOR, clock=clock, seconds=length)
    points = [(0, frames[0][1]), *frames, (1000, frames[-1][1])]
    area = Fraction(0)
    for (t0, v0), (t1, v1) in pairwise(points):
        begin, end = max(t0, start), min(t1, start + length)
        if begin < end:
            slope = (Fraction(v1) - Fraction(v0)) / (t1 - t0)
            area += (2 * Fraction(v0) + slope * (begin + end - 2 * t0)) / 2 * (end - begin)
    assert code == 0
    assert value == pytest.approx(float(area / length * 100), abs=1e-6)


@pytest.mark.parametrize(("seconds", "code"), [(0.0, 2), (0.099, 2), (0.1, 0), (0.2, 0)])
def test_samples_too_close_are_refused(seconds: float, code: int, clock: ManualClock) -> None:
    """Less than 100 ms apart the driver's own samples are the same; the call answers INVALID_ARGUMENT."""
    with FakeNvml([BUSY], clock=clock) as nvml:
        pynvml.nvmlInit()
        if code:
            with pytest.raises(pynvml.NVMLError_InvalidArgument):
                gpm_metrics(gpu_sampler(handle()), TENSOR, clock=clock, seconds=seconds)
        else:
            assert gpm_metrics(gpu_sampler(handle()), TENSOR, clock=clock, seconds=seconds)[0][0] == 0
        assert nvml.gpm_samples == 0


def test_metrics_fail_one_by_one(clock: ManualClock) -> None:
    """One that is not scripted, not supported, told to fail, or has no value at a sample has its own code."""
    gpu = FakeGpu(
        tensor_activity=0.5,
        unsupported_gpm_metrics=["NVML_GPM_METRIC_FP64_UTIL", pynvml.NVML_GPM_METRIC_FP16_UTIL],
        fp32_activity=lambda seconds: None if seconds > 0 else 0.5,
    )
    with FakeNvml([gpu], clock=clock) as nvml:
        pynvml.nvmlInit()
        nvml.fail_gpm_metric("NVML_GPM_METRIC_DRAM_BW_UTIL", "NVML_ERROR_UNKNOWN")
        wanted = [11, 13, 12, pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL, pynvml.NVML_GPM_METRIC_INTEGER_UTIL, 0, TENSOR]
        codes = [code for code, _ in gpm_metrics(gpu_sampler(handle()), *wanted, clock=clock)]
        assert codes == [NOT_SUPPORTED] * 3 + [pynvml.NVML_ERROR_UNKNOWN] + [NOT_SUPPORTED] * 2 + [0]
        nvml.recover()
        assert gpm_metrics(gpu_sampler(handle()), pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL, clock=clock) == [(0, 0.0)]


def test_a_board_without_gpm_says_so(clock: ManualClock) -> None:
    """It answers the question, and refuses the sample."""
    with FakeNvml([FakeGpu(gpm=False)], clock=clock):
        pynvml.nvmlInit()
        assert pynvml.nvmlGpmQueryDeviceSupport(handle()).isSupportedDevice == 0
        with pytest.raises(pynvml.NVMLError_NotSupported):
            gpm_metrics(gpu_sampler(handle()), TENSOR, clock=clock)


def test_samples_are_counted_until_they_are_freed() -> None:
    """A leak can be asserted; a sample freed twice, or never allocated, is refused."""
    with FakeNvml() as nvml:
        pynvml.nvmlInit()
        samples = [pynvml.nvmlGpmSampleAlloc() for _ in range(3)]
        assert nvml.gpm_samples == 3
        pynvml.nvmlGpmSampleFree(samples[0])
        assert nvml.gpm_samples == 2
        for bad in (samples[0], pynvml.c_nvmlGpmSample_t()):
            with pytest.raises(pynvml.NVMLError_InvalidArgument):
                pynvml.nvmlGpmSampleFree(bad)
            with pytest.raises(pynvml.NVMLError_InvalidArgument):
                pynvml.nvmlGpmSampleGet(handle(), bad)
    assert nvml.gpm_samples == 0


def test_samples_that_do_not_belong_together_are_refused(clock: ManualClock) -> None:
    """An empty sample, those of two GPUs, and those of a GPU and of its MIG device have nothing between them."""
    with FakeNvml([SPLIT, BUSY], clock=clock):
        pynvml.nvmlInit()
        samples = [pynvml.nvmlGpmSampleAlloc() for _ in range(5)]
        pynvml.nvmlGpmSampleGet(handle(0), samples[0])
        clock.advance(1)
        pynvml.nvmlGpmSampleGet(handle(1), samples[1])
        pynvml.nvmlGpmMigSampleGet(handle(0), 9, samples[2])
        pynvml.nvmlGpmMigSampleGet(handle(0), 2, samples[3])
        asked = pynvml.c_nvmlGpmMetricsGet_t()
        asked.version, asked.numMetrics = pynvml.NVML_GPM_METRICS_GET_VERSION, 1
        asked.metrics[0].metricId = TENSOR
        for first, second in ((0, 1), (0, 2), (2, 3), (0, 4), (4, 0)):
            asked.sample1, asked.sample2 = samples[first], samples[second]
            with pytest.raises(pynvml.NVMLError_InvalidArgument):
                pynvml.nvmlGpmMetricsGet(asked)
        with pytest.raises(pynvml.NVMLError_InvalidArgument):
            pynvml.nvmlGpmMigSampleGet(handle(0), 77, samples[0])
        with pytest.raises(pynvml.NVMLError_NotSupported):
            pynvml.nvmlGpmSampleGet(mig_handle(handle(0)), samples[0])
        assert pynvml.nvmlGpmQueryDeviceSupport(mig_handle(handle(0))).isSupportedDevice == 1


def test_the_request_is_checked(clock: ManualClock) -> None:
    """Another version and a number of metrics that is none or too many are refused."""
    with FakeNvml([BUSY], clock=clock):
        pynvml.nvmlInit()
        asked = pynvml.c_nvmlGpmMetricsGet_t()
        asked.sample1, asked.sample2 = pynvml.nvmlGpmSampleAlloc(), pynvml.nvmlGpmSampleAlloc()
        pynvml.nvmlGpmSampleGet(handle(), asked.sample1)
        clock.advance(1)
        pynvml.nvmlGpmSampleGet(handle(), asked.sample2)
        asked.numMetrics = 1
        call = pynvml.nvmlLib.nvmlGpmMetricsGet
        assert call(ctypes.byref(asked)) == pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH
        asked.version = pynvml.NVML_GPM_METRICS_GET_VERSION
        for count in (0, len(asked.metrics) + 1):
            asked.numMetrics = count
            assert call(ctypes.byref(asked)) == pynvml.NVML_ERROR_INVALID_ARGUMENT
