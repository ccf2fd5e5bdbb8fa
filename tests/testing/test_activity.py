# SPDX-License-Identifier: Apache-2.0
"""The driver's ring of samples, clocks' reasons, and processes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pynvml
import pytest

from otel_hwmetrics.testing import FakeGpu, FakeNvml, FakeProcess, ManualClock

from .scripted import GIB, handle

UTILIZATION = pynvml.NVML_GPU_UTILIZATION_SAMPLES
POWER = pynvml.NVML_TOTAL_POWER_SAMPLES
BOOT = 3_600_000_000  # us

RISING = FakeGpu(utilization=[(0, 0.0), (10, 1.0)], power=[(0, 100.0), (10, 200.0)], sample_period=1.0, sample_count=4)


def ring(kind: int = UTILIZATION, last_seen: int = 0, index: int = 0) -> list[tuple[int, int]]:
    """The samples newer than `last_seen`: timestamp and value."""
    value_type, samples = pynvml.nvmlDeviceGetSamples(handle(index), kind, last_seen)
    assert value_type == pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
    return [(sample.timeStamp, sample.sampleValue.uiVal) for sample in samples]


def test_ring_holds_the_mean_of_each_period(clock: ManualClock) -> None:
    """One sample a period, its mean in whole percent or milliwatts, stamped by the boot clock at its end."""
    with FakeNvml([RISING], clock=clock, boottime_offset=3600.0):
        pynvml.nvmlInit()
        clock.advance(3.5)
        assert ring() == [(BOOT + 1_000_000, 5), (BOOT + 2_000_000, 15), (BOOT + 3_000_000, 25)]
        assert ring(POWER) == [(BOOT + 1_000_000, 105_000), (BOOT + 2_000_000, 115_000), (BOOT + 3_000_000, 125_000)]
        clock.advance(3)
        assert [value for _, value in ring()] == [25, 35, 45, 55]


def test_only_what_was_not_seen_is_told(clock: ManualClock) -> None:
    """Samples newer than the last seen; NOT_FOUND where there are none, at the start, too."""
    with FakeNvml([RISING], clock=clock, boottime_offset=3600.0):
        pynvml.nvmlInit()
        with pytest.raises(pynvml.NVMLError_NotFound):
            ring()
        clock.advance(3)
        assert ring(last_seen=BOOT + 2_000_000) == [(BOOT + 3_000_000, 25)]
        with pytest.raises(pynvml.NVMLError_NotFound):
            ring(last_seen=BOOT + 3_000_000)


@pytest.mark.parametrize("period", [1 / 6, 0.1, 0.7])
def test_polling_sees_every_sample_once(period: float, clock: ManualClock) -> None:
    """Whoever asks before the ring is full, at whatever moments, gets each sample once and in order."""
    with FakeNvml([FakeGpu(sample_period=period)], clock=clock, boottime_offset=1.0):
        pynvml.nvmlInit()
        seen: list[int] = []
        for step in [0.013, 1.0, 0.31, 2.0, 0.05, 3.0] * 5:
            clock.advance(step)
            try:
                seen += [at for at, _ in ring(last_seen=seen[-1] if seen else 0)]
            except pynvml.NVMLError_NotFound:
                continue
        assert seen == [round((1.0 + period * (k + 1)) * 1e6) for k in range(len(seen))]
        assert len(seen) >= int(30 / period)


def test_idle_ring_may_be_empty(clock: ManualClock) -> None:
    """A driver that does not sample an idle GPU gives no utilization of that time, and power all the same."""
    gpu = replace(RISING, utilization=[(0, 0.0), (2, 0.0), (2, 0.5)], idle_ring_is_empty=True)
    with FakeNvml([gpu], clock=clock):
        pynvml.nvmlInit()
        clock.advance(2)
        with pytest.raises(pynvml.NVMLError_NotFound):
            ring()
        assert len(ring(POWER)) == 2
        clock.advance(1)
        assert ring() == [(3_000_000, 50)]


def test_strays_are_told_with_the_rest(clock: ManualClock) -> None:
    """What a test injects comes as it is: without a time, out of range, once for its own ring and GPU."""
    with FakeNvml([RISING, RISING], clock=clock) as nvml:
        pynvml.nvmlInit()
        clock.advance(1)
        nvml.inject_sample(UTILIZATION, 0, 2**32 - 1)
        nvml.inject_sample(UTILIZATION, 1_500_000, 101)
        assert ring() == [(1_000_000, 5), (0, 2**32 - 1), (1_500_000, 101)]
        assert ring(last_seen=1_500_000) == [(0, 2**32 - 1)]
        assert len(ring(POWER)) == len(ring(index=1)) == 1
        nvml.recover()
        assert ring() == [(1_000_000, 5)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((9, 0, 0), "kind = 9"),
        ((UTILIZATION, -1, 0), "timestamp_us = -1"),
        ((UTILIZATION, 0, 2**32), "value = 4294967296"),
    ],
)
def test_a_stray_that_cannot_be_is_refused(arguments: tuple[int, int, int], message: str) -> None:
    """A ValueError that names the argument."""
    with pytest.raises(ValueError, match=message):
        FakeNvml().inject_sample(*arguments)


def test_kinds_of_samples(clock: ManualClock) -> None:
    """Memory is sampled, too; other kinds are not supported, and unknown ones invalid."""
    with FakeNvml([FakeGpu(memory_controller_utilization=0.3)], clock=clock):
        pynvml.nvmlInit()
        clock.advance(1)
        assert ring(pynvml.NVML_MEMORY_UTILIZATION_SAMPLES)[0][1] == 30
        with pytest.raises(pynvml.NVMLError_NotSupported):
            ring(pynvml.NVML_PROCESSOR_CLK_SAMPLES)
        with pytest.raises(pynvml.NVMLError_InvalidArgument):
            ring(99)


def test_a_function_without_a_value_leaves_a_gap(clock: ManualClock) -> None:
    """A period in which the script has no value has no sample."""
    gpu = FakeGpu(utilization=lambda at: None if at == 2 else 0.5, sample_period=1.0)
    with FakeNvml([gpu], clock=clock):
        pynvml.nvmlInit()
        clock.advance(4)
        assert [at for at, _ in ring()] == [1_000_000, 4_000_000]


@pytest.mark.parametrize(
    ("gpu", "reasons"),
    [
        (FakeGpu(), 0x1),
        (FakeGpu(utilization=0.5), 0x0),
        (FakeGpu(utilization=0.5, throttled_sw_power_cap=0.1, throttled_hw_thermal=0.1), 0x4C),
        (FakeGpu(utilization=0.5, throttled_hw_power_brake=0.1, throttled_sync_boost=1), 0x98),
        (FakeGpu(throttled_sw_thermal=0.1), 0x21),
        (FakeGpu(clocks_event_reasons=0x102), 0x102),
    ],
)
def test_reasons_follow_from_what_holds_the_clocks_back(gpu: FakeGpu, reasons: int) -> None:
    """The bits of what is not 0 now, and idle without work; or as scripted."""
    with FakeNvml([gpu]):
        pynvml.nvmlInit()
        assert pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle()) == reasons


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda h: pynvml.nvmlDeviceGetClockInfo(h, 4), pynvml.NVML_ERROR_INVALID_ARGUMENT),
        (lambda h: pynvml.nvmlDeviceGetMaxClockInfo(h, 4), pynvml.NVML_ERROR_INVALID_ARGUMENT),
        (lambda h: pynvml.nvmlDeviceGetViolationStatus(h, 6), pynvml.NVML_ERROR_NOT_SUPPORTED),
        (lambda h: pynvml.nvmlDeviceGetViolationStatus(h, 12), pynvml.NVML_ERROR_INVALID_ARGUMENT),
        (lambda h: pynvml.nvmlDeviceGetTemperatureThreshold(h, 5), pynvml.NVML_ERROR_NOT_SUPPORTED),
        (lambda h: pynvml.nvmlDeviceGetTemperatureThreshold(h, 8), pynvml.NVML_ERROR_INVALID_ARGUMENT),
        (lambda h: pynvml.nvmlDeviceGetFanSpeed_v2(h, 0), pynvml.NVML_ERROR_NOT_SUPPORTED),
        (pynvml.nvmlDeviceGetFanSpeedRPM, pynvml.NVML_ERROR_NOT_SUPPORTED),
        (pynvml.nvmlDeviceGetMarginTemperature, pynvml.NVML_ERROR_NOT_SUPPORTED),
        (pynvml.nvmlDeviceGetSerial, pynvml.NVML_ERROR_NOT_SUPPORTED),
        (lambda h: pynvml.nvmlDeviceGetNvLinkState(h, 0), pynvml.NVML_ERROR_NOT_SUPPORTED),
        (lambda h: pynvml.nvmlDeviceGetPcieThroughput(h, 2), pynvml.NVML_ERROR_INVALID_ARGUMENT),
        (pynvml.nvmlDeviceGetRemappedRows, pynvml.NVML_ERROR_NOT_SUPPORTED),
        (pynvml.nvmlDeviceGetRowRemapperHistogram, pynvml.NVML_ERROR_NOT_SUPPORTED),
        (pynvml.nvmlDeviceGetRetiredPagesPendingStatus, pynvml.NVML_ERROR_NOT_SUPPORTED),
        (lambda h: pynvml.nvmlDeviceGetTotalEccErrors(h, 0, 0), pynvml.NVML_ERROR_NOT_SUPPORTED),
        (lambda h: pynvml.nvmlDeviceGetTotalEccErrors(h, 2, 0), pynvml.NVML_ERROR_INVALID_ARGUMENT),
        (pynvml.nvmlDeviceGetTotalEnergyConsumption, pynvml.NVML_ERROR_NOT_SUPPORTED),
        (pynvml.nvmlDeviceGetPciInfo_v3, pynvml.NVML_ERROR_UNKNOWN),
    ],
)
def test_an_old_and_plain_board(call: Any, code: int) -> None:
    """A board without fans, links, repairs, limits or counters says so, function by function."""
    plain = FakeGpu(
        serial="",
        pci_bus_id="somewhere",
        temperature_slowdown=None,
        nvlinks=0,
        row_remapping=False,
        ecc=False,
        energy_counter=False,
    )
    with FakeNvml([plain]):
        pynvml.nvmlInit()
        with pytest.raises(pynvml.NVMLError) as caught:
            call(handle())
        assert caught.value.value == code


def test_links_and_fans_there_are() -> None:
    """A link or fan beyond the last is invalid, a link that is down says so, and its errors are the first link's."""
    with FakeNvml([FakeGpu(nvlinks=2, nvlinks_down=[1], fans=1, thermal_margin=-3.0)]):
        pynvml.nvmlInit()
        h = handle()
        assert [pynvml.nvmlDeviceGetNvLinkState(h, link) for link in (0, 1)] == [1, 0]
        assert pynvml.nvmlDeviceGetMarginTemperature(h) == -3
        for call, *rest in (
            (pynvml.nvmlDeviceGetNvLinkState, 2),
            (pynvml.nvmlDeviceGetNvLinkErrorCounter, 0, 5),
            (pynvml.nvmlDeviceGetFanSpeed_v2, 1),
        ):
            with pytest.raises(pynvml.NVMLError_InvalidArgument):
                call(h, *rest)
        with pytest.raises(pynvml.NVMLError_NotSupported):
            pynvml.nvmlDeviceGetNvLinkErrorCounter(h, 0, pynvml.NVML_NVLINK_ERROR_DL_ECC_DATA)


# Processes.


def test_processes_come_and_go(clock: ManualClock) -> None:
    """A process is listed from `since` to `until`, with its memory of the moment, or None where NVML cannot tell."""
    gpu = FakeGpu(
        processes=[
            FakeProcess(pid=1, memory=[(0, 0), (10, 10 * GIB)], since=2, until=8),
            FakeProcess(pid=2),
            FakeProcess(pid=3, memory=lambda _: None, kind="graphics"),
        ]
    )
    seen = {}
    with FakeNvml([gpu], clock=clock):
        pynvml.nvmlInit()
        for second in range(0, 10, 4):
            found = pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle())
            seen[second] = [(each.pid, each.usedGpuMemory) for each in found]
            clock.advance(4)
        (graphics,) = pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3(handle())
    assert seen == {0: [(2, None)], 4: [(1, 4 * GIB), (2, None)], 8: [(2, None)]}
    assert (graphics.pid, graphics.usedGpuMemory) == (3, None)


def test_no_process_is_an_empty_list_by_one_call(clock: ManualClock) -> None:
    """Nothing to tell is success at the first call; utilization of nobody is NOT_FOUND."""
    with FakeNvml(1, clock=clock) as nvml:
        pynvml.nvmlInit()
        clock.advance(1)
        assert pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle()) == []
        assert nvml.calls["nvmlDeviceGetComputeRunningProcesses_v3", 0] == 1
        with pytest.raises(pynvml.NVMLError_NotFound):
            pynvml.nvmlDeviceGetProcessUtilization(handle(), 0)


def test_utilization_of_processes_is_of_the_last_period(clock: ManualClock) -> None:
    """The newest sample of each, once: later than the last seen or not at all."""
    gpu = FakeGpu(
        sample_period=1.0,
        processes=[
            FakeProcess(
                pid=1, sm_utilization=[(0, 0.0), (2, 1.0)], encoder_utilization=0.25, decoder_utilization=0.125
            ),
            FakeProcess(pid=2, since=1.5, sm_utilization=lambda _: None),
        ],
    )
    with FakeNvml([gpu], clock=clock, boottime_offset=10.0):
        pynvml.nvmlInit()
        clock.advance(2)
        (sample,) = pynvml.nvmlDeviceGetProcessUtilization(handle(), 0)
        assert (sample.pid, sample.timeStamp, sample.smUtil, sample.memUtil) == (1, 12_000_000, 75, 0)
        assert (sample.encUtil, sample.decUtil) == (25, 12)
        with pytest.raises(pynvml.NVMLError_NotFound):
            pynvml.nvmlDeviceGetProcessUtilization(handle(), 12_000_000)
        clock.advance(1)
        assert [each.pid for each in pynvml.nvmlDeviceGetProcessUtilization(handle(), 12_000_000)] == [1, 2]


def test_a_list_that_has_grown_since_is_insufficient(clock: ManualClock) -> None:
    """An array that is too short is told how long it has to be."""
    gpu = FakeGpu(processes=[FakeProcess(pid=pid) for pid in range(3)])
    with FakeNvml([gpu], clock=clock):
        pynvml.nvmlInit()
        count = pynvml.c_uint(2)
        call = pynvml.nvmlLib.nvmlDeviceGetComputeRunningProcesses_v3
        array = (pynvml.c_nvmlProcessInfo_v3_t * 2)()
        assert call(handle(), pynvml.byref(count), array) == pynvml.NVML_ERROR_INSUFFICIENT_SIZE
        assert count.value == 3
