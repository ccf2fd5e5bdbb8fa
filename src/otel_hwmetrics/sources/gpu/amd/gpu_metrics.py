# SPDX-License-Identifier: Apache-2.0
"""The firmware's own table of a GPU, as the file ``gpu_metrics`` has it: energy, and what held the clocks back.

Its layout is the driver's, told by a revision and a size at its beginning
(https://github.com/torvalds/linux/blob/master/drivers/gpu/drm/amd/include/kgd_pp_interface.h); one that is not listed
here is not guessed at. Fields that a GPU lacks are all ones.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from otel_hwmetrics.sources.base import Unsupported

JOULES_PER_TICK: Final = 2.0**-16
"""Of the energy counter; 15.259 µJ in the driver's comments, 15.3 in AMD's library."""

CAUSES: Final = ("prochot", "power", "socket_thermal", "vr_thermal", "memory_thermal")
"""What may hold the clocks back, in the table's order: a signal from the platform, the power limit, three temperatures."""

_HEADER: Final = struct.Struct("<HBB")
_ENERGY: Final = struct.Struct("<Q")
_RESIDENCY: Final = struct.Struct("<6I")
_INTEGRATED_GRAPHICS: Final = frozenset({2, 3})
_FORMATS, _CONTENTS = range(1, 16), range(32)
# What revisions may become; beyond that it is no table.


class _Layout(NamedTuple):
    energy: int
    residency: int | None = None


_LAYOUTS: Final[dict[tuple[int, int, int], _Layout]] = {
    # By format, content and size. The sixth content was published in two layouts.
    (1, 1, 96): _Layout(24),
    (1, 2, 104): _Layout(24),
    (1, 3, 120): _Layout(24),
    (1, 4, 288): _Layout(24),
    (1, 5, 360): _Layout(88),
    (1, 6, 384): _Layout(88, 104),
    (1, 6, 1664): _Layout(16, 32),
    (1, 7, 2208): _Layout(24, 40),
    (1, 8, 3872): _Layout(24, 40),
}


class Residency(NamedTuple):
    """For how many of the firmware's cycles (one a millisecond) a cause held the clocks back; 32 bits each, that wrap.

    Attributes:
        cycles: How many cycles there were.
        held: By cause, in the order of `CAUSES`; None for one that this GPU does not count.
    """

    cycles: int
    held: tuple[int | None, ...]


def _layout(table: bytes) -> _Layout:
    if len(table) < _HEADER.size:
        raise ValueError(f"{len(table)} bytes are no table")
    size, kind, content = _HEADER.unpack_from(table)
    layout = _LAYOUTS.get((kind, content, size))
    if layout is None:
        if kind in _FORMATS and content in _CONTENTS:
            raise Unsupported
        raise ValueError(f"this is no table: format {kind}, content {content}")
    if len(table) < size:
        raise ValueError(f"{len(table)} bytes of a table of {size}")
    return layout


def is_integrated(table: bytes) -> bool:
    """Whether the table is that of graphics inside a CPU: those formats have the CPU's cores in them, too."""
    return len(table) >= _HEADER.size and _HEADER.unpack_from(table)[1] in _INTEGRATED_GRAPHICS


def joules(table: bytes) -> float:
    """What the energy counter says.

    Raises:
        Unsupported: This GPU counts no energy, or the table is of a revision that is not known.
        ValueError: It is no table.
    """
    (ticks,) = _ENERGY.unpack_from(table, _layout(table).energy)
    if ticks == 2**64 - 1:
        raise Unsupported
    return float(ticks * JOULES_PER_TICK)


def residency(table: bytes) -> Residency:
    """What held the clocks back, and for how long.

    Raises:
        Unsupported: This GPU does not count it, or the table is of a revision that is not known.
        ValueError: It is no table.
    """
    layout = _layout(table)
    if layout.residency is None:
        raise Unsupported
    cycles, *held = _RESIDENCY.unpack_from(table, layout.residency)
    if cycles == 2**32 - 1:
        raise Unsupported
    return Residency(cycles, tuple(None if each == 2**32 - 1 else each for each in held))


class Throttling:
    """Seconds for which each cause held the clocks back, since the first look.

    The firmware counts its cycles and those of each cause, so the share between two looks is exact; its cycle is not
    promised to be a millisecond, so the seconds come from our clock.
    """

    __slots__ = ("_at", "_last", "seconds")

    def __init__(self) -> None:
        self._last: Residency | None = None
        self._at = 0.0
        self.seconds = dict.fromkeys(CAUSES, 0.0)

    def add(self, now: Residency, at: float) -> dict[str, float]:
        """Take one look, and give the totals of the causes that this GPU counts."""
        last, seconds = self._last, at - self._at
        self._last, self._at = now, at
        if last is not None and now.cycles > last.cycles:  # at a wrap or a reset nobody knows: nothing is added
            cycles = now.cycles - last.cycles
            for cause, before, after in zip(CAUSES, last.held, now.held, strict=True):
                # A cause cannot hold for longer than there was time; a fall is a wrap or a reset.
                if before is not None and after is not None and 0 <= after - before <= cycles:
                    self.seconds[cause] += seconds * (after - before) / cycles
        return {cause: self.seconds[cause] for cause, held in zip(CAUSES, now.held, strict=True) if held is not None}
