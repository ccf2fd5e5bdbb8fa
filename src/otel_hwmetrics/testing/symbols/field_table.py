# SPDX-License-Identifier: Apache-2.0
"""The fields of nvmlDeviceGetFieldValues: number, type and value of each.

Names and numbers are NVML's (nvml.h never renumbers them), the numbers written out because the oldest binding that is
allowed has not all the names. A field that nvml.h has and this table has not answers NOT_SUPPORTED.
https://docs.nvidia.com/deploy/nvml-api/group__nvmlFieldValueEnums.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

import pynvml

from otel_hwmetrics.testing.symbols.clocks import held_back
from otel_hwmetrics.testing.symbols.core import Device, Refused, not_supported
from otel_hwmetrics.testing.symbols.health import ecc_errors, remapped, retired
from otel_hwmetrics.testing.symbols.links import check_link, nvlink_bytes, nvlink_errors

UINT: Final[int] = pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
ULLONG: Final[int] = pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG
SINT: Final[int] = pynvml.NVML_VALUE_TYPE_SIGNED_INT

# Called with the device and the scope.
FieldAnswer: TypeAlias = Callable[[Device, int], int]


@dataclass(frozen=True)
class Field:
    """One field.

    Attributes:
        name: NVML's name of it.
        kind: The type of its value, NVML_VALUE_TYPE_*; a function where it depends on the board.
        answer: What it says, in NVML's unit.
    """

    name: str
    kind: int | Callable[[Device], int]
    answer: FieldAnswer


FIELDS: Final[dict[int, Field]] = {}

_EVERY_LINK: Final = 2**32 - 1
_KIBIBYTE: Final = 1024
_NVLINK_5: Final = 5
_NVLINK_MEGABYTES: Final = {1: 20_000, 2: 25_781, 3: 25_781, 4: 26_562, 5: 53_125}
_UINT_BITS: Final = 32


def _field(number: int, name: str, kind: int | Callable[[Device], int], answer: FieldAnswer) -> None:
    FIELDS[number] = Field(f"NVML_FI_DEV_{name}", kind, answer)


def _count(quantity: str) -> FieldAnswer:
    return lambda device, _scope: device.count(quantity)


def _milli(quantity: str) -> FieldAnswer:
    return lambda device, _scope: round(device.read(quantity) * 1000)


def _fixed(setting: str, unit: float = 1.0) -> FieldAnswer:
    def answer(device: Device, _scope: int) -> int:
        value: float | None = getattr(device.gpu, setting)
        if value is None:
            raise not_supported()
        return round(value * unit)

    return answer


def _zero(_device: Device, _scope: int) -> int:
    return 0


# Memory errors and repairs.


def _ecc(quantity: str) -> FieldAnswer:
    return lambda device, _scope: ecc_errors(device, quantity)


def _remapped(quantity: str) -> FieldAnswer:
    return lambda device, _scope: remapped(device, quantity)


def _retired(quantity: str) -> FieldAnswer:
    return lambda device, _scope: retired(device, quantity)


_field(1, "ECC_CURRENT", UINT, _fixed("ecc"))
_field(2, "ECC_PENDING", UINT, _fixed("ecc"))
_field(3, "ECC_SBE_VOL_TOTAL", ULLONG, _ecc("ecc_corrected_volatile"))
_field(4, "ECC_DBE_VOL_TOTAL", ULLONG, _ecc("ecc_uncorrected_volatile"))
_field(5, "ECC_SBE_AGG_TOTAL", ULLONG, _ecc("ecc_corrected_aggregate"))
_field(6, "ECC_DBE_AGG_TOTAL", ULLONG, _ecc("ecc_uncorrected_aggregate"))
_field(29, "RETIRED_SBE", ULLONG, _retired("retired_single_bit"))
_field(30, "RETIRED_DBE", ULLONG, _retired("retired_double_bit"))
_field(31, "RETIRED_PENDING", UINT, _retired("retired_pending"))
_field(142, "REMAPPED_COR", UINT, _remapped("remapped_correctable"))
_field(143, "REMAPPED_UNC", UINT, _remapped("remapped_uncorrectable"))
_field(144, "REMAPPED_PENDING", UINT, _remapped("remap_pending"))
_field(145, "REMAPPED_FAILURE", UINT, _remapped("remap_failure"))
_field(230, "GET_GPU_RECOVERY_ACTION", UINT, _count("recovery_action"))


# Power and temperature.

_POWER_SCOPES: Final = {
    pynvml.NVML_POWER_SCOPE_MODULE: "module_power",
    pynvml.NVML_POWER_SCOPE_MEMORY: "memory_power",
}


def _power(device: Device, scope: int, of_the_gpu: str) -> int:
    """Power of one scope; of the GPU it may be the average or the instant, of the others there is one figure."""
    if scope == pynvml.NVML_POWER_SCOPE_GPU:
        return round(device.read(of_the_gpu) * 1000)
    if scope not in _POWER_SCOPES:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    return round(device.read(_POWER_SCOPES[scope]) * 1000)


def _power_instant(device: Device, scope: int) -> int:
    return _power(device, scope, "power" if device.gpu.power_instant is None else "power_instant")


def _energy(device: Device, scope: int) -> int:
    if scope == pynvml.NVML_POWER_SCOPE_GPU:
        return device.millijoules()
    if scope == pynvml.NVML_POWER_SCOPE_MODULE:
        return device.millijoules("module_power")
    raise not_supported()


_field(82, "MEMORY_TEMP", UINT, lambda device, _scope: round(device.read("memory_temperature")))
_field(83, "TOTAL_ENERGY_CONSUMPTION", ULLONG, lambda device, _scope: device.millijoules())
_field(185, "POWER_AVERAGE", UINT, partial(_power, of_the_gpu="power"))
_field(186, "POWER_INSTANT", UINT, _power_instant)
_field(187, "POWER_MIN_LIMIT", UINT, _fixed("power_min_limit", 1000))
_field(188, "POWER_MAX_LIMIT", UINT, _fixed("power_max_limit", 1000))
_field(189, "POWER_DEFAULT_LIMIT", UINT, _fixed("power_default_limit", 1000))
_field(190, "POWER_CURRENT_LIMIT", UINT, _milli("power_limit"))
_field(191, "ENERGY", ULLONG, _energy)
_field(192, "POWER_REQUESTED_LIMIT", UINT, _milli("power_limit"))
_field(193, "TEMPERATURE_SHUTDOWN_TLIMIT", SINT, _fixed("tlimit_shutdown"))
_field(194, "TEMPERATURE_SLOWDOWN_TLIMIT", SINT, _fixed("tlimit_slowdown"))
_field(195, "TEMPERATURE_MEM_MAX_TLIMIT", SINT, _fixed("tlimit_memory_max"))
_field(196, "TEMPERATURE_GPU_MAX_TLIMIT", SINT, _fixed("tlimit_gpu_max"))


# What holds the clocks back, in nanoseconds.


def _policy(policy: int) -> FieldAnswer:
    return lambda device, _scope: held_back(device, policy)


def _cause(cause: str) -> FieldAnswer:
    return lambda device, _scope: device.nanoseconds(cause)


# 74 and 76 are also CLOCKS_EVENT_REASON_SW_POWER_CAP and CLOCKS_EVENT_REASON_SYNC_BOOST.
for _number, _name, _what in (
    (74, "POWER", pynvml.NVML_PERF_POLICY_POWER),
    (75, "THERMAL", pynvml.NVML_PERF_POLICY_THERMAL),
    (76, "SYNC_BOOST", pynvml.NVML_PERF_POLICY_SYNC_BOOST),
    (77, "BOARD_LIMIT", pynvml.NVML_PERF_POLICY_BOARD_LIMIT),
    (78, "LOW_UTILIZATION", pynvml.NVML_PERF_POLICY_LOW_UTILIZATION),
    (79, "RELIABILITY", pynvml.NVML_PERF_POLICY_RELIABILITY),
    (80, "TOTAL_APP_CLOCKS", pynvml.NVML_PERF_POLICY_TOTAL_APP_CLOCKS),
    (81, "TOTAL_BASE_CLOCKS", pynvml.NVML_PERF_POLICY_TOTAL_BASE_CLOCKS),
):
    _field(_number, f"PERF_POLICY_{_name}", ULLONG, _policy(_what))

for _number, _name, _held in (
    (269, "SW_THERM_SLOWDOWN", "throttled_sw_thermal"),
    (270, "HW_THERM_SLOWDOWN", "throttled_hw_thermal"),
    (271, "HW_POWER_BRAKE_SLOWDOWN", "throttled_hw_power_brake"),
):
    _field(_number, f"CLOCKS_EVENT_REASON_{_name}", ULLONG, _cause(_held))


# PCI Express.


def _pcie_type(device: Device) -> int:
    return UINT if device.gpu.pcie_counter_bits <= _UINT_BITS else ULLONG


_field(94, "PCIE_REPLAY_COUNTER", UINT, _count("pcie_replays"))
_field(95, "PCIE_REPLAY_ROLLOVER_COUNTER", UINT, _zero)
_field(169, "PCIE_L0_TO_RECOVERY_COUNTER", UINT, _zero)
_field(173, "PCIE_COUNT_CORRECTABLE_ERRORS", UINT, _count("pcie_correctable_errors"))
_field(174, "PCIE_COUNT_NAKS_RECEIVED", UINT, _zero)
_field(175, "PCIE_COUNT_RECEIVER_ERROR", UINT, _zero)
_field(176, "PCIE_COUNT_BAD_TLP", UINT, _zero)
_field(177, "PCIE_COUNT_NAKS_SENT", UINT, _zero)
_field(178, "PCIE_COUNT_BAD_DLLP", UINT, _zero)
_field(179, "PCIE_COUNT_NON_FATAL_ERROR", UINT, _count("pcie_non_fatal_errors"))
_field(180, "PCIE_COUNT_FATAL_ERROR", UINT, _count("pcie_fatal_errors"))
_field(181, "PCIE_COUNT_UNSUPPORTED_REQ", UINT, _zero)
_field(182, "PCIE_COUNT_LCRC_ERROR", UINT, _zero)
_field(183, "PCIE_COUNT_LANE_ERROR", UINT, _zero)
_field(197, "PCIE_COUNT_TX_BYTES", _pcie_type, lambda device, _scope: device.pcie_bytes("pcie_tx"))
_field(198, "PCIE_COUNT_RX_BYTES", _pcie_type, lambda device, _scope: device.pcie_bytes("pcie_rx"))


# NVLink. Those before the fifth generation count by a field for each link, and in KiB by scope.


def _before_5(device: Device) -> None:
    if not device.gpu.nvlinks or device.gpu.nvlink_generation >= _NVLINK_5:
        raise not_supported()


def _of_5(device: Device, link: int) -> None:
    if device.gpu.nvlink_generation < _NVLINK_5:
        raise not_supported()
    check_link(device, link)


def _errors(counter: int, link: int | None) -> FieldAnswer:
    def answer(device: Device, _scope: int) -> int:
        _before_5(device)
        if link is not None and link >= device.gpu.nvlinks:
            raise not_supported()
        return nvlink_errors(device, counter, link)

    return answer


def _errors_by_scope(counter: int) -> FieldAnswer:
    def answer(device: Device, scope: int) -> int:
        check_link(device, scope)
        return nvlink_errors(device, counter, scope)

    return answer


def _kibibytes(quantity: str) -> FieldAnswer:
    def answer(device: Device, scope: int) -> int:
        _before_5(device)
        if scope == _EVERY_LINK:
            return nvlink_bytes(device, quantity, None) // _KIBIBYTE
        check_link(device, scope)
        return nvlink_bytes(device, quantity, scope) // _KIBIBYTE

    return answer


def _bytes_of_5(quantity: str) -> FieldAnswer:
    def answer(device: Device, scope: int) -> int:
        _of_5(device, scope)
        return nvlink_bytes(device, quantity, scope)

    return answer


def _none_of_5(device: Device, scope: int) -> int:
    _of_5(device, scope)
    return 0


def _link_state(device: Device, scope: int) -> int:
    check_link(device, scope)
    return scope not in device.gpu.nvlinks_down


def _speed(device: Device, _scope: int) -> int:
    if not device.gpu.nvlinks:
        raise not_supported()
    return _NVLINK_MEGABYTES[device.gpu.nvlink_generation]


for _first, _name, _counter in (
    (32, "CRC_FLIT", pynvml.NVML_NVLINK_ERROR_DL_CRC_FLIT),
    (39, "CRC_DATA", pynvml.NVML_NVLINK_ERROR_DL_CRC_DATA),
    (46, "REPLAY", pynvml.NVML_NVLINK_ERROR_DL_REPLAY),
    (53, "RECOVERY", pynvml.NVML_NVLINK_ERROR_DL_RECOVERY),
):
    # Links 6 to 11 came later, and after the fields that were there by then.
    for _link in range(12):
        _number = _first + _link if _link < 6 else 96 + 6 * ((_first - 32) // 7) + _link - 6  # noqa: PLR2004
        _field(_number, f"NVLINK_{_name}_ERROR_COUNT_L{_link}", ULLONG, _errors(_counter, _link))
    _field(_first + 6, f"NVLINK_{_name}_ERROR_COUNT_TOTAL", ULLONG, _errors(_counter, None))

_field(90, "NVLINK_SPEED_MBPS_COMMON", UINT, _speed)
_field(91, "NVLINK_LINK_COUNT", UINT, lambda device, _scope: device.gpu.nvlinks)
_field(138, "NVLINK_THROUGHPUT_DATA_TX", ULLONG, _kibibytes("nvlink_tx"))
_field(139, "NVLINK_THROUGHPUT_DATA_RX", ULLONG, _kibibytes("nvlink_rx"))
_field(161, "NVLINK_ERROR_DL_REPLAY", ULLONG, _errors_by_scope(pynvml.NVML_NVLINK_ERROR_DL_REPLAY))
_field(162, "NVLINK_ERROR_DL_RECOVERY", ULLONG, _errors_by_scope(pynvml.NVML_NVLINK_ERROR_DL_RECOVERY))
_field(163, "NVLINK_ERROR_DL_CRC", ULLONG, _errors_by_scope(pynvml.NVML_NVLINK_ERROR_DL_CRC_DATA))
_field(164, "NVLINK_GET_SPEED", UINT, _speed)
_field(165, "NVLINK_GET_STATE", UINT, _link_state)
_field(202, "NVLINK_COUNT_XMIT_BYTES", ULLONG, _bytes_of_5("nvlink_tx"))
_field(204, "NVLINK_COUNT_RCV_BYTES", ULLONG, _bytes_of_5("nvlink_rx"))

for _number, _name in (
    (201, "XMIT_PACKETS"),
    (203, "RCV_PACKETS"),
    (206, "MALFORMED_PACKET_ERRORS"),
    (207, "BUFFER_OVERRUN_ERRORS"),
    (208, "RCV_ERRORS"),
    (209, "RCV_REMOTE_ERRORS"),
    (210, "RCV_GENERAL_ERRORS"),
    (211, "LOCAL_LINK_INTEGRITY_ERRORS"),
    (212, "XMIT_DISCARDS"),
    (213, "LINK_RECOVERY_SUCCESSFUL_EVENTS"),
    (214, "LINK_RECOVERY_FAILED_EVENTS"),
    (215, "LINK_RECOVERY_EVENTS"),
    (219, "EFFECTIVE_ERRORS"),
    (221, "SYMBOL_ERRORS"),
):
    _field(_number, f"NVLINK_COUNT_{_name}", ULLONG, _none_of_5)
