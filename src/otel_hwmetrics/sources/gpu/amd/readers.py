# SPDX-License-Identifier: Apache-2.0
"""What is read of an AMD GPU: one row a metric, by the library first and by the kernel's files where it has none.

The library's functions and the driver's files are two ways to the same firmware; which of them is taken is settled metric
by metric at the first look, so a GPU without ROCm, or a release that lacks a function, loses no more than it must. There
are no bytes of PCIe: what the driver has of them (``pcie_bw``) it gets by sleeping for a second.
"""

from __future__ import annotations

from typing import Final

from opentelemetry.semconv._incubating.attributes.hw_attributes import HwGpuTaskValues, HwLimitTypeValues

from otel_hwmetrics.catalog import gpu as rows
from otel_hwmetrics.catalog import gpu_activity as activity
from otel_hwmetrics.catalog import gpu_health as health
from otel_hwmetrics.catalog import gpu_links as links
from otel_hwmetrics.sources.base import Reader, Unsupported
from otel_hwmetrics.sources.gpu.amd import by_files, by_library
from otel_hwmetrics.sources.gpu.amd.device import Gpu
from otel_hwmetrics.sources.gpu.amd.values import Value, either, in_turn, of_the_gpu
from otel_hwmetrics.sources.gpu.device import Items

SLOW: Final = 10.0
"""Seconds between two looks at what changes slowly."""

_GENERAL: Final = (rows.HW_GPU_TASK, HwGpuTaskValues.GENERAL.value)
_OF_GPU: Final = (rows.POWER_SCOPE, "gpu")
_ECC: Final = "boards with ECC"
_FAN: Final = "boards with a fan"


def _power(gpu: Gpu) -> float | None:
    try:
        return by_library.power(gpu)
    except Unsupported:
        return by_files.power(gpu)


def _energy(call: str, joules: Value, where: str, instead: Reader[Gpu]) -> Reader[Gpu]:
    def read(gpu: Gpu) -> Items:
        counted = joules(gpu)
        if counted is not None:
            gpu.counters.add(call)
            yield from gpu.energy(counted, _power)
        elif call not in gpu.counters:
            # It has never said anything, and is not waited for.
            yield from instead.read(gpu)

    return Reader((rows.ENERGY,), read, instead=instead, call=call, where=where)


def _integrated(gpu: Gpu) -> Items:
    yield from gpu.integrated(_power)


def _temperatures(location: str, kind: str, label: str, where: str = "") -> tuple[Reader[Gpu], ...]:
    return (
        either(
            rows.TEMPERATURE,
            lambda gpu: gpu.sensor(rows.TEMPERATURE, "temperature", location),
            (f"amdsmi_get_temp_metric({kind}, CURRENT)", by_library.degrees(kind, "CURRENT")),
            (f"hwmon temp*_input ({label})", by_files.degrees(label)),
            where=where,
        ),
        # The driver's "critical" is what the firmware keeps the sensor below; at "emergency" it switches off.
        _limit(location, kind, label, "CRITICAL", HwLimitTypeValues.THROTTLED),
        _limit(location, kind, label, "EMERGENCY", HwLimitTypeValues.HIGH_CRITICAL),
    )


_SUFFIXES: Final = {"CRITICAL": "_crit", "EMERGENCY": "_emergency"}


def _limit(location: str, kind: str, label: str, metric: str, limit: HwLimitTypeValues) -> Reader[Gpu]:
    suffix = _SUFFIXES[metric]
    return either(
        rows.TEMPERATURE_LIMIT,
        lambda gpu: gpu.sensor(rows.TEMPERATURE_LIMIT, "temperature", location, (rows.HW_LIMIT_TYPE, limit.value)),
        (f"amdsmi_get_temp_metric({kind}, {metric})", by_library.degrees(kind, metric)),
        (f"hwmon temp*{suffix} ({label})", by_files.degrees(label, suffix)),
        every=30 * SLOW,
    )


def _clocks(domain: str, kind: str, label: str, levels: str) -> tuple[Reader[Gpu], ...]:
    pair = (activity.CLOCK_DOMAIN, domain)
    return (
        either(
            activity.CLOCK,
            of_the_gpu(activity.CLOCK, pair),
            (f"amdsmi_get_clock_info({kind})", by_library.clock(kind, "clk")),
            (f"hwmon freq*_input ({label})", by_files.clock(label)),
            every=SLOW,
        ),
        either(
            activity.CLOCK_LIMIT,
            of_the_gpu(activity.CLOCK_LIMIT, pair),
            (f"amdsmi_get_clock_info({kind})", by_library.clock(kind, "max_clk")),
            (levels, by_files.clock_limit(levels)),
            every=30 * SLOW,
        ),
    )


READERS: tuple[Reader[Gpu], ...] = (
    either(
        rows.UTILIZATION,
        of_the_gpu(rows.UTILIZATION, _GENERAL),
        ("amdsmi_get_gpu_activity", by_library.busy("gfx_activity")),
        ("gpu_busy_percent", by_files.busy("gpu_busy_percent")),
    ),
    either(
        rows.MEMORY_CONTROLLER_UTILIZATION,
        of_the_gpu(rows.MEMORY_CONTROLLER_UTILIZATION),
        ("amdsmi_get_gpu_activity", by_library.busy("umc_activity")),
        ("mem_busy_percent", by_files.busy("mem_busy_percent")),
    ),
    in_turn(
        (rows.MEMORY_USAGE, rows.MEMORY_LIMIT, rows.MEMORY_FREE),
        ("amdsmi_get_gpu_memory_usage(VRAM)", by_library.memory_usage),
        ("mem_info_vram_used", by_files.memory_usage),
    ),
    # Power follows from energy: the mean over the window, with nothing missed between two looks.
    _energy(
        "amdsmi_get_energy_count",
        by_library.joules,
        "MI100 and newer; not for a guest on a virtual machine",
        _energy(
            "gpu_metrics",
            by_files.joules,
            "MI100 and newer",
            Reader(
                (rows.ENERGY,),
                _integrated,
                call="amdsmi_get_power_info or hwmon power1_input, integrated over time",
                where="boards that do not count it",
            ),
        ),
    ),
    either(
        rows.POWER_INSTANT,
        of_the_gpu(rows.POWER_INSTANT, _OF_GPU),
        ("amdsmi_get_power_info", by_library.power),
        ("hwmon power1_input or power1_average", by_files.power),
    ),
    either(
        rows.POWER_LIMIT,
        of_the_gpu(rows.POWER_LIMIT),
        ("amdsmi_get_power_cap_info", by_library.power_limit),
        ("hwmon power1_cap", by_files.power_limit),
        every=SLOW,
    ),
    *_temperatures("edge", "EDGE", "edge", where="all but MI300 and newer"),
    *_temperatures("junction", "JUNCTION", "junction"),
    *_temperatures("memory", "VRAM", "mem"),
    either(
        rows.TEMPERATURE_MARGIN,
        of_the_gpu(rows.TEMPERATURE_MARGIN),
        ("hwmon temp*_crit less temp*_input (junction)", by_files.margin),
        every=SLOW,
    ),
    *_clocks("graphics", "GFX", "sclk", "pp_dpm_sclk"),
    *_clocks("memory", "MEM", "mclk", "pp_dpm_mclk"),
    Reader((activity.THROTTLE_TIME,), by_files.throttling, call="gpu_metrics", where="MI300 and newer, by the driver"),
    either(
        rows.FAN_SPEED_RATIO,
        lambda gpu: gpu.sensor(rows.FAN_SPEED_RATIO, "fan", "0"),
        ("amdsmi_get_gpu_fan_speed", by_library.fan_ratio),
        ("hwmon pwm1", by_files.fan_ratio),
        every=SLOW,
        where=_FAN,
    ),
    either(
        rows.FAN_SPEED,
        lambda gpu: gpu.sensor(rows.FAN_SPEED, "fan", "0"),
        ("amdsmi_get_gpu_fan_rpms", by_library.fan_rpm),
        ("hwmon fan1_input", by_files.fan_rpm),
        every=SLOW,
        where=_FAN,
    ),
    either(
        links.PCIE_GENERATION,
        of_the_gpu(links.PCIE_GENERATION),
        ("current_link_speed", by_files.link("speed")),
        every=3 * SLOW,
    ),
    either(
        links.PCIE_WIDTH,
        of_the_gpu(links.PCIE_WIDTH),
        ("current_link_width", by_files.link("width")),
        every=3 * SLOW,
    ),
    either(
        links.PCIE_GENERATION_LIMIT,
        of_the_gpu(links.PCIE_GENERATION_LIMIT),
        ("max_link_speed", by_files.link_limit("speed")),
        every=30 * SLOW,
    ),
    either(
        links.PCIE_WIDTH_LIMIT,
        of_the_gpu(links.PCIE_WIDTH_LIMIT),
        ("max_link_width", by_files.link_limit("width")),
        every=30 * SLOW,
    ),
    either(
        links.PCIE_ERRORS,
        of_the_gpu(links.PCIE_ERRORS, (links.ERROR_TYPE, "replay")),
        ("pcie_replay_count", by_files.replays),
        every=3 * SLOW,
    ),
    in_turn(
        (health.ERRORS,),
        ("amdsmi_get_gpu_total_ecc_count", by_library.ecc),
        ("ras/*_err_count", by_files.ecc),
        every=3 * SLOW,
        where=_ECC,
    ),
    Reader(
        (health.REMAPPED_ROWS, health.REMAP_PENDING, health.REMAP_FAILED),
        by_files.bad_pages,
        every=3 * SLOW,
        call="ras/gpu_vram_bad_pages",
        where=_ECC,
    ),
    # After the pages, by which it judges.
    Reader((health.STATUS,), by_files.status, every=SLOW, call="config (PCI)", where="with the amdgpu driver"),
)
