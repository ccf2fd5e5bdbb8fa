# SPDX-License-Identifier: Apache-2.0
"""Drivers that go and come back, GPUs that are lost, and answers that mean nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pynvml
import pytest

from otel_hwmetrics.testing import FakeGpu, FakeNvml, ManualClock

from .scripted import (
    DEVICE_CALLS,
    ENERGY_AT_START,
    HANDLE_CALLS,
    SCRIPTED,
    THROUGH_PYNVML,
    field_values,
    fields,
    gpm_metrics,
    gpu_sampler,
    handle,
    mig_handle,
)
from .scripted import SPLIT as SPLIT_GPU


@pytest.mark.parametrize("name", sorted(set(THROUGH_PYNVML) - {"nvmlInitWithFlags", "nvmlErrorString"}))
def test_without_a_driver_nothing_answers(name: str, table: FakeNvml) -> None:
    """After the driver went every call is UNINITIALIZED, until NVML is initialised after its return."""
    call, _ = THROUGH_PYNVML[name]
    h = handle()
    table.reload_driver()
    with pytest.raises(pynvml.NVMLError_Uninitialized):
        call(h)
    table.driver_back()
    with pytest.raises(pynvml.NVMLError_Uninitialized):
        call(h)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("NVML_ERROR_DRIVER_NOT_LOADED", pynvml.NVMLError_DriverNotLoaded),
        (18, pynvml.NVMLError_LibRmVersionMismatch),
    ],
)
def test_nvml_does_not_start_without_a_driver(code: int | str, error: type[Exception], nvml: FakeNvml) -> None:
    """NvmlInit says why, and has its text; when the driver is back it works."""
    nvml.reload_driver(code)
    for _ in range(2):
        with pytest.raises(error) as caught:
            pynvml.nvmlInit()
        assert str(caught.value)
    nvml.driver_back(driver_version="590.1")
    pynvml.nvmlInit()
    assert pynvml.nvmlSystemGetDriverVersion() == "590.1"
    assert pynvml.nvmlDeviceGetPowerUsage(handle()) == 312_345


def test_a_new_driver_has_new_handles(nvml: FakeNvml) -> None:
    """Handles from before are invalid, of MIG devices and GPM samples, too."""
    old, sample = handle(), pynvml.nvmlGpmSampleAlloc()
    nvml.reload_driver()
    assert nvml.gpm_samples == 0
    nvml.driver_back([SPLIT_GPU])
    pynvml.nvmlInit()
    old_mig = mig_handle(handle())
    nvml.driver_back()
    pynvml.nvmlInit()
    for stale in (old, old_mig):
        with pytest.raises(pynvml.NVMLError_InvalidArgument):
            pynvml.nvmlDeviceGetName(stale)
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        pynvml.nvmlGpmSampleFree(sample)


def test_counters_begin_at_zero_with_the_driver_and_time_goes_on(clock: ManualClock) -> None:
    """Energy, bytes and time held back count since the driver was loaded; the script does not start again."""
    gpu = FakeGpu(
        power=100.0, pcie_tx=1e6, pcie_counter_offset=500, throttled_sw_thermal=0.5, temperature=[(0, 0), (99, 99)]
    )
    with FakeNvml([gpu], clock=clock) as nvml:
        pynvml.nvmlInit()
        clock.advance(20)
        before = field_values(handle(), 83, 197, 269)
        nvml.reload_driver()
        clock.advance(10)
        nvml.driver_back()
        clock.advance(5)
        pynvml.nvmlInit()
        assert before == [(0, ENERGY_AT_START + 2_000_000), (0, 20_000_500), (0, 10_000_000_000)]
        assert field_values(handle(), 83, 197, 269) == [(0, 500_000), (0, 5_000_000), (0, 2_500_000_000)]
        assert pynvml.nvmlDeviceGetTemperature(handle(), pynvml.NVML_TEMPERATURE_GPU) == 35


def test_the_number_of_gpus_may_change(nvml: FakeNvml) -> None:
    """A driver that comes back may find other GPUs, each with a UUID, and faults go on by index."""
    nvml.fail("nvmlDeviceGetName", pynvml.NVML_ERROR_UNKNOWN, gpu=1)
    nvml.driver_back([FakeGpu(), SCRIPTED, FakeGpu()])
    pynvml.nvmlInit()
    assert pynvml.nvmlDeviceGetCount() == 3
    assert nvml.gpus[1] is SCRIPTED
    with pytest.raises(pynvml.NVMLError_Unknown):
        pynvml.nvmlDeviceGetName(handle(1))
    with pytest.raises(ValueError, match="a UUID no other GPU has"):
        nvml.driver_back([SCRIPTED, SCRIPTED])


def test_a_driver_is_there_while_installed_only() -> None:
    """Reloading needs an install; whoever waits for the driver is told that it went."""
    fake = FakeNvml()
    for act in (fake.reload_driver, fake.driver_back, lambda: fake.machine):
        with pytest.raises(RuntimeError, match="not installed"):
            act()
    with fake:
        first = fake.machine
        fake.reload_driver()
        assert first.gone.is_set()
        fake.driver_back()
        second = fake.machine
        assert not second.gone.is_set()
    assert second.gone.is_set()
    with pytest.raises(ValueError, match="code = 0"), fake:
        fake.reload_driver(0)


# Lost GPUs.


@pytest.mark.parametrize("code", ["NVML_ERROR_GPU_IS_LOST", "NVML_ERROR_RESET_REQUIRED"])
def test_a_lost_gpu_answers_that_alone_until_it_is_restored(code: str, table: FakeNvml) -> None:
    """Every call about it, lookups included, whatever else is scripted; the other GPU is well."""
    lost, well = handle(1), handle(0)
    table.fail("nvmlDeviceGetName", pynvml.NVML_ERROR_UNKNOWN)
    table.lose(1, code)
    for name in HANDLE_CALLS:
        with pytest.raises(pynvml.NVMLError) as caught:
            THROUGH_PYNVML[name][0](lost)
        assert caught.value.value == getattr(pynvml, code)
    with pytest.raises(pynvml.NVMLError):
        handle(1)
    assert pynvml.nvmlDeviceGetPowerUsage(well) == 312_345
    assert pynvml.nvmlDeviceGetCount() == 2
    table.restore(1)
    table.restore(1)
    assert pynvml.nvmlDeviceGetPowerUsage(lost) == 75_000
    table.lose(0)
    table.recover()
    assert pynvml.nvmlDeviceGetPowerUsage(well) == 312_345


def test_only_a_gpu_that_is_there_can_be_lost(nvml: FakeNvml) -> None:
    """An index beyond the last is a ValueError."""
    for act in (nvml.lose, nvml.restore):
        with pytest.raises(ValueError, match="gpu = 2: allowed is an index below 2"):
            act(2)


# Rubbish.


def test_garbled_numbers_are_all_ones(nvml: FakeNvml, clock: ManualClock) -> None:
    """Scalars, structs, fields and metrics are written over, for the GPU and the time that is told."""
    clock.advance(10)
    nvml.garble("*", gpu=0, until=100)
    h = handle(1)
    assert pynvml.nvmlDeviceGetPowerUsage(h) == 75_000
    h = handle(0)
    assert pynvml.nvmlDeviceGetPowerUsage(h) == 2**32 - 1
    assert pynvml.nvmlDeviceGetTemperatureV(h, pynvml.NVML_TEMPERATURE_GPU) == -1
    assert fields(pynvml.nvmlDeviceGetMemoryInfo(h)) == dict.fromkeys(("total", "free", "used"), 2**64 - 1)
    assert field_values(h, 185, 83, 193) == [(0, 2**32 - 1), (0, 2**64 - 1), (0, -1)]
    ((code, value),) = gpm_metrics(gpu_sampler(h), pynvml.NVML_GPM_METRIC_SM_UTIL, clock=clock)
    assert code == 0
    assert math.isnan(value)
    samples = pynvml.nvmlDeviceGetSamples(h, pynvml.NVML_GPU_UTILIZATION_SAMPLES, 0)[1]
    assert {(each.timeStamp, each.sampleValue.uiVal) for each in samples} == {(2**64 - 1, 2**32 - 1)}
    assert pynvml.nvmlDeviceGetComputeRunningProcesses_v3(h)[0].pid == 2**32 - 1
    assert pynvml.nvmlDeviceGetName(h) == "Tested GPU"
    clock.advance(100)
    assert pynvml.nvmlDeviceGetPowerUsage(h) == 312_345


@pytest.mark.parametrize("name", DEVICE_CALLS)
def test_any_function_can_be_garbled_and_recover(name: str, table: FakeNvml) -> None:
    """None raises for it, and after recover() each gives its value again."""
    call, _ = THROUGH_PYNVML[name]
    h = handle()
    table.garble(name)
    if "Handle" not in name:
        call(h)
    table.recover(name)
    assert call(h) == call(h)


def test_what_a_function_refuses_is_not_garbled() -> None:
    """Rubbish comes with success only."""
    with FakeNvml([FakeGpu(fans=0)]) as nvml:
        pynvml.nvmlInit()
        nvml.garble("nvmlDeviceGetFanSpeed_v2")
        with pytest.raises(pynvml.NVMLError_NotSupported):
            pynvml.nvmlDeviceGetFanSpeed_v2(handle(), 0)


def test_calls_about_a_gpu_are_all_its_calls(nvml: FakeNvml) -> None:
    """Whatever the function; what names no GPU is about none."""
    first, second = handle(0), handle(1)
    nvml.reset_calls()
    pynvml.nvmlDeviceGetPowerUsage(first)
    field_values(first, 83)
    pynvml.nvmlDeviceGetCount()
    pynvml.nvmlDeviceGetName(second)
    assert (nvml.calls_about(0), nvml.calls_about(1)) == (2, 1)


def test_two_gpus_alike_need_no_uuid() -> None:
    """A copy without a UUID gets its own."""
    gpus = FakeNvml([SCRIPTED, replace(SCRIPTED, uuid="")]).gpus
    assert gpus[0].uuid != gpus[1].uuid
