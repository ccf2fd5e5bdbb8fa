# SPDX-License-Identifier: Apache-2.0
"""Scripted faults happen when and where they are told to."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pynvml
import pytest

from otel_hwmetrics.testing import (
    FakeNvml,
    ManualClock,
)

from .scripted import (
    GIB,
    HANDLE_CALLS,
    THROUGH_PYNVML,
    handle,
    in_thread,
    run_python,
)


@pytest.mark.parametrize("name", sorted(set(THROUGH_PYNVML) - {"nvmlErrorString"}))
def test_any_function_can_fail_and_recover(name: str, table: FakeNvml) -> None:
    """A function told to fail answers that code, and after recover() its value again."""
    call, _ = THROUGH_PYNVML[name]
    h = handle()
    table.fail(name, pynvml.NVML_ERROR_UNKNOWN)
    with pytest.raises(pynvml.NVMLError_Unknown):
        call(h)
    table.recover(name)
    call(h)


def test_failure_lasts_from_after_to_until(nvml: FakeNvml, clock: ManualClock) -> None:
    """A failure begins at `after` and is over at `until`, in seconds since install."""
    nvml.fail("nvmlDeviceGetPowerUsage", "NVML_ERROR_NO_PERMISSION", after=10, until=20)
    h, failed = handle(), []
    for second in range(30):
        try:
            pynvml.nvmlDeviceGetPowerUsage(h)
        except pynvml.NVMLError_NoPermission:
            failed.append(second)
        clock.advance(1)
    assert failed == list(range(10, 20))


def test_wildcard_fails_every_call_about_a_gpu_and_no_other(table: FakeNvml) -> None:
    """`"*"` with a GPU fails every function that names it, the lookups too, and spares the other GPU."""
    lost, well = handle(1), handle(0)
    table.fail("*", pynvml.NVML_ERROR_GPU_IS_LOST, gpu=1)
    for name in HANDLE_CALLS:
        THROUGH_PYNVML[name][0](well)
        with pytest.raises(pynvml.NVMLError_GpuIsLost):
            THROUGH_PYNVML[name][0](lost)
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        handle(1)
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        pynvml.nvmlDeviceGetHandleByUUID(table.gpus[1].uuid.encode())
    assert pynvml.nvmlDeviceGetCount() == 2


def test_latest_failure_wins_and_recover_is_by_name(nvml: FakeNvml) -> None:
    """Of two failures the later one answers; recovering one name leaves the other."""
    h = handle()
    nvml.fail("*", pynvml.NVML_ERROR_GPU_IS_LOST)
    nvml.fail("nvmlDeviceGetPowerUsage", pynvml.NVML_ERROR_TIMEOUT)
    with pytest.raises(pynvml.NVMLError_Timeout):
        pynvml.nvmlDeviceGetPowerUsage(h)
    nvml.recover("nvmlDeviceGetPowerUsage")
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        pynvml.nvmlDeviceGetPowerUsage(h)
    nvml.recover()
    assert pynvml.nvmlDeviceGetPowerUsage(h) == 312_345


def test_delay_is_real_time_and_for_its_gpu_only(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delayed call takes at least that long, whatever the scripted clock; the other GPU does not sleep."""
    h, other = handle(0), handle(1)
    nvml.delay("nvmlDeviceGetPowerUsage", 0.01, gpu=0)
    start = time.perf_counter()
    pynvml.nvmlDeviceGetPowerUsage(h)
    assert time.perf_counter() - start >= 0.009
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    pynvml.nvmlDeviceGetPowerUsage(other)
    nvml.recover("nvmlDeviceGetPowerUsage")
    pynvml.nvmlDeviceGetPowerUsage(h)
    assert slept == []


def test_hang_blocks_until_released_and_spares_other_calls(nvml: FakeNvml) -> None:
    """A hung call says that it is stuck, holds up no other call, and gives its value once released."""
    h = handle()
    hang = nvml.hang("nvmlDeviceGetPowerUsage", gpu=0)
    assert not hang.entered.is_set()
    thread, results = in_thread(lambda: pynvml.nvmlDeviceGetPowerUsage(h))
    assert hang.entered.wait(10)
    assert pynvml.nvmlDeviceGetPowerUsage(handle(1)) == 75_000
    assert pynvml.nvmlDeviceGetIndex(h) == 0
    assert results == []
    hang.release()
    thread.join(10)
    assert results == [312_345]
    assert pynvml.nvmlDeviceGetPowerUsage(h) == 312_345


def test_recover_releases_hung_calls(nvml: FakeNvml) -> None:
    """recover() of a hung function lets its calls go."""
    h = handle()
    hang = nvml.hang("nvmlDeviceGetPowerUsage")
    thread, results = in_thread(lambda: pynvml.nvmlDeviceGetPowerUsage(h))
    assert hang.entered.wait(10)
    nvml.recover("nvmlDeviceGetName")
    assert results == []
    nvml.recover("nvmlDeviceGetPowerUsage")
    thread.join(10)
    assert results == [312_345]


def test_call_stuck_across_uninstall_is_uninitialized() -> None:
    """uninstall() releases a stuck nvmlInit, which fails and so leaves no initialisation behind in the binding."""
    fake = FakeNvml()
    with fake:
        hang = fake.hang("nvmlInitWithFlags")
        thread, results = in_thread(pynvml.nvmlInit)
        assert hang.entered.wait(10)
    thread.join(10)
    assert results == [pynvml.NVMLError_Uninitialized]


def test_hung_daemon_thread_does_not_keep_the_process() -> None:
    """An interpreter with a call stuck on a daemon thread exits at once, and well."""
    code = """
import threading, pynvml
from otel_hwmetrics.testing import FakeNvml
nvml = FakeNvml()
nvml.install()
hang = nvml.hang("nvmlInitWithFlags")
threading.Thread(target=pynvml.nvmlInit, daemon=True).start()
assert hang.entered.wait(10)
"""
    run_python(code)


def test_missing_function_is_not_found_even_after_use(nvml: FakeNvml) -> None:
    """A missing symbol is NVMLError_FunctionNotFound, also if the binding had looked it up; recover() keeps it so."""
    h = handle()
    pynvml.nvmlDeviceGetMemoryInfo(h, version=pynvml.nvmlMemory_v2)
    nvml.missing("nvmlDeviceGetMemoryInfo_v2")
    nvml.recover()
    with pytest.raises(pynvml.NVMLError_FunctionNotFound):
        pynvml.nvmlDeviceGetMemoryInfo(h, version=pynvml.nvmlMemory_v2)
    assert pynvml.nvmlDeviceGetMemoryInfo(h).total == 80 * GIB


def test_missing_before_install_and_never_implemented() -> None:
    """A function taken out before install, and one the fake never had, are both not found."""
    fake = FakeNvml()
    fake.missing("nvmlDeviceGetTemperatureV")
    with fake:
        pynvml.nvmlInit()
        with pytest.raises(pynvml.NVMLError_FunctionNotFound):
            pynvml.nvmlDeviceGetTemperatureV(handle(), pynvml.NVML_TEMPERATURE_GPU)
        with pytest.raises(pynvml.NVMLError_FunctionNotFound):
            pynvml.nvmlDeviceGetFanSpeed(handle())


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (lambda nvml: nvml.fail("nvmlDeviceGetNmae", 1), r"function = 'nvmlDeviceGetNmae': allowed is one of \*, nvml"),
        (lambda nvml: nvml.delay("nvmlDeviceGetNmae", 1), "function ="),
        (lambda nvml: nvml.hang(["nvmlDeviceGetName"]), "function ="),
        (lambda nvml: nvml.recover("nvmlDeviceGetNmae"), "function ="),
        (lambda nvml: nvml.missing("*"), r"function = '\*'"),
        (lambda nvml: nvml.fail("nvmlDeviceGetName", 0), "code = 0: allowed is a number above 0 or one of NVML_ERROR_"),
        (lambda nvml: nvml.fail("nvmlDeviceGetName", "NVML_ERROR_OOPS"), "code = 'NVML_ERROR_OOPS'"),
        (lambda nvml: nvml.init_error(True), "code = True"),
        (lambda nvml: nvml.fail("nvmlDeviceGetName", 1, gpu=2), "gpu = 2: allowed is an index below 2"),
        (lambda nvml: nvml.fail("nvmlDeviceGetName", 1, gpu=-1), "gpu = -1"),
        (lambda nvml: nvml.fail("nvmlDeviceGetCount_v2", 1, gpu=0), "gpu = 0: allowed is nothing"),
        (lambda nvml: nvml.fail("nvmlDeviceGetName", 1, after=-1), "after = -1"),
        (lambda nvml: nvml.fail("nvmlDeviceGetName", 1, after=5, until=5), "until = 5: allowed is .* above after, 5"),
        (lambda nvml: nvml.delay("nvmlDeviceGetName", -0.1), "seconds = -0.1"),
    ],
)
def test_script_that_would_do_nothing_is_refused(script: Callable[[Any], object], message: str, nvml: FakeNvml) -> None:
    """A misspelt function, an unknown code, GPU or time is a ValueError, not a fault that never happens."""
    with pytest.raises(ValueError, match=message):
        script(nvml)
