# SPDX-License-Identifier: Apache-2.0
"""What is common to the two ways to a figure: what a way is, and how ways become a reader."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from otel_hwmetrics.catalog import gpu as rows
from otel_hwmetrics.model import Metric, Series
from otel_hwmetrics.sources.base import Reader, Unsupported
from otel_hwmetrics.sources.gpu.amd.device import Gpu
from otel_hwmetrics.sources.gpu.device import Items, within

MEGA: Final = 1_000_000
MOST_HERTZ: Final = 20_000_000_000
MOST_COUNT: Final = 2**63
PWM: Final = 255
"""The most that a fan is driven with: pulses as wide as their distance."""

_MOST_BYTES: Final = 2**60

Value = Callable[[Gpu], float | None]
"""Gives one figure in SI units, or None where it is not there now.

It raises `Unsupported` where it never will be, and what the library or the kernel raises where it cannot be had now.
"""

Subject = Callable[[Gpu], Series]
"""Gives the series that a figure is of."""


def of_the_gpu(metric: Metric, *pairs: tuple[str, str]) -> Subject:
    """The GPU as a whole, with these attributes besides."""
    return lambda gpu: gpu.series(metric, *pairs)


def in_turn(
    metrics: tuple[Metric, ...], *ways: tuple[str, Callable[[Gpu], Items]], every: float = 0.0, where: str = ""
) -> Reader[Gpu]:
    """A reader of metrics by the first way that a GPU supports."""
    (call, read), *others = ways
    instead = in_turn(metrics, *others, every=every, where=where) if others else None

    def read_or_else(gpu: Gpu) -> Items:
        items = list(read(gpu))
        yield from items
        if not items and instead is not None:
            # "N/A" may be for now: the next way is asked, and this one again at the next look.
            with suppress(Unsupported):
                yield from instead.read(gpu)

    return Reader(metrics, read_or_else, instead=instead, every=every, call=call, where=where or _who(call))


def _who(call: str) -> str:
    """Who has a way in, where the row says nothing closer."""
    return "with ROCm's library" if call.startswith("amdsmi") else "with the amdgpu driver"


def either(
    metric: Metric, subject: Subject, *ways: tuple[str, Value], every: float = 0.0, where: str = ""
) -> Reader[Gpu]:
    """Likewise of one metric that each way gives one figure of."""
    return in_turn((metric,), *((call, _told(subject, value)) for call, value in ways), every=every, where=where)


def _told(subject: Subject, value: Value) -> Callable[[Gpu], Items]:
    def read(gpu: Gpu) -> Items:
        found = value(gpu)
        if found is not None:
            yield subject(gpu), found

    return read


def memory(gpu: Gpu, total: float, used: float | None) -> Items:
    """What is told of memory, by its size and what is used of it.

    Raises:
        ValueError: There cannot be so much.
    """
    yield gpu.series(rows.MEMORY_LIMIT), within(total, _MOST_BYTES, "memory size", least=1)
    if used is not None:
        yield gpu.series(rows.MEMORY_USAGE), within(used, total, "memory used")
        yield gpu.series(rows.MEMORY_FREE), total - used
