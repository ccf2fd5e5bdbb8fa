# SPDX-License-Identifier: Apache-2.0
"""What is usual in this run, learned from it: a robust location and scale of the recent past.

The median, and the median absolute deviation from it (MAD; Hampel 1974, https://doi.org/10.1080/01621459.1974.10482962),
over a sliding window. Either holds as long as fewer than half of the values are outliers, and a new level becomes the
usual one when it has filled half of the window. Pure: time and data are arguments.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

KEPT = 256
"""The most values that are kept of a window; of half as many, which are kept at least, the median has a standard error
of a ninth of the scale."""
NORMAL = 1.4826
"""The standard deviation of a normal distribution, in units of its MAD."""
GOLDEN = (math.sqrt(5) - 1) / 2
"""Multiples of it, taken modulo 1, fall evenly between 0 and 1 and never into a rhythm."""


@dataclass(frozen=True)
class Usual:
    """What is usual.

    Attributes:
        location: The median, in the unit of the values.
        scale: How far values scatter around it: a robust standard deviation, in the same unit.
        count: From how many values that was learned.
    """

    location: float
    scale: float
    count: int

    def deviation(self, value: float) -> float:
        """How far a value is from what is usual, in scales; below it, negative; infinite where the scale is 0."""
        distance = value - self.location
        if not self.scale:
            return math.copysign(math.inf, distance) if distance else 0.0
        return distance / self.scale


class Baseline:
    """Learns what is usual.

    Slow drift is followed with a lag of half the window, and widens the scale, so that it does not deviate. An outlier
    changes next to nothing. Constant memory; learning a value and asking costs 20 µs. Used by one thread at a time.

    A series that has one and the same value most of the time has a MAD of 0, however it jumps in between: its scale is
    the floor.

    Args:
        window: The seconds that are looked back on. A longer gap between two values forgets everything.
        warm_up: How many values must have been learned before it speaks.
        floor: The smallest scale, in the unit of the values, so that a constant series is not unusual at its first
            wiggle; what is usually 0 needs it.
        floor_share: The same as a share of the location.

    Raises:
        ValueError: The window has no length.
    """

    __slots__ = ("_aside", "_floor", "_floor_share", "_known", "_last", "_paused", "_since", "_warm_up", "_window")

    def __init__(self, window: float, warm_up: int, *, floor: float = 0.0, floor_share: float = 0.0) -> None:
        if not window > 0:
            raise ValueError(f"{window} s is no window")
        self._window = window
        self._warm_up = warm_up
        self._floor = floor
        self._floor_share = floor_share
        self._last = -math.inf
        self._known = _Sample(window)
        self._aside: _Sample | None = None  # what is under suspicion, while anything is
        self._since = 0.0  # when that began
        self._paused = 0.0  # seconds under suspicion, in which what is known does not age

    def learn(self, at: float, value: float, *, suspect: bool = False) -> None:
        """Take one more value.

        Args:
            at: Its time, in seconds; what comes from before the last one is passed over.
            value: What it is; what is not finite is none.
            suspect: It may not be usual, since an alert on it fires. Such values are kept aside; the first that is none
                drops them. When only such have come for longer than the window, they are what is usual, and all else is
                forgotten: no alarm lasts for ever. To be said of what is far out, 3 scales or more: whoever learns only
                what is near the middle finds the next sample narrower than the last.
        """
        if at < self._last or not math.isfinite(at + value):
            return
        if at - self._last > self._window:
            self._known, self._aside = _Sample(self._window), None
        self._last = at
        if suspect:
            self._doubt(at, value)
        else:
            self._trust(at, value)

    def now(self) -> Usual | None:
        """What is usual at the time of the last value; None until it has warmed up."""
        if not self._known.holds(self._warm_up):
            return None
        location, deviation = self._known.spread()
        scale = max(NORMAL * deviation, self._floor, self._floor_share * abs(location))
        return Usual(location, scale, len(self._known))

    def _trust(self, at: float, value: float) -> None:
        if self._aside is not None:
            self._paused += at - self._since
            self._aside = None
        self._known.add(at - self._paused, value)

    def _doubt(self, at: float, value: float) -> None:
        if self._aside is None:
            self._aside, self._since = _Sample(self._window), at
        self._aside.add(at, value)
        if at - self._since > self._window:
            self._known, self._aside, self._paused = self._aside, None, 0.0


class _Sample:
    """The values of a window; where there are too many to keep, an even choice of them.

    Of each `_stride` values in a row one is kept, at a place that differs from row to row: a fixed one would see every
    optimizer step, or none, where gradients are accumulated over a power of two.
    """

    __slots__ = ("_chosen", "_kept", "_learned", "_ordered", "_place", "_row", "_seconds", "_spread", "_stride")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._kept: deque[tuple[float, float]] = deque()
        self._ordered: list[float] = []
        self._learned = 0
        self._stride = 1
        self._row = 0  # how many rows were begun
        self._place = 0  # in the present row
        self._chosen = 0
        self._spread: tuple[float, float] | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def holds(self, count: int) -> bool:
        """Whether so many values were learned, and, as far as so many can be kept, are still there."""
        return self._learned >= count and len(self._kept) >= min(count, KEPT // 4)

    def add(self, at: float, value: float) -> None:
        self._learned += 1
        while self._kept and self._kept[0][0] < at - self._seconds:
            del self._ordered[bisect_left(self._ordered, self._kept.popleft()[1])]
            self._spread = None
        if self._stride > 1 and len(self._kept) < KEPT // 4:  # they come more slowly now
            self._pace(self._stride // 2)
        if self._is_chosen():
            self._kept.append((at, value))
            insort(self._ordered, value)
            self._spread = None
        if len(self._kept) > KEPT:
            self._thin()

    def spread(self) -> tuple[float, float]:
        """The median, and the MAD."""
        if self._spread is None:
            location = _median(self._ordered)
            # The deviations fall, then rise: two runs, which sorted() merges in linear time.
            self._spread = location, _median(sorted([abs(value - location) for value in self._ordered]))
        return self._spread

    def _is_chosen(self) -> bool:
        if self._place == 0:
            self._row += 1
            self._chosen = _pick(self._stride, self._row)
        place, self._place = self._place, (self._place + 1) % self._stride
        return place == self._chosen

    def _pace(self, stride: int) -> None:
        self._stride, self._place = stride, 0

    def _thin(self) -> None:
        """Of each two neighbours keep one."""
        kept = list(self._kept)
        self._kept = deque(kept[index + _pick(2, index)] for index in range(0, len(kept) - 1, 2))
        self._ordered = sorted(value for _, value in self._kept)
        self._pace(self._stride * 2)


def _pick(count: int, turn: int) -> int:
    """One of so many, another one from turn to turn."""
    return int(count * (turn * GOLDEN % 1))


def _median(ordered: Sequence[float]) -> float:
    middle = len(ordered) // 2
    return (ordered[middle] + ordered[~middle]) / 2
