# SPDX-License-Identifier: Apache-2.0
"""What was recorded is what is replayed: through the real binding, at any time, with errors and absences."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pynvml
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_hwmetrics.testing import FakeGpu, FakeMig, FakeNvml, FakeProcess, ManualClock
from otel_hwmetrics.testing.captures import load_capture, read_capture, record
from otel_hwmetrics.testing.captures.survey import Survey

Ask = Callable[..., object]

GIB = 1024**3
SHIPPED = sorted((Path(__file__).parents[2] / "data" / "captures").glob("*.json"))
FIELDS = [
    pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION,
    pynvml.NVML_FI_DEV_MEMORY_TEMP,
    (pynvml.NVML_FI_DEV_POWER_INSTANT, 0),
    (pynvml.NVML_FI_DEV_POWER_INSTANT, 1),
    pynvml.NVML_FI_DEV_PCIE_COUNT_TX_BYTES,
]

# One question of each shape that NVML has, by handle.
QUESTIONS: dict[str, Callable[[Any], Any]] = {
    "a text": pynvml.nvmlDeviceGetName,
    "a number": pynvml.nvmlDeviceGetPowerUsage,
    "a long number": pynvml.nvmlDeviceGetTotalEnergyConsumption,
    "two numbers": pynvml.nvmlDeviceGetEncoderUtilization,
    "a struct": pynvml.nvmlDeviceGetUtilizationRates,
    "a struct with texts": pynvml.nvmlDeviceGetPciInfo,
    "a versioned struct": lambda gpu: pynvml.nvmlDeviceGetMemoryInfo(gpu, version=pynvml.nvmlMemory_v2),
    "a struct with an input": lambda gpu: pynvml.nvmlDeviceGetTemperatureV(gpu, pynvml.NVML_TEMPERATURE_GPU),
    "an input that is not supported": lambda gpu: pynvml.nvmlDeviceGetTemperature(gpu, 99),
    "a number by input": lambda gpu: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_MEM),
    "the same by another": lambda gpu: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM),
    "a list": pynvml.nvmlDeviceGetComputeRunningProcesses_v3,
    "another handle": lambda gpu: pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, 0) and None,
    "many fields": lambda gpu: pynvml.nvmlDeviceGetFieldValues(gpu, FIELDS),
    "samples": lambda gpu: pynvml.nvmlDeviceGetSamples(gpu, pynvml.NVML_TOTAL_POWER_SAMPLES, 0)[1],
    "process samples": lambda gpu: pynvml.nvmlDeviceGetProcessUtilization(gpu, 0),
}


def machine(clock: ManualClock) -> FakeNvml:
    """Return a machine of which everything changes, some of it fails, and one GPU is away for a while."""
    busy = FakeGpu(
        utilization=[(0, 0.0), (20, 1.0)],
        memory_used=[(0, 0), (30, 60 * GIB)],
        temperature=[(0, 30), (60, 90)],
        power=[(0, 80.0), (7, 700.0), (40, 75.0)],
        encoder_utilization=[(0, 0.0), (60, 0.6)],
        sm_clock=[(0, 1980e6), (60, 300e6)],
        pcie_tx=2e9,
        processes=[FakeProcess(pid=4000 + each, memory=GIB, sm_utilization=0.5, since=each * 9.0) for each in range(3)],
    )
    nvml = FakeNvml([busy, FakeGpu(energy_counter=False)], clock=clock)
    nvml.fail("*", "NVML_ERROR_GPU_IS_LOST", gpu=1, after=12, until=31)
    nvml.fail("nvmlDeviceGetPowerUsage", 999, gpu=0, after=5, until=9)
    return nvml


def open_gpus() -> list[Any]:
    """Return the handles of both GPUs."""
    pynvml.nvmlInit()
    return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(2)]


def round_of_questions(ask: Ask, gpus: list[Any]) -> dict[tuple[int, str], object]:
    """Ask both GPUs everything."""
    return {(index, name): ask(QUESTIONS[name], gpu) for index, gpu in enumerate(gpus) for name in QUESTIONS}


def comparable(answers: dict[tuple[int, str], object], start: float | None) -> dict[tuple[int, str], object]:
    """Return answers without the time stamps of fields, which are always now, and of refused fields the refusal.

    Samples are told by their own time: put on the clock of the machine's second 0, or left out where that is None.
    """
    kept: dict[tuple[int, str], object] = {}
    for (gpu, name), value in answers.items():
        if name == "many fields" and isinstance(value, list):
            kept[gpu, name] = [each["nvmlReturn"] or {**each, "timestamp": 0} for each in value]
        elif "samples" not in name:
            kept[gpu, name] = value
        elif start is not None and isinstance(value, list):
            kept[gpu, name] = [{**each, "timeStamp": round(each["timeStamp"] / 1e6 - start, 4)} for each in value]
    return kept


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.integers(1, 15_000), min_size=1, max_size=8),
    looks=st.lists(st.floats(0, 80), min_size=1, max_size=8).map(sorted),
)
def test_a_replay_answers_what_was_recorded_last(
    steps: list[int], looks: list[float], tmp_path: Path, ask: Ask
) -> None:
    """At each moment of the recording the answers are equal, and in between they are those of the moment before."""
    clock = ManualClock()
    path = tmp_path / "machine.json"
    times: list[float] = []
    recorded: list[dict[tuple[int, str], object]] = []
    with machine(clock), record(path, keep_identities=True, clock=clock):
        gpus = open_gpus()
        for step in (0, *steps):
            clock.advance(step / 1000)
            times.append(clock.monotonic())
            recorded.append(round_of_questions(ask, gpus))
    for moments in (times, looks):
        start = clock.monotonic()
        with load_capture(path, clock=clock) as nvml:
            gpus = open_gpus()
            for moment in moments:
                clock.advance(max(0.0, start + moment - clock.monotonic()))
                # The recording is to the millisecond, and so is what of it holds at a moment.
                elapsed = round(clock.monotonic() - start, 6)
                expected = recorded[bisect_right([round(at, 3) for at in times], elapsed) - 1]
                replayed = round_of_questions(ask, gpus)
                exact = moments is times
                assert comparable(replayed, start if exact else None) == comparable(expected, 0.0 if exact else None)
            assert not nvml.unknown


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_replay_recorded_again_is_the_same_capture(path: Path, tmp_path: Path, clock: ManualClock) -> None:
    """Every answer of every function that the survey asks comes through: GPM, rings, links, MIG, processes, absences."""
    again = tmp_path / path.name
    nvml = load_capture(path, clock=clock)
    with nvml, record(again, note=nvml.capture.note, clock=clock) as recorder:
        survey = Survey()
        survey.open()
        for _ in recorder.rounds(nvml.capture.seconds, sleep=clock.advance):
            survey.ask()
        survey.close()
        recorder.capture.latencies.clear()
    before, after = (read_capture(each) for each in (path, again))
    told = {(series.call, series.of, repr(series.asked)): series for series in before.series}
    common = [
        (series, told[key]) for series in after.series if (key := (series.call, series.of, repr(series.asked))) in told
    ]
    assert len(common) > 100
    for series, original in common:
        assert list(series.told) == list(original.told), (series.call, series.of, series.asked)
        assert series.ring == original.ring
    # Another release of the binding asks for more or less than the one with which the file was made.
    if before.binding == after.binding:
        assert again.read_text(encoding="utf-8").splitlines() == path.read_text(encoding="utf-8").splitlines()
        assert not nvml.unknown


def test_mig_instances_keep_their_gpu(tmp_path: Path, clock: ManualClock, ask: Ask) -> None:
    """An instance is named after its GPU and place, and is asked, sampled and counted as itself."""
    path = tmp_path / "mig.json"
    instances = [FakeMig(memory_used=GIB, sm_activity=0.25), FakeMig(memory_used=2 * GIB, sm_activity=0.75)]

    def look() -> list[object]:
        pynvml.nvmlInit()
        gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
        found: list[object] = []
        for index in range(2):
            instance = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)
            parent = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(instance)
            number = pynvml.nvmlDeviceGetGpuInstanceId(instance)
            found += [ask(pynvml.nvmlDeviceGetMemoryInfo, instance), ask(pynvml.nvmlDeviceGetIndex, parent), number]
            found.append(sm_activity(partial(pynvml.nvmlGpmMigSampleGet, gpu, number), clock))
        return found

    with FakeNvml([FakeGpu(mig=instances)], clock=clock), record(path, clock=clock):
        recorded = look()
    with load_capture(path, clock=clock) as nvml:
        assert look() == recorded
    assert [recorded[3], recorded[7]] == [25.0, 75.0]
    assert nvml.gpus == ("gpu0",)
    assert nvml.calls["nvmlDeviceGetMemoryInfo", 0] == 2


def sm_activity(take: Callable[[Any], Any], clock: ManualClock) -> float:
    """Return the SM activity over a second, in percent."""
    request = pynvml.c_nvmlGpmMetricsGet_t()
    request.version, request.numMetrics = pynvml.NVML_GPM_METRICS_GET_VERSION, 1
    request.sample1, request.sample2 = pynvml.nvmlGpmSampleAlloc(), pynvml.nvmlGpmSampleAlloc()
    request.metrics[0].metricId = pynvml.NVML_GPM_METRIC_SM_UTIL
    take(request.sample1)
    clock.advance(1)
    take(request.sample2)
    pynvml.nvmlGpmMetricsGet(request)
    assert not request.metrics[0].nvmlReturn
    return float(round(request.metrics[0].value, 6))


SECRETS = {
    "uuid": "GPU-deadbeef-1234-4567-89ab-cdef01234567",
    "serial": "1650123456789",
    "pci_bus_id": "00000000:C7:00.0",
}


def identities() -> dict[str, object]:
    """Ask for everything that names a machine or a person."""
    pynvml.nvmlInit()
    gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
    pci = pynvml.nvmlDeviceGetPciInfo(gpu)
    return {
        "uuid": pynvml.nvmlDeviceGetUUID(gpu),
        "serial": pynvml.nvmlDeviceGetSerial(gpu),
        "pci_bus_id": pci.busId,
        "pci": (pci.domain, pci.bus, pci.device),
        "pids": [process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses_v3(gpu)],
        "again": [process.pid for process in pynvml.nvmlDeviceGetProcessUtilization(gpu, 0)],
        "by uuid": pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByUUID(SECRETS["uuid"].encode())),
        "name": pynvml.nvmlDeviceGetName(gpu),
    }


@pytest.fixture
def identified(clock: ManualClock) -> FakeNvml:
    """Return a GPU with a name for everything, on which this process and another run."""
    processes = [FakeProcess(pid=pid, memory=GIB, sm_utilization=0.5) for pid in (os.getpid(), 3_141_592)]
    return FakeNvml([FakeGpu(**SECRETS, processes=processes)], clock=clock)  # type: ignore[arg-type]


def test_nothing_that_identifies_is_in_a_capture(identified: FakeNvml, tmp_path: Path, clock: ManualClock) -> None:
    """UUID, serial number, PCI address and process ids are pseudonyms, and one thing has one pseudonym."""
    path = tmp_path / "anonymous.json"
    with identified, record(path, clock=clock):
        clock.advance(1)
        real = identities()
    text = path.read_text(encoding="utf-8").lower()
    for secret in (*SECRETS.values(), "deadbeef", "c7:00", "3141592", str(os.getpid())):
        assert secret.lower() not in text
    assert str(real["name"]) in path.read_text(encoding="utf-8"), "the product's name is no secret"
    assert read_capture(path).anonymous


def test_pseudonyms_work_as_names(identified: FakeNvml, tmp_path: Path, clock: ManualClock) -> None:
    """A GPU is found by its pseudonym, a PCI address is one as text and as numbers, and our process is ours."""
    path = tmp_path / "anonymous.json"
    with identified, record(path, clock=clock):
        clock.advance(1)
        identities()
    with load_capture(path, clock=clock):
        clock.advance(1)
        pynvml.nvmlInit()
        gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
        uuid = pynvml.nvmlDeviceGetUUID(gpu)
        assert uuid == "GPU-00000000-0000-4000-8000-000000000001"
        assert pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByUUID(uuid.encode())) == 0
        pci = pynvml.nvmlDeviceGetPciInfo(gpu)
        assert pci.busId == f"{pci.domain:08x}:{pci.bus:02X}:{pci.device:02x}.0" == "00000000:01:00.0"
        pids = [process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses_v3(gpu)]
        assert pids == [os.getpid(), 1001]
        assert sorted(process.pid for process in pynvml.nvmlDeviceGetProcessUtilization(gpu, 0)) == sorted(pids)


def test_identities_are_kept_on_demand(identified: FakeNvml, tmp_path: Path, clock: ManualClock) -> None:
    """With `keep_identities` everything is replayed under its own name."""
    path = tmp_path / "named.json"
    with identified, record(path, keep_identities=True, clock=clock):
        clock.advance(1)
        recorded = identities()
    with load_capture(path, clock=clock):
        clock.advance(1)
        assert identities() == recorded
    assert not read_capture(path).anonymous
