# SPDX-License-Identifier: Apache-2.0
"""The memory of JAX's allocators, once the job itself has initialised a backend.

JAX is never imported and no backend initialised here. Every public way to the devices (``jax.devices``) initialises
those that are not yet, and JAX's own ``backends_are_initialized`` waits for the lock that is held while they are, which
on a TPU pod is minutes. So the table of initialised backends is looked at itself, ``_backends`` of ``jax._src.xla_bridge``;
it is private, and where a version does not have it, there is nothing to tell.

What a device tells: https://docs.jax.dev/en/latest/device_memory_profiling.html and
https://docs.jax.dev/en/latest/gpu_memory_allocation.html
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from otel_hwmetrics.catalog import framework as rows
from otel_hwmetrics.catalog.gpu import CUDA_ORDINAL, HW_MODEL
from otel_hwmetrics.model import Attribute, Metric, Series
from otel_hwmetrics.sources.base import Batch, Bench, Clock, Reader, Source, Unsupported

Pairs = Iterator[tuple[Series, float]]

PLATFORMS = {"gpu", "cuda", "rocm", "tpu"}
"""Those whose devices have memory of their own; a backend of the CPU has the host's."""

_MOST = 2**60
"""No device has that many bytes; an allocator without a limit says the greatest number there is."""

_EXPECTED = (RuntimeError, AttributeError, ValueError, TypeError, NotImplementedError)
"""What JAX raises where a device is broken (its own errors are RuntimeErrors), and what follows from names and types that
a version does not have."""


class Device:
    """One local device of an initialised backend.

    Args:
        device: JAX's own object.
        client: The backend that it belongs to.
    """

    def __init__(self, device: Any, client: Any) -> None:
        self.device = device
        attributes: dict[str, Attribute] = {rows.JAX_DEVICE: f"{device.platform}:{device.id}"}
        if isinstance(kind := getattr(device, "device_kind", None), str) and kind:
            attributes[HW_MODEL] = kind
        # For CUDA's devices the opaque number of the hardware is CUDA's ordinal; for AMD's it is HIP's. The version reads
        # "cuda 12090", with a line on the plugin before it where the backend is one.
        ordinal = getattr(device, "local_hardware_id", None)
        if "cuda" in str(getattr(client, "platform_version", "")).lower() and type(ordinal) is int:
            attributes[CUDA_ORDINAL] = ordinal
        self.series = {metric: Series(metric, attributes) for metric in KEYS}
        self._stats: Mapping[str, Any] | None = None
        self.bench = Bench(self, READERS, expected=_EXPECTED)

    def begin(self) -> None:
        """Ask for the statistics. Raises RuntimeError, or whatever else JAX raises, where they cannot be had."""
        self._stats = None
        self._stats = self.device.memory_stats()

    def number(self, key: str) -> int:
        """One number of the statistics.

        Raises:
            Unsupported: This device or its allocator does not have it.
            TypeError: They are no statistics.
            ValueError: It is no count of bytes.
        """
        stats = self._stats
        if stats is None:
            raise Unsupported
        if not isinstance(stats, Mapping):
            raise TypeError(f"memory_stats() gives {stats!r}")
        if key not in stats:
            raise Unsupported
        value = stats[key]
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MOST:
            raise ValueError(f"{key} is {value!r}")
        return value


KEYS = {
    rows.JAX_ALLOCATED: "bytes_in_use",
    rows.JAX_ALLOCATED_PEAK: "peak_bytes_in_use",
    rows.JAX_RESERVED: "pool_bytes",
    rows.JAX_LIMIT: "bytes_limit",
}
"""What JAX calls each metric."""


def _reader(metric: Metric, key: str) -> Reader[Device]:
    def read(device: Device) -> Pairs:
        yield device.series[metric], device.number(key)

    return Reader((metric,), read, call=f"jax.Device.memory_stats: {key}", where="JAX on GPUs and TPUs")


READERS = tuple(_reader(metric, key) for metric, key in KEYS.items())
"""What is read of each device."""


class JaxSource(Source):
    """The job's own JAX allocators: nothing until it has imported JAX and initialised a backend of GPUs or TPUs.

    Args:
        clock: Monotonic seconds.
    """

    name: ClassVar[str] = "jax"
    may_hang: ClassVar[bool] = True  # a plugin's call may ask a driver or a remote runtime

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._devices: dict[str, tuple[Any, list[Device]]] = {}

    @property
    def dormant(self) -> bool:
        """Until the job has imported JAX."""
        return "jax" not in sys.modules

    def read(self) -> Batch:
        """Read the allocator of each local device once."""
        batch = Batch()
        bridge: Any = sys.modules.get("jax._src.xla_bridge")
        backends = getattr(bridge, "_backends", None)
        if not isinstance(backends, dict) or not backends:
            self._devices.clear()  # a job may give its backends up; then their devices are no more
            return batch
        clients = dict(backends)
        self._devices = {name: known for name, known in self._devices.items() if name in clients}
        for name, client in clients.items():
            self._read_client(name, client, batch)
        return batch

    def _read_client(self, name: str, client: Any, batch: Batch) -> None:
        try:
            known, devices = self._devices.get(name, (None, []))
            if known is not client:
                devices = [Device(each, client) for each in client.local_devices() if each.platform in PLATFORMS]
                self._devices[name] = (client, devices)
        except _EXPECTED as error:
            batch.lose(type(error).__name__)
            return
        for device in devices:
            try:
                device.begin()
            except _EXPECTED as error:
                batch.lose(type(error).__name__, len(KEYS))
                continue
            device.bench.read_into(batch, self._clock)
