# SPDX-License-Identifier: Apache-2.0
"""What a run came to: energy, GPU-hours, idle ones among them, and what that costs at a price."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from otel_hwmetrics.recording.nouns import Job

_HOUR = 3600.0
_KWH = 3.6e6


@dataclass(frozen=True)
class Prices:
    """What is paid, in whatever currency; None where it is not given.

    Attributes:
        kwh: For a kilowatt-hour.
        gpu_hour: For a GPU for an hour.
    """

    kwh: float | None = None
    gpu_hour: float | None = None


@dataclass(frozen=True)
class Totals:
    """Sums over jobs; None where no job tells. A GPU that two jobs share at a time is in it twice.

    Attributes:
        cpu_seconds: CPU time.
        energy: Joules of GPUs.
        gpu_seconds: GPU-seconds.
        gpu_idle_seconds: Those among them in which the GPU did next to nothing.
        energy_cost: In the currency of the price.
        gpu_cost: Likewise.
        gpu_idle_cost: The part of it that was paid for idle GPUs.
    """

    cpu_seconds: float | None = None
    energy: float | None = None
    gpu_seconds: float | None = None
    gpu_idle_seconds: float | None = None
    energy_cost: float | None = None
    gpu_cost: float | None = None
    gpu_idle_cost: float | None = None


def totals(jobs: Iterable[Job], prices: Prices | None = None) -> Totals:
    """Add up what jobs used."""
    prices = prices or Prices()
    sums = [job.summary for job in jobs]
    energy = _sum(each.energy for each in sums)
    gpu, idle = _sum(each.gpu_seconds for each in sums), _sum(each.gpu_idle_seconds for each in sums)
    return Totals(
        cpu_seconds=_sum(each.cpu_seconds for each in sums),
        energy=energy,
        gpu_seconds=gpu,
        gpu_idle_seconds=idle,
        energy_cost=_cost(energy, _KWH, prices.kwh),
        gpu_cost=_cost(gpu, _HOUR, prices.gpu_hour),
        gpu_idle_cost=_cost(idle, _HOUR, prices.gpu_hour),
    )


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _cost(amount: float | None, unit: float, price: float | None) -> float | None:
    return None if amount is None or price is None else amount / unit * price
