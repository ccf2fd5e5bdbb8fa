# SPDX-License-Identifier: Apache-2.0
"""nvmlDeviceGetFieldValues: every field has its own type, value and return code."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.testing import FakeGpu, FakeNvml, ManualClock
from otel_hwmetrics.testing.symbols.field_table import FIELDS, SINT, UINT, ULLONG

from .scripted import ENERGY_AT_START, field_values, handle

EVERY_LINK = 2**32 - 1
NOT_SUPPORTED = (pynvml.NVML_ERROR_NOT_SUPPORTED, -1)
INVALID = (pynvml.NVML_ERROR_INVALID_ARGUMENT, -1)

SCRIPTED = FakeGpu(
    memory_temperature=71.0,
    power=300.0,
    power_instant=333.0,
    module_power=900.0,
    memory_power=90.0,
    power_limit=650.0,
    power_default_limit=600.0,
    throttled_sw_power_cap=0.5,
    throttled_sync_boost=0.01,
    throttled_sw_thermal=0.25,
    throttled_hw_thermal=0.125,
    throttled_hw_power_brake=0.0625,
    throttled_board_limit=0.02,
    throttled_low_utilization=0.03,
    throttled_reliability=0.04,
    throttled_app_clocks=0.05,
    throttled_base_clocks=0.06,
    pcie_tx=1e6,
    pcie_rx=2e6,
    pcie_counter_offset=7,
    pcie_replays=3,
    pcie_correctable_errors=4,
    pcie_non_fatal_errors=5,
    pcie_fatal_errors=6,
    nvlinks=4,
    nvlinks_down=[3],
    nvlink_tx=3 * 1024 * 100.0,
    nvlink_rx=3 * 1024 * 200.0,
    nvlink_crc_flit_errors=11,
    nvlink_crc_data_errors=12,
    nvlink_replays=13,
    nvlink_recoveries=14,
    ecc_corrected_volatile=21,
    ecc_uncorrected_volatile=22,
    ecc_corrected_aggregate=23,
    ecc_uncorrected_aggregate=24,
    remapped_correctable=25,
    remapped_uncorrectable=26,
    remap_pending=1,
    page_retirement=True,
    retired_single_bit=27,
    retired_double_bit=28,
    recovery_action=2,
)
FIFTH = replace(SCRIPTED, uuid="", nvlink_generation=5)

SECOND = 1_000_000_000

# What each field, with its scope, gives for SCRIPTED ten seconds after install: type and value.
BY_FIELD: dict[int | tuple[int, int], tuple[int, int]] = {
    1: (UINT, 1),
    2: (UINT, 1),
    3: (ULLONG, 21),
    4: (ULLONG, 22),
    5: (ULLONG, 23),
    6: (ULLONG, 24),
    29: (ULLONG, 27),
    30: (ULLONG, 28),
    31: (UINT, 0),
    32: (ULLONG, 11),
    33: (ULLONG, 0),
    38: (ULLONG, 11),
    45: (ULLONG, 12),
    52: (ULLONG, 13),
    59: (ULLONG, 14),
    74: (ULLONG, 5 * SECOND),
    75: (ULLONG, 3 * SECOND + SECOND * 3 // 4),
    76: (ULLONG, SECOND // 10),
    77: (ULLONG, SECOND * 2 // 10),
    78: (ULLONG, SECOND * 3 // 10),
    79: (ULLONG, SECOND * 4 // 10),
    80: (ULLONG, SECOND * 5 // 10),
    81: (ULLONG, SECOND * 6 // 10),
    82: (UINT, 71),
    83: (ULLONG, ENERGY_AT_START + 3_000_000),
    90: (UINT, 26_562),
    91: (UINT, 4),
    94: (UINT, 3),
    95: (UINT, 0),
    (138, EVERY_LINK): (ULLONG, 3000),
    (138, 0): (ULLONG, 1000),
    (138, 3): (ULLONG, 0),
    (139, EVERY_LINK): (ULLONG, 6000),
    142: (UINT, 25),
    143: (UINT, 26),
    144: (UINT, 1),
    145: (UINT, 0),
    (161, 0): (ULLONG, 13),
    (162, 0): (ULLONG, 14),
    (163, 0): (ULLONG, 12),
    (163, 1): (ULLONG, 0),
    164: (UINT, 26_562),
    (165, 0): (UINT, 1),
    (165, 3): (UINT, 0),
    169: (UINT, 0),
    173: (UINT, 4),
    174: (UINT, 0),
    175: (UINT, 0),
    176: (UINT, 0),
    177: (UINT, 0),
    178: (UINT, 0),
    179: (UINT, 5),
    180: (UINT, 6),
    181: (UINT, 0),
    182: (UINT, 0),
    183: (UINT, 0),
    185: (UINT, 300_000),
    (185, 1): (UINT, 900_000),
    (185, 2): (UINT, 90_000),
    186: (UINT, 333_000),
    (186, 1): (UINT, 900_000),
    187: (UINT, 200_000),
    188: (UINT, 700_000),
    189: (UINT, 600_000),
    190: (UINT, 650_000),
    191: (ULLONG, ENERGY_AT_START + 3_000_000),
    (191, 1): (ULLONG, ENERGY_AT_START + 9_000_000),
    192: (UINT, 650_000),
    193: (SINT, -8),
    194: (SINT, -2),
    195: (SINT, 0),
    196: (SINT, 0),
    197: (ULLONG, 10_000_007),
    198: (ULLONG, 20_000_007),
    230: (UINT, 2),
    269: (ULLONG, SECOND * 10 // 4),
    270: (ULLONG, SECOND * 10 // 8),
    271: (ULLONG, SECOND * 10 // 16),
}


def number(wanted: int | tuple[int, int]) -> int:
    """The field of what is asked for."""
    return wanted if isinstance(wanted, int) else wanted[0]


def test_numbers_are_those_of_the_binding() -> None:
    """Every field has the number that the binding gives its name, where it has the name."""
    known = {name: value for name, value in vars(pynvml).items() if name.startswith("NVML_FI_")}
    named = {field.name: n for n, field in FIELDS.items()}
    assert {name: n for name, n in named.items() if known.get(name, n) != n} == {}
    assert len(named) == len(FIELDS)
    assert len(set(named) & set(known)) > 100


def test_every_field_is_tried() -> None:
    """Each is in the table, counts by link, or is of the fifth generation of NVLink."""
    links = set(range(32, 60)) | set(range(96, 120))
    fifth = set(range(201, 205)) | set(range(206, 216)) | {219, 221}
    assert {number(wanted) for wanted in BY_FIELD} | links | fifth == set(FIELDS)


@pytest.mark.parametrize("wanted", BY_FIELD, ids=str)
def test_field_has_its_value_and_type(wanted: int | tuple[int, int], clock: ManualClock) -> None:
    """Ten seconds after install the script's value, in NVML's unit and of NVML's type, stamped by the wall clock."""
    kind, value = BY_FIELD[wanted]
    with FakeNvml([SCRIPTED], clock=clock):
        pynvml.nvmlInit()
        h = handle()
        clock.advance(10)
        (answer,) = pynvml.nvmlDeviceGetFieldValues(h, [wanted])
        assert (answer.nvmlReturn, answer.valueType) == (0, kind)
        assert answer.timestamp == clock.time_ns() // 1000
        assert field_values(h, wanted) == [(0, value)]


def test_all_at_once_is_one_call(clock: ManualClock) -> None:
    """A batch gives what its fields give one by one, by one call that is counted once."""
    with FakeNvml([SCRIPTED], clock=clock) as nvml:
        pynvml.nvmlInit()
        h = handle()
        clock.advance(10)
        nvml.reset_calls()
        assert field_values(h, *BY_FIELD) == [(0, value) for _, value in BY_FIELD.values()]
        assert dict(nvml.calls) == {("nvmlDeviceGetFieldValues", 0): 1}
        assert nvml.calls_about(0) == 1


def test_what_a_type_does_not_use_is_rubbish(clock: ManualClock) -> None:
    """A reader that takes an unsigned int for 64 bits gets nonsense, as it does of the driver."""
    with FakeNvml([SCRIPTED], clock=clock):
        pynvml.nvmlInit()
        (answer,) = pynvml.nvmlDeviceGetFieldValues(handle(), [185])
        assert (answer.value.uiVal, answer.value.ullVal) == (300_000, 0xA5A5_A5A5 << 32 | 300_000)


@pytest.mark.parametrize(
    ("gpu", "wanted", "answer"),
    [
        (SCRIPTED, 0, INVALID),
        (SCRIPTED, 10_000, INVALID),
        (SCRIPTED, 7, NOT_SUPPORTED),  # nvml.h has it, this fake has not
        (SCRIPTED, (185, 3), INVALID),
        (SCRIPTED, (191, 2), NOT_SUPPORTED),
        (SCRIPTED, (138, 4), INVALID),
        (SCRIPTED, (165, 4), INVALID),
        (SCRIPTED, 36, NOT_SUPPORTED),  # the counter of link 4, of four
        (SCRIPTED, (202, 0), NOT_SUPPORTED),
        (FIFTH, (138, 0), NOT_SUPPORTED),
        (FIFTH, 38, NOT_SUPPORTED),
        (FIFTH, (202, EVERY_LINK), INVALID),
        (FIFTH, (202, 0), (0, 1_024_000)),
        (FIFTH, (204, 0), (0, 2_048_000)),
        (FIFTH, (204, 3), (0, 0)),
        (FIFTH, (208, 0), (0, 0)),
        (FakeGpu(), (185, 1), NOT_SUPPORTED),
        (FakeGpu(), (191, 1), NOT_SUPPORTED),
        (FakeGpu(), 31, NOT_SUPPORTED),
        (FakeGpu(nvlinks=0), 91, (0, 0)),
        (FakeGpu(nvlinks=0), 90, NOT_SUPPORTED),
        (FakeGpu(nvlinks=0), 38, NOT_SUPPORTED),
        (FakeGpu(nvlinks=0), (138, EVERY_LINK), NOT_SUPPORTED),
        (FakeGpu(ecc=False), 3, NOT_SUPPORTED),
        (FakeGpu(ecc=False), 1, (0, 0)),
        (FakeGpu(row_remapping=False), 142, NOT_SUPPORTED),
        (FakeGpu(energy_counter=False), 83, NOT_SUPPORTED),
        (FakeGpu(energy_counter=False), 191, NOT_SUPPORTED),
        (FakeGpu(memory_temperature=None), 82, NOT_SUPPORTED),
        (FakeGpu(tlimit_shutdown=None), 193, NOT_SUPPORTED),
        (FakeGpu(power=75.0), 186, (0, 75_000)),
        (FakeGpu(unsupported_fields=["NVML_FI_DEV_POWER_INSTANT"]), 186, NOT_SUPPORTED),
        (FakeGpu(unsupported_fields=[186]), 186, NOT_SUPPORTED),
        (FakeGpu(fields={"NVML_FI_DEV_PCIE_COUNT_BAD_TLP": [(0, 0), (10, 9)]}), 176, (0, 9)),
        (FakeGpu(fields={193: -11}), 193, (0, -11)),
        (FakeGpu(fields={83: 2.0**64}), 83, (0, 0)),
        (FakeGpu(fields={186: lambda _: None}), 186, NOT_SUPPORTED),
    ],
)
def test_what_a_board_has_not(gpu: FakeGpu, wanted: Any, answer: tuple[int, int], clock: ManualClock) -> None:
    """What is absent, out of range or scripted otherwise is told by the field's own code, and the others are told."""
    with FakeNvml([gpu], clock=clock):
        pynvml.nvmlInit()
        h = handle()
        clock.advance(10)
        assert field_values(h, 91, wanted, 187) == [(0, gpu.nvlinks), answer, (0, 200_000)]


def test_a_failing_field_fails_alone_and_for_its_time(clock: ManualClock) -> None:
    """From `after` to `until`, for its GPU; the later of two wins; recover() forgets them."""
    with FakeNvml([SCRIPTED, FakeGpu()], clock=clock) as nvml:
        pynvml.nvmlInit()
        nvml.fail_field("NVML_FI_DEV_POWER_INSTANT", "NVML_ERROR_TIMEOUT", gpu=0, after=5, until=15)
        nvml.fail_field(186, pynvml.NVML_ERROR_UNKNOWN, gpu=0, after=10, until=15)
        seen = []
        for _ in range(4):
            seen.append([field_values(handle(index), 186, 91)[0][0] for index in (0, 1)])
            clock.advance(5)
        assert seen == [[0, 0], [pynvml.NVML_ERROR_TIMEOUT, 0], [pynvml.NVML_ERROR_UNKNOWN, 0], [0, 0]]
        nvml.fail_field(186, 999)
        assert field_values(handle(1), 186, 91) == [(999, -1), (0, 18)]
        nvml.recover()
        assert field_values(handle(1), 186) == [(0, 75_000)]


@pytest.mark.usefixtures("nvml")
def test_arguments_that_do_not_fit_are_refused() -> None:
    """No array, none wanted, more wanted than there is room for; a plain array is as good as a pointer to one."""
    call = pynvml.nvmlLib.nvmlDeviceGetFieldValues
    values = (pynvml.c_nvmlFieldValue_t * 2)()
    values[0].fieldId = 91
    for count, array in ((1, None), (0, values), (3, values), (-1, values), (1, ctypes.byref(values[0]))):
        assert call(handle(), ctypes.c_int(count), array) == pynvml.NVML_ERROR_INVALID_ARGUMENT
    for array in (values, ctypes.byref(values), ctypes.pointer(values)):
        values[0].value.uiVal = 99
        assert call(handle(), 1, array) == pynvml.NVML_SUCCESS
        assert values[0].value.uiVal == 2


@given(rate=st.integers(0, 10**11), offset=st.integers(0, 2**33), steps=st.lists(st.integers(0, 10**9), max_size=6))
def test_a_narrow_byte_counter_wraps_and_nothing_else(rate: int, offset: int, steps: list[int]) -> None:
    """With 32 bits it is an unsigned int, and the true count less whole turns."""
    clock = ManualClock()
    gpu = FakeGpu(pcie_rx=float(rate), pcie_counter_bits=32, pcie_counter_offset=offset)
    elapsed = 0
    with FakeNvml([gpu], clock=clock):
        pynvml.nvmlInit()
        h = handle()
        for step in steps:
            clock.advance(step / 1e9)
            elapsed += step
            (answer,) = pynvml.nvmlDeviceGetFieldValues(h, [198])
            assert answer.valueType == UINT
            away = (answer.value.uiVal - offset - rate * elapsed // 10**9) % 2**32
            assert min(away, 2**32 - away) <= 1


@given(steps=st.lists(st.floats(0, 1000), max_size=8), share=st.floats(0, 1))
def test_nanosecond_counters_never_fall_or_run_ahead(steps: list[float], share: float) -> None:
    """Time held back grows by no more than time itself."""
    clock = ManualClock()
    with FakeNvml([FakeGpu(throttled_sw_thermal=share)], clock=clock):
        pynvml.nvmlInit()
        h = handle()
        before = 0
        for step in steps:
            clock.advance(step)
            ((_, now),) = field_values(h, 269)
            assert before <= now <= before + step * 1e9 + 1000
            before = now
