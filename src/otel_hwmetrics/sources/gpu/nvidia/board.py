# SPDX-License-Identifier: Apache-2.0
"""One device at work: its readers, its fields, its activity counters, and whether it answers at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from opentelemetry.semconv._incubating.attributes.hw_attributes import HwStateValues

from otel_hwmetrics._guard import guard
from otel_hwmetrics.catalog import gpu_health as health
from otel_hwmetrics.catalog.gpu_activity import PROCESS_MEMORY
from otel_hwmetrics.model import Reading
from otel_hwmetrics.sources.base import Batch, Bench, Clock, Reader
from otel_hwmetrics.sources.gpu.nvidia.device import Gpu
from otel_hwmetrics.sources.gpu.nvidia.fields import Fields
from otel_hwmetrics.sources.gpu.nvidia.gpm import PARTS, Gpm
from otel_hwmetrics.sources.gpu.nvidia.library import permanent
from otel_hwmetrics.sources.gpu.nvidia.readers import INSTANCE_READERS, READERS
from otel_hwmetrics.sources.gpu.nvidia.table import FIELDS

GPM_EVERY: Final = 2.0
"""Seconds between two GPM samples. Each tells of all the time since the last, so fewer of them miss nothing."""

_GONE: Final = (
    "NVML_ERROR_GPU_IS_LOST",
    "NVML_ERROR_RESET_REQUIRED",
    "NVML_ERROR_UNINITIALIZED",
    "NVML_ERROR_DRIVER_NOT_LOADED",
    "NVML_ERROR_LIB_RM_VERSION_MISMATCH",
)
# Any of these says that the device, or the driver, is not there.
_SILENT: Final = (*_GONE, "NVML_ERROR_UNKNOWN", "NVML_ERROR_INVALID_ARGUMENT", "NVML_ERROR_NOT_FOUND")
# These say so if the device answers nothing else: handles of a driver that was reloaded are invalid arguments.


class Board:
    """What is read of one GPU or MIG instance. Used by the source's thread alone.

    Attributes:
        gpu: The device.
        phase: As for `Bench`.
        lost: Whether it answered nothing when it was last asked. It is not asked again; a new board is made for it.

    Args:
        gpu: The device.
        clock: Stamps the readings.
        phase: As for `Bench`.
    """

    def __init__(self, gpu: Gpu, clock: Clock, phase: float) -> None:
        nvml = gpu.nvml
        self.gpu = gpu
        self.phase = phase
        self.lost = False
        self._current = HwStateValues.OK
        self._clock = clock
        self._gpm = Gpm(gpu, self._counted)
        readers = _at_pace(READERS if gpu.instance is None else INSTANCE_READERS, gpu.ours.every)
        metrics = tuple(dict.fromkeys(part.metric for part in PARTS))
        self._bench = Bench(
            gpu,
            (*readers, Reader(metrics, lambda _: self._gpm.read(), every=GPM_EVERY)),
            unsupported=permanent(nvml),
            expected=(nvml.NVMLError, ValueError),
            phase=phase,
        )
        self._fields = Fields(gpu, self._bench, FIELDS, phase) if gpu.instance is None else None
        self._gone = {_name_of(nvml, code) for code in _GONE}
        self._silent = {_name_of(nvml, code) for code in _SILENT}
        self._states = {
            state: gpu.series(health.STATUS, (health.HW_STATE, state.value))
            for state in (
                HwStateValues.OK,
                HwStateValues.DEGRADED,
                HwStateValues.FAILED,
                HwStateValues.PREDICTED_FAILURE,
            )
        }

    def read_into(self, batch: Batch) -> None:
        """Ask the device for everything that is due, and say how it is. Raises nothing that a driver can cause."""
        if self.lost:
            batch.readings += self._status(HwStateValues.FAILED)
            return
        began = self._clock()
        own = Batch()
        if self._fields is not None:
            with guard("reading NVML fields", lambda error: own.lose(type(error).__name__)):
                self._fields.read_into(own, self._clock)
        self._bench.read_into(own, self._clock)
        batch.lost.update(own.lost)
        answered = any(reading.at >= began for reading in own.readings)
        if answered:
            batch.readings += own.readings
            failing = self._gone & own.lost.keys()
            batch.readings += self._status(HwStateValues.FAILED if failing else _judged(own))
        elif own.lost:
            # What a device said before it fell silent is not what it is like now.
            self.lost = bool(self._silent & own.lost.keys())
            batch.readings += self._status(HwStateValues.FAILED)

    def unheard(self, *, failed: bool) -> Iterator[Reading]:
        """Its status while a call into the driver hangs. May be called by another thread than the one that is in there.

        Args:
            failed: Whether that is for so long that it counts as failed. One that failed before it hung is so at once.
        """
        gone = failed or self._current is HwStateValues.FAILED
        return self._told(HwStateValues.FAILED if gone else HwStateValues.DEGRADED)

    def _status(self, current: HwStateValues) -> Iterator[Reading]:
        """Note how it is, and tell it."""
        self._current = current
        return self._told(current)

    def _told(self, current: HwStateValues) -> Iterator[Reading]:
        """A reading for each state that the device can be in; a MIG instance's is its GPU's."""
        if self.gpu.instance is None:
            at = self._clock()
            for state, series in self._states.items():
                yield Reading(series, int(state is current), at)

    def _counted(self) -> frozenset[str]:
        """The rates that follow from counters of this device, and so are not taken from GPM's."""
        fields = self._fields.metrics() if self._fields is not None else frozenset()
        return frozenset(
            part.metric.name
            for part in PARTS
            if part.metric.derivation is not None and part.metric.derivation.of.name in fields
        )

    def close(self) -> None:
        """Give back what the driver's library holds for it."""
        self._gpm.close()


def _at_pace(readers: Sequence[Reader[Gpu]], every: float | None) -> Sequence[Reader[Gpu]]:
    """The readers, with the lists of processes read as often as is asked for."""
    if every is None:
        return readers
    return [replace(each, every=min(each.every, every)) if PROCESS_MEMORY in each.metrics else each for each in readers]


def _judged(batch: Batch) -> HwStateValues:
    """How a device is that answers."""
    found = {reading.metric.name: reading.value for reading in batch.readings}
    if found.get(health.RECOVERY_ACTION.name) or found.get(health.REMAP_FAILED.name):
        return HwStateValues.DEGRADED
    if found.get(health.REMAP_PENDING.name):
        return HwStateValues.PREDICTED_FAILURE
    return HwStateValues.OK


def _name_of(nvml: object, constant: str) -> str:
    """The name of the exception for an error code: what a batch counts by."""
    code = getattr(nvml, constant)
    return type(nvml.NVMLError(code)).__name__  # type: ignore[attr-defined]
