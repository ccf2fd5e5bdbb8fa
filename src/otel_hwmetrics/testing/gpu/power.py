# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: RUF009 - the calls are `dataclasses.field`
"""Power, heat, clocks, and what holds the clocks back."""

from __future__ import annotations

from dataclasses import dataclass

from otel_hwmetrics.testing.gpu.settings import (
    CELSIUS,
    HERTZ,
    JOULES,
    RATIO,
    WATTS,
    Settings,
    number,
    quantity,
    switch,
    whole,
)
from otel_hwmetrics.testing.values import Value

_PERFORMANCE_STATES = 32
# 0 is the fastest, 15 the slowest, 32 unknown (nvml.h).
_REASONS = 2**16


@dataclass(frozen=True, kw_only=True)
class Power(Settings):
    """Power and energy.

    Attributes:
        power: Power draw in W. The energy counter is its integral.
        power_instant: What the field POWER_INSTANT says, in W; None is `power`.
        module_power: Power of the module that the GPU shares with a CPU (Grace Hopper), in W.
        memory_power: Power of the memory in W.
        power_limit: Power cap in W.
        power_default_limit: What the board came with, in W.
        power_min_limit: The lowest that can be set, in W.
        power_max_limit: The highest that can be set, in W.
        energy_offset: What the energy counter showed at install, in J: a card has a life before the test.
        energy_counter: Whether there is one; before Volta there is none.
    """

    power: Value = quantity(75.0, WATTS)
    power_instant: Value | None = quantity(None, WATTS)
    module_power: Value | None = quantity(None, WATTS)
    memory_power: Value | None = quantity(None, WATTS)
    power_limit: Value = quantity(700.0, WATTS)
    power_default_limit: float = number(700.0, 0.0, WATTS, "watts")
    power_min_limit: float = number(200.0, 0.0, WATTS, "watts")
    power_max_limit: float = number(700.0, 0.0, WATTS, "watts")
    energy_offset: float = number(3_456_000_000.0, 0.0, JOULES, "joules")  # 400 W for a hundred days
    energy_counter: bool = switch(default=True)


@dataclass(frozen=True, kw_only=True)
class Thermals(Settings):
    """Temperatures, their limits, and fans.

    Attributes:
        temperature: Core temperature in Cel.
        memory_temperature: Memory temperature in Cel; None is a board that has no such sensor.
        temperature_shutdown: Where the board shuts down, in Cel; None is NOT_SUPPORTED, as of the next three.
        temperature_slowdown: Where it slows down.
        temperature_memory_max: The highest that the memory runs at unthrottled.
        temperature_gpu_max: The highest that the core runs at unthrottled.
        tlimit_shutdown: The same four as margins to the limit (T.Limit), as Hopper and newer tell them; in K.
        tlimit_slowdown: See above.
        tlimit_memory_max: See above.
        tlimit_gpu_max: See above.
        thermal_margin: K to the nearest slowdown; None is `temperature_slowdown` less `temperature`.
        fans: How many fans NVML knows of; a passively cooled board has none.
        fan_speed: Of every fan, a ratio of its full speed.
        fan_rpm: Of every fan, in revolutions a minute; None is NOT_SUPPORTED.
    """

    temperature: Value = quantity(35.0, CELSIUS)
    memory_temperature: Value | None = quantity(40.0, CELSIUS, optional=True)
    temperature_shutdown: float | None = number(92.0, 0.0, CELSIUS, optional=True)
    temperature_slowdown: float | None = number(89.0, 0.0, CELSIUS, optional=True)
    temperature_memory_max: float | None = number(95.0, 0.0, CELSIUS, optional=True)
    temperature_gpu_max: float | None = number(87.0, 0.0, CELSIUS, optional=True)
    tlimit_shutdown: float | None = number(-8.0, -CELSIUS, CELSIUS, optional=True)
    tlimit_slowdown: float | None = number(-2.0, -CELSIUS, CELSIUS, optional=True)
    tlimit_memory_max: float | None = number(0.0, -CELSIUS, CELSIUS, optional=True)
    tlimit_gpu_max: float | None = number(0.0, -CELSIUS, CELSIUS, optional=True)
    thermal_margin: Value | None = quantity(None, CELSIUS, lowest=-CELSIUS)
    fans: int = whole(0, 0, 16)
    fan_speed: Value = quantity(0.3, 2 * RATIO)
    fan_rpm: Value | None = quantity(2000.0, 1e5, optional=True)


@dataclass(frozen=True, kw_only=True)
class Clocks(Settings):
    """Clocks in Hz, and the shares of time for which a cause held them back.

    Attributes:
        graphics_clock: Of the graphics engine.
        sm_clock: Of the multiprocessors.
        memory_clock: Of the memory.
        video_clock: Of the video engines.
        graphics_clock_max: The highest that the clock of that name can be, as of the next three.
        sm_clock_max: See above.
        memory_clock_max: See above.
        video_clock_max: See above.
        performance_state: P0 (fastest) to P15; 32 is unknown.
        throttled_sw_power_cap: Share of time slowed by the power cap. NVML counts nanoseconds.
        throttled_sync_boost: By keeping pace with the other GPUs of a sync boost group.
        throttled_sw_thermal: By the driver, for heat.
        throttled_hw_thermal: By the hardware, for heat.
        throttled_hw_power_brake: By the external power brake.
        throttled_board_limit: By a limit of the board.
        throttled_low_utilization: For want of work.
        throttled_reliability: By the voltage that reliability allows.
        throttled_app_clocks: Below the applications clocks, for any cause.
        throttled_base_clocks: Below the base clocks, for any cause.
        clocks_event_reasons: The reasons of the moment as NVML's bit mask; None derives it: those above that are not
            0 now, and idle while `utilization` is 0.
    """

    graphics_clock: Value = quantity(1.98e9, HERTZ)
    sm_clock: Value = quantity(1.98e9, HERTZ)
    memory_clock: Value = quantity(2.619e9, HERTZ)
    video_clock: Value = quantity(1.545e9, HERTZ)
    graphics_clock_max: float = number(1.98e9, 0.0, HERTZ, "hertz")
    sm_clock_max: float = number(1.98e9, 0.0, HERTZ, "hertz")
    memory_clock_max: float = number(2.619e9, 0.0, HERTZ, "hertz")
    video_clock_max: float = number(1.545e9, 0.0, HERTZ, "hertz")
    performance_state: Value = quantity(0, _PERFORMANCE_STATES)
    throttled_sw_power_cap: Value = quantity(0.0, RATIO)
    throttled_sync_boost: Value = quantity(0.0, RATIO)
    throttled_sw_thermal: Value = quantity(0.0, RATIO)
    throttled_hw_thermal: Value = quantity(0.0, RATIO)
    throttled_hw_power_brake: Value = quantity(0.0, RATIO)
    throttled_board_limit: Value = quantity(0.0, RATIO)
    throttled_low_utilization: Value = quantity(0.0, RATIO)
    throttled_reliability: Value = quantity(0.0, RATIO)
    throttled_app_clocks: Value = quantity(0.0, RATIO)
    throttled_base_clocks: Value = quantity(0.0, RATIO)
    clocks_event_reasons: Value | None = quantity(None, _REASONS)
