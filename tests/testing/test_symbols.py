# SPDX-License-Identifier: Apache-2.0
"""Every C function of the scripted NVML, seen through the real `pynvml`."""

from __future__ import annotations

import ctypes

import pynvml
import pytest

from otel_hwmetrics.testing import (
    FakeGpu,
    FakeNvml,
)
from otel_hwmetrics.testing.symbols import SYMBOLS

from .scripted import (
    ASKED_TWICE,
    CLOCK,
    DEVICE_CALLS,
    HANDLE_CALLS,
    SCRIPTED,
    THROUGH_MIG,
    THROUGH_PYNVML,
    handle,
)

EVENTS = {name for name, symbol in SYMBOLS.items() if symbol.answer.__module__.endswith(".events")}
"""They are tried where they are, since most of them wait for something."""


def test_every_function_of_the_fake_is_tested_through_the_binding() -> None:
    """A function added to the fake needs a line in THROUGH_PYNVML, or in THROUGH_MIG, or is one of events."""
    assert set(THROUGH_PYNVML) | set(THROUGH_MIG) | EVENTS == set(SYMBOLS)


@pytest.mark.parametrize("name", THROUGH_PYNVML)
def test_function_through_the_real_binding(name: str) -> None:
    """Each C function, called by the real pynvml, gives the script in NVML's units, and is counted."""
    call, expected = THROUGH_PYNVML[name]
    with FakeNvml([SCRIPTED], clock=CLOCK) as fake:
        pynvml.nvmlInit()
        h = handle()
        CLOCK.advance(10)
        fake.reset_calls()
        assert call(h) == expected
        expected_calls = 2 if name in ASKED_TWICE else 1
        assert fake.calls[name, 0 if name in DEVICE_CALLS else None] == expected_calls


@pytest.mark.parametrize("name", sorted(set(THROUGH_PYNVML) - {"nvmlInitWithFlags", "nvmlErrorString"}))
def test_function_before_init_is_uninitialized(name: str, table: FakeNvml) -> None:
    """Without an initialisation every call but nvmlInit and nvmlErrorString answers UNINITIALIZED."""
    h = handle()
    pynvml.nvmlShutdown()
    with pytest.raises(pynvml.NVMLError_Uninitialized):
        THROUGH_PYNVML[name][0](h)
    assert table.gpus[0] is SCRIPTED


@pytest.mark.parametrize("name", SYMBOLS)
def test_function_with_wrong_arguments_is_refused(name: str, nvml: FakeNvml) -> None:
    """No arguments where some are due, or objects of the wrong kind, answer INVALID_ARGUMENT or a worse error."""
    function = getattr(pynvml.nvmlLib, name)
    assert function(*[object()] * 4) == pynvml.NVML_ERROR_INVALID_ARGUMENT
    count = SYMBOLS[name].arity
    if count:
        assert function(*[object()] * count) == pynvml.NVML_ERROR_INVALID_ARGUMENT
        assert function() == pynvml.NVML_ERROR_INVALID_ARGUMENT
    assert nvml.calls[name, None] >= 1


@pytest.mark.parametrize("name", [name for name in HANDLE_CALLS if not SYMBOLS[name].inside])
def test_function_with_a_good_handle_still_checks_the_rest(name: str, nvml: FakeNvml) -> None:
    """A good handle followed by objects of the wrong kind answers INVALID_ARGUMENT."""
    rest = [object()] * len(SYMBOLS[name].parameters)
    assert getattr(pynvml.nvmlLib, name)(handle(), *rest) == pynvml.NVML_ERROR_INVALID_ARGUMENT
    assert nvml.calls[name, 0] == 1


def test_struct_of_another_layout_is_refused(nvml: FakeNvml) -> None:
    """A pointer to the v2 struct is no pointer to the v1 struct."""
    wrong = ctypes.byref(pynvml.c_nvmlMemory_v2_t())
    assert pynvml.nvmlLib.nvmlDeviceGetMemoryInfo(handle(), wrong) == pynvml.NVML_ERROR_INVALID_ARGUMENT
    assert nvml.calls["nvmlDeviceGetMemoryInfo", 0] == 1


@pytest.mark.usefixtures("nvml")
def test_struct_version_is_checked() -> None:
    """A versioned struct with another version answers ARGUMENT_VERSION_MISMATCH, as the driver does."""
    with pytest.raises(pynvml.NVMLError_ArgumentVersionMismatch):
        pynvml.nvmlDeviceGetMemoryInfo(handle(), version=pynvml.nvmlMemory_v2 + 1)
    reading = pynvml.c_nvmlTemperature_v1_t()
    answer = pynvml.nvmlLib.nvmlDeviceGetTemperatureV(handle(), ctypes.byref(reading))
    assert answer == pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH


@pytest.mark.usefixtures("nvml")
def test_only_the_gpu_sensor_exists() -> None:
    """Another temperature sensor answers INVALID_ARGUMENT, by the old call and by the new."""
    for call in (pynvml.nvmlDeviceGetTemperature, pynvml.nvmlDeviceGetTemperatureV):
        with pytest.raises(pynvml.NVMLError_InvalidArgument):
            call(handle(), 1)


def test_text_that_does_not_fit_is_insufficient_size() -> None:
    """A string with its final zero that is longer than the buffer answers INSUFFICIENT_SIZE; one that fits is whole."""
    size = pynvml.NVML_DEVICE_NAME_V2_BUFFER_SIZE
    with FakeNvml([FakeGpu(name="n" * (size - 1)), FakeGpu(name="n" * size)]):
        pynvml.nvmlInit()
        assert pynvml.nvmlDeviceGetName(handle(0)) == "n" * (size - 1)
        with pytest.raises(pynvml.NVMLError_InsufficientSize):
            pynvml.nvmlDeviceGetName(handle(1))


def test_buffer_shorter_than_its_stated_length_is_refused(nvml: FakeNvml) -> None:
    """A length beyond the buffer, which would corrupt memory in the real library, answers INVALID_ARGUMENT."""
    buffer = ctypes.create_string_buffer(4)
    answer = pynvml.nvmlLib.nvmlDeviceGetName(handle(), buffer, ctypes.c_uint(96))
    assert answer == pynvml.NVML_ERROR_INVALID_ARGUMENT
    assert nvml.calls["nvmlDeviceGetName", 0] == 1


@pytest.mark.usefixtures("nvml")
def test_devices_are_found_or_not() -> None:
    """An index beyond the last is an invalid argument; an unknown UUID is not found; a null one is invalid."""
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        handle(2)
    with pytest.raises(pynvml.NVMLError_NotFound):
        pynvml.nvmlDeviceGetHandleByUUID(b"GPU-unknown")
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        pynvml.nvmlDeviceGetHandleByUUID(None)


@pytest.mark.usefixtures("nvml")
def test_handles_tell_gpus_apart() -> None:
    """Each handle leads to its own GPU, and a null handle to none."""
    assert [pynvml.nvmlDeviceGetIndex(handle(index)) for index in (1, 0, 1)] == [1, 0, 1]
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        pynvml.nvmlDeviceGetIndex(pynvml.c_nvmlDevice_t())


def test_handles_do_not_survive_a_new_install() -> None:
    """A handle from before a reinstall is an invalid argument, so a reader that keeps handles is found out."""
    fake = FakeNvml()
    with fake:
        pynvml.nvmlInit()
        old = handle()
    with fake:
        pynvml.nvmlInit()
        with pytest.raises(pynvml.NVMLError_InvalidArgument):
            pynvml.nvmlDeviceGetName(old)


@pytest.mark.parametrize("code", [0, 25, 30, 31, 999])
def test_every_error_has_a_text(code: int, nvml: FakeNvml) -> None:
    """A code that the binding has no text for gets one from the fake, known to NVML or not."""
    assert pynvml.nvmlErrorString(code)
    if code:
        nvml.fail("nvmlDeviceGetCount_v2", code)
        with pytest.raises(pynvml.NVMLError) as caught:
            pynvml.nvmlDeviceGetCount()
        assert (caught.value.value, str(caught.value)) == (code, pynvml.nvmlErrorString(code))
