# SPDX-License-Identifier: Apache-2.0
"""What a scripted GPU may say, and what it comes to over time."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.testing import (
    FakeGpu,
    FakeNvml,
    ManualClock,
)

from .scripted import (
    CLOCK,
    ENERGY_AT_START,
    GIB,
    HANDLE_CALLS,
    SCRIPTED,
    THROUGH_PYNVML,
    handle,
)

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


@pytest.mark.parametrize("name", HANDLE_CALLS)
def test_unsupported_functions_are_not_supported(name: str) -> None:
    """A function named in `unsupported` answers NOT_SUPPORTED for that GPU only."""
    with FakeNvml([SCRIPTED, replace(SCRIPTED, uuid="", unsupported={name})], clock=CLOCK):
        pynvml.nvmlInit()
        CLOCK.advance(10)
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
