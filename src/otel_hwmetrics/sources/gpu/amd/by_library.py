# SPDX-License-Identifier: Apache-2.0
"""Figures by AMD's library, made SI: it has watts, microwatts, megahertz, degrees, and ticks of 15.3 microjoules.

``amdsmi_get_violation_status`` is not asked: it sleeps for 0.1 s between two samples of its own.
https://rocm.docs.amd.com/projects/amdsmi/en/latest/reference/amdsmi-py-api.html
"""

from __future__ import annotations

from typing import Final

from otel_hwmetrics.catalog import gpu_health as health
from otel_hwmetrics.sources.base import Unsupported
from otel_hwmetrics.sources.gpu.amd import gpu_metrics
from otel_hwmetrics.sources.gpu.amd.device import Gpu, number, watts
from otel_hwmetrics.sources.gpu.amd.library import answers, ask, constant
from otel_hwmetrics.sources.gpu.amd.values import MEGA, MOST_COUNT, MOST_HERTZ, PWM, Value, memory
from otel_hwmetrics.sources.gpu.device import Items, celsius, ratio, within

_POWERS: Final = ("current_socket_power", "socket_power", "average_socket_power")
# Which of them a GPU tells depends on its model; the others are all ones, or not there.
_ECC: Final = {"correctable_count": "corrected", "uncorrectable_count": "uncorrected", "deferred_count": "deferred"}


def busy(key: str) -> Value:
    """How busy a part is: ``gfx_activity``, ``umc_activity`` (the memory controller)."""

    def value(gpu: Gpu) -> float | None:
        found = number(answers(gpu, "amdsmi_get_gpu_activity").get(key), key)
        return None if found is None else ratio(found, key)

    return value


def memory_usage(gpu: Gpu) -> Items:
    """Size and use; the size is asked for once."""
    kind = constant(gpu, "AmdSmiMemoryType", "VRAM")
    total = gpu.keep("memory", lambda: _size(number(ask(gpu, "amdsmi_get_gpu_memory_total", kind), "memory size")))
    yield from memory(gpu, total, number(ask(gpu, "amdsmi_get_gpu_memory_usage", kind), "memory used"))


def _size(total: float | None) -> float:
    # An APU without memory of its own says 0.
    if total == 0:
        raise Unsupported
    if total is None:
        raise ValueError("the size of the memory is not told")
    return total


def power(gpu: Gpu) -> float | None:
    """Power of the moment, or its mean over the firmware's filter, by the model."""
    answer = answers(gpu, "amdsmi_get_power_info")
    for key in _POWERS:
        found = number(answer.get(key), key)
        if found is not None:
            return watts(found, key)
    return None


def power_limit(gpu: Gpu) -> float | None:
    """The power limit that is set."""
    # 0 is what the library answers where it could not read the limit.
    found = number(answers(gpu, "amdsmi_get_power_cap_info").get("power_cap"), "power limit")
    return watts(found, "power limit") if found else None


def joules(gpu: Gpu) -> float | None:
    """What the energy counter says."""
    answer = answers(gpu, "amdsmi_get_energy_count")
    # Before ROCm 6.3 the counter was called power.
    ticks = number(answer.get("energy_accumulator", answer.get("power")), "energy")
    resolution = number(answer.get("counter_resolution"), "the energy counter's resolution")
    if ticks is None or resolution is None:
        return None
    return within(ticks, 2 * MOST_COUNT, "energy") * _joules_per_tick(resolution)


def _joules_per_tick(microjoules: float) -> float:
    # The library rounds the firmware's unit, 2^-16 J, to 15.3 µJ: 0.3 % too much.
    exact = gpu_metrics.JOULES_PER_TICK
    given = within(microjoules, MEGA, "the energy counter's resolution", least=1e-3) / MEGA
    return exact if abs(given - exact) < exact / 100 else given


def clock(kind: str, key: str) -> Value:
    """A clock of a kind of the library's (``GFX``, ``MEM``): ``clk`` the present one, ``max_clk`` its limit."""

    def value(gpu: Gpu) -> float | None:
        answer = answers(gpu, "amdsmi_get_clock_info", constant(gpu, "AmdSmiClkType", kind))
        # Before ROCm 6.2 the present clock was called cur_clk.
        found = number(answer.get(key, answer.get(f"cur_{key}")), f"clock {kind}")
        return None if found is None else within(found * MEGA, MOST_HERTZ, f"clock {kind}")

    return value


def degrees(kind: str, metric: str) -> Value:
    """A temperature of a sensor of the library's (``EDGE``): ``CURRENT``, or one of its limits."""

    def value(gpu: Gpu) -> float | None:
        sensor, what = constant(gpu, "AmdSmiTemperatureType", kind), constant(gpu, "AmdSmiTemperatureMetric", metric)
        found = number(ask(gpu, "amdsmi_get_temp_metric", sensor, what), "temperature")
        return None if found is None else celsius(found)

    return value


def fan_rpm(gpu: Gpu) -> float | None:
    """How fast the fan turns."""
    found = number(ask(gpu, "amdsmi_get_gpu_fan_rpms", 0), "fan speed")
    return None if found is None else within(found, 100_000, "fan speed in rpm")


def fan_ratio(gpu: Gpu) -> float | None:
    """How hard the fan is driven."""
    found = number(ask(gpu, "amdsmi_get_gpu_fan_speed", 0), "fan speed")
    return None if found is None else within(found, PWM, "fan speed") / PWM


def ecc(gpu: Gpu) -> Items:
    """Errors of all blocks since the driver was loaded."""
    answer = answers(gpu, "amdsmi_get_gpu_total_ecc_count")
    for key, error_type in _ECC.items():
        found = number(answer.get(key), key)
        if found is not None:
            count = gpu.since_first(f"ECC {error_type}", within(found, MOST_COUNT, key))
            yield gpu.series(health.ERRORS, (health.ERROR_TYPE, error_type)), count
