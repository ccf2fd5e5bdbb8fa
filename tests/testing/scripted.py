# SPDX-License-Identifier: Apache-2.0
"""A scripted GPU, and what every C function says of it through the real `pynvml`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml

from otel_hwmetrics import testing
from otel_hwmetrics.testing import FakeGpu, FakeMig, FakeProcess, ManualClock
from otel_hwmetrics.testing.symbols import SYMBOLS
from otel_hwmetrics.testing.symbols.core import by_handle

GIB = 1024**3
MIB = 1024**2
ENERGY_AT_START = 3_456_000_000_000  # mJ
NOT_AVAILABLE = 2**32 - 1

CLOCK = ManualClock(start=1000.0)
"""The clock of the tests that go through the table: GPM needs time to pass within a call of it."""

SCRIPTED = FakeGpu(
    name="Tested GPU",
    uuid="GPU-00000000-1111-2222-3333-444444444444",
    serial="0123",
    vbios="96.00.A",
    pci_bus_id="00000001:4F:00.0",
    architecture="blackwell",
    compute_capability=(10, 0),
    persistence_mode=False,
    utilization=0.97,
    memory_controller_utilization=0.41,
    encoder_utilization=0.05,
    decoder_utilization=0.06,
    tensor_activity=0.5,
    memory_total=80 * GIB,
    memory_reserved=1 * GIB,
    memory_used=10 * GIB,
    bar1_total=128 * GIB,
    bar1_used=1 * GIB,
    temperature=61.0,
    fans=2,
    fan_speed=0.42,
    fan_rpm=2150.0,
    power=312.345,
    power_limit=650.5,
    energy_offset=1000.0,
    sm_clock=1.755e9,
    performance_state=2,
    throttled_sw_power_cap=0.25,
    pcie_tx=2048.0,
    pcie_generation=4,
    pcie_width=8,
    pcie_replays=3,
    nvlinks=2,
    nvlinks_down=[1],
    nvlink_replays=7,
    ecc_uncorrected_volatile=2,
    remapped_correctable=1,
    remap_pending=1,
    remap_histogram=(636, 3, 0, 0, 1),
    page_retirement=True,
    retired_pending=1,
    processes=[
        FakeProcess(pid=41, memory=3 * GIB, sm_utilization=0.9, memory_utilization=0.3),
        FakeProcess(pid=42, kind="graphics"),
    ],
)


def fields(struct: Any) -> dict[str, object]:
    """Return a struct of the binding as a dict."""
    return {name: getattr(struct, name) for name, *_ in struct._fields_}


def handle(index: int = 0) -> Any:
    """Return the handle of a GPU, from the binding."""
    return pynvml.nvmlDeviceGetHandleByIndex(index)


def field_values(h: Any, *wanted: int | tuple[int, int]) -> list[tuple[int, int]]:
    """Ask for fields, each a number or a pair of number and scope; the code and the value of each, by its type."""
    member = {
        pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
        pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
        pynvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
    }
    return [
        (each.nvmlReturn, getattr(each.value, member[each.valueType]) if each.nvmlReturn == 0 else -1)
        for each in pynvml.nvmlDeviceGetFieldValues(h, list(wanted))
    ]


def gpm_metrics(take: Callable[[Any], object], *wanted: int, clock: ManualClock = CLOCK, seconds: float = 1.0) -> Any:
    """Take two samples of GPM with time between them, and return what is asked of them: code and value of each."""
    samples = pynvml.nvmlGpmSampleAlloc(), pynvml.nvmlGpmSampleAlloc()
    take(samples[0])
    clock.advance(seconds)
    take(samples[1])
    asked = pynvml.c_nvmlGpmMetricsGet_t()
    asked.version = pynvml.NVML_GPM_METRICS_GET_VERSION
    asked.numMetrics = len(wanted)
    asked.sample1, asked.sample2 = samples
    for place, metric in enumerate(wanted):
        asked.metrics[place].metricId = metric
    try:
        pynvml.nvmlGpmMetricsGet(asked)
    finally:
        for sample in samples:
            pynvml.nvmlGpmSampleFree(sample)
    return [(each.nvmlReturn, each.value) for each in asked.metrics[: len(wanted)]]


def gpu_sampler(h: Any) -> Callable[[Any], object]:
    """Take samples of a whole GPU."""
    return lambda sample: pynvml.nvmlGpmSampleGet(h, sample)


def _one_sample(h: Any) -> bool:
    sample = pynvml.nvmlGpmSampleAlloc()
    try:
        pynvml.nvmlGpmSampleGet(h, sample)
    finally:
        pynvml.nvmlGpmSampleFree(sample)
    return True


def _processes(found: Any) -> list[tuple[int, int | None]]:
    return [(each.pid, each.usedGpuMemory) for each in found]


def _latest(h: Any, kind: int) -> int:
    value: int = pynvml.nvmlDeviceGetSamples(h, kind, 0)[1][-1].sampleValue.uiVal
    return value


# What every C function gives through the binding for SCRIPTED ten seconds after install; `h` is its handle.
THROUGH_PYNVML: dict[str, tuple[Callable[[Any], object], object]] = {
    # The library.
    "nvmlInitWithFlags": (lambda _: pynvml.nvmlInitWithFlags(0), None),
    "nvmlShutdown": (lambda _: pynvml.nvmlShutdown(), None),
    "nvmlErrorString": (lambda _: pynvml.nvmlErrorString(pynvml.NVML_ERROR_GPU_IS_LOST), "GPU is lost"),
    "nvmlSystemGetDriverVersion": (lambda _: pynvml.nvmlSystemGetDriverVersion(), "580.95.05"),
    "nvmlSystemGetNVMLVersion": (lambda _: pynvml.nvmlSystemGetNVMLVersion(), "13.580.95.05"),
    "nvmlSystemGetCudaDriverVersion_v2": (lambda _: pynvml.nvmlSystemGetCudaDriverVersion_v2(), 13000),
    "nvmlDeviceGetCount_v2": (lambda _: pynvml.nvmlDeviceGetCount(), 1),
    # The device.
    "nvmlDeviceGetHandleByIndex_v2": (
        lambda _: pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(0)),
        SCRIPTED.uuid,
    ),
    "nvmlDeviceGetHandleByUUID": (
        lambda _: pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByUUID(SCRIPTED.uuid.encode())),
        0,
    ),
    "nvmlDeviceGetName": (pynvml.nvmlDeviceGetName, "Tested GPU"),
    "nvmlDeviceGetUUID": (pynvml.nvmlDeviceGetUUID, SCRIPTED.uuid),
    "nvmlDeviceGetIndex": (pynvml.nvmlDeviceGetIndex, 0),
    "nvmlDeviceGetSerial": (pynvml.nvmlDeviceGetSerial, "0123"),
    "nvmlDeviceGetVbiosVersion": (pynvml.nvmlDeviceGetVbiosVersion, "96.00.A"),
    "nvmlDeviceGetArchitecture": (pynvml.nvmlDeviceGetArchitecture, pynvml.NVML_DEVICE_ARCH_BLACKWELL),
    "nvmlDeviceGetCudaComputeCapability": (pynvml.nvmlDeviceGetCudaComputeCapability, (10, 0)),
    "nvmlDeviceGetPersistenceMode": (pynvml.nvmlDeviceGetPersistenceMode, 0),
    "nvmlDeviceGetPciInfo_v3": (
        lambda h: fields(pynvml.nvmlDeviceGetPciInfo_v3(h)),
        {
            "busIdLegacy": "0001:4F:00.0",
            "busId": "00000001:4F:00.0",
            "domain": 1,
            "bus": 0x4F,
            "device": 0,
            "pciDeviceId": 0x2330_10DE,
            "pciSubSystemId": 0x16C1_10DE,
        },
    ),
    # Utilization.
    "nvmlDeviceGetUtilizationRates": (
        lambda h: fields(pynvml.nvmlDeviceGetUtilizationRates(h)),
        {"gpu": 97, "memory": 41},
    ),
    "nvmlDeviceGetEncoderUtilization": (lambda h: pynvml.nvmlDeviceGetEncoderUtilization(h)[0], 5),
    "nvmlDeviceGetDecoderUtilization": (lambda h: pynvml.nvmlDeviceGetDecoderUtilization(h)[0], 6),
    "nvmlDeviceGetSamples": (lambda h: _latest(h, pynvml.NVML_GPU_UTILIZATION_SAMPLES), 97),
    # GPM.
    "nvmlGpmQueryDeviceSupport": (lambda h: pynvml.nvmlGpmQueryDeviceSupport(h).isSupportedDevice, 1),
    "nvmlGpmSampleAlloc": (lambda _: bool(pynvml.nvmlGpmSampleAlloc()), True),
    "nvmlGpmSampleFree": (lambda _: pynvml.nvmlGpmSampleFree(pynvml.nvmlGpmSampleAlloc()), None),
    "nvmlGpmSampleGet": (_one_sample, True),
    "nvmlGpmMetricsGet": (
        lambda h: gpm_metrics(gpu_sampler(h), pynvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL),
        [(0, 50.0)],
    ),
    # Memory.
    "nvmlDeviceGetMemoryInfo": (
        lambda h: fields(pynvml.nvmlDeviceGetMemoryInfo(h)),
        {"total": 80 * GIB, "free": 69 * GIB, "used": 11 * GIB},
    ),
    "nvmlDeviceGetMemoryInfo_v2": (
        lambda h: fields(pynvml.nvmlDeviceGetMemoryInfo(h, version=pynvml.nvmlMemory_v2)),
        {
            "version": pynvml.nvmlMemory_v2,
            "total": 80 * GIB,
            "reserved": 1 * GIB,
            "free": 69 * GIB,
            "used": 10 * GIB,
        },
    ),
    "nvmlDeviceGetBAR1MemoryInfo": (
        lambda h: fields(pynvml.nvmlDeviceGetBAR1MemoryInfo(h)),
        {"bar1Total": 128 * GIB, "bar1Free": 127 * GIB, "bar1Used": 1 * GIB},
    ),
    # Power, temperature, fans.
    "nvmlDeviceGetPowerUsage": (pynvml.nvmlDeviceGetPowerUsage, 312_345),
    "nvmlDeviceGetEnforcedPowerLimit": (pynvml.nvmlDeviceGetEnforcedPowerLimit, 650_500),
    "nvmlDeviceGetPowerManagementLimit": (pynvml.nvmlDeviceGetPowerManagementLimit, 650_500),
    "nvmlDeviceGetPowerManagementDefaultLimit": (pynvml.nvmlDeviceGetPowerManagementDefaultLimit, 700_000),
    "nvmlDeviceGetTotalEnergyConsumption": (pynvml.nvmlDeviceGetTotalEnergyConsumption, 4_123_450),
    "nvmlDeviceGetTemperatureV": (lambda h: pynvml.nvmlDeviceGetTemperatureV(h, pynvml.NVML_TEMPERATURE_GPU), 61),
    "nvmlDeviceGetTemperature": (lambda h: pynvml.nvmlDeviceGetTemperature(h, pynvml.NVML_TEMPERATURE_GPU), 61),
    "nvmlDeviceGetTemperatureThreshold": (
        lambda h: pynvml.nvmlDeviceGetTemperatureThreshold(h, pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN),
        89,
    ),
    "nvmlDeviceGetMarginTemperature": (pynvml.nvmlDeviceGetMarginTemperature, 28),
    "nvmlDeviceGetNumFans": (pynvml.nvmlDeviceGetNumFans, 2),
    "nvmlDeviceGetFanSpeed_v2": (lambda h: pynvml.nvmlDeviceGetFanSpeed_v2(h, 1), 42),
    "nvmlDeviceGetFanSpeedRPM": (pynvml.nvmlDeviceGetFanSpeedRPM, 2150),
    # Clocks.
    "nvmlDeviceGetClockInfo": (lambda h: pynvml.nvmlDeviceGetClockInfo(h, pynvml.NVML_CLOCK_SM), 1755),
    "nvmlDeviceGetMaxClockInfo": (lambda h: pynvml.nvmlDeviceGetMaxClockInfo(h, pynvml.NVML_CLOCK_MEM), 2619),
    "nvmlDeviceGetPerformanceState": (pynvml.nvmlDeviceGetPerformanceState, 2),
    "nvmlDeviceGetCurrentClocksEventReasons": (pynvml.nvmlDeviceGetCurrentClocksEventReasons, 0x4),
    "nvmlDeviceGetCurrentClocksThrottleReasons": (pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, 0x4),
    "nvmlDeviceGetViolationStatus": (
        lambda h: pynvml.nvmlDeviceGetViolationStatus(h, pynvml.NVML_PERF_POLICY_POWER).violationTime,
        2_500_000_000,
    ),
    # Links.
    "nvmlDeviceGetCurrPcieLinkGeneration": (pynvml.nvmlDeviceGetCurrPcieLinkGeneration, 4),
    "nvmlDeviceGetCurrPcieLinkWidth": (pynvml.nvmlDeviceGetCurrPcieLinkWidth, 8),
    "nvmlDeviceGetMaxPcieLinkGeneration": (pynvml.nvmlDeviceGetMaxPcieLinkGeneration, 5),
    "nvmlDeviceGetMaxPcieLinkWidth": (pynvml.nvmlDeviceGetMaxPcieLinkWidth, 16),
    "nvmlDeviceGetGpuMaxPcieLinkGeneration": (pynvml.nvmlDeviceGetGpuMaxPcieLinkGeneration, 5),
    "nvmlDeviceGetPcieReplayCounter": (pynvml.nvmlDeviceGetPcieReplayCounter, 3),
    "nvmlDeviceGetPcieThroughput": (lambda h: pynvml.nvmlDeviceGetPcieThroughput(h, pynvml.NVML_PCIE_UTIL_TX_BYTES), 2),
    "nvmlDeviceGetNvLinkState": (lambda h: [pynvml.nvmlDeviceGetNvLinkState(h, 0)], [1]),
    "nvmlDeviceGetNvLinkErrorCounter": (
        lambda h: pynvml.nvmlDeviceGetNvLinkErrorCounter(h, 0, pynvml.NVML_NVLINK_ERROR_DL_REPLAY),
        7,
    ),
    # Health.
    "nvmlDeviceGetEccMode": (pynvml.nvmlDeviceGetEccMode, [1, 1]),
    "nvmlDeviceGetTotalEccErrors": (
        lambda h: pynvml.nvmlDeviceGetTotalEccErrors(
            h, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
        ),
        2,
    ),
    "nvmlDeviceGetRemappedRows": (pynvml.nvmlDeviceGetRemappedRows, (1, 0, 1, 0)),
    "nvmlDeviceGetRowRemapperHistogram": (
        lambda h: fields(pynvml.nvmlDeviceGetRowRemapperHistogram(h)),
        {"max": 636, "high": 3, "partial": 0, "low": 0, "none": 1},
    ),
    "nvmlDeviceGetRetiredPagesPendingStatus": (pynvml.nvmlDeviceGetRetiredPagesPendingStatus, 1),
    "nvmlDeviceGetFieldValues": (lambda h: field_values(h, 185, 193, 83), [(0, 312_345), (0, -8), (0, 4_123_450)]),
    # Processes.
    "nvmlDeviceGetComputeRunningProcesses_v3": (
        lambda h: _processes(pynvml.nvmlDeviceGetComputeRunningProcesses_v3(h)),
        [(41, 3 * GIB)],
    ),
    "nvmlDeviceGetGraphicsRunningProcesses_v3": (
        lambda h: _processes(pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3(h)),
        [(42, None)],
    ),
    "nvmlDeviceGetProcessUtilization": (
        lambda h: [(each.pid, each.smUtil, each.memUtil) for each in pynvml.nvmlDeviceGetProcessUtilization(h, 0)],
        [(41, 90, 30), (42, 0, 0)],
    ),
    # MIG, of a GPU that is not split.
    "nvmlDeviceGetMigMode": (pynvml.nvmlDeviceGetMigMode, [0, 0]),
    "nvmlDeviceGetMaxMigDeviceCount": (pynvml.nvmlDeviceGetMaxMigDeviceCount, 7),
    "nvmlDeviceIsMigDeviceHandle": (lambda h: pynvml.nvmlDeviceIsMigDeviceHandle(h).value, 0),
}

SPLIT = FakeGpu(
    utilization=0.5,
    mig=[
        FakeMig(memory_used=3 * GIB, tensor_activity=0.25, gpu_instance_id=9),
        FakeMig(profile="2g.20gb", memory_total=20 * GIB, multiprocessors=32, slices=2, uuid="MIG-x", sm_activity=0.75),
    ],
    processes=[FakeProcess(pid=7, memory=GIB, gpu_instance_id=9, compute_instance_id=0)],
)


def mig_handle(h: Any, index: int = 0) -> Any:
    """Return the handle of a MIG device, from the binding."""
    return pynvml.nvmlDeviceGetMigDeviceHandleByIndex(h, index)


# What those functions give for SPLIT that a GPU which is not split has no answer for; `h` is the handle of the GPU.
THROUGH_MIG: dict[str, tuple[Callable[[Any], object], object]] = {
    "nvmlDeviceGetMigDeviceHandleByIndex": (
        lambda h: pynvml.nvmlDeviceGetUUID(mig_handle(h, 1)),
        "MIG-x",
    ),
    "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": (
        lambda h: pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig_handle(h))),
        0,
    ),
    "nvmlDeviceGetGpuInstanceId": (lambda h: pynvml.nvmlDeviceGetGpuInstanceId(mig_handle(h)), 9),
    "nvmlDeviceGetComputeInstanceId": (lambda h: pynvml.nvmlDeviceGetComputeInstanceId(mig_handle(h)), 0),
    "nvmlDeviceGetAttributes_v2": (
        lambda h: fields(pynvml.nvmlDeviceGetAttributes_v2(mig_handle(h, 1))),
        {
            "multiprocessorCount": 32,
            "sharedCopyEngineCount": 2,
            "sharedDecoderCount": 0,
            "sharedEncoderCount": 0,
            "sharedJpegCount": 0,
            "sharedOfaCount": 0,
            "gpuInstanceSliceCount": 2,
            "computeInstanceSliceCount": 2,
            "memorySizeMB": 20 * 1024,
        },
    ),
    "nvmlGpmMigSampleGet": (
        lambda h: gpm_metrics(
            lambda sample: pynvml.nvmlGpmMigSampleGet(h, 9, sample),
            pynvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL,
            pynvml.NVML_GPM_METRIC_PCIE_TX_PER_SEC,
        ),
        [(0, 25.0), (pynvml.NVML_ERROR_NOT_SUPPORTED, 0.0)],
    ),
}

ASKED_TWICE = {
    "nvmlDeviceGetSamples",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetProcessUtilization",
}
"""What the binding calls twice: for the number of entries, and for the entries."""

DEVICE_CALLS = sorted(name for name, symbol in SYMBOLS.items() if symbol.find and name in THROUGH_PYNVML)
HANDLE_CALLS = [name for name in DEVICE_CALLS if SYMBOLS[name].find is by_handle or SYMBOLS[name].inside]
"""Those that are given a handle, or samples of the device, rather than look for it."""


def in_thread(function: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Call a function on a daemon thread; its value, or the NVMLError it raised, is appended to the list."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(function())
        except pynvml.NVMLError as error:
            results.append(type(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, results


def binding_state() -> dict[str, object]:
    """Return what installing a fake may touch, the containers both by identity and by content."""
    cache = pynvml._nvmlGetFunctionPointer_cache
    texts = pynvml.NVMLError._errcode_to_string
    return {
        "nvmlLib": pynvml.nvmlLib,
        "loader": pynvml._LoadNvmlLibrary,
        "refcount": pynvml._nvmlLib_refcount,
        "cache": (id(cache), dict(cache)),
        "texts": (id(texts), dict(texts)),
    }


def run_python(code: str) -> str:
    """Run code in a fresh interpreter with the package on its path, and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(Path(testing.__file__).parents[2])}
    environment.pop("OTEL_PYTHON_HWMETRICS_FAKE_NVML", None)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
