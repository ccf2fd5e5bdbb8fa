# SPDX-License-Identifier: Apache-2.0
"""One AMD GPU as the readers see it: its two ways in, its series, and what can be believed of what it says."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, cast

from otel_hwmetrics.catalog import gpu as rows
from otel_hwmetrics.sources.base import Clock
from otel_hwmetrics.sources.counters import Integral
from otel_hwmetrics.sources.gpu.amd.sysfs import Card
from otel_hwmetrics.sources.gpu.base import Identity
from otel_hwmetrics.sources.gpu.device import Device, Items, T, within

STILL: Final = 3.0
"""Seconds after which an energy counter that does not move is not counting: firmware writes it every millisecond."""

_SENTINELS: Final = frozenset({0xFFFF, 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF})
# All ones of the field's width: the library's and the driver's word for "not here", where the binding lets it through.
_MOST_WATTS: Final = 10_000
# Beyond what any board can have.
_MICRO: Final = 1_000_000

_COUNTED: Final = (rows.ENERGY_METHOD, "counter")
_INTEGRATED: Final = (rows.ENERGY_METHOD, "integrated")


class Gpu(Device):
    """An AMD GPU. Used by the source's thread alone.

    Attributes:
        card: Its files; None where the library knows a GPU that the kernel does not show here.
        smi: The module ``amdsmi``; None without ROCm's library.
        handle: The library's.
        answers: What was answered in this look, for readers that share an answer; emptied before each look.
        meter: Watches its energy counter.
        counters: The calls by which that was ever read.
        pages: How many pages of its memory are bad, by what became of them, at the last look at them.
    """

    def __init__(
        self, identity: Identity, clock: Clock, *, card: Card | None = None, smi: Any = None, handle: Any = None
    ) -> None:
        super().__init__(identity, clock)
        self.card = card
        self.smi = smi
        self.handle = handle
        self.answers: dict[object, Any] = {}
        self.pages: dict[str, int] = {}
        self.meter = Meter()
        self.counters: set[str] = set()
        self._integral: Integral | None = None
        self._summed = 0.0

    def once(self, key: object, ask: Callable[[], T]) -> T:
        """An answer that several readers of one look share. An error is not an answer: the next reader asks itself."""
        if key not in self.answers:
            self.answers[key] = ask()
        return cast("T", self.answers[key])

    def energy(self, joules: float, power: Callable[[Gpu], float | None]) -> Items:
        """The hardware's energy counter while it counts, else power over time.

        Some boards have a counter that stands still until the next boot (MI100: https://github.com/ROCm/amdsmi/issues/22),
        or for good (the second die of an MI250); it would make a busy GPU's power 0 W. So nothing is told of a counter
        that was not seen to move, and power stands in after `STILL` seconds.

        Args:
            joules: What the counter says.
            power: Asks for the power of the moment, in watts.
        """
        if self.meter.moves(joules, self.clock()):
            # What the counter counts is not to be summed up as well.
            self._integral, self._summed = None, self.summed
            yield self.series(rows.ENERGY, _COUNTED), joules
        elif self.meter.still:
            yield from self.integrated(power)

    def integrated(self, power: Callable[[Gpu], float | None]) -> Items:
        """Energy as the area below the power that was read."""
        watt = power(self)
        if watt is not None:
            self._integral = self._integral or Integral()
            self._integral.add(watt, self.clock())
            yield self.series(rows.ENERGY, _INTEGRATED), self.summed

    @property
    def summed(self) -> float:
        """Joules that were summed up of power so far."""
        return self._summed + (self._integral.total if self._integral is not None else 0.0)


class Meter:
    """Whether an energy counter counts.

    Attributes:
        still: Whether it has stood still for so long that it does not.
    """

    __slots__ = ("_last", "_moved", "_since", "still")

    def __init__(self) -> None:
        self._last: float | None = None
        self._since = 0.0
        self._moved = False
        self.still = False

    def moves(self, value: float, at: float) -> bool:
        """Take one reading; whether the counter is known to count."""
        if self._last is None:
            self._since = at
        elif value != self._last:
            self._since, self._moved, self.still = at, True, False
        elif at - self._since >= STILL:
            self._moved, self.still = False, True
        self._last = value
        return self._moved


def number(value: object, what: str) -> float | None:
    """A number that the library or driver gives, or None for one of its ways to say that there is none.

    Raises:
        ValueError: It is neither.
    """
    if value is None or (isinstance(value, str) and value.strip() in {"", "N/A"}):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number for {what}")
    return None if value in _SENTINELS else value


def watts(value: float, what: str = "power") -> float:
    """Watts, from watts or microwatts.

    The library changed the power limit from watts (before ROCm 6.1.2) to microwatts, and its power is in microwatts on a
    hypervisor. No GPU takes more than 10 kW, and none that answers less than 0.1 W, so neither is taken for the other.

    Raises:
        ValueError: It is neither.
    """
    if value <= _MOST_WATTS:
        return within(value, _MOST_WATTS, what)
    return within(value / _MICRO, _MOST_WATTS, what, least=0.1)
