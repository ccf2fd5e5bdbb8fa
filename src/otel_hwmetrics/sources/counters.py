# SPDX-License-Identifier: Apache-2.0
"""Counters of limited width made endless, and levels made into counters."""

from __future__ import annotations


class Unwrapped:
    """A counter of limited width, as if it never wrapped.

    A fall is a wrap where the hardware could have counted that far in the time. Any other, and a rise that the hardware
    could not have made, is a reset, or garbage that looks like one: the total begins again at 0, so that whoever takes
    growth of it knows that nothing is known of that time.

    Args:
        size: How many values it has; the one after ``size - 1`` is 0.
        fastest: The most that it can grow in a second.
    """

    __slots__ = ("_at", "_fastest", "_last", "_size", "total")

    SLACK = 1.0
    """Seconds of growth more than the time between two looks: some counters are brought up to date ten times a second."""

    def __init__(self, size: int, fastest: float) -> None:
        self._size = size
        self._fastest = fastest
        self._last: int | None = None
        self._at = 0.0
        self.total = 0

    def resolves(self, seconds: float) -> bool:
        """Whether looks that far apart tell one wrap from two."""
        return self._fastest * (seconds + self.SLACK) < self._size

    def advance(self, raw: int, at: float) -> int:
        """Take one reading, at that second of the monotonic clock, and give the total since the first or since a reset.

        Raises:
            ValueError: It is no value of this counter, or so much time has passed that nobody can say how often it
                wrapped. Counting goes on from this reading in the second case.
        """
        if not 0 <= raw < self._size:
            raise ValueError(f"{raw} is not below {self._size}")
        last, seconds = self._last, at - self._at
        self._last, self._at = raw, at
        if last is None:
            return self.total
        if not self.resolves(seconds):
            raise ValueError(f"it may have wrapped more than once in {seconds:.1f} s")
        growth = (raw - last) % self._size
        self.total = self.total + growth if growth <= self._fastest * (seconds + self.SLACK) else 0
        return self.total


class Integral:
    """A counter made of a level, such as energy of power: the area below the line through its readings.

    Args:
        longest: Seconds between two readings beyond which nothing is said of the time between them: the total begins
            again at 0.
    """

    __slots__ = ("_last", "_longest", "total")

    def __init__(self, longest: float = 300.0) -> None:
        self._longest = longest
        self._last: tuple[float, float] | None = None
        self.total = 0.0

    def add(self, level: float, at: float) -> float:
        """Take one reading of a level that is never negative, at that second of the monotonic clock; give the total."""
        if self._last is not None:
            before, since = self._last
            if at - since <= self._longest:
                self.total += (before + level) / 2 * max(0.0, at - since)
            else:
                self.total = 0.0
        self._last = (level, at)
        return self.total
