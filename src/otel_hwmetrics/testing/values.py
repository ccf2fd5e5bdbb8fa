# SPDX-License-Identifier: Apache-2.0
"""Quantities over time: what a script may say, and what it comes to at a moment."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol, TypeAlias

Value: TypeAlias = float | Sequence[tuple[float, float]] | Callable[[float], float | None]
"""A quantity over time: a constant, keyframes, or a function of the seconds since install.

Keyframes are `(seconds, value)` pairs in order of time, linear in between and held at both ends; two at the same second
make a step. A function that gives None makes NVML answer NOT_SUPPORTED for that moment.
"""


class InvalidValueError(ValueError):
    """A scripted value that is not allowed.

    Args:
        value: The value as given.
        key: What was being set.
        allowed: What would have been accepted, in words.
    """

    def __init__(self, value: object, key: str, allowed: str) -> None:
        super().__init__(f"{key} = {value!r}: allowed is {allowed}")
        self.value = value
        self.key = key
        self.allowed = allowed


def is_number(value: object) -> bool:
    """Say whether `value` is an int or float that a float can hold; a bool is neither here."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


class Signal(Protocol):
    """A checked `Value`."""

    def at(self, seconds: float) -> float | None:
        """Return the value at that moment, None where there is none."""
        ...

    def integral(self, seconds: float) -> float:
        """Return the area under the values from 0 to `seconds`, in unit-seconds."""
        ...

    def mean(self, start: float, end: float) -> float | None:
        """Return the mean from `start` to `end`, None where there is none."""
        ...


class Keyframes:
    """A piecewise linear signal; a constant is one with a single keyframe."""

    def __init__(self, points: Sequence[tuple[float, float]]) -> None:
        held = [(0.0, points[0][1]), *points]
        self._times = [time for time, _ in held]
        self._values = [value for _, value in held]
        self._areas = [0.0]
        for (start, first), (end, last) in pairwise(held):
            self._areas.append(self._areas[-1] + (first + last) / 2 * (end - start))

    def at(self, seconds: float) -> float:
        """Return the interpolated value."""
        after = bisect_right(self._times, seconds)
        before = after - 1
        if after == len(self._times):
            return self._values[before]
        # Strictly before < seconds <= after, so a step (two keyframes at one time) never divides by zero.
        share = (seconds - self._times[before]) / (self._times[after] - self._times[before])
        return self._values[before] + share * (self._values[after] - self._values[before])

    def integral(self, seconds: float) -> float:
        """Return the exact area from 0 to `seconds`."""
        before = bisect_right(self._times, seconds) - 1
        return self._areas[before] + (self._values[before] + self.at(seconds)) / 2 * (seconds - self._times[before])

    def mean(self, start: float, end: float) -> float:
        """Return the exact mean over a stretch of time."""
        return (self.integral(end) - self.integral(start)) / (end - start)


class Function:
    """A signal computed by the user's function; its integral grows by a trapezoid at each reading."""

    def __init__(self, function: Callable[[float], float | None], check: Callable[[object], None]) -> None:
        self._function = function
        self._check = check
        self._area = 0.0
        self._last: tuple[float, float | None] | None = None

    def at(self, seconds: float) -> float | None:
        """Return what the function gives, checked.

        Raises:
            InvalidValueError: The function gave a value that is not allowed.
        """
        value = self._function(seconds)
        if value is not None:
            self._check(value)
        return value

    def integral(self, seconds: float) -> float:
        """Return the area so far; a stretch that begins or ends without a value adds nothing."""
        value = self.at(seconds)
        if self._last is not None:
            start, first = self._last
            if first is not None and value is not None:
                self._area += (first + value) / 2 * (seconds - start)
        self._last = (seconds, value)
        return self._area

    def mean(self, start: float, end: float) -> float | None:
        """Return the mean of the values at both ends: what lies between is not asked for."""
        first, last = self.at(start), self.at(end)
        return None if first is None or last is None else (first + last) / 2


def signal(key: str, value: Value, lowest: float, highest: float) -> Signal:
    """Check a `Value` and make it answer for any moment.

    Raises:
        InvalidValueError: It is no `Value`, or has a number outside `lowest` to `highest`.
    """
    number = f"a number from {lowest:.15g} to {highest:.15g}"
    allowed = f"{number}, keyframes [[seconds, number], ...] in order of time, or in Python a function of seconds"

    def check(candidate: object, where: str = key, wanted: str = number) -> None:
        if not (is_number(candidate) and lowest <= candidate <= highest):  # type: ignore[operator]
            raise InvalidValueError(candidate, where, wanted)

    if callable(value):
        return Function(value, check)
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        check(value, wanted=allowed)
        return Keyframes([(0.0, value)])
    if not value:
        raise InvalidValueError(value, key, allowed)
    previous = 0.0
    for index, keyframe in enumerate(value):
        where = f"{key}[{index}]"
        if not (isinstance(keyframe, Sequence) and len(keyframe) == 2 and is_number(keyframe[0])):  # noqa: PLR2004
            raise InvalidValueError(keyframe, where, "a pair [seconds, number]")
        if keyframe[0] < previous:
            raise InvalidValueError(keyframe, where, f"a keyframe at {previous:.15g} s or later: they are in order")
        check(keyframe[1], where)
        previous = keyframe[0]
    return Keyframes(value)
