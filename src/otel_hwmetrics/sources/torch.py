# SPDX-License-Identifier: Apache-2.0
"""The memory of PyTorch's caching allocators, once the job itself has begun to use a device.

PyTorch is never imported and no device is initialised here: what is looked at are the modules that the job has loaded,
and of those ``is_initialized``, which is also false in a child forked after initialisation. Nothing here calls the CUDA
runtime, so nothing can create a context (hundreds of megabytes on each GPU), synchronise, or spoil a graph that the
job is capturing. What is called, and why it may be, from any thread:

- ``torch.cuda.memory_stats_as_nested_dict`` copies the allocator's own books, which lie in host memory, under the lock of
  that device's allocator. No kernel is waited for. It keeps the interpreter's lock meanwhile, so where another thread is
  inside cudaMalloc, or is freeing the cache after cudaMalloc failed, both wait until that is over. That order, first the
  interpreter's lock and then the allocator's, is PyTorch's own. Freeing the cache waits for the device, and a device may
  wait for a collective that another Python thread has yet to start on another device: then nobody could go on. So a
  process that uses several GPUs is left alone unless the user asks for this source by name.
- ``torch.cuda.get_device_properties`` gives what initialisation has read of every device.
- ``torch.cuda.get_allocator_backend`` names the allocator. Only PyTorch's ``native`` one is asked for its statistics:
  those of ``cudaMallocAsync`` initialise the device and ask the CUDA runtime, and a pluggable one may do anything.

Sources: ``torch/csrc/cuda/Module.cpp``, ``c10/cuda/CUDACachingAllocator.cpp`` and ``torch/cuda/`` of
https://github.com/pytorch/pytorch.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from otel_hwmetrics import redaction
from otel_hwmetrics.catalog import framework as rows
from otel_hwmetrics.catalog.gpu import CUDA_ORDINAL, HW_ID, HW_MODEL
from otel_hwmetrics.model import Attribute, Metric, Series
from otel_hwmetrics.sources.base import Batch, Bench, Clock, Reader, Source, Unsupported, next_due
from otel_hwmetrics.sources.exchange import EXCHANGE
from otel_hwmetrics.sources.exchange import READER as EXCHANGE_READER

_logger = redaction.logger(__name__)

Pairs = Iterator[tuple[Series, float]]

UNUSED_EVERY = 5.0
"""Seconds between two looks at a device that the job does not use yet."""
OTHER_EVERY = 5.0
"""Seconds between two questions to the driver."""

_MOST = 2**60
"""No device has that many bytes; a negative number that was read as unsigned has more."""

_EXPECTED = (RuntimeError, AssertionError, AttributeError, ValueError, TypeError)
"""What PyTorch raises where a device or a build is broken (its own errors are RuntimeErrors), and what follows from
names and types that a version does not have."""


class Device:
    """One device that the job may use.

    Args:
        module: ``torch.cuda`` or ``torch.xpu``, initialised.
        kind: What PyTorch calls its devices.
        ordinal: Which.
    """

    def __init__(self, module: Any, kind: str, ordinal: int) -> None:
        self.module = module
        self.ordinal = ordinal
        self.used = False
        self.due = 0.0
        self._kind = kind
        self._stats: Mapping[str, Any] | None = None
        self._error: Exception | None = None
        self._attributes: dict[str, Attribute] | None = None
        self._series: dict[Metric, Series] = {}
        self.bench = Bench(self, READERS[kind], expected=_EXPECTED, phase=(ordinal % 8) / 8)

    def begin(self) -> None:
        """Forget the statistics of the last look."""
        self._stats = self._error = None

    def statistics(self) -> Mapping[str, Any]:
        """The allocator's statistics, asked for once a look; an error counts for all that are read from them.

        Raises:
            ValueError: They are none.
            RuntimeError: They cannot be had; or whatever else PyTorch raises.
        """
        if self._error is not None:
            raise self._error
        if self._stats is None:
            try:
                self._stats = self._ask()
            except _EXPECTED as error:
                self._error = error
                raise
        return self._stats

    def again(self) -> int:
        """How much the allocator holds now, by statistics of this very moment. Raises what `statistics` does."""
        return _number(self._ask(), "reserved_bytes", "all", "current")

    def _ask(self) -> Mapping[str, Any]:
        stats = self.module.memory_stats_as_nested_dict(self.ordinal)
        if not isinstance(stats, Mapping) or not stats:
            raise ValueError(f"the memory statistics of {self._kind}:{self.ordinal} are no statistics")
        return stats

    def series(self, metric: Metric) -> Series:
        """The series of a metric of this device; made once. Raises what PyTorch raises of its properties."""
        series = self._series.get(metric)
        if series is None:
            series = self._series[metric] = Series(metric, self.attributes())
        return series

    def attributes(self) -> dict[str, Attribute]:
        """What it is: PyTorch's name of it, and by what the GPU's other metrics know it. Read once."""
        if self._attributes is None:
            properties = self.module.get_device_properties(self.ordinal)
            attributes: dict[str, Attribute] = {rows.TORCH_DEVICE: f"{self._kind}:{self.ordinal}"}
            if isinstance(name := getattr(properties, "name", None), str) and name:
                attributes[HW_MODEL] = name
            if self._kind == "cuda":
                attributes[CUDA_ORDINAL] = self.ordinal
                if hw_id := _driver_s_id(properties):
                    attributes[HW_ID] = hw_id
            self._attributes = attributes
        return self._attributes

    def look(self) -> bool:
        """Whether the job has ever used it; asked until it has. The books of one that it has not are there, and empty.

        Raises what `statistics` does, and what follows from statistics that are none.
        """
        stats = self.statistics()
        self.used = any(_number(stats, "reserved_bytes", "all", key) > 0 for key in ("current", "peak"))
        return self.used


def _driver_s_id(properties: Any) -> str:
    """The UUID as NVML writes it; empty where it cannot be known.

    PyTorch has it since 2.5. On ROCm it is not the one that amdsmi tells. On a MIG instance it depends on CUDA's version
    whether it is the instance's or that of its GPU, so there NVML has to know it, if it has been started.
    """
    uuid = getattr(properties, "uuid", None)
    torch = sys.modules.get("torch")
    if uuid is None or getattr(getattr(torch, "version", None), "hip", None):
        return ""
    if " MIG " not in str(getattr(properties, "name", "")):
        return f"GPU-{uuid}"
    nvml: Any = sys.modules.get("pynvml")
    if nvml is None:
        return ""
    try:
        nvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}".encode())
    except nvml.NVMLError:
        return ""
    return f"MIG-{uuid}"


def _number(stats: Mapping[str, Any], *path: str) -> int:
    """One number of the statistics.

    Raises:
        Unsupported: This version, or this allocator, does not have it.
        TypeError: It is not where it should be.
        ValueError: It is no count.
    """
    value: Any = stats
    for key in path:
        if not isinstance(value, Mapping):
            raise TypeError(f"{'.'.join(path)} lies in {value!r}")
        if key not in value:
            raise Unsupported
        value = value[key]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MOST:
        raise ValueError(f"{'.'.join(path)} is {value!r}")
    return value


def _reader(metric: Metric, kind: str, *path: str) -> Reader[Device]:
    def read(device: Device) -> Pairs:
        yield device.series(metric), _number(device.statistics(), *path)

    return Reader(
        (metric,), read, call=f"torch.{kind}.memory_stats: {'.'.join(path)}", where=f"PyTorch on {_WHERE[kind]}"
    )


def _other(device: Device, version: Any) -> Pairs:
    """What of the GPU is in use and not the allocator's, by the driver's book and the allocator's.

    Asked of NVML and not of cudaMemGetInfo, which belongs to the CUDA runtime. NVML is not started here: where nobody has,
    there is no answer. The two books are read one after the other, so the allocator's must be the same before and after.
    """
    nvml: Any = sys.modules.get("pynvml")
    hw_id = device.attributes().get(HW_ID)
    if not isinstance(hw_id, str):
        raise Unsupported
    if nvml is None:
        return
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(hw_id.encode())
        before = device.again()
        memory = nvml.nvmlDeviceGetMemoryInfo(handle, **version(nvml))
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound) as error:
        raise Unsupported from error
    except nvml.NVMLError_Uninitialized:
        return
    except nvml.NVMLError as error:
        raise RuntimeError(f"NVML does not tell the memory of {hw_id}: {error}") from error
    other = memory.used - before
    if device.again() == before and 0 <= other <= memory.total:
        yield device.series(rows.TORCH_OTHER), other


_WHERE = {"cuda": "NVIDIA and AMD GPUs, with its native allocator", "xpu": "Intel GPUs"}
_OTHER_WHERE = "NVIDIA GPUs with PyTorch 2.5 and newer, while the source nvidia is on"

_LEVELS = (
    (rows.TORCH_ALLOCATED, "allocated_bytes", "all", "current"),
    (rows.TORCH_ALLOCATED_PEAK, "allocated_bytes", "all", "peak"),
    (rows.TORCH_RESERVED, "reserved_bytes", "all", "current"),
    (rows.TORCH_RESERVED_PEAK, "reserved_bytes", "all", "peak"),
)

READERS: dict[str, tuple[Reader[Device], ...]] = {
    "cuda": (
        *(_reader(metric, "cuda", *path) for metric, *path in _LEVELS),
        _reader(rows.TORCH_INACTIVE_SPLIT, "cuda", "inactive_split_bytes", "all", "current"),
        _reader(rows.TORCH_RETRIES, "cuda", "num_alloc_retries"),
        _reader(rows.TORCH_OOMS, "cuda", "num_ooms"),
        Reader(
            (rows.TORCH_OTHER,),
            lambda device: _other(device, lambda nvml: {"version": nvml.nvmlMemory_v2}),
            instead=Reader(
                (rows.TORCH_OTHER,),
                lambda device: _other(device, lambda _: {}),
                every=OTHER_EVERY,
                call="nvmlDeviceGetMemoryInfo",
                where=_OTHER_WHERE,
            ),
            every=OTHER_EVERY,
            call="nvmlDeviceGetMemoryInfo_v2",
            where=_OTHER_WHERE,
        ),
    ),
    # Its allocator counts neither fragments nor failures.
    "xpu": tuple(_reader(metric, "xpu", *path) for metric, *path in _LEVELS),
}
"""What is read of each kind of device.

Not of Apple's (``torch.mps``): it has no way to ask whether the job uses it that does not start Metal.
"""


class TorchSource(Source):
    """The job's own PyTorch allocators: nothing until it has imported PyTorch and used a device.

    Peaks are the allocator's, since the job last called ``reset_peak_memory_stats``; they are never reset here.

    Args:
        clock: Monotonic seconds.
        several: Also read the allocators of a process that uses more than one GPU.
    """

    name: ClassVar[str] = "torch"
    may_hang: ClassVar[bool] = True  # an allocator that waits for its driver keeps its lock; NVML may hang, too

    def __init__(self, clock: Clock = time.monotonic, *, several: bool = True) -> None:
        self._clock = clock
        self._several = several
        self._told = False
        self._devices: dict[str, list[Device]] = {}
        self._exchange = Bench(EXCHANGE, (EXCHANGE_READER,), expected=_EXPECTED)

    @property
    def dormant(self) -> bool:
        """Until the job has imported PyTorch."""
        return not any(f"torch.{kind}" in sys.modules for kind in READERS)

    def read(self) -> Batch:
        """Read the allocator of each device that the job uses once."""
        batch = Batch()
        for kind in READERS:
            module: Any = sys.modules.get(f"torch.{kind}")
            if module is not None:
                self._read_kind(kind, module, batch)
        self._exchange.read_into(batch, self._clock)
        return batch

    def _read_kind(self, kind: str, module: Any, batch: Batch) -> None:
        try:
            if not _in_use(module):
                return
            devices = self._devices.get(kind)
            if devices is None:
                devices = self._devices[kind] = _devices(kind, module)
        except _EXPECTED as error:
            batch.lose(type(error).__name__)
            return
        if not self._several and self._uses_several(devices):
            return
        for device in devices:
            device.begin()
            if device.used or self._finds_used(device, batch):
                device.bench.read_into(batch, self._clock)

    def _uses_several(self, devices: list[Device]) -> bool:
        several = sum(device.used for device in devices) > 1
        if several and not self._told:
            self._told = True
            _logger.info(
                "This process uses several GPUs: PyTorch's memory is not read, since waiting for one allocator could "
                "hold up the others. With torch among the named sources it is."
            )
        return several

    def _finds_used(self, device: Device, batch: Batch) -> bool:
        now = self._clock()
        if now < device.due:
            return False
        device.due = next_due(now, UNUSED_EVERY)
        try:
            return device.look()
        except Unsupported:
            device.due = float("inf")
            return False
        except _EXPECTED as error:
            batch.lose(type(error).__name__)
            return False


def _in_use(module: Any) -> bool:
    """Whether the job has initialised it, in this very process and not before it was forked."""
    # While the job is importing PyTorch its modules are there and not all of their names are.
    is_initialized = getattr(module, "is_initialized", None)
    is_in_bad_fork = getattr(module, "_is_in_bad_fork", None)
    if is_initialized is None or (is_in_bad_fork is not None and is_in_bad_fork()):
        return False
    return is_initialized() is True


def _devices(kind: str, module: Any) -> list[Device]:
    """The devices whose books may be read. PyTorch has counted them when it was initialised."""
    if kind == "cuda":
        backend = getattr(module, "get_allocator_backend", None)
        if backend is not None and backend() != "native":
            return []
    count = module.device_count()
    if not isinstance(count, int):
        raise TypeError(f"torch.{kind}.device_count() is {count!r}")
    return [Device(module, kind, ordinal) for ordinal in range(count)]
