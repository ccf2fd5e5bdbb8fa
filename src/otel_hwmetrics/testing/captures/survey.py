# SPDX-License-Identifier: Apache-2.0
"""What a monitor may want to know of a machine: the questions that are asked for a capture of general use.

They go through `pynvml`, so that a capture holds what the binding asks in fact. What this binding, driver or board has
not is asked all the same: that it is refused is part of the capture.

Left out is whatever changes something, and what blocks: nvmlDeviceGetPcieThroughput "is calculated over 20ms"
(nvml.h), so it is asked on demand only. This module imports `pynvml`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Final

import pynvml

# The binding's name of a function and its arguments after the device; a text is the name of a constant of the binding.
_Question = tuple[Any, ...]

_EVERY_LINK: Final = 2**32 - 1
_OTHER_LINKS: Final = range(1, 18)
_POWER_SCOPES: Final = (1, 2)  # the module and the memory; 0 is the GPU
# Drivers before 570 have room for this many metrics in nvmlGpmMetricsGet_t, and refuse the call that asks for more.
_FIRST_METRICS: Final = 98

SYSTEM: Final[tuple[_Question, ...]] = (
    ("nvmlSystemGetDriverVersion",),
    ("nvmlSystemGetNVMLVersion",),
    ("nvmlSystemGetCudaDriverVersion_v2",),
)

_CLOCKS: Final = ("NVML_CLOCK_GRAPHICS", "NVML_CLOCK_SM", "NVML_CLOCK_MEM", "NVML_CLOCK_VIDEO")
_THRESHOLDS: Final = ("SHUTDOWN", "SLOWDOWN", "MEM_MAX", "GPU_MAX", "ACOUSTIC_CURR", "GPS_CURR")
_ECC: Final = [
    (f"NVML_MEMORY_ERROR_TYPE_{error}", f"NVML_{counter}_ECC")
    for error in ("CORRECTED", "UNCORRECTED")
    for counter in ("VOLATILE", "AGGREGATE")
]

ONCE: Final[tuple[_Question, ...]] = (
    ("nvmlDeviceGetName",),
    ("nvmlDeviceGetUUID",),
    ("nvmlDeviceGetIndex",),
    ("nvmlDeviceGetMinorNumber",),
    ("nvmlDeviceGetSerial",),
    ("nvmlDeviceGetBoardPartNumber",),
    ("nvmlDeviceGetVbiosVersion",),
    ("nvmlDeviceGetBrand",),
    ("nvmlDeviceGetArchitecture",),
    ("nvmlDeviceGetCudaComputeCapability",),
    ("nvmlDeviceGetNumGpuCores",),
    ("nvmlDeviceGetMemoryBusWidth",),
    ("nvmlDeviceGetPciInfo",),
    ("nvmlDeviceGetMaxPcieLinkGeneration",),
    ("nvmlDeviceGetMaxPcieLinkWidth",),
    ("nvmlDeviceGetGpuMaxPcieLinkGeneration",),
    ("nvmlDeviceGetPcieLinkMaxSpeed",),
    ("nvmlDeviceGetPersistenceMode",),
    ("nvmlDeviceGetComputeMode",),
    ("nvmlDeviceGetCurrentEccMode",),
    ("nvmlDeviceGetPowerManagementDefaultLimit",),
    ("nvmlDeviceGetPowerManagementLimitConstraints",),
    ("nvmlDeviceGetSupportedClocksEventReasons",),
    ("nvmlDeviceGetSupportedEventTypes",),
    ("nvmlDeviceGetAddressingMode",),
    ("nvmlDeviceGetNumFans",),
    ("nvmlGpmQueryDeviceSupport",),
    ("nvmlDeviceIsMigDeviceHandle",),
    ("nvmlDeviceGetGpuInstanceId",),
    ("nvmlDeviceGetComputeInstanceId",),
    ("nvmlDeviceGetAttributes_v2",),
    ("nvmlDeviceGetDeviceHandleFromMigDeviceHandle",),
    *(("nvmlDeviceGetMaxClockInfo", clock) for clock in _CLOCKS),
    *(("nvmlDeviceGetTemperatureThreshold", f"NVML_TEMPERATURE_THRESHOLD_{name}") for name in _THRESHOLDS),
)

OFTEN: Final[tuple[_Question, ...]] = (
    ("nvmlDeviceGetUtilizationRates",),
    ("nvmlDeviceGetEncoderUtilization",),
    ("nvmlDeviceGetDecoderUtilization",),
    ("nvmlDeviceGetMemoryInfo",),
    ("nvmlDeviceGetMemoryInfo", "nvmlMemory_v2"),
    ("nvmlDeviceGetBAR1MemoryInfo",),
    ("nvmlDeviceGetPowerUsage",),
    ("nvmlDeviceGetTotalEnergyConsumption",),
    ("nvmlDeviceGetTemperatureV", "NVML_TEMPERATURE_GPU"),
    ("nvmlDeviceGetTemperature", "NVML_TEMPERATURE_GPU"),
    ("nvmlDeviceGetMarginTemperature",),
    ("nvmlDeviceGetPerformanceState",),
    ("nvmlDeviceGetCurrentClocksEventReasons",),
    ("nvmlDeviceGetCurrPcieLinkGeneration",),
    ("nvmlDeviceGetCurrPcieLinkWidth",),
    ("nvmlDeviceGetPcieReplayCounter",),
    *(("nvmlDeviceGetClockInfo", clock) for clock in _CLOCKS),
)

SELDOM: Final[tuple[_Question, ...]] = (
    ("nvmlDeviceGetMigMode",),
    ("nvmlDeviceGetPowerManagementLimit",),
    ("nvmlDeviceGetEnforcedPowerLimit",),
    ("nvmlDeviceGetFanSpeedRPM",),
    ("nvmlDeviceGetFanSpeed_v2", 0),
    ("nvmlDeviceGetFanSpeed_v2", 1),
    ("nvmlDeviceGetComputeRunningProcesses_v3",),
    ("nvmlDeviceGetGraphicsRunningProcesses_v3",),
    ("nvmlDeviceGetRemappedRows",),
    ("nvmlDeviceGetRowRemapperHistogram",),
    ("nvmlDeviceGetRetiredPages", "NVML_PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS"),
    ("nvmlDeviceGetRetiredPages", "NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR"),
    ("nvmlDeviceGetRetiredPagesPendingStatus",),
    *(("nvmlDeviceGetTotalEccErrors", *kind) for kind in _ECC),
)

PCIE_THROUGHPUT: Final[tuple[_Question, ...]] = (
    ("nvmlDeviceGetPcieThroughput", "NVML_PCIE_UTIL_TX_BYTES"),
    ("nvmlDeviceGetPcieThroughput", "NVML_PCIE_UTIL_RX_BYTES"),
)

_RINGS: Final = ("NVML_GPU_UTILIZATION_SAMPLES", "NVML_MEMORY_UTILIZATION_SAMPLES", "NVML_TOTAL_POWER_SAMPLES")


def _constants(prefix: str, limit: str) -> dict[str, int]:
    return {
        name: value
        for name, value in vars(pynvml).items()
        if name.startswith(prefix) and name != limit and isinstance(value, int)
    }


class _Subject:
    """A GPU or a MIG instance, and what asking it again needs."""

    def __init__(self, handle: Any, parent: Any = None, instance: int | None = None) -> None:
        self.handle = handle
        self.parent = parent
        self.instance = instance
        self.seen: dict[str, int] = {}
        self.samples: list[Any] = []


class Survey:
    """Asks every GPU and MIG instance what a monitor may ask.

    Use it on one thread: `open()`, then `ask()` once a round, then `close()`.

    Args:
        seldom: In how many rounds what is slow or changes seldom is asked once.
        pcie_throughput: Also ask the function that blocks for 20 ms a direction.
    """

    def __init__(self, *, seldom: int = 10, pcie_throughput: bool = False) -> None:
        self._seldom = seldom
        self._often = (*OFTEN, *(PCIE_THROUGHPUT if pcie_throughput else ()))
        fields = _constants("NVML_FI_", "NVML_FI_MAX")
        by_scope = {value for name, value in fields.items() if name.startswith("NVML_FI_DEV_POWER_")}
        self._fields = [
            *sorted(set(fields.values())),
            *((field, scope) for field in by_scope for scope in _POWER_SCOPES),
        ]
        self._by_link = {value for name, value in fields.items() if "NVLINK" in name}
        metrics = sorted(set(_constants("NVML_GPM_METRIC_", "NVML_GPM_METRIC_MAX").values()))
        self._metrics = (
            [metric for metric in metrics if metric < _FIRST_METRICS],
            [metric for metric in metrics if metric >= _FIRST_METRICS],
        )
        self._subjects: list[_Subject] = []
        self._events: Any = None
        self._round = 0

    def open(self) -> None:
        """Meet the devices.

        Raises:
            pynvml.NVMLError: NVML does not start here.
        """
        pynvml.nvmlInit()
        self._ask(SYSTEM)
        for index in range(pynvml.nvmlDeviceGetCount()):
            with contextlib.suppress(pynvml.NVMLError):
                gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
                self._subjects.append(_Subject(gpu))
                self._meet_instances(gpu)
        for subject in self._subjects:
            self._ask(ONCE, subject.handle)
            with contextlib.suppress(pynvml.NVMLError):
                subject.samples = [pynvml.nvmlGpmSampleAlloc(), pynvml.nvmlGpmSampleAlloc()]
                self._sample(subject)
        with contextlib.suppress(pynvml.NVMLError):
            self._events = pynvml.nvmlEventSetCreate()
        for subject in self._subjects:
            with contextlib.suppress(pynvml.NVMLError):
                kinds = pynvml.nvmlDeviceGetSupportedEventTypes(subject.handle)
                pynvml.nvmlDeviceRegisterEvents(subject.handle, kinds, self._events)

    def _meet_instances(self, gpu: Any) -> None:
        for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
            with contextlib.suppress(pynvml.NVMLError):
                handle = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)
                self._subjects.append(_Subject(handle, gpu, pynvml.nvmlDeviceGetGpuInstanceId(handle)))

    def ask(self) -> None:
        """Ask everything that is due in this round. What is refused is passed over: the recorder has noted it."""
        seldom = self._round % self._seldom == 0
        for subject in self._subjects:
            self._ask(self._often, subject.handle)
            self._ask_fields(subject, links=seldom)
            self._ask_rings(subject)
            self._ask_metrics(subject)
            if seldom:
                self._ask(SELDOM, subject.handle)
        self._drain()
        self._round += 1

    def close(self) -> None:
        """Free what was made, and release NVML."""
        for subject in self._subjects:
            for sample in subject.samples:
                with contextlib.suppress(pynvml.NVMLError):
                    pynvml.nvmlGpmSampleFree(sample)
        with contextlib.suppress(pynvml.NVMLError):
            if self._events is not None:
                pynvml.nvmlEventSetFree(self._events)
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
        self._subjects, self._events = [], None

    @staticmethod
    def _ask(questions: Sequence[_Question], *handle: Any) -> None:
        for name, *arguments in questions:
            # The binding of an earlier or later release may lack a function, or a constant.
            function = getattr(pynvml, name, None)
            values = [getattr(pynvml, each, None) if isinstance(each, str) else each for each in arguments]
            if function is not None and None not in values:
                with contextlib.suppress(pynvml.NVMLError):
                    function(*handle, *values)

    def _ask_fields(self, subject: _Subject, *, links: bool) -> None:
        """Ask all fields, and those that the first link has of all links together, or of each."""
        with contextlib.suppress(pynvml.NVMLError):
            values = pynvml.nvmlDeviceGetFieldValues(subject.handle, self._fields)
            had = [value.fieldId for value in values if value.fieldId in self._by_link and not value.nvmlReturn]
            scopes = (_EVERY_LINK, *_OTHER_LINKS) if links else (_EVERY_LINK,)
            if had:
                pynvml.nvmlDeviceGetFieldValues(subject.handle, [(field, scope) for field in had for scope in scopes])

    @staticmethod
    def _ask_rings(subject: _Subject) -> None:
        for name in _RINGS:
            with contextlib.suppress(pynvml.NVMLError):
                since = subject.seen.get(name, 0)
                _, samples = pynvml.nvmlDeviceGetSamples(subject.handle, getattr(pynvml, name), since)
                subject.seen[name] = max((sample.timeStamp for sample in samples), default=since)
        with contextlib.suppress(pynvml.NVMLError):
            since = subject.seen.get("processes", 0)
            processes = pynvml.nvmlDeviceGetProcessUtilization(subject.handle, since)
            subject.seen["processes"] = max((process.timeStamp for process in processes), default=since)

    @staticmethod
    def _sample(subject: _Subject) -> None:
        if subject.parent is None:
            pynvml.nvmlGpmSampleGet(subject.handle, subject.samples[1])
        else:
            pynvml.nvmlGpmMigSampleGet(subject.parent, subject.instance, subject.samples[1])

    def _ask_metrics(self, subject: _Subject) -> None:
        if not subject.samples:
            return
        subject.samples.reverse()
        with contextlib.suppress(pynvml.NVMLError):
            self._sample(subject)
            for metrics in self._metrics:
                request = pynvml.c_nvmlGpmMetricsGet_t()
                request.version = pynvml.NVML_GPM_METRICS_GET_VERSION
                request.numMetrics = len(metrics)
                request.sample1, request.sample2 = subject.samples
                for place, metric in enumerate(metrics):
                    request.metrics[place].metricId = metric
                with contextlib.suppress(pynvml.NVMLError):
                    pynvml.nvmlGpmMetricsGet(request)

    def _drain(self) -> None:
        if self._events is None:
            return
        # It raises NVML_ERROR_TIMEOUT once there is no more.
        with contextlib.suppress(pynvml.NVMLError):
            while True:
                pynvml.nvmlEventSetWait_v2(self._events, 0)
