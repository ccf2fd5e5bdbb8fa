# SPDX-License-Identifier: Apache-2.0
"""What the frameworks' allocators tell of a GPU, told of the GPU as its driver knows it.

An allocator knows less of a GPU than the driver does: PyTorch its UUID (since 2.5) and its ordinal, JAX its ordinal
alone. Rules that look at both must mean one device, and call it by one name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from otel_hwmetrics.alerts.conditions import Condition, Finding, Readings, Totals, Watcher
from otel_hwmetrics.alerts.subjects import Subject
from otel_hwmetrics.catalog import framework, gpu, gpu_activity
from otel_hwmetrics.model import Metric, Snapshot, Unit

HELD: Final = 30.0
"""Seconds for which an allocator that is late is taken at its last word. It is late where it waits for the driver, just
when memory gets short; what the driver tells would then stand in for it, and that counts the cache as used."""


@dataclass(frozen=True)
class OnGpu(Condition):
    """The value of a framework's metric, of the GPU whose ``hw.id`` or CUDA ordinal it has; else of its own device.

    Attributes:
        metric: Which.
    """

    metric: Metric

    @property
    def unit(self) -> Unit:
        """The metric's."""
        return self.metric.unit

    def watcher(self, totals: Totals) -> Watcher:
        """Somebody who looks, and remembers."""
        del totals
        return _OnGpus(self.metric)

    def __str__(self) -> str:
        return self.metric.name


class _Told(NamedTuple):
    value: float
    at: float


class _OnGpus:
    def __init__(self, metric: Metric) -> None:
        self._readings = Readings(metric)
        self._gpus = Readings(gpu.MEMORY_LIMIT)
        self._last: dict[Subject, _Told] = {}

    def look(self, snapshot: Snapshot) -> dict[Subject, Finding]:
        now = snapshot.window.end
        told = list(self._readings.of(snapshot))
        if not told and not self._last:
            return {}
        if told:
            known = dict(self._known(snapshot))
            for own, reading in told:
                ordinal = reading.attributes.get(gpu.CUDA_ORDINAL)
                # A UUID that no driver tells is that of a GPU which cannot be read just now.
                by_ordinal = known.get(ordinal) if own.key != reading.attributes.get(gpu.HW_ID) else None
                subject = known.get(own.key) or by_ordinal or own
                self._last[subject] = _Told(reading.value, now)
        self._last = {subject: last for subject, last in self._last.items() if now - last.at <= HELD}
        return {subject: Finding(last.value) for subject, last in self._last.items()}

    def _known(self, snapshot: Snapshot) -> Iterator[tuple[object, Subject]]:
        """The driver's GPUs, by their UUIDs and by their ordinals."""
        for subject, reading in self._gpus.of(snapshot):
            yield subject.key, subject
            ordinal = reading.attributes.get(gpu.CUDA_ORDINAL)
            if ordinal is not None:
                yield ordinal, subject


@dataclass(frozen=True)
class MemoryLeft(Condition):
    """Bytes of a GPU's memory that can still be allocated: what is free, and what the allocators keep for reuse.

    PyTorch's cache grows until the GPU is full, and then is given back, but for free parts of blocks that are in use. JAX's
    pool is three quarters of the GPU from the start, and all that it will ever take. Nothing is found of GPUs that other
    ranks use, where this process has an allocator on one of its own: what they hold is mostly cache, and theirs to judge.
    """

    also = (gpu.MEMORY_USAGE, framework.TORCH_RESERVED)

    @property
    def unit(self) -> Unit:
        """Bytes."""
        return Unit.BYTE

    def watcher(self, totals: Totals) -> Watcher:
        """Somebody who looks, and remembers."""
        del totals
        return _Left()

    def __str__(self) -> str:
        return (
            f"the memory that can still be allocated ({gpu.MEMORY_LIMIT.name} less {gpu.MEMORY_USAGE.name}, and what the "
            "allocators of PyTorch and JAX tell that they keep for reuse)"
        )


class _Left:
    def __init__(self) -> None:
        self._limit, self._usage = Readings(gpu.MEMORY_LIMIT), Readings(gpu.MEMORY_USAGE)
        self._ours = Readings(gpu_activity.PROCESS_MEMORY, {gpu_activity.PROCESS_SCOPE: "tree"})
        self._torch = [
            _OnGpus(metric)
            for metric in (framework.TORCH_RESERVED, framework.TORCH_ALLOCATED, framework.TORCH_INACTIVE_SPLIT)
        ]
        self._jax = [
            _OnGpus(metric) for metric in (framework.JAX_RESERVED, framework.JAX_ALLOCATED, framework.JAX_LIMIT)
        ]

    def look(self, snapshot: Snapshot) -> dict[Subject, Finding]:
        used = {subject: reading.value for subject, reading in self._usage.of(snapshot)}
        torch, jax = ([each.look(snapshot) for each in books] for books in (self._torch, self._jax))
        with_books = {subject for book in (*torch, *jax) for subject in book}
        ours = with_books | {subject for subject, reading in self._ours.of(snapshot) if reading.value}
        found: dict[Subject, Finding] = {}
        for subject, limit in self._limit.of(snapshot):
            if subject in used and (subject in ours or not with_books):
                left = limit.value - used[subject]
                of_jax, of_torch = _told_of(subject, jax), _told_of(subject, torch)
                if of_jax is not None:
                    reserved, allocated, most = of_jax
                    left = min(most - allocated, left + reserved - allocated)
                elif of_torch is not None:
                    reserved, allocated, fragments = of_torch
                    left += reserved - allocated - fragments
                found[subject] = Finding(left)
        return found


def _told_of(subject: Subject, books: Sequence[Mapping[Subject, Finding]]) -> list[float] | None:
    """What an allocator tells of a GPU; None where it does not tell all."""
    values = [book[subject].value for book in books if subject in book]
    told = [value for value in values if value is not None]
    return told if len(told) == len(books) else None
