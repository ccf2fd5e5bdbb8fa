# SPDX-License-Identifier: Apache-2.0
"""The scripted NVML keeps its promises, seen through the real `pynvml`."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import math
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics import _guard, testing
from otel_hwmetrics.testing import (
    FakeGpu,
    FakeNvml,
    ManualClock,
    ScenarioError,
    install_from_environment,
    load_scenario,
    without_nvml,
)
from otel_hwmetrics.testing.symbols import SYMBOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOURCE = Path(testing.__file__).parents[2]
GIB = 1024**3
ENERGY_AT_START = 3_456_000_000_000  # mJ

SCRIPTED = FakeGpu(
    name="Tested GPU",
    uuid="GPU-00000000-1111-2222-3333-444444444444",
    utilization=0.97,
    memory_controller_utilization=0.41,
    memory_total=80 * GIB,
    memory_reserved=1 * GIB,
    memory_used=10 * GIB,
    temperature=61.0,
    power=312.345,
    power_limit=650.5,
    energy_offset=1000.0,
)

# What every C function gives through the binding for SCRIPTED ten seconds after install; `h` is its handle.
THROUGH_PYNVML: dict[str, tuple[Callable[[Any], object], object]] = {
    "nvmlInitWithFlags": (lambda _: pynvml.nvmlInitWithFlags(0), None),
    "nvmlShutdown": (lambda _: pynvml.nvmlShutdown(), None),
    "nvmlErrorString": (lambda _: pynvml.nvmlErrorString(pynvml.NVML_ERROR_GPU_IS_LOST), "GPU is lost"),
    "nvmlSystemGetDriverVersion": (lambda _: pynvml.nvmlSystemGetDriverVersion(), "580.95.05"),
    "nvmlSystemGetNVMLVersion": (lambda _: pynvml.nvmlSystemGetNVMLVersion(), "13.580.95.05"),
    "nvmlSystemGetCudaDriverVersion_v2": (lambda _: pynvml.nvmlSystemGetCudaDriverVersion_v2(), 13000),
    "nvmlDeviceGetCount_v2": (lambda _: pynvml.nvmlDeviceGetCount(), 1),
    "nvmlDeviceGetHandleByIndex_v2": (
        lambda _: pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(0)),
        SCRIPTED.uuid,
    ),
    "nvmlDeviceGetHandleByUUID": (
        lambda _: pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByUUID(SCRIPTED.uuid.encode())),
        0,
    ),
    "nvmlDeviceGetName": (pynvml.nvmlDeviceGetName, "Tested GPU"),
    "nvmlDeviceGetUUID": (pynvml.nvmlDeviceGetUUID, SCRIPTED.uuid),
    "nvmlDeviceGetIndex": (pynvml.nvmlDeviceGetIndex, 0),
    "nvmlDeviceGetUtilizationRates": (
        lambda h: fields(pynvml.nvmlDeviceGetUtilizationRates(h)),
        {"gpu": 97, "memory": 41},
    ),
    "nvmlDeviceGetMemoryInfo": (
        lambda h: fields(pynvml.nvmlDeviceGetMemoryInfo(h)),
        {"total": 80 * GIB, "free": 69 * GIB, "used": 11 * GIB},
    ),
    "nvmlDeviceGetMemoryInfo_v2": (
        lambda h: fields(pynvml.nvmlDeviceGetMemoryInfo(h, version=pynvml.nvmlMemory_v2)),
        {
            "version": pynvml.nvmlMemory_v2,
            "total": 80 * GIB,
            "reserved": 1 * GIB,
            "free": 69 * GIB,
            "used": 10 * GIB,
        },
    ),
    "nvmlDeviceGetPowerUsage": (pynvml.nvmlDeviceGetPowerUsage, 312_345),
    "nvmlDeviceGetEnforcedPowerLimit": (pynvml.nvmlDeviceGetEnforcedPowerLimit, 650_500),
    "nvmlDeviceGetPowerManagementLimit": (pynvml.nvmlDeviceGetPowerManagementLimit, 650_500),
    "nvmlDeviceGetTotalEnergyConsumption": (pynvml.nvmlDeviceGetTotalEnergyConsumption, 4_123_450),
    "nvmlDeviceGetTemperatureV": (lambda h: pynvml.nvmlDeviceGetTemperatureV(h, pynvml.NVML_TEMPERATURE_GPU), 61),
    "nvmlDeviceGetTemperature": (lambda h: pynvml.nvmlDeviceGetTemperature(h, pynvml.NVML_TEMPERATURE_GPU), 61),
}

DEVICE_CALLS = sorted(name for name, symbol in SYMBOLS.items() if symbol.find)


def fields(struct: Any) -> dict[str, object]:
    """Return a struct of the binding as a dict."""
    return {name: getattr(struct, name) for name, _ in struct._fields_}


def binding_state() -> dict[str, object]:
    """Return what installing a fake may touch, the containers both by identity and by content."""
    cache = pynvml._nvmlGetFunctionPointer_cache
    texts = pynvml.NVMLError._errcode_to_string
    return {
        "nvmlLib": pynvml.nvmlLib,
        "loader": pynvml._LoadNvmlLibrary,
        "refcount": pynvml._nvmlLib_refcount,
        "cache": (id(cache), dict(cache)),
        "texts": (id(texts), dict(texts)),
    }


def handle(index: int = 0) -> Any:
    """Return the handle of a GPU, from the binding."""
    return pynvml.nvmlDeviceGetHandleByIndex(index)


@pytest.fixture(autouse=True)
def binding_untouched() -> Iterator[None]:
    """No test leaves anything in the binding."""
    before = binding_state()
    yield
    assert binding_state() == before


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock that only the test moves."""
    return ManualClock()


@pytest.fixture
def nvml(clock: ManualClock) -> Iterator[FakeNvml]:
    """Two GPUs, initialised: the first is SCRIPTED, the second a default one."""
    with FakeNvml([SCRIPTED, FakeGpu()], clock=clock) as fake:
        pynvml.nvmlInit()
        yield fake


# The clock.


def test_manual_clock_moves_both_times_by_the_same_amount() -> None:
    """Ten steps of 0.1 s are one second exactly on both clocks."""
    clock = ManualClock(start=5.0, start_ns=7)
    for _ in range(10):
        clock.advance(0.1)
    assert (clock.monotonic(), clock.time_ns()) == (6.0, 1_000_000_007)


@pytest.mark.parametrize("seconds", [-0.1, math.nan, math.inf])
def test_manual_clock_never_goes_back(seconds: float) -> None:
    """A clock refuses to move by anything but a finite number of seconds >= 0."""
    with pytest.raises(ValueError, match="advances by a finite number"):
        ManualClock().advance(seconds)


# The functions.


def test_every_function_of_the_fake_is_tested_through_the_binding() -> None:
    """A function added to the fake needs a line in THROUGH_PYNVML."""
    assert set(THROUGH_PYNVML) == set(SYMBOLS)


@pytest.mark.parametrize("name", THROUGH_PYNVML)
def test_function_through_the_real_binding(name: str, clock: ManualClock) -> None:
    """Each C function, called by the real pynvml, gives the script in NVML's units, and is counted."""
    call, expected = THROUGH_PYNVML[name]
    with FakeNvml([SCRIPTED], clock=clock) as fake:
        pynvml.nvmlInit()
        h = handle()
        clock.advance(10)
        fake.reset_calls()
        assert call(h) == expected
        assert fake.calls[name, 0 if name in DEVICE_CALLS else None] == 1


@pytest.mark.parametrize("name", sorted(set(THROUGH_PYNVML) - {"nvmlInitWithFlags", "nvmlErrorString"}))
def test_function_before_init_is_uninitialized(name: str, nvml: FakeNvml) -> None:
    """Without an initialisation every call but nvmlInit and nvmlErrorString answers UNINITIALIZED."""
    h = handle()
    pynvml.nvmlShutdown()
    with pytest.raises(pynvml.NVMLError_Uninitialized):
        THROUGH_PYNVML[name][0](h)
    assert nvml.gpus[0] is SCRIPTED


@pytest.mark.parametrize("name", SYMBOLS)
def test_function_with_wrong_arguments_is_refused(name: str, nvml: FakeNvml) -> None:
    """No arguments where some are due, or objects of the wrong kind, answer INVALID_ARGUMENT or a worse error."""
    function = getattr(pynvml.nvmlLib, name)
    assert function(*[object()] * 4) == pynvml.NVML_ERROR_INVALID_ARGUMENT
    count = len(SYMBOLS[name].parameters) + (SYMBOLS[name].find is not None)
    if count:
        assert function(*[object()] * count) == pynvml.NVML_ERROR_INVALID_ARGUMENT
        assert function() == pynvml.NVML_ERROR_INVALID_ARGUMENT
    assert nvml.calls[name, None] >= 1


@pytest.mark.parametrize("name", [name for name in DEVICE_CALLS if "Handle" not in name])
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


# The GPUs.


def test_default_uuids_are_different_and_always_the_same() -> None:
    """A GPU without a UUID gets one by its index, in NVML's form, the same in every process."""
    uuids = [gpu.uuid for gpu in FakeNvml(2).gpus]
    assert uuids == [gpu.uuid for gpu in FakeNvml(2).gpus]
    assert uuids[0] == "GPU-afd2d289-7cc2-54e1-ba57-575899687e34"
    assert uuids[1] != uuids[0]


def test_a_machine_may_have_no_gpu() -> None:
    """A driver without GPUs initialises and counts none."""
    with FakeNvml(0):
        pynvml.nvmlInit()
        assert pynvml.nvmlDeviceGetCount() == 0


@pytest.mark.parametrize("name", [name for name in DEVICE_CALLS if "Handle" not in name])
def test_unsupported_functions_are_not_supported(name: str) -> None:
    """A function named in `unsupported` answers NOT_SUPPORTED for that GPU only."""
    with FakeNvml([FakeGpu(), FakeGpu(unsupported={name})]):
        pynvml.nvmlInit()
        call = THROUGH_PYNVML[name][0]
        call(handle(0))
        with pytest.raises(pynvml.NVMLError_NotSupported):
            call(handle(1))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"name": 5}, "name = 5: allowed is a string"),
        ({"memory_total": 80e9}, "memory_total = 80000000000.0: allowed is a whole number"),
        ({"memory_reserved": -1}, "memory_reserved = -1: allowed is a whole number"),
        ({"energy_offset": -1.0}, "energy_offset = -1.0: allowed is a number of joules"),
        ({"energy_offset": 10**400}, "allowed is a number of joules"),
        ({"unsupported": "nvmlDeviceGetName"}, "unsupported = 'nvmlDeviceGetName': allowed is a list"),
        ({"utilization": 97}, "utilization = 97: allowed is a number from 0 to 1, keyframes"),
        ({"utilization": True}, "utilization = True"),
        ({"power": "300"}, "power = '300'"),
        ({"power": math.nan}, "power = nan"),
        ({"power": []}, r"power = \[\]"),
        ({"power": [(0, 1), (5, -1)]}, r"power\[1\] = -1: allowed is a number from 0"),
        ({"power": [(0, 1), 5]}, r"power\[1\] = 5: allowed is a pair"),
        ({"power": [("0", 1)]}, r"power\[0\] = \('0', 1\): allowed is a pair"),
        ({"power": [(-1, 1)]}, r"power\[0\] = \(-1, 1\): allowed is a keyframe at 0 s or later"),
        ({"power": [(9, 1), (5, 1)]}, r"power\[1\] = \(5, 1\): allowed is a keyframe at 9 s or later"),
        ({"memory_used": 80 * GIB, "memory_reserved": 1}, "memory_used = 85899345920: allowed is a number from 0 to"),
    ],
)
def test_gpu_with_a_wrong_value_is_refused(setting: dict[str, Any], message: str) -> None:
    """A wrong setting is a ValueError that names the field, the value and what is allowed."""
    with pytest.raises(ValueError, match=message):
        FakeGpu(**setting)


@pytest.mark.parametrize(
    ("gpus", "message"),
    [
        ([FakeGpu(uuid="GPU-a"), FakeGpu(uuid="GPU-a")], r"gpu\[1\].uuid = 'GPU-a'"),
        (
            [FakeGpu(unsupported=["nvmlDeviceGetNmae"])],
            r"gpu\[0\].unsupported = 'nvmlDeviceGetNmae': allowed is one of",
        ),
        ([FakeGpu(unsupported=["nvmlShutdown"])], r"gpu\[0\].unsupported = 'nvmlShutdown'"),
    ],
)
def test_gpus_that_cannot_be_together_are_refused(gpus: list[FakeGpu], message: str) -> None:
    """A shared UUID, or an `unsupported` function that no device has, is a ValueError."""
    with pytest.raises(ValueError, match=message):
        FakeNvml(gpus)


# Values over time.


def test_keyframes_are_linear_and_held_at_both_ends(clock: ManualClock) -> None:
    """A quantity holds its first keyframe, goes straight to the next, steps where two meet, and holds the last."""
    frames = [(10, 50.0), (20, 60.0), (20, 80.0), (30, 70.0)]
    seen = {}
    with FakeNvml([FakeGpu(temperature=frames)], clock=clock):
        pynvml.nvmlInit()
        h = handle()
        for second in range(41):
            seen[second] = pynvml.nvmlDeviceGetTemperature(h, pynvml.NVML_TEMPERATURE_GPU)
            clock.advance(1)
    assert [seen[second] for second in (0, 10, 15, 19, 20, 25, 30, 40)] == [50, 50, 55, 59, 80, 75, 70, 70]


def test_function_of_time_and_its_gaps(clock: ManualClock) -> None:
    """A function gets the seconds since install, and None from it is NOT_SUPPORTED for that moment."""
    clock.advance(100)
    with FakeNvml([FakeGpu(power=lambda seconds: None if seconds == 1 else 10 * seconds)], clock=clock):
        pynvml.nvmlInit()
        h = handle()
        assert pynvml.nvmlDeviceGetPowerUsage(h) == 0
        clock.advance(1)
        with pytest.raises(pynvml.NVMLError_NotSupported):
            pynvml.nvmlDeviceGetPowerUsage(h)
        clock.advance(1)
        assert pynvml.nvmlDeviceGetPowerUsage(h) == 20_000


def test_function_out_of_range_is_the_tests_mistake(clock: ManualClock) -> None:
    """A function that gives what the quantity cannot be raises ValueError at the call."""
    with FakeNvml([FakeGpu(utilization=lambda _: 97.0)], clock=clock):
        pynvml.nvmlInit()
        with pytest.raises(ValueError, match=r"utilization = 97.0: allowed is a number from 0 to 1"):
            pynvml.nvmlDeviceGetUtilizationRates(handle())


def test_energy_of_a_function_is_a_trapezoid_between_readings(clock: ManualClock) -> None:
    """A linear function is integrated exactly from install on; a stretch that touches a gap adds nothing."""
    power = {0: 0.0, 10: 100.0, 20: None, 30: 100.0, 40: 100.0}
    energies = []
    with FakeNvml([FakeGpu(power=lambda seconds: power[int(seconds)])], clock=clock):
        pynvml.nvmlInit()
        h = handle()
        for _ in range(4):
            clock.advance(10)
            energies.append(pynvml.nvmlDeviceGetTotalEnergyConsumption(h) - ENERGY_AT_START)
    assert energies == [500_000, 500_000, 500_000, 1_500_000]


def exact_joules(frames: list[tuple[int, float]], seconds: Fraction) -> Fraction:
    """Return the integral of keyframes from 0, by another way than the code: clipping each segment."""
    points = [(Fraction(0), Fraction(frames[0][1])), *((Fraction(t), Fraction(v)) for t, v in frames)]
    points.append((max(points[-1][0], seconds) + 1, points[-1][1]))
    total = Fraction(0)
    for (start, first), (end, last) in pairwise(points):
        if start < seconds and start < end:
            stop = min(end, seconds)
            at_stop = first + (last - first) * (stop - start) / (end - start)
            total += (first + at_stop) / 2 * (stop - start)
    return total


keyframes = st.lists(
    st.tuples(st.integers(0, 100_000), st.floats(0, 2000, allow_nan=False)), min_size=1, max_size=8
).map(lambda frames: sorted(frames, key=lambda frame: frame[0]))
steps = st.lists(st.integers(0, 10**14), min_size=1, max_size=12)  # ns


@given(frames=keyframes, steps=steps)
def test_energy_is_the_integral_of_power_and_never_decreases(frames: list[tuple[int, float]], steps: list[int]) -> None:
    """For any keyframes the counter is offset plus the exact integral within 1 mJ, and never goes down."""
    clock = ManualClock()
    nanoseconds, previous = 0, ENERGY_AT_START
    with FakeNvml([FakeGpu(power=frames)], clock=clock):
        pynvml.nvmlInit()
        h = handle()
        assert pynvml.nvmlDeviceGetTotalEnergyConsumption(h) == ENERGY_AT_START
        for step in steps:
            clock.advance(step / 1e9)
            nanoseconds += round(step / 1e9 * 1e9)
            energy = pynvml.nvmlDeviceGetTotalEnergyConsumption(h)
            exact = ENERGY_AT_START + 1000 * exact_joules(frames, Fraction(nanoseconds, 10**9))
            assert abs(energy - exact) <= 1
            assert energy >= previous
            previous = energy


@given(frames=keyframes, steps=steps)
def test_interpolation_stays_between_its_keyframes(frames: list[tuple[int, float]], steps: list[int]) -> None:
    """At any moment the value lies between the lowest and the highest keyframe."""
    clock = ManualClock()
    values = [round(value * 1000) for _, value in frames]
    with FakeNvml([FakeGpu(power=frames)], clock=clock):
        pynvml.nvmlInit()
        h = handle()
        for step in steps:
            clock.advance(step / 1e9)
            assert min(values) <= pynvml.nvmlDeviceGetPowerUsage(h) <= max(values)


@given(first=st.floats(0, 2000), second=st.floats(0, 2000), seconds=st.lists(st.floats(0, 1000), max_size=8))
def test_energy_of_a_function_never_decreases(first: float, second: float, seconds: list[float]) -> None:
    """The counter of a power given as a function never goes down, wherever it is read."""
    clock = ManualClock()
    with FakeNvml([FakeGpu(power=lambda now: first if int(now) % 2 else second)], clock=clock):
        pynvml.nvmlInit()
        h = handle()
        energies = [pynvml.nvmlDeviceGetTotalEnergyConsumption(h)]
        for step in seconds:
            clock.advance(step)
            energies.append(pynvml.nvmlDeviceGetTotalEnergyConsumption(h))
    assert energies == sorted(energies)


# Faults.


@pytest.mark.parametrize("name", sorted(set(SYMBOLS) - {"nvmlErrorString"}))
def test_any_function_can_fail_and_recover(name: str, nvml: FakeNvml) -> None:
    """A function told to fail answers that code, and after recover() its value again."""
    call, _ = THROUGH_PYNVML[name]
    h = handle()
    nvml.fail(name, pynvml.NVML_ERROR_UNKNOWN)
    with pytest.raises(pynvml.NVMLError_Unknown):
        call(h)
    nvml.recover(name)
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


def test_lost_gpu_fails_every_call_about_it_and_no_other(nvml: FakeNvml) -> None:
    """`"*"` with a GPU fails every function that names it, the lookups too, and spares the other GPU."""
    lost, well = handle(1), handle(0)
    nvml.fail("*", pynvml.NVML_ERROR_GPU_IS_LOST, gpu=1)
    for name in DEVICE_CALLS:
        if "Handle" not in name:
            THROUGH_PYNVML[name][0](well)
            with pytest.raises(pynvml.NVMLError_GpuIsLost):
                THROUGH_PYNVML[name][0](lost)
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        handle(1)
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        pynvml.nvmlDeviceGetHandleByUUID(nvml.gpus[1].uuid.encode())
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


def in_thread(function: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Call a function on a daemon thread; its value, or the NVMLError it raised, is appended to the list."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(function())
        except pynvml.NVMLError as error:
            results.append(type(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, results


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


# Initialisation, and what the binding has before and after.


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


# Scenario files.


def scenario(tmp_path: Path, text: str) -> Path:
    """Write a scenario file."""
    path = tmp_path / "gpus.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_documented_example_is_a_scenario_and_complete(tmp_path: Path, clock: ManualClock) -> None:
    """The example in the docs loads, sets every field of FakeGpu, and does what its comments say."""
    assert testing.__doc__ is not None
    example = testing.__doc__.split("```toml")[1].split("```")[0]
    assert all(name in example for name in FakeGpu.__dataclass_fields__)
    with load_scenario(scenario(tmp_path, example), clock=clock) as fake:
        pynvml.nvmlInit()
        first, second = handle(0), handle(1)
        assert pynvml.nvmlDeviceGetUUID(first) == "GPU-5a1e0000-0000-4000-8000-000000000000"
        with pytest.raises(pynvml.NVMLError_NotSupported):
            pynvml.nvmlDeviceGetTotalEnergyConsumption(second)
        clock.advance(20)
        assert pynvml.nvmlDeviceGetTemperature(first, pynvml.NVML_TEMPERATURE_GPU) == 86
        clock.advance(40)
        with pytest.raises(pynvml.NVMLError_GpuIsLost):
            pynvml.nvmlDeviceGetName(second)
        clock.advance(30)
        assert pynvml.nvmlDeviceGetName(second) == fake.gpus[1].name
        clock.advance(30)
        thread, results = in_thread(lambda: pynvml.nvmlDeviceGetUtilizationRates(first).gpu)
        fake.recover()
        thread.join(10)
        assert results == [97]


@pytest.mark.parametrize(("text", "gpus"), [("", 1), ("gpu = []", 0), ("[[gpu]]\n[[gpu]]", 2)])
def test_scenario_defaults(tmp_path: Path, text: str, gpus: int) -> None:
    """No [[gpu]] at all is one default GPU; an empty list is none."""
    fake = load_scenario(str(scenario(tmp_path, text)))
    assert [gpu.name for gpu in fake.gpus] == ["NVIDIA H100 80GB HBM3"] * gpus
    assert fake.driver_version == "580.95.05"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("power = ", "not a TOML file: "),
        ("gpus = 3", "gpus = 3: allowed is one of the keys delay, driver_version, fail, gpu, hang"),
        ("driver_version = 580", "driver_version = 580: allowed is a string"),
        ("gpu = 3", "gpu = 3: allowed is tables under [[gpu]]"),
        ("gpu = [3]", "gpu = [3]: allowed is tables under [[gpu]]"),
        ("[gpu]", "gpu = {}: allowed is tables under [[gpu]]"),
        ("[[gpu]]\npwoer = 3", "gpu[0].pwoer = 3: allowed is one of the keys energy_offset, memory_"),
        ("[[gpu]]\n[[gpu]]\npower = '3'", "gpu[1].power = '3': allowed is a number from 0 to 1000000, keyframes"),
        ("[[gpu]]\npower = true", "gpu[0].power = True: allowed is a number"),
        ("[[gpu]]\npower = nan", "gpu[0].power = nan: allowed is a number"),
        ("[[gpu]]\npower = [[20, 1], [10, 1]]", "gpu[0].power[1] = [10, 1]: allowed is a keyframe at 20 s or later"),
        ("[[gpu]]\npower = [[20, 1, 3]]", "gpu[0].power[0] = [20, 1, 3]: allowed is a pair [seconds, number]"),
        ("[[gpu]]\npower = [20, 1]", "gpu[0].power[0] = 20: allowed is a pair [seconds, number]"),
        ("[[gpu]]\nutilization = 97", "gpu[0].utilization = 97: allowed is a number from 0 to 1,"),
        ("[[gpu]]\nmemory_total = 8e10", "gpu[0].memory_total = 80000000000.0: allowed is a whole number"),
        ("[[gpu]]\nname = 3", "gpu[0].name = 3: allowed is a string"),
        ("[[gpu]]\nunsupported = ['x']", "gpu[0].unsupported = 'x': allowed is one of nvmlDevice"),
        ("[[gpu]]\nuuid = 'a'\n[[gpu]]\nuuid = 'a'", "gpu[1].uuid = 'a': allowed is a UUID no other GPU has"),
        ("[[fail]]\nfunction = '*'", "fail[0].code = None: allowed is any value it can have: this key is required"),
        ("[[fail]]\nfunction = 3\ncode = 3", "fail[0].function = 3: allowed is one of *, nvml"),
        ("[[fail]]\nfunction = ['*']\ncode = 3", "fail[0].function = ['*']: allowed is one of *, nvml"),
        (
            "[[fail]]\nfunction = '*'\ncode = 'LOST'",
            "fail[0].code = 'LOST': allowed is a number above 0 or one of NVML_",
        ),
        ("[[fail]]\nfunction = '*'\ncode = 3\ngpu = 1", "fail[0].gpu = 1: allowed is an index below 1"),
        ("[[fail]]\nfunction = '*'\ncode = 3\nfrom = 1", "fail[0].from = 1: allowed is one of the keys after, code,"),
        ("[[fail]]\nfunction = '*'\ncode = 3\nafter = '1'", "fail[0].after = '1': allowed is a number of seconds >= 0"),
        ("[[delay]]\nfunction = '*'", "delay[0].seconds = None: allowed is any value it can have"),
        ("[[delay]]\nfunction = '*'\nseconds = -1", "delay[0].seconds = -1: allowed is a number >= 0"),
        ("[[hang]]\nfunction = '*'\ncode = 3", "hang[0].code = 3: allowed is one of the keys after, function, gpu"),
        ("[[hang]]\nfunction = '*'\nuntil = 0", "hang[0].until = 0: allowed is a number of seconds above after"),
    ],
)
def test_wrong_scenario_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    """A mistake in the file is a ScenarioError that names the file, the key, the value and what is allowed."""
    path = scenario(tmp_path, text)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_scenario_that_is_not_text(tmp_path: Path) -> None:
    """A file that is not UTF-8 is a ScenarioError, one that is not there an OSError."""
    path = tmp_path / "gpus.toml"
    with pytest.raises(FileNotFoundError):
        load_scenario(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ScenarioError, match="not a TOML file"):
        load_scenario(path)


# The environment.


@pytest.mark.parametrize("value", [None, ""])
def test_no_scenario_in_the_environment(
    value: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Unset or empty, the variable changes nothing and logs nothing."""
    monkeypatch.delenv("OTEL_PYTHON_HWMETRICS_FAKE_NVML", raising=False)
    if value is not None:
        monkeypatch.setenv("OTEL_PYTHON_HWMETRICS_FAKE_NVML", value)
    before = binding_state()
    assert install_from_environment() is None
    assert binding_state() == before
    assert caplog.records == []


def test_scenario_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The file's GPUs are installed, and one warning says that they are not real and where they are from."""
    path = scenario(tmp_path, "[[gpu]]\n[[gpu]]\n[[gpu]]")
    monkeypatch.setenv("OTEL_PYTHON_HWMETRICS_FAKE_NVML", str(path))
    fake = install_from_environment()
    assert fake is not None
    with contextlib.ExitStack() as stack:
        stack.callback(fake.uninstall)
        pynvml.nvmlInit()
        assert pynvml.nvmlDeviceGetCount() == 3
    assert caplog.record_tuples == [
        ("otel_hwmetrics.testing", logging.WARNING, f"NVML is scripted: 3 GPU(s) from {path} are not real")
    ]


@pytest.mark.parametrize("text", [None, "power = ", "[[gpu]]\npower = -1"])
def test_bad_scenario_in_the_environment_is_logged_not_raised(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is absent or wrong leaves NVML alone and logs one error that names the variable and the file."""
    path = tmp_path / "absent.toml" if text is None else scenario(tmp_path, text)
    monkeypatch.setenv("OTEL_PYTHON_HWMETRICS_FAKE_NVML", str(path))
    before = binding_state()
    assert install_from_environment() is None
    assert binding_state() == before
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("otel_hwmetrics.testing", logging.ERROR)
    assert "OTEL_PYTHON_HWMETRICS_FAKE_NVML" in record.getMessage()
    assert str(path) in record.getMessage()


def test_no_mistake_of_ours_escapes_the_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault that nobody foresaw is logged, not raised, because nothing may stop the user's program."""
    monkeypatch.setenv("OTEL_PYTHON_HWMETRICS_FAKE_NVML", str(scenario(tmp_path, "")))

    def broken(_: FakeNvml) -> None:
        raise KeyError

    monkeypatch.setattr(FakeNvml, "install", broken)
    monkeypatch.setattr(_guard, "LOUD", False)
    monkeypatch.setattr(_guard, "faults", Counter())
    assert install_from_environment() is None
    (record,) = caplog.records
    assert "installing scripted GPUs" in record.getMessage()


# Imports.


def run_python(code: str) -> str:
    """Run code in a fresh interpreter with the package on its path, and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    environment.pop("OTEL_PYTHON_HWMETRICS_FAKE_NVML", None)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_light() -> None:
    """Importing the module, and asking for a scenario that is not set, loads nothing heavy."""
    code = """
import sys
before = set(sys.modules)  # coverage, where it measures this, has some already
import otel_hwmetrics.testing
otel_hwmetrics.testing.install_from_environment()
loaded = set(sys.modules) - before
print(sorted({"pynvml", "ctypes", "psutil", "opentelemetry", "tomllib", "tomli"} & loaded))
"""
    assert run_python(code) == "[]\n"
