# SPDX-License-Identifier: Apache-2.0
"""Every call, every field, every activity, and every way in which a driver can refuse it."""

from __future__ import annotations

import threading
from functools import cache

import pynvml
import pytest

from otel_hwmetrics.catalog import gpu as rows
from otel_hwmetrics.catalog import gpu_activity as activity
from otel_hwmetrics.catalog import gpu_health as health
from otel_hwmetrics.catalog import gpu_links as links
from otel_hwmetrics.model import Metric
from otel_hwmetrics.sources.gpu.nvidia import NvidiaSource
from otel_hwmetrics.sources.gpu.nvidia.board import GPM_EVERY
from otel_hwmetrics.sources.gpu.nvidia.fields import number_of
from otel_hwmetrics.sources.gpu.nvidia.gpm import PARTS
from otel_hwmetrics.sources.gpu.nvidia.table import FIELDS
from otel_hwmetrics.testing import FakeNvml, ManualClock
from sources.gpu.nvidia.machines import AGES, BUSY, metrics, opened, values

GPM = {part.metric for part in PARTS} - {links.IO_RATE, links.NVLINK_IO_RATE}

CALLS: dict[str, set[Metric]] = {
    "nvmlDeviceGetSamples": {rows.UTILIZATION_PEAK},
    "nvmlDeviceGetUtilizationRates": set(),  # while the ring has nothing new
    "nvmlDeviceGetMemoryInfo_v2": {rows.MEMORY_RESERVED},
    "nvmlDeviceGetTemperatureV": set(),
    "nvmlDeviceGetEnforcedPowerLimit": set(),
    "nvmlDeviceGetMarginTemperature": set(),
    "nvmlDeviceGetTemperatureThreshold": {rows.TEMPERATURE_LIMIT},
    "nvmlDeviceGetClockInfo": {activity.CLOCK},
    "nvmlDeviceGetMaxClockInfo": {activity.CLOCK_LIMIT},
    "nvmlDeviceGetPerformanceState": {activity.PERFORMANCE_STATE},
    "nvmlDeviceGetEncoderUtilization": set(),
    "nvmlDeviceGetDecoderUtilization": set(),
    "nvmlDeviceGetNumFans": {rows.FAN_SPEED_RATIO},
    "nvmlDeviceGetFanSpeed_v2": {rows.FAN_SPEED_RATIO},
    "nvmlDeviceGetFanSpeedRPM": {rows.FAN_SPEED},
    "nvmlDeviceGetBAR1MemoryInfo": {rows.BAR1_USAGE, rows.BAR1_LIMIT},
    "nvmlDeviceGetCurrPcieLinkGeneration": {links.PCIE_GENERATION},
    "nvmlDeviceGetCurrPcieLinkWidth": {links.PCIE_WIDTH},
    "nvmlDeviceGetMaxPcieLinkGeneration": {links.PCIE_GENERATION_LIMIT},
    "nvmlDeviceGetMaxPcieLinkWidth": {links.PCIE_WIDTH_LIMIT},
    "nvmlDeviceGetComputeRunningProcesses_v3": {activity.PROCESS_MEMORY},
    "nvmlDeviceGetProcessUtilization": set(),
    "nvmlGpmQueryDeviceSupport": GPM,
    "nvmlGpmSampleGet": GPM,
    "nvmlGpmMetricsGet": GPM,
}
"""What is called of a GPU with everything, besides its fields, and the metrics that are nowhere else to be had."""

OF_EVENTS = {
    *("nvmlInitWithFlags", "nvmlEventSetCreate", "nvmlDeviceGetSupportedEventTypes", "nvmlDeviceRegisterEvents"),
    "nvmlEventSetWait_v2",
    # That of the test before may still be at its last wait, and gives back its set when it is over.
    "nvmlEventSetFree",
}
"""What the thread calls that hears of events, in its own time."""

FOR_NOW: dict[str, set[Metric]] = {
    **CALLS,
    # An older call stands in for what is not supported, not for what fails.
    "nvmlDeviceGetSamples": {rows.UTILIZATION_PEAK},  # the figure of the moment stands in
    "nvmlDeviceGetMemoryInfo_v2": {rows.MEMORY_USAGE, rows.MEMORY_LIMIT, rows.MEMORY_FREE, rows.MEMORY_RESERVED},
    "nvmlDeviceGetEnforcedPowerLimit": {rows.POWER_LIMIT},
    "nvmlDeviceGetMarginTemperature": {rows.TEMPERATURE_MARGIN},
}

IN_DEGREES = {rows.TEMPERATURE, rows.TEMPERATURE_MARGIN, rows.TEMPERATURE_MARGIN_LIMIT}
"""Which may be below 0: all ones are -1 there, and nobody can tell."""

RING = "nvmlDeviceGetSamples"
UNHARMED = {"nvmlDeviceGetNumFans", "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetSamples"}
"""A number that does not change, and what stands in for each other: one is not asked for while the other is well."""

PERMANENT = ("NVML_ERROR_NOT_SUPPORTED", "NVML_ERROR_FUNCTION_NOT_FOUND")
PASSING = (
    "NVML_ERROR_NO_PERMISSION",
    "NVML_ERROR_GPU_IS_LOST",
    "NVML_ERROR_UNKNOWN",
    "NVML_ERROR_TIMEOUT",
    "NVML_ERROR_RESET_REQUIRED",
)


@cache
def everything() -> frozenset[Metric]:
    """What a well GPU tells once every reader has had its turn twice."""
    with opened(BUSY) as machine:
        machine.looks(4)
        return frozenset(metrics(machine.look(AGES)))


def test_the_table_above_is_what_is_called() -> None:
    """Whatever a look calls on a well GPU is tried below."""
    with opened(BUSY) as machine:
        machine.nvml.reset_calls()
        machine.look()
        machine.looks(4)
        machine.look(AGES)
        called = {call for call, _ in machine.nvml.calls} - OF_EVENTS
        assert called == {*CALLS, "nvmlDeviceGetFieldValues", "nvmlGpmSampleAlloc"}


@pytest.mark.parametrize("code", PERMANENT)
@pytest.mark.parametrize("call", CALLS)
def test_what_is_not_supported_is_remembered(call: str, code: str) -> None:
    """Its own metrics are absent, not lost; an older call stands in at once where there is one; it is not asked again."""
    clock = ManualClock()
    nvml = FakeNvml([BUSY], clock=clock)
    nvml.fail(call, code)
    with nvml:
        source = NvidiaSource("all", {}, clock.monotonic)
        source.open()
        for seconds in (0, 1, 1, 1, AGES):
            clock.advance(seconds)
            batch = source.read()
            assert batch.lost == {}
        assert metrics(batch) == everything() - CALLS[call]
        asked = nvml.calls[call, 0]
        nvml.recover()
        clock.advance(AGES)
        assert metrics(source.read()) == everything() - CALLS[call]
        assert nvml.calls[call, 0] == asked
        source.close()


@pytest.mark.parametrize("code", PASSING)
@pytest.mark.parametrize("call", FOR_NOW)
def test_any_other_error_loses_its_own_metrics_until_it_goes(call: str, code: str) -> None:
    """They are counted by their error, nothing else is missing, and they are back when the cause has gone."""
    with opened(BUSY) as machine:
        machine.looks(4)
        machine.nvml.fail(call, code)
        batch = machine.look(AGES)
        if call == "nvmlGpmQueryDeviceSupport":  # asked at the first look only
            assert metrics(batch) == everything()
            return
        unharmed = call in UNHARMED
        assert everything() - metrics(batch) == (FOR_NOW[call] if not unharmed or call == RING else set())
        if not unharmed:
            (error,) = batch.lost
            assert error == type(pynvml.NVMLError(getattr(pynvml, code))).__name__
        machine.nvml.recover()
        machine.look(AGES)
        machine.looks(4)
        assert metrics(machine.look(AGES)) == everything()


@pytest.mark.parametrize("call", FOR_NOW)
def test_garbage_is_no_reading(call: str) -> None:
    """Numbers that no board can have are lost, not told; the rest is told, and all of it when the driver is well."""
    with opened(BUSY) as machine:
        machine.looks(4)
        machine.nvml.garble(call)
        batch = machine.look(AGES)
        for (metric, *_), value in values(batch).items():
            assert 0 <= value < 2**50 or metric in IN_DEGREES
        assert everything() - metrics(batch) <= FOR_NOW[call] | GPM | {rows.UTILIZATION_PEAK}
        machine.nvml.recover()
        machine.look(AGES)
        machine.looks(4)
        assert metrics(machine.look(AGES)) == everything()


@pytest.mark.parametrize("call", FOR_NOW)
def test_a_call_that_hangs_ends_in_a_reading(call: str) -> None:
    """However long it takes, the look goes on after it with everything that it was to tell."""
    if call in UNHARMED or call == "nvmlGpmQueryDeviceSupport":
        return  # not asked for by then
    with opened(BUSY) as machine:
        machine.looks(4)
        hang = machine.nvml.hang(call)
        machine.clock.advance(AGES)
        batches = []
        thread = threading.Thread(target=lambda: batches.append(machine.source.read()), daemon=True)
        thread.start()
        assert hang.entered.wait(60)
        hang.release()
        thread.join(60)
        assert metrics(batches[0]) == everything()


FIELD_NAMES = sorted({field.constant for field in FIELDS})


def number(field: str) -> int:
    """A field's number, as the source has it."""
    found = number_of(pynvml, field)
    assert found is not None
    return found


OF_LINKS = {links.NVLINK_ACTIVE, links.NVLINK_LIMIT, links.NVLINK_ERRORS}
"""What is not known of a GPU that does not say how many links it has."""


def own_metrics(field: str) -> set[Metric]:
    """The metrics that a field has a part in."""
    if field == "NVML_FI_DEV_NVLINK_LINK_COUNT":
        return OF_LINKS
    return {entry.metric for entry in FIELDS if entry.constant == field}


STOOD_IN = {
    "NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
    "NVML_FI_DEV_POWER_INSTANT",
    "NVML_FI_DEV_ECC_SBE_AGG_TOTAL",
    "NVML_FI_DEV_ECC_DBE_AGG_TOTAL",
    "NVML_FI_DEV_PCIE_REPLAY_COUNTER",
}
"""Fields for which a call stands in."""


@pytest.mark.parametrize("code", ["NVML_ERROR_NOT_SUPPORTED", "NVML_ERROR_INVALID_ARGUMENT"])
@pytest.mark.parametrize("field", FIELD_NAMES)
def test_a_field_that_is_not_known_is_not_asked_for_again(field: str, code: str) -> None:
    """Its series alone are absent, or are had by an older call; nothing is lost."""
    whole = known()
    clock = ManualClock()
    nvml = FakeNvml([BUSY], clock=clock)
    nvml.fail_field(number(field), code)
    with nvml:
        source = NvidiaSource("all", {}, clock.monotonic)
        source.open()
        for seconds in (0, 1, 1, 1, AGES):
            clock.advance(seconds)
            batch = source.read()
            assert batch.lost == {}
        source.close()
    own = own_metrics(field)
    missing = {key for key in whole if key not in values(batch)}
    assert {key[0] for key in missing} <= own
    if field in STOOD_IN:
        assert missing == set()


@pytest.mark.parametrize("code", PASSING)
@pytest.mark.parametrize("field", FIELD_NAMES)
def test_a_field_that_fails_loses_its_own_series_until_it_goes(field: str, code: str) -> None:
    """Every other field of the same call is told; and it is back when the cause has gone."""
    whole = known()
    with opened(BUSY) as machine:
        machine.looks(4)
        machine.nvml.fail_field(number(field), code)
        batch = machine.look(AGES)
        own = own_metrics(field)
        missing = {key for key in whole if key not in values(batch)}
        assert {key[0] for key in missing} <= own
        if any(key[0] in own for key in whole) and field not in NOT_ON_AN_H100:
            assert missing
            assert set(batch.lost) == {type(pynvml.NVMLError(getattr(pynvml, code))).__name__}
        machine.nvml.recover()
        machine.look(AGES)
        assert set(values(machine.look(AGES))) == set(whole)


NOT_ON_AN_H100 = {
    "NVML_FI_DEV_NVLINK_COUNT_RCV_ERRORS",
    "NVML_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_FAILED_EVENTS",
}
"""Fields that the scripted board does not know, though it has their metric by others."""


@cache
def known() -> dict[tuple[object, ...], float]:
    """Every series of a well GPU."""
    with opened(BUSY) as machine:
        machine.looks(4)
        return values(machine.look(AGES))


@pytest.mark.parametrize("code", ["NVML_ERROR_NOT_SUPPORTED", "NVML_ERROR_GPU_IS_LOST", "NVML_ERROR_UNKNOWN"])
@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.constant)
def test_an_activity_that_the_board_does_not_count_is_absent(part: object, code: str) -> None:
    """The others of the same call are told."""
    constant = part.constant  # type: ignore[attr-defined]
    whole = known()
    with opened(BUSY) as machine:
        machine.looks(4)
        machine.nvml.fail_gpm_metric(getattr(pynvml, constant), code)
        machine.look(GPM_EVERY)
        missing = [key for key in whole if key not in values(machine.look(AGES))]
        assert len(missing) <= 1
        assert {key[0] for key in missing} <= {part.metric}  # type: ignore[attr-defined]


def test_everything_of_a_gpu_fails_but_the_others_go_on() -> None:
    """A GPU that answers nothing is failed, and only it."""
    with opened(BUSY, BUSY, BUSY) as machine:
        machine.looks(3)
        machine.nvml.lose(1)
        batch = machine.look(1)
        assert metrics(batch, 1) == {health.STATUS}
        assert values(batch, 1)[health.STATUS, "failed"] == 1
        for index in (0, 2):
            assert values(batch, index)[health.STATUS, "ok"] == 1
            assert rows.ENERGY in metrics(batch, index)


def test_an_old_driver_has_what_its_calls_can_tell() -> None:
    """Without any of the newer functions, the older ones stand in at the first look already."""
    newer = (
        "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetSamples",
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetTemperatureV",
        "nvmlGpmQueryDeviceSupport",
        "nvmlDeviceGetMarginTemperature",
    )
    clock = ManualClock()
    nvml = FakeNvml([BUSY], clock=clock)
    for call in newer:
        nvml.missing(call)
    with nvml:
        source = NvidiaSource("all", {}, clock.monotonic)
        source.open()
        batch = source.read()
        source.close()
    assert batch.lost == {}
    assert {
        rows.UTILIZATION,
        rows.MEMORY_CONTROLLER_UTILIZATION,
        rows.MEMORY_USAGE,
        rows.TEMPERATURE,
        rows.ENERGY,
        rows.POWER_INSTANT,
        health.ERRORS,
        links.PCIE_ERRORS,
    } <= metrics(batch)
