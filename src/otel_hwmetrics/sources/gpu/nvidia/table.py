# SPDX-License-Identifier: Apache-2.0
"""The field numbers that are read of an NVIDIA GPU, one row each, and what stands in where a board has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from opentelemetry.semconv._incubating.attributes.hw_attributes import HwLimitTypeValues
from opentelemetry.semconv._incubating.attributes.network_attributes import NetworkIoDirectionValues

from otel_hwmetrics.catalog import gpu as rows
from otel_hwmetrics.catalog import gpu_activity as activity
from otel_hwmetrics.catalog import gpu_health as health
from otel_hwmetrics.catalog import gpu_links as nvlinks
from otel_hwmetrics.model import Attribute, Metric, Series
from otel_hwmetrics.sources.base import Reader, Unsupported
from otel_hwmetrics.sources.counters import Integral
from otel_hwmetrics.sources.gpu.device import Items, celsius, within
from otel_hwmetrics.sources.gpu.nvidia.device import Gpu, watts
from otel_hwmetrics.sources.gpu.nvidia.fields import ALL_LINKS, Field, links, with_links
from otel_hwmetrics.sources.gpu.nvidia.library import NOT_AVAILABLE

SLOW: Final = 10.0
"""Seconds between two looks at counters of rare errors; the call that they share is made every sample in any case."""
LINKS_EVERY: Final = 30.0
"""Likewise for what is asked of every link: 18 of them, several fields each."""

_MOST_PCIE_BYTES: Final = 1.25e11
# A second: 16 lanes of generation 6.
_MOST_MILLIJOULES: Final = 1e7
_MOST_NANOSECONDS: Final = 1e9
_MOST_KIBIBYTES: Final = 4e9
_MOST_NVLINK_BYTES: Final = 4e12
_MOST_ERRORS: Final = 1e8
# A second: 10 kW; all of it; NVLink several times over; a storm.
_ALL_ONES: Final = 2**32 - 1
_GPU, _MODULE, _MEMORY = 0, 1, 2
# NVML_POWER_SCOPE_* of nvml.h.

_COUNTED: Final = (rows.ENERGY_METHOD, "counter")
_INTEGRATED: Final = (rows.ENERGY_METHOD, "integrated")
_OF_GPU: Final = (rows.POWER_SCOPE, "gpu")


def _whole(metric: Metric, *pairs: tuple[str, Attribute]) -> Callable[[Gpu], Series]:
    return lambda gpu: gpu.series(metric, *pairs)


def _sensor(metric: Metric, location: str, *pairs: tuple[str, Attribute]) -> Callable[[Gpu], Series]:
    return lambda gpu: gpu.sensor(metric, "temperature", location, *pairs)


def _count(value: float) -> float:
    # All ones of either width is what a device that is gone answers on its bus.
    if value == _ALL_ONES:
        raise ValueError("the driver says all ones for a counter")
    return within(value, NOT_AVAILABLE - 1, "a counter")


def _switch(value: float) -> float:
    return within(value, 1, "a yes or no")


def _millijoules(value: float) -> float:
    return _count(value) / 1000


def _nanoseconds(value: float) -> float:
    return _count(value) / 1_000_000_000


def _kibibytes(value: float) -> float:
    return _count(value) * 1024


def _memory_celsius(degrees: float) -> float:
    # Boards without the sensor say 0, and call that a success.
    if degrees == 0:
        raise Unsupported
    return celsius(degrees)


def _active(state: float) -> float:
    # Sleeping links wake by themselves (NVML_NVLINK_STATE_SLEEP); only inactive ones are down.
    return 1 if within(state, 3, "the state of a link") else 0


def _all_links(_: Gpu) -> tuple[int, ...]:
    return (ALL_LINKS,)


def _energy(gpu: Gpu) -> Items:
    millijoules = gpu.nvml.nvmlDeviceGetTotalEnergyConsumption(gpu.handle)
    yield gpu.series(rows.ENERGY, _COUNTED), _millijoules(millijoules)


def _integrated_energy(gpu: Gpu) -> Items:
    power = watts(gpu.nvml.nvmlDeviceGetPowerUsage(gpu.handle))
    yield gpu.series(rows.ENERGY, _INTEGRATED), gpu.keep("energy", Integral).add(power, gpu.clock())


def _power_of_the_moment(gpu: Gpu) -> Items:
    yield gpu.series(rows.POWER_INSTANT, _OF_GPU), watts(gpu.nvml.nvmlDeviceGetPowerUsage(gpu.handle))


def _ecc(counter: str, error_type: str) -> Reader[Gpu]:
    def read(gpu: Gpu) -> Items:
        count = gpu.nvml.nvmlDeviceGetTotalEccErrors(
            gpu.handle, getattr(gpu.nvml, counter), gpu.nvml.NVML_AGGREGATE_ECC
        )
        since = gpu.since_first(f"ECC {error_type}", _count(count))
        yield gpu.series(health.ERRORS, (health.ERROR_TYPE, error_type)), since

    return Reader((health.ERRORS,), read, every=SLOW, call=f"nvmlDeviceGetTotalEccErrors({counter})", where="with ECC")


def _replays(gpu: Gpu) -> Items:
    count = gpu.nvml.nvmlDeviceGetPcieReplayCounter(gpu.handle)
    yield gpu.series(nvlinks.PCIE_ERRORS, (nvlinks.ERROR_TYPE, "replay")), _count(count)


def _throttle(constant: str, cause: str, instead: Field | None = None) -> Field:
    return Field(
        constant,
        activity.THROTTLE_TIME,
        _whole(activity.THROTTLE_TIME, (activity.THROTTLE_CAUSE, cause)),
        _nanoseconds,
        fastest=_MOST_NANOSECONDS,
        instead=instead,
        where="Volta and newer; causes by the driver's age",
    )


def _pcie(constant: str, direction: NetworkIoDirectionValues) -> Field:
    return Field(
        constant,
        nvlinks.IO,
        _whole(nvlinks.IO, (nvlinks.DIRECTION, direction.value)),
        _count,
        fastest=_MOST_PCIE_BYTES,
        where="Hopper and newer, driver 525",
    )


def _nvlink(constant: str, fifth: str, direction: NetworkIoDirectionValues) -> Field:
    series = _whole(nvlinks.NVLINK_IO, (nvlinks.DIRECTION, direction.value))
    return Field(
        constant,
        nvlinks.NVLINK_IO,
        series,
        _kibibytes,
        scopes=_all_links,
        fastest=_MOST_KIBIBYTES,
        instead=Field(
            fifth,
            nvlinks.NVLINK_IO,
            series,
            _count,
            scopes=links,
            fastest=_MOST_NVLINK_BYTES,
            where="NVLink 5 (Blackwell)",
        ),
        where="NVLink 2 to 4 (Volta to Hopper)",
    )


def _link_errors(constant: str, error_type: str, total: str = "") -> Field:
    """Errors of every link, added; the driver before has a number for the total."""
    series = _whole(nvlinks.NVLINK_ERRORS, (nvlinks.ERROR_TYPE, error_type))
    before = Field(total, nvlinks.NVLINK_ERRORS, series, _count, every=LINKS_EVERY, where="drivers before 515")
    return Field(
        constant,
        nvlinks.NVLINK_ERRORS,
        series,
        _count,
        scopes=links,
        each=_count,
        every=LINKS_EVERY,
        instead=before if total else None,
        where="boards with NVLink",
    )


def _pcie_errors(constant: str, error_type: str, instead: Reader[Gpu] | None = None) -> Field:
    return Field(
        constant,
        nvlinks.PCIE_ERRORS,
        _whole(nvlinks.PCIE_ERRORS, (nvlinks.ERROR_TYPE, error_type)),
        _count,
        every=SLOW,
        instead=instead,
        where="driver 535 and newer",
    )


def _margin_limit(constant: str, location: str, limit_type: HwLimitTypeValues) -> Field:
    return Field(
        constant,
        rows.TEMPERATURE_MARGIN_LIMIT,
        _sensor(rows.TEMPERATURE_MARGIN_LIMIT, location, (rows.HW_LIMIT_TYPE, limit_type.value)),
        celsius,
        every=10 * SLOW,
        where="Ada, Hopper and newer",
    )


def _flag(constant: str, metric: Metric, page: str = "") -> Field:
    before = Field(page, metric, _whole(metric), _switch, every=SLOW, where="boards with ECC before Ampere")
    instead = before if page else None
    return Field(constant, metric, _whole(metric), _switch, every=SLOW, instead=instead, where="Ampere and newer")


def _taken_out(row: str, page: str, cause: str) -> Field:
    series = _whole(health.REMAPPED_ROWS, (health.REMAP_CAUSE, cause))
    before = Field(page, health.REMAPPED_ROWS, series, _count, every=SLOW, where="boards with ECC before Ampere: pages")
    return Field(row, health.REMAPPED_ROWS, series, _count, every=SLOW, instead=before, where="Ampere and newer: rows")


_RECEIVE, _TRANSMIT = NetworkIoDirectionValues.RECEIVE, NetworkIoDirectionValues.TRANSMIT

FIELDS: tuple[Field, ...] = (
    Field(
        "NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        rows.ENERGY,
        _whole(rows.ENERGY, _COUNTED),
        _millijoules,
        fastest=_MOST_MILLIJOULES,
        instead=Reader(
            (rows.ENERGY,),
            _energy,
            call="nvmlDeviceGetTotalEnergyConsumption",
            where="Volta and newer",
            instead=Reader(
                (rows.ENERGY,),
                _integrated_energy,
                call="nvmlDeviceGetPowerUsage, integrated over time",
                where="before Volta, and boards that do not count it",
            ),
        ),
        where="Volta and newer",
    ),
    Field(
        "NVML_FI_DEV_POWER_INSTANT",
        rows.POWER_INSTANT,
        _whole(rows.POWER_INSTANT, _OF_GPU),
        watts,
        scopes=lambda _: (_GPU,),
        instead=Reader(
            (rows.POWER_INSTANT,),
            _power_of_the_moment,
            every=SLOW,
            call="nvmlDeviceGetPowerUsage",
            where="all with a power sensor; a mean over 1 s on Ampere and newer, but not GA100",
        ),
        where="driver 530 and newer",
    ),
    Field(
        "NVML_FI_DEV_POWER_INSTANT",
        rows.POWER_INSTANT,
        _whole(rows.POWER_INSTANT, (rows.POWER_SCOPE, "module")),
        watts,
        scopes=lambda _: (_MODULE,),
        where="Grace Hopper and Grace Blackwell: the CPU on the module is in it",
    ),
    Field(
        "NVML_FI_DEV_POWER_INSTANT",
        rows.POWER_INSTANT,
        _whole(rows.POWER_INSTANT, (rows.POWER_SCOPE, "memory")),
        watts,
        scopes=lambda _: (_MEMORY,),
        where="boards that measure their memory apart",
    ),
    Field(
        "NVML_FI_DEV_POWER_AVERAGE",
        rows.POWER_AVERAGE,
        _whole(rows.POWER_AVERAGE, _OF_GPU),
        watts,
        where="driver 530 and newer",
    ),
    Field(
        "NVML_FI_DEV_MEMORY_TEMP",
        rows.TEMPERATURE,
        _sensor(rows.TEMPERATURE, "memory"),
        _memory_celsius,
        where="boards with HBM",
    ),
    _pcie("NVML_FI_DEV_PCIE_COUNT_RX_BYTES", _RECEIVE),
    _pcie("NVML_FI_DEV_PCIE_COUNT_TX_BYTES", _TRANSMIT),
    _nvlink("NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX", "NVML_FI_DEV_NVLINK_COUNT_RCV_BYTES", _RECEIVE),
    _nvlink("NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX", "NVML_FI_DEV_NVLINK_COUNT_XMIT_BYTES", _TRANSMIT),
    _throttle("NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP", "sw_power_cap"),
    _throttle("NVML_FI_DEV_CLOCKS_EVENT_REASON_SYNC_BOOST", "sync_boost"),
    _throttle(
        "NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN",
        "sw_thermal",
        # Drivers before 555 do not tell the thermal causes apart.
        _throttle("NVML_FI_DEV_PERF_POLICY_THERMAL", "thermal"),
    ),
    _throttle("NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN", "hw_thermal"),
    _throttle("NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN", "hw_power_brake"),
    _throttle("NVML_FI_DEV_PERF_POLICY_BOARD_LIMIT", "board_limit"),
    _throttle("NVML_FI_DEV_PERF_POLICY_RELIABILITY", "reliability"),
    _throttle("NVML_FI_DEV_PERF_POLICY_LOW_UTILIZATION", "low_utilization"),
    # The lifetime totals: an error of a run before this one is no growth, so the driver's own reset says nothing.
    Field(
        "NVML_FI_DEV_ECC_SBE_AGG_TOTAL",
        health.ERRORS,
        _whole(health.ERRORS, (health.ERROR_TYPE, "corrected")),
        _count,
        fastest=_MOST_ERRORS,
        every=SLOW,
        instead=_ecc("NVML_MEMORY_ERROR_TYPE_CORRECTED", "corrected"),
        where="boards with ECC",
    ),
    Field(
        "NVML_FI_DEV_ECC_DBE_AGG_TOTAL",
        health.ERRORS,
        _whole(health.ERRORS, (health.ERROR_TYPE, "uncorrected")),
        _count,
        fastest=_MOST_ERRORS,
        every=SLOW,
        instead=_ecc("NVML_MEMORY_ERROR_TYPE_UNCORRECTED", "uncorrected"),
        where="boards with ECC",
    ),
    _taken_out("NVML_FI_DEV_REMAPPED_COR", "NVML_FI_DEV_RETIRED_SBE", "corrected"),
    _taken_out("NVML_FI_DEV_REMAPPED_UNC", "NVML_FI_DEV_RETIRED_DBE", "uncorrected"),
    _flag("NVML_FI_DEV_REMAPPED_PENDING", health.REMAP_PENDING, "NVML_FI_DEV_RETIRED_PENDING"),
    _flag("NVML_FI_DEV_REMAPPED_FAILURE", health.REMAP_FAILED),
    Field(
        "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION",
        health.RECOVERY_ACTION,
        _whole(health.RECOVERY_ACTION),
        lambda action: within(action, 15, "the recovery action"),
        every=SLOW,
        where="Hopper and newer, driver 570",
    ),
    Field(
        "NVML_FI_DEV_NVLINK_GET_STATE",
        nvlinks.NVLINK_ACTIVE,
        _whole(nvlinks.NVLINK_ACTIVE),
        _count,
        scopes=links,
        each=_active,
        every=LINKS_EVERY,
        where="boards with NVLink, driver 515",
    ),
    Field(
        "NVML_FI_DEV_NVLINK_LINK_COUNT",
        nvlinks.NVLINK_LIMIT,
        _whole(nvlinks.NVLINK_LIMIT),
        lambda count: within(count, 64, "the number of links", least=1),
        scopes=with_links,
        every=10 * SLOW,
        where="boards with NVLink",
    ),
    _link_errors("NVML_FI_DEV_NVLINK_ERROR_DL_CRC", "crc", "NVML_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL"),
    _link_errors("NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY", "replay", "NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL"),
    _link_errors("NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY", "recovery", "NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL"),
    _link_errors("NVML_FI_DEV_NVLINK_COUNT_RCV_ERRORS", "receive"),
    _link_errors("NVML_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_FAILED_EVENTS", "recovery_failed"),
    _pcie_errors(
        "NVML_FI_DEV_PCIE_REPLAY_COUNTER",
        "replay",
        Reader(
            (nvlinks.PCIE_ERRORS,), _replays, every=SLOW, call="nvmlDeviceGetPcieReplayCounter", where="all on PCIe"
        ),
    ),
    _pcie_errors("NVML_FI_DEV_PCIE_COUNT_CORRECTABLE_ERRORS", "correctable"),
    _pcie_errors("NVML_FI_DEV_PCIE_COUNT_NON_FATAL_ERROR", "non_fatal"),
    _pcie_errors("NVML_FI_DEV_PCIE_COUNT_FATAL_ERROR", "fatal"),
    _margin_limit("NVML_FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT", "gpu", HwLimitTypeValues.HIGH_CRITICAL),
    _margin_limit("NVML_FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT", "gpu", HwLimitTypeValues.THROTTLED),
    _margin_limit("NVML_FI_DEV_TEMPERATURE_GPU_MAX_TLIMIT", "gpu", HwLimitTypeValues.MAX),
    _margin_limit("NVML_FI_DEV_TEMPERATURE_MEM_MAX_TLIMIT", "memory", HwLimitTypeValues.MAX),
)
"""Of a whole GPU. A MIG instance answers none of them."""
