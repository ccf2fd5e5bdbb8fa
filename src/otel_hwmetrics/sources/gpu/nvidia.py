# SPDX-License-Identifier: Apache-2.0
"""NVIDIA GPUs, through NVML by nvidia-ml-py; the only file that knows ``pynvml``.

Device calls are asked once a sample and GPU; handles, names and UUIDs once in the source's life. NVML's units
(milliwatts, millijoules, percent) become SI in the reader. https://docs.nvidia.com/deploy/nvml-api/
"""

from __future__ import annotations

import importlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from opentelemetry.semconv._incubating.attributes.hw_attributes import HwGpuTaskValues

from otel_hwmetrics.catalog import gpu as rows
from otel_hwmetrics.model import Series
from otel_hwmetrics.sources.base import Batch, Bench, Clock, Reader, Source, SourceUnavailable
from otel_hwmetrics.sources.gpu.base import Identity, visible

Pairs = Iterator[tuple[Series, float]]

_logger = logging.getLogger(__name__)

_NOT_AVAILABLE = 2**64 - 1
# NVML_VALUE_NOT_AVAILABLE as an unsigned 64-bit number: all ones (nvml.h).
_MOST_MILLIWATTS = 100_000_000
_MOST_CELSIUS = 250
# Beyond what any board can have; what drivers give instead of an error (all ones, negative) is far beyond.


class Gpu:
    """One GPU: its handle and its series, each made once."""

    def __init__(self, nvml: Any, handle: Any, identity: Identity) -> None:
        self.nvml = nvml
        self.handle = handle
        self.identity = identity
        device = identity.device()
        self.utilization = Series(rows.UTILIZATION, {**device, rows.HW_GPU_TASK: HwGpuTaskValues.GENERAL.value})
        self.memory_usage = Series(rows.MEMORY_USAGE, device)
        self.memory_limit = Series(rows.MEMORY_LIMIT, device)
        self.energy = Series(rows.ENERGY, device)
        self.power = Series(rows.POWER, device)
        self.power_limit = Series(rows.POWER_LIMIT, device)
        self.temperature = Series(rows.TEMPERATURE, identity.sensor("temperature", "gpu"))


def _within(value: int, most: int, what: str, *, least: int = 0) -> int:
    """The value, if the driver can have meant it.

    Raises:
        ValueError: It is a sentinel or garbage.
    """
    if not least <= value <= most:
        raise ValueError(f"the driver says {value} for {what}")
    return value


def _utilization(gpu: Gpu) -> Pairs:
    percent = gpu.nvml.nvmlDeviceGetUtilizationRates(gpu.handle).gpu
    yield gpu.utilization, _within(percent, 100, "utilization") / 100


def _memory_v2(gpu: Gpu) -> Pairs:
    # The second version tells what the driver reserves for itself apart from "used"; the first adds the two.
    return _memory_of(gpu, gpu.nvml.nvmlDeviceGetMemoryInfo(gpu.handle, version=gpu.nvml.nvmlMemory_v2))


def _memory_v1(gpu: Gpu) -> Pairs:
    return _memory_of(gpu, gpu.nvml.nvmlDeviceGetMemoryInfo(gpu.handle))


def _memory_of(gpu: Gpu, memory: Any) -> Pairs:
    yield gpu.memory_limit, _within(memory.total, _NOT_AVAILABLE - 1, "memory size")
    yield gpu.memory_usage, _within(memory.used, memory.total, "memory used")


def _energy(gpu: Gpu) -> Pairs:
    millijoules = gpu.nvml.nvmlDeviceGetTotalEnergyConsumption(gpu.handle)
    yield gpu.energy, _within(millijoules, _NOT_AVAILABLE - 1, "energy") / 1000


def _power(gpu: Gpu) -> Pairs:
    milliwatts = gpu.nvml.nvmlDeviceGetPowerUsage(gpu.handle)
    yield gpu.power, _within(milliwatts, _MOST_MILLIWATTS, "power") / 1000


def _enforced_power_limit(gpu: Gpu) -> Pairs:
    yield gpu.power_limit, _limit(gpu.nvml.nvmlDeviceGetEnforcedPowerLimit(gpu.handle))


def _managed_power_limit(gpu: Gpu) -> Pairs:
    yield gpu.power_limit, _limit(gpu.nvml.nvmlDeviceGetPowerManagementLimit(gpu.handle))


def _limit(milliwatts: int) -> float:
    return _within(milliwatts, _MOST_MILLIWATTS, "the power limit") / 1000


def _temperature_v(gpu: Gpu) -> Pairs:
    yield gpu.temperature, _celsius(gpu.nvml.nvmlDeviceGetTemperatureV(gpu.handle, gpu.nvml.NVML_TEMPERATURE_GPU))


def _temperature_before_v(gpu: Gpu) -> Pairs:
    # Deprecated in NVML 13; drivers before 575 have only this.
    yield gpu.temperature, _celsius(gpu.nvml.nvmlDeviceGetTemperature(gpu.handle, gpu.nvml.NVML_TEMPERATURE_GPU))


def _celsius(degrees: int) -> int:
    return _within(degrees, _MOST_CELSIUS, "temperature", least=-_MOST_CELSIUS)


READERS: tuple[Reader[Gpu], ...] = (
    Reader((rows.UTILIZATION,), _utilization),
    Reader(
        (rows.MEMORY_USAGE, rows.MEMORY_LIMIT),
        _memory_v2,
        instead=Reader((rows.MEMORY_USAGE, rows.MEMORY_LIMIT), _memory_v1),
    ),
    # Power follows from energy (the mean over the window, with nothing missed between two looks); boards that do not
    # count energy (before Volta) tell the power of the moment.
    Reader((rows.ENERGY,), _energy, instead=Reader((rows.POWER,), _power)),
    Reader((rows.POWER_LIMIT,), _enforced_power_limit, instead=Reader((rows.POWER_LIMIT,), _managed_power_limit)),
    Reader((rows.TEMPERATURE,), _temperature_v, instead=Reader((rows.TEMPERATURE,), _temperature_before_v)),
)


class NvidiaSource(Source):
    """The job's NVIDIA GPUs. A driver call may block for as long as the driver likes, so it has a thread of its own."""

    name: ClassVar[str] = "nvidia"
    may_hang: ClassVar[bool] = True

    def __init__(
        self, gpus: str = "visible", environ: Mapping[str, str] | None = None, clock: Clock = time.monotonic
    ) -> None:
        """Args: gpus: the option; environ: where ``CUDA_VISIBLE_DEVICES`` is; clock: stamps the readings."""
        self._gpus = gpus
        self._environ = os.environ if environ is None else environ
        self._clock = clock
        self._nvml: Any = None
        self._benches: list[Bench[Gpu]] = []

    def open(self) -> None:
        """Load NVML and meet the GPUs. Without persistence mode the driver may take seconds over this.

        Raises:
            SourceUnavailable: No library, no driver, no GPU, or none that the job may see.
        """
        nvml = _load()
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            raise SourceUnavailable(self.name, *_why_not(nvml, error)) from error
        self._nvml = nvml
        try:
            self._benches = [
                Bench(
                    gpu,
                    READERS,
                    unsupported=(nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound),
                    expected=(nvml.NVMLError, ValueError),
                )
                for gpu in self._meet(nvml)
            ]
        except BaseException:
            self.close()
            raise

    def _meet(self, nvml: Any) -> list[Gpu]:
        try:
            driver = _text(nvml.nvmlSystemGetDriverVersion())
        except nvml.NVMLError:
            driver = None
        found: dict[int, tuple[Any, str, str]] = {}
        try:
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            raise SourceUnavailable(self.name, *_why_not(nvml, error)) from error
        for index in range(count):
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                found[index] = (handle, _text(nvml.nvmlDeviceGetUUID(handle)), _text(nvml.nvmlDeviceGetName(handle)))
            except nvml.NVMLError as error:
                # One GPU that is lost or not ours must not take the others along.
                # Its text is the driver's: asked for here, not by whatever thread a log handler formats on.
                _logger.warning("GPU %d cannot be opened and is left out: %s", index, str(error))
        if not found:
            raise SourceUnavailable(self.name, "the driver shows no GPU", "is one passed into the container?")
        # A GPU that could not be opened keeps its place, or the ordinals after it would be wrong.
        uuids = [found[index][1] if index in found else "" for index in range(count)]
        setting = self._environ.get("CUDA_VISIBLE_DEVICES") if self._gpus == "visible" else None
        gpus = [
            Gpu(nvml, found[index][0], Identity(uuids[index], index, found[index][2], "NVIDIA", driver))
            for index in visible(setting, uuids)
            if index in found
        ]
        if not gpus:
            raise SourceUnavailable(
                self.name,
                f"CUDA_VISIBLE_DEVICES={setting!r} leaves this job none of the machine's {len(found)} GPUs",
                "gpus=all reports them all the same",
            )
        return gpus

    def read(self) -> Batch:
        """Ask every GPU once. A GPU that fails loses its own readings; the others are read all the same."""
        batch = Batch()
        for bench in self._benches:
            bench.read_into(batch, self._clock)
        return batch

    def close(self) -> None:
        """Release NVML, which counts its users; another library's use of it in this process goes on."""
        if self._nvml is not None:
            nvml, self._nvml, self._benches = self._nvml, None, []
            try:
                nvml.nvmlShutdown()
            except nvml.NVMLError as error:
                _logger.debug("NVML could not be shut down: %s", str(error))


def _load() -> Any:
    """The module ``pynvml``, if it is NVIDIA's own.

    Raises:
        SourceUnavailable: It is not installed, or another package has taken its name.
    """
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError as error:
        raise SourceUnavailable("nvidia", "nvidia-ml-py is not installed", "pip install nvidia-ml-py") from error
    if not hasattr(nvml, "nvmlDeviceGetFieldValues"):
        raise SourceUnavailable(
            "nvidia",
            f"the module pynvml at {getattr(nvml, '__file__', '?')} is not NVIDIA's",
            "pip uninstall pynvml; pip install --force-reinstall nvidia-ml-py",
        )
    return nvml


def _why_not(nvml: Any, error: Exception) -> tuple[str, str]:
    """Cause and mend, in the user's words."""
    code = getattr(error, "value", None)
    known = {
        nvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
            "no NVIDIA driver here (its library libnvidia-ml.so.1 is not found)",
            "in a container, start it with the NVIDIA runtime and NVIDIA_DRIVER_CAPABILITIES=utility",
        ),
        nvml.NVML_ERROR_DRIVER_NOT_LOADED: (
            "the NVIDIA kernel driver is not loaded",
            "see dmesg; modprobe nvidia",
        ),
        nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
            "NVML and the kernel driver are of different versions",
            "reboot or reload the driver after its upgrade",
        ),
        nvml.NVML_ERROR_NO_PERMISSION: (
            "no permission to talk to the NVIDIA driver",
            "check the access rights of /dev/nvidia*",
        ),
    }
    return known.get(code, (f"NVML does not start: {error}", "does nvidia-smi work here?"))


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
