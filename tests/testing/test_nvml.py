# SPDX-License-Identifier: Apache-2.0
"""Putting the scripted NVML under the binding, and taking it away."""

from __future__ import annotations

import time

import pynvml
import pytest

from otel_hwmetrics.testing import (
    FakeGpu,
    FakeNvml,
    ManualClock,
    without_nvml,
)

from .scripted import (
    ENERGY_AT_START,
    binding_state,
    handle,
    in_thread,
)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (9, pynvml.NVMLError_DriverNotLoaded),
        (18, pynvml.NVMLError_LibRmVersionMismatch),
        ("NVML_ERROR_DRIVER_NOT_LOADED", pynvml.NVMLError_DriverNotLoaded),
    ],
)
def test_init_error_until_recover(code: int | str, error: type[Exception]) -> None:
    """A scripted initialisation error raises at nvmlInit and leaves it undone; after recover() it works."""
    with FakeNvml() as fake:
        fake.init_error(code)
        with pytest.raises(error):
            pynvml.nvmlInit()
        with pytest.raises(pynvml.NVMLError_Uninitialized):
            pynvml.nvmlDeviceGetCount()
        fake.recover()
        pynvml.nvmlInit()
        assert pynvml.nvmlDeviceGetCount() == 1


def test_initialisations_are_counted() -> None:
    """NVML stays up until it was shut down as often as initialised; one more shutdown is an error."""
    with FakeNvml():
        pynvml.nvmlInit()
        pynvml.nvmlInit()
        pynvml.nvmlShutdown()
        assert pynvml.nvmlDeviceGetCount() == 1
        pynvml.nvmlShutdown()
        for call in (pynvml.nvmlDeviceGetCount, pynvml.nvmlShutdown):
            with pytest.raises(pynvml.NVMLError_Uninitialized):
                call()


def test_uninstall_restores_the_binding_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """After uninstall the library, loader, pointer cache, refcount and texts are the objects they were, unchanged."""
    monkeypatch.setattr(pynvml, "nvmlLib", object())
    monkeypatch.setattr(pynvml, "_nvmlLib_refcount", 3)
    monkeypatch.setitem(pynvml._nvmlGetFunctionPointer_cache, "nvmlShutdown", object())
    before = binding_state()
    with FakeNvml() as fake:
        pynvml.nvmlInit()
        fake.fail("nvmlDeviceGetCount_v2", 27)
        with pytest.raises(pynvml.NVMLError, match="Not ready"):
            pynvml.nvmlDeviceGetCount()
        assert binding_state() != before
    assert binding_state() == before


def test_install_and_uninstall_twice() -> None:
    """A second install of the same fake is a RuntimeError; a second uninstall does nothing."""
    fake = FakeNvml()
    with fake, pytest.raises(RuntimeError, match="installed already"):
        fake.install()
    fake.uninstall()


def test_fakes_nest_like_brackets() -> None:
    """A fake installed over another one hides it and must be uninstalled first."""
    outer, inner = FakeNvml(1), FakeNvml(2)
    with outer:
        pynvml.nvmlInit()
        with inner:
            pynvml.nvmlInit()
            assert pynvml.nvmlDeviceGetCount() == 2
            with pytest.raises(RuntimeError, match="uninstall that first"):
                outer.uninstall()
        assert pynvml.nvmlDeviceGetCount() == 1


def test_uninstall_on_exception_too() -> None:
    """Leaving the block by an exception uninstalls, and the exception goes on."""
    before = binding_state()
    with pytest.raises(KeyError), FakeNvml():
        raise KeyError
    assert binding_state() == before


def test_install_starts_time_and_energy_again(clock: ManualClock) -> None:
    """Each install is a new time 0, with the energy counter at its offset and nothing initialised."""
    fake = FakeNvml([FakeGpu(power=[(0, 0.0), (10, 100.0)])], clock=clock)
    for _ in range(2):
        clock.advance(1000)
        with fake:
            with pytest.raises(pynvml.NVMLError_Uninitialized):
                pynvml.nvmlDeviceGetCount()
            pynvml.nvmlInit()
            assert pynvml.nvmlDeviceGetTotalEnergyConsumption(handle()) == ENERGY_AT_START
            assert pynvml.nvmlDeviceGetPowerUsage(handle()) == 0


def test_real_time_is_the_default_clock() -> None:
    """Without a clock the script runs in real time."""
    with FakeNvml([FakeGpu(power=lambda seconds: 500.0 if seconds > 0 else 0.0)]):
        pynvml.nvmlInit()
        h = handle()
        start = time.monotonic()
        while time.monotonic() == start:
            pass
        assert pynvml.nvmlDeviceGetPowerUsage(h) == 500_000


def test_calls_from_many_threads_are_all_counted(nvml: FakeNvml) -> None:
    """No call is lost from `calls`, whatever the thread."""
    h = handle()
    nvml.reset_calls()
    threads = [
        in_thread(lambda: [pynvml.nvmlDeviceGetTotalEnergyConsumption(h) for _ in range(100)])[0] for _ in range(8)
    ]
    for thread in threads:
        thread.join(10)
    assert dict(nvml.calls) == {("nvmlDeviceGetTotalEnergyConsumption", 0): 800}


def test_without_nvml_there_is_no_library() -> None:
    """In the block nvmlInit raises LibraryNotFound and other calls Uninitialized, even under a fake."""
    with FakeNvml():
        pynvml.nvmlInit()
        with without_nvml():
            with pytest.raises(pynvml.NVMLError_LibraryNotFound):
                pynvml.nvmlInit()
            with pytest.raises(pynvml.NVMLError_Uninitialized):
                pynvml.nvmlDeviceGetCount()
        assert pynvml.nvmlDeviceGetCount() == 1
