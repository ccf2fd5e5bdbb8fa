# SPDX-License-Identifier: Apache-2.0
"""Counters of limited width made endless, and levels made into counters."""

from __future__ import annotations


class Unwrapped:
    """A counter that begins again at 0 when it is full, as if it never did.

    A fall is a wrap where the hardware could have counted that far in the time, else a reset, after which it goes on
    from there. What a reset hides is unknown and adds nothing.

    Args:
        size: How many values it has; the one after ``size - 1`` is 0.
        fastest: The most that it can grow in a second.
    """

    __slots__ = ("_at", "_fastest", "_last", "_size", "total")

    def __init__(self, size: int, fastest: float) -> None:
        self._size = size
        self._fastest = fastest
        self._last: int | None = None
        self._at = 0.0
        self.total = 0

    def resolves(self, seconds: float) -> bool:
        """Whether looks that far apart tell one wrap from two."""
        return self._fastest * seconds < self._size

    def advance(self, raw: int, at: float) -> int:
        """Take one reading, at that second of the monotonic clock, and give the total since the first.

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
        growth = raw - last
        if growth < 0:
            wrapped = growth + self._size
            # The two clocks need not agree to the last digit.
            growth = wrapped if wrapped <= self._fastest * seconds * 1.01 else 0
        self.total += growth
        return self.total


class Integral:
    """A counter made of a level, such as energy of power: the area below the line through its readings.

    Args:
        longest: Seconds between two readings beyond which nothing is said of the time between them.
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
            if 0 < at - since <= self._longest:
                self.total += (before + level) / 2 * (at - since)
        self._last = (level, at)
        return self.total
