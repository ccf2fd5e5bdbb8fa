# SPDX-License-Identifier: Apache-2.0
"""NVIDIA GPUs through the real binding over a scripted NVML: every value, every error of every call, every way in."""

from __future__ import annotations

import dataclasses
import logging
import sys
import threading
import types
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pynvml
import pytest

from otel_hwmetrics import _guard
from otel_hwmetrics.catalog import gpu as rows
from otel_hwmetrics.model import Metric
from otel_hwmetrics.sources.base import Batch, SourceUnavailable
from otel_hwmetrics.sources.gpu.nvidia import NvidiaSource
from otel_hwmetrics.testing import FakeGpu, FakeNvml, ManualClock
from otel_hwmetrics.testing.symbols import SYMBOLS
from otel_hwmetrics.windows import Accumulator, between

BUSY = FakeGpu(
    name="NVIDIA H100 80GB HBM3",
    utilization=0.87,
    memory_total=80 * 1024**3,
    memory_reserved=500 * 1024**2,
    memory_used=60_000_000_512,
    temperature=66.0,
    power=612.345,
    power_limit=700.0,
    energy_offset=1_234_567.891,
)

CALLS: dict[str, tuple[Metric, ...]] = {
    "nvmlDeviceGetUtilizationRates": (rows.UTILIZATION,),
    "nvmlDeviceGetMemoryInfo_v2": (rows.MEMORY_USAGE, rows.MEMORY_LIMIT),
    "nvmlDeviceGetTotalEnergyConsumption": (rows.ENERGY,),
    "nvmlDeviceGetEnforcedPowerLimit": (rows.POWER_LIMIT,),
    "nvmlDeviceGetTemperatureV": (rows.TEMPERATURE,),
}
"""What each look at a GPU of today calls, and the metrics that it gives."""

OLDER = {
    "nvmlDeviceGetMemoryInfo_v2": "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetTotalEnergyConsumption": "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetEnforcedPowerLimit": "nvmlDeviceGetPowerManagementLimit",
    "nvmlDeviceGetTemperatureV": "nvmlDeviceGetTemperature",
}
"""What is called where that is not supported."""

ALL = {metric for metrics in CALLS.values() for metric in metrics}
FOREVER = (pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
FOR_NOW = {
    pynvml.NVML_ERROR_NO_PERMISSION: "NVMLError_NoPermission",
    pynvml.NVML_ERROR_GPU_IS_LOST: "NVMLError_GpuIsLost",
    pynvml.NVML_ERROR_UNKNOWN: "NVMLError_Unknown",
    pynvml.NVML_ERROR_TIMEOUT: "NVMLError_Timeout",
    pynvml.NVML_ERROR_RESET_REQUIRED: "NVMLError_ResetRequired",
    7777: "NVMLError",  # a code that this binding has not heard of
}


@contextmanager
def opened(nvml: FakeNvml, *, gpus: str = "all", devices: str | None = None) -> Iterator[NvidiaSource]:
    """The source over a scripted NVML; with ``devices`` as CUDA_VISIBLE_DEVICES."""
    environ = {} if devices is None else {"CUDA_VISIBLE_DEVICES": devices}
    with nvml:
        source = NvidiaSource(gpus, environ)
        source.open()
        try:
            yield source
        finally:
            source.close()


def told(batch: Batch, index: int = 0) -> dict[Metric, float]:
    """What one look gave of one GPU, by metric."""
    found = [reading for reading in batch.readings if reading.attributes["hwmetrics.gpu.index"] == index]
    assert len({reading.metric for reading in found}) == len(found)
    return {reading.metric: reading.value for reading in found}


# What a GPU tells.


def test_every_value_is_exact_and_in_si_units() -> None:
    """Percent become ratios, milliwatts watts, millijoules joules; bytes and degrees stay as they are."""
    clock = ManualClock(start=50.0)
    with FakeNvml([BUSY], clock=clock):
        source = NvidiaSource("all", {}, clock.monotonic)
        source.open()
        clock.advance(10)
        batch = source.read()
        source.close()
    assert told(batch) == {
        rows.UTILIZATION: 0.87,
        rows.MEMORY_USAGE: 60_000_000_512,
        rows.MEMORY_LIMIT: 80 * 1024**3,
        rows.ENERGY: pytest.approx(1_234_567.891 + 6123.45, abs=0.0005),
        rows.POWER_LIMIT: 700.0,
        rows.TEMPERATURE: 66,
    }
    assert batch.lost == {}
    assert {reading.at for reading in batch.readings} == {60.0}


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_the_ends_of_the_scale_are_readings(value: float) -> None:
    """An idle GPU and one that is fully used are readings like any other: 0 is no sentinel."""
    idle = FakeGpu(utilization=value, power=0, power_limit=0, energy_offset=0, memory_used=0, temperature=0)
    with opened(FakeNvml([idle], clock=ManualClock())) as source:
        found = told(source.read())
    assert set(found) == ALL
    assert found[rows.UTILIZATION] == value
    assert {found[row] for row in (rows.MEMORY_USAGE, rows.POWER_LIMIT, rows.TEMPERATURE, rows.ENERGY)} == {0}


def test_attributes_tell_which_gpu_it_is() -> None:
    """Every reading has the GPU's UUID, its index and its maker; a sensor has its own id and the GPU as parent."""
    nvml = FakeNvml([BUSY, FakeGpu(name="NVIDIA A100-SXM4-80GB")], driver_version="570.1")
    with opened(nvml) as source:
        batch = source.read()
    assert len(batch.readings) == 12
    for reading in batch.readings:
        index = reading.attributes["hwmetrics.gpu.index"]
        assert isinstance(index, int)
        uuid = nvml.gpus[index].uuid
        assert set(reading.attributes) == set(reading.metric.attributes)
        assert reading.attributes["hw.model"] == nvml.gpus[index].name
        assert reading.attributes["hw.vendor"] == "NVIDIA"
        if reading.metric is rows.TEMPERATURE:
            assert reading.attributes["hw.id"] == f"{uuid}/temperature/gpu"
            assert reading.attributes["hw.parent"] == uuid
        else:
            assert reading.attributes["hw.id"] == uuid
            assert reading.attributes["hw.name"] == f"GPU {index}"
            assert reading.attributes["hw.type"] == "gpu"
            assert reading.attributes["hw.driver_version"] == "570.1"
        assert (reading.metric is rows.UTILIZATION) is (reading.attributes.get("hw.gpu.task") == "general")


def test_a_driver_that_does_not_tell_its_version() -> None:
    """Without a driver version the GPUs are there all the same, and that attribute is absent."""
    nvml = FakeNvml([BUSY])
    nvml.fail("nvmlSystemGetDriverVersion", pynvml.NVML_ERROR_UNKNOWN)
    with opened(nvml) as source:
        batch = source.read()
    assert set(told(batch)) == ALL
    assert not [reading for reading in batch.readings if "hw.driver_version" in reading.attributes]


def test_series_are_the_same_objects_at_every_look() -> None:
    """A reading costs a tuple: its series is made when the GPU is met, and once."""
    with opened(FakeNvml([BUSY])) as source:
        first, second = ({reading.metric: reading.series for reading in source.read().readings} for _ in range(2))
    assert all(first[metric] is second[metric] for metric in ALL)


# Every call, every error.


def test_the_calls_above_are_those_of_a_look() -> None:
    """The table that the following tests walk is what a look calls, no more and no less."""
    nvml = FakeNvml([BUSY])
    with opened(nvml) as source:
        nvml.reset_calls()
        source.read()
        assert nvml.calls == {(call, 0): 1 for call in CALLS}


@pytest.mark.parametrize("code", FOREVER)
@pytest.mark.parametrize("call", CALLS)
def test_what_is_not_supported_is_asked_once(call: str, code: int) -> None:
    """Where neither a call nor its older form is supported its own metrics are absent, not lost, and not asked again."""
    nvml = FakeNvml([BUSY])
    asked = [call, *([OLDER[call]] if call in OLDER else [])]
    for each in asked:
        nvml.fail(each, code)
    with opened(nvml) as source:
        for _ in range(3):
            batch = source.read()
            assert set(told(batch)) == ALL - set(CALLS[call])
            assert batch.lost == {}
        assert [nvml.calls[each, 0] for each in asked] == [1] * len(asked)
        nvml.recover()
        assert set(told(source.read())) == ALL - set(CALLS[call])


@pytest.mark.parametrize("code", FOR_NOW)
@pytest.mark.parametrize("call", CALLS)
def test_any_other_error_loses_its_own_metric_until_it_goes(call: str, code: int) -> None:
    """A call that fails for now loses its own metrics, counted by its error, and is asked at every look until it is well."""
    nvml = FakeNvml([BUSY])
    nvml.fail(call, code)
    with opened(nvml) as source:
        for asked in (1, 2, 3):
            batch = source.read()
            assert set(told(batch)) == ALL - set(CALLS[call])
            assert batch.lost == {FOR_NOW[code]: len(CALLS[call])}
            assert nvml.calls[call, 0] == asked
        if call in OLDER:
            assert nvml.calls[OLDER[call], 0] == 0
        nvml.recover()
        batch = source.read()
        assert set(told(batch)) == ALL
        assert batch.lost == {}


def answering(monkeypatch: pytest.MonkeyPatch, call: str, answer: Callable[[Any], None]) -> threading.Event:
    """Let a C function answer what no GPU can mean, until the event is set; its last argument is what it writes to."""
    symbol, well = SYMBOLS[call], threading.Event()

    def garble(device: object, *arguments: Any) -> bytes | None:
        if well.is_set():
            return symbol.answer(device, *arguments)
        answer(arguments[-1])
        return None

    monkeypatch.setitem(SYMBOLS, call, dataclasses.replace(symbol, answer=garble))
    return well


def _set(**values: int) -> Callable[[Any], None]:
    def answer(pointed: Any) -> None:
        for field, value in values.items():
            setattr(pointed, field, value)

    return answer


GARBAGE = [
    ("nvmlDeviceGetUtilizationRates", _set(gpu=101)),
    ("nvmlDeviceGetUtilizationRates", _set(gpu=2**32 - 1)),
    ("nvmlDeviceGetMemoryInfo_v2", _set(total=2**64 - 1, used=5)),
    ("nvmlDeviceGetMemoryInfo_v2", _set(total=100, used=101)),
    ("nvmlDeviceGetMemoryInfo_v2", _set(total=2**37, used=2**64 - 1)),
    ("nvmlDeviceGetMemoryInfo", _set(total=2**37, used=2**64 - 1)),
    ("nvmlDeviceGetTotalEnergyConsumption", _set(value=2**64 - 1)),
    ("nvmlDeviceGetPowerUsage", _set(value=2**32 - 1)),
    ("nvmlDeviceGetEnforcedPowerLimit", _set(value=2**32 - 1)),
    ("nvmlDeviceGetPowerManagementLimit", _set(value=2**32 - 1)),
    ("nvmlDeviceGetTemperatureV", _set(temperature=-(2**31))),
    ("nvmlDeviceGetTemperatureV", _set(temperature=2**31 - 1)),
    ("nvmlDeviceGetTemperature", _set(value=2**32 - 1)),
]


@pytest.mark.parametrize(("call", "answer"), GARBAGE, ids=lambda value: value if isinstance(value, str) else "")
def test_garbage_is_no_reading(monkeypatch: pytest.MonkeyPatch, call: str, answer: Callable[[Any], None]) -> None:
    """What a driver gives instead of an error (all ones, negative, more than there is) is lost, not exported."""
    nvml = FakeNvml([BUSY, BUSY])
    newer = next((newer for newer, older in OLDER.items() if older == call), None)
    if newer is not None:
        nvml.fail(newer, pynvml.NVML_ERROR_NOT_SUPPORTED)
    well = answering(monkeypatch, call, answer)
    with opened(nvml) as source:
        batch = source.read()
        for index in (0, 1):
            assert set(told(batch, index)) == ALL - set(CALLS[newer or call])
        (error_type,) = batch.lost
        assert error_type == "ValueError"
        well.set()
        expected = ALL - {rows.ENERGY} | {rows.POWER} if call == "nvmlDeviceGetPowerUsage" else ALL
        assert set(told(source.read())) == expected


def test_a_gpu_in_the_cold_is_a_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Degrees below zero are possible, out of doors, and the newer call can tell them."""
    with opened(FakeNvml([BUSY])) as source:
        answering(monkeypatch, "nvmlDeviceGetTemperatureV", _set(temperature=-20))
        assert told(source.read())[rows.TEMPERATURE] == -20


def test_a_board_that_counts_no_energy_tells_its_power() -> None:
    """Before Volta there is no energy counter: power is read as it is, and its mean over the window is exported."""
    clock = ManualClock()
    old = dataclasses.replace(
        BUSY, power=[(0, 100.0), (1, 100.0), (2, 300.0)], unsupported=("nvmlDeviceGetTotalEnergyConsumption",)
    )
    accumulator = Accumulator()
    with FakeNvml([old], clock=clock) as nvml:
        source = NvidiaSource("all", {}, clock.monotonic)
        source.open()
        samples = []
        for _ in range(3):
            samples.append(accumulator.sample(source.read().readings, clock.monotonic(), 0))
            clock.advance(1)
        source.close()
    assert nvml.calls["nvmlDeviceGetTotalEnergyConsumption", 0] == 1
    snapshot = between(samples[0], samples[2])
    assert snapshot.of(rows.ENERGY) == ()
    (power,) = snapshot.of(rows.POWER)
    assert power.value == pytest.approx(200)


def test_a_board_that_counts_energy_is_not_asked_for_power() -> None:
    """Where energy is counted, power is its growth over the window: what was drawn between two looks is in it."""
    clock = ManualClock()
    burst = dataclasses.replace(BUSY, power=[(0, 100.0), (1, 100.0), (1, 700.0), (2, 700.0), (2, 100.0)])
    accumulator = Accumulator()
    with FakeNvml([burst], clock=clock) as nvml:
        source = NvidiaSource("all", {}, clock.monotonic)
        source.open()
        first = accumulator.sample(source.read().readings, 0, 0)
        clock.advance(4)
        second = accumulator.sample(source.read().readings, 4, 0)
        source.close()
    assert nvml.calls["nvmlDeviceGetPowerUsage", 0] == 0
    (power,) = between(first, second).of(rows.POWER)
    assert power.value == pytest.approx((3 * 100 + 700) / 4, rel=1e-6)


def test_an_older_driver_has_the_same_metrics() -> None:
    """A driver whose library lacks the newer calls is read by the older ones, at the first look already."""
    nvml = FakeNvml([BUSY])
    for newer in ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetMemoryInfo_v2"):
        nvml.missing(newer)
    with opened(nvml) as source:
        for _ in range(2):
            batch = source.read()
            assert set(told(batch)) == ALL
            assert batch.lost == {}
        found = told(batch)
    assert found[rows.TEMPERATURE] == 66
    assert found[rows.MEMORY_USAGE] == 60_000_000_512 + 500 * 1024**2  # it adds what the driver keeps
    assert nvml.calls["nvmlDeviceGetTemperature", 0] == nvml.calls["nvmlDeviceGetMemoryInfo", 0] == 2


def test_a_limit_that_is_not_enforced_is_the_one_that_was_set() -> None:
    """Where the enforced power limit is not supported, the managed one is told."""
    nvml = FakeNvml([dataclasses.replace(BUSY, unsupported=("nvmlDeviceGetEnforcedPowerLimit",))])
    with opened(nvml) as source:
        assert told(source.read())[rows.POWER_LIMIT] == 700


def test_one_gpu_is_lost_and_the_others_go_on() -> None:
    """A GPU that falls off the bus loses its own readings, all of them, until it is back."""
    clock = ManualClock()
    nvml = FakeNvml([BUSY, BUSY, BUSY], clock=clock)
    nvml.fail("*", "NVML_ERROR_GPU_IS_LOST", gpu=1, after=10, until=20)
    with opened(nvml) as source:
        assert [set(told(source.read(), index)) for index in range(3)] == [ALL] * 3
        clock.advance(10)
        batch = source.read()
        assert [set(told(batch, index)) for index in range(3)] == [ALL, set(), ALL]
        assert batch.lost == {"NVMLError_GpuIsLost": len(ALL)}
        clock.advance(10)
        batch = source.read()
        assert [set(told(batch, index)) for index in range(3)] == [ALL] * 3
        assert batch.lost == {}


def test_a_look_is_one_sequence_of_calls_and_nothing_else() -> None:
    """However long it runs, each GPU is asked each thing once a look; its handle, name and UUID never again."""
    nvml = FakeNvml([BUSY] * 4)
    with opened(nvml) as source:
        once = ("nvmlInitWithFlags", "nvmlSystemGetDriverVersion", "nvmlDeviceGetCount_v2")
        each = ("nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetUUID", "nvmlDeviceGetName")
        assert nvml.calls == Counter([(call, None) for call in once] + [(call, i) for call in each for i in range(4)])
        nvml.reset_calls()
        for _ in range(10):
            source.read()
        assert nvml.calls == {(call, index): 10 for call in CALLS for index in range(4)}
        nvml.reset_calls()
    assert nvml.calls == {("nvmlShutdown", None): 1}


# The way in.


@pytest.mark.parametrize(
    ("code", "cause", "mend"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "no NVIDIA driver here", "NVIDIA_DRIVER_CAPABILITIES=utility"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "kernel driver is not loaded", "modprobe nvidia"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "different versions", "reboot or reload"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "no permission", "/dev/nvidia"),
        (pynvml.NVML_ERROR_UNKNOWN, "NVML does not start: Unknown Error", "nvidia-smi"),
        (7777, "NVML does not start: Unknown Error", "nvidia-smi"),
    ],
)
@pytest.mark.parametrize("call", ["nvmlInitWithFlags", "nvmlDeviceGetCount_v2"])
def test_a_driver_that_does_not_start_says_why_and_what_mends_it(call: str, code: int, cause: str, mend: str) -> None:
    """Without a driver there is no source; the message has the cause and the mend, and nothing is left open."""
    nvml = FakeNvml([BUSY])
    nvml.fail(call, code)
    with nvml:
        with pytest.raises(SourceUnavailable) as raised:
            NvidiaSource("all", {}).open()
        assert cause in raised.value.reason
        assert mend in raised.value.remedy
        assert raised.value.source == "nvidia"
        assert pynvml._nvmlLib_refcount == 0
        assert nvml.calls["nvmlShutdown", None] == (0 if call == "nvmlInitWithFlags" else 1)


def test_a_machine_without_the_library() -> None:
    """On a machine without a driver (as every test of ours is, by conftest) the library is not found, and said so."""
    with pytest.raises(SourceUnavailable, match=r"libnvidia-ml\.so\.1 is not found"):
        NvidiaSource("all", {}).open()


def test_an_error_without_a_text_is_told_by_its_number() -> None:
    """Where even the text of an error cannot be had from the library, the message has its number."""
    nvml = FakeNvml([BUSY])
    nvml.init_error(7777)
    nvml.missing("nvmlErrorString")
    with nvml, pytest.raises(SourceUnavailable, match="7777"):
        NvidiaSource("all", {}).open()


def test_no_binding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nvidia-ml-py is not installed the message says how to install it."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(SourceUnavailable, match="pip install nvidia-ml-py"):
        NvidiaSource("all", {}).open()


def test_a_binding_of_another_make(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another package has taken the name pynvml, the message says where it is and how to be rid of it."""
    rogue = types.ModuleType("pynvml")
    rogue.__file__ = "/somewhere/pynvml.py"
    monkeypatch.setitem(sys.modules, "pynvml", rogue)
    with pytest.raises(SourceUnavailable, match=r"/somewhere/pynvml\.py is not NVIDIA's; pip uninstall pynvml"):
        NvidiaSource("all", {}).open()


def test_no_gpu() -> None:
    """A driver without a GPU is no source."""
    with FakeNvml([]) as nvml:
        with pytest.raises(SourceUnavailable, match="the driver shows no GPU"):
            NvidiaSource("all", {}).open()
        assert nvml.calls["nvmlShutdown", None] == 1


@pytest.mark.parametrize("call", ["nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetUUID", "nvmlDeviceGetName"])
def test_a_gpu_that_cannot_be_opened_is_left_out(caplog: pytest.LogCaptureFixture, call: str) -> None:
    """One GPU that is lost at the start is named in a warning; the others are read, under their own numbers."""
    nvml = FakeNvml([BUSY, BUSY, BUSY])
    nvml.fail(call, pynvml.NVML_ERROR_GPU_IS_LOST, gpu=1)
    with opened(nvml, gpus="visible", devices="2,1,0") as source:
        batch = source.read()
    assert [set(told(batch, index)) for index in range(3)] == [ALL, set(), ALL]
    (record,) = caplog.records
    assert record.getMessage() == "GPU 1 cannot be opened and is left out: GPU is lost"


def test_no_gpu_can_be_opened(caplog: pytest.LogCaptureFixture) -> None:
    """Where every GPU is lost, the source is unavailable and NVML is let go of."""
    nvml = FakeNvml([BUSY, BUSY])
    nvml.fail("nvmlDeviceGetHandleByIndex_v2", pynvml.NVML_ERROR_GPU_IS_LOST)
    with nvml, pytest.raises(SourceUnavailable, match="no GPU"):
        NvidiaSource("all", {}).open()
    assert nvml.calls["nvmlShutdown", None] == 1
    assert len(caplog.records) == 2


def test_an_errors_text_is_asked_for_on_the_sources_own_thread(caplog: pytest.LogCaptureFixture) -> None:
    """The driver is asked for the text of an error where the error was met: what a log handler keeps is a string."""
    nvml = FakeNvml([BUSY, BUSY])
    nvml.fail("nvmlDeviceGetHandleByIndex_v2", 7777, gpu=1)
    with caplog.at_level(logging.DEBUG), opened(nvml):
        asked = nvml.calls["nvmlErrorString", None]
        nvml.fail("nvmlShutdown", 7778)
    arguments = [value for record in caplog.records for value in (record.args or ())]
    assert asked == 1
    assert len(caplog.records) == 2
    assert not [value for value in arguments if isinstance(value, BaseException)]


def test_an_unforeseen_fault_in_meeting_the_gpus_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong after NVML was started, it is shut down again, once."""

    def fail(_: object) -> str:
        raise ArithmeticError("a bug of ours")

    monkeypatch.setattr("otel_hwmetrics.sources.gpu.nvidia._text", fail)
    with FakeNvml([BUSY]) as nvml:
        source = NvidiaSource("all", {})
        with pytest.raises(ArithmeticError):
            source.open()
        source.close()
        assert nvml.calls["nvmlShutdown", None] == 1


@pytest.mark.parametrize(
    ("gpus", "devices", "expected"),
    [
        ("visible", None, [0, 1, 2]),
        ("visible", "1", [1]),
        ("visible", "2,0", [2, 0]),
        ("visible", "GPU-c", [2]),
        ("visible", "MIG-GPU-b/0/0", [1]),
        ("all", "1", [0, 1, 2]),
        ("all", "", [0, 1, 2]),
    ],
)
def test_only_the_jobs_own_gpus_are_asked(gpus: str, devices: str | None, expected: list[int]) -> None:
    """A job that sees one GPU of three neither reports nor asks the others, unless all are wanted."""
    nvml = FakeNvml([dataclasses.replace(BUSY, uuid=f"GPU-{letter}") for letter in "abc"])
    with opened(nvml, gpus=gpus, devices=devices) as source:
        nvml.reset_calls()
        batch = source.read()
        found = dict.fromkeys(reading.attributes["hwmetrics.gpu.index"] for reading in batch.readings)
        assert list(found) == expected
        assert {index for _, index in nvml.calls} == set(expected)


def test_the_environment_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless told otherwise, the job's own CUDA_VISIBLE_DEVICES counts."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with FakeNvml([BUSY, BUSY]):
        source = NvidiaSource()
        source.open()
        batch = source.read()
        source.close()
    assert {reading.attributes["hwmetrics.gpu.index"] for reading in batch.readings} == {1}


@pytest.mark.parametrize("devices", ["", "7"])
def test_a_job_without_gpus(devices: str) -> None:
    """A job that may see no GPU has no source; the message shows the variable and how to see them all the same."""
    with FakeNvml([BUSY, BUSY]) as nvml:
        with pytest.raises(SourceUnavailable, match=rf"CUDA_VISIBLE_DEVICES='{devices}' .* 2 GPUs; gpus=all"):
            NvidiaSource("visible", {"CUDA_VISIBLE_DEVICES": devices}).open()
        assert nvml.calls["nvmlShutdown", None] == 1


# The way out.


def test_close_leaves_another_users_nvml_open() -> None:
    """NVML counts its users: a library of the application's that started it can go on using it."""
    with FakeNvml([BUSY]) as nvml:
        pynvml.nvmlInit()
        source = NvidiaSource("all", {})
        source.open()
        source.close()
        source.close()
        assert nvml.calls["nvmlShutdown", None] == 1
        assert pynvml.nvmlDeviceGetCount() == 1
        pynvml.nvmlShutdown()
        with pytest.raises(pynvml.NVMLError_Uninitialized):
            pynvml.nvmlDeviceGetCount()


def test_a_closed_source_reads_nothing_and_can_be_opened_again() -> None:
    """After `close` a look gives nothing and calls nothing; opened anew it is as before."""
    with FakeNvml([BUSY]) as nvml:
        source = NvidiaSource("all", {})
        source.open()
        source.close()
        nvml.reset_calls()
        assert source.read().readings == []
        assert not nvml.calls
        source.open()
        assert set(told(source.read())) == ALL
        source.close()


def test_close_never_opened_or_failing_raises_nothing() -> None:
    """Closing is always possible: before opening, and when the driver does not want to."""
    NvidiaSource("all", {}).close()
    with FakeNvml([BUSY]) as nvml:
        source = NvidiaSource("all", {})
        source.open()
        nvml.fail("nvmlShutdown", pynvml.NVML_ERROR_UNKNOWN)
        source.close()


def test_a_hung_call_is_on_its_own_and_ends_in_errors_that_are_counted() -> None:
    """A call that was stuck across the end of the driver comes back with errors, which are lost readings like others."""
    nvml = FakeNvml([BUSY])
    nvml.install()
    source = NvidiaSource("all", {})
    source.open()
    hang = nvml.hang("nvmlDeviceGetTemperatureV")
    batches: list[Batch] = []
    thread = threading.Thread(target=lambda: batches.append(source.read()), daemon=True)
    thread.start()
    assert hang.entered.wait(60)
    nvml.uninstall()
    thread.join(60)
    (batch,) = batches
    assert batch.readings == []
    assert sum(batch.lost.values()) == len(ALL)


def test_a_fault_of_the_binding_is_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A binding that raises what is no error of NVML's loses that metric only, in production."""
    monkeypatch.setattr(_guard, "LOUD", False)
    monkeypatch.setattr(_guard, "faults", Counter())

    def fail(_: object) -> int:
        raise OSError("exception: access violation")

    with opened(FakeNvml([BUSY])) as source:
        monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", fail)
        batch = source.read()
        assert set(told(batch)) == ALL - {rows.UTILIZATION}
        assert batch.lost == {"OSError": 1}
