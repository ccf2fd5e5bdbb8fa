# SPDX-License-Identifier: Apache-2.0
"""What one scripted GPU reports, as quantities over time."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol, TypeAlias

Value: TypeAlias = float | Sequence[tuple[float, float]] | Callable[[float], float | None]
"""A quantity over time: a constant, keyframes, or a function of the seconds since install.

Keyframes are `(seconds, value)` pairs in order of time, linear in between and held at both ends; two at the same second
make a step. A function that gives None makes NVML answer NOT_SUPPORTED for that moment.
"""

_GIB: Final = 1024**3
# Wide enough for any card, and far from where NVML's unsigned bytes, milliwatts and millijoules would wrap.
_BYTES: Final = 2**60
_JOULES: Final = 1e15
_WATTS: Final = (0.0, 1e6)
_CELSIUS: Final = (0.0, 1e3)
_RATIO: Final = (0.0, 1.0)


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


def _signal(key: str, value: Value, lowest: float, highest: float) -> Signal:
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


@dataclass(frozen=True, kw_only=True)
class FakeGpu:
    """One scripted GPU.

    Attributes:
        name: The product name.
        uuid: The UUID as NVML prints it, `GPU-xxxxxxxx-xxxx-...`; empty derives one from the index, always the same.
        utilization: Share of time a kernel ran, a ratio from 0 to 1.
        memory_controller_utilization: Share of time device memory was read or written, a ratio from 0 to 1.
        memory_total: Device memory in bytes.
        memory_reserved: Bytes the driver keeps; NVML's first memory call counts them as used, the second does not.
        memory_used: Bytes allocated by processes; at most `memory_total - memory_reserved`.
        temperature: Core temperature in Cel.
        power: Power draw in W. The energy counter is its integral.
        power_limit: Power cap in W.
        energy_offset: What the energy counter showed at install, in J: a card has a life before the test.
        unsupported: Names of C functions that answer NVML_ERROR_NOT_SUPPORTED.

    Raises:
        ValueError: A value is not allowed; the message names the field, the value and what is.
    """

    name: str = "NVIDIA H100 80GB HBM3"
    uuid: str = ""
    utilization: Value = 0.0
    memory_controller_utilization: Value = 0.0
    memory_total: int = 80 * _GIB
    memory_reserved: int = 0
    memory_used: Value = 0.0
    temperature: Value = 35.0
    power: Value = 75.0
    power_limit: Value = 700.0
    energy_offset: float = 3_456_000_000.0  # 400 W for a hundred days
    unsupported: Collection[str] = ()

    def __post_init__(self) -> None:
        """Check every field but the names in `unsupported`, which only `FakeNvml` knows."""
        for key in ("name", "uuid"):
            if not isinstance(getattr(self, key), str):
                raise InvalidValueError(getattr(self, key), key, "a string")
        if type(self.memory_total) is not int or not 0 < self.memory_total <= _BYTES:
            raise InvalidValueError(self.memory_total, "memory_total", f"a whole number of bytes from 1 to {_BYTES}")
        if type(self.memory_reserved) is not int or not 0 <= self.memory_reserved <= self.memory_total:
            raise InvalidValueError(self.memory_reserved, "memory_reserved", "a whole number from 0 to memory_total")
        if not is_number(self.energy_offset) or not 0 <= self.energy_offset <= _JOULES:
            raise InvalidValueError(self.energy_offset, "energy_offset", f"a number of joules from 0 to {_JOULES:.0e}")
        if isinstance(self.unsupported, str) or not isinstance(self.unsupported, Collection):
            raise InvalidValueError(self.unsupported, "unsupported", "a list of names of NVML functions")
        self.signals()

    def signals(self) -> dict[str, Signal]:
        """Return the checked quantities by field name, each with its integral at 0.

        Raises:
            ValueError: A value is not allowed.
        """
        limits = {
            "utilization": _RATIO,
            "memory_controller_utilization": _RATIO,
            "memory_used": (0, self.memory_total - self.memory_reserved),
            "temperature": _CELSIUS,
            "power": _WATTS,
            "power_limit": _WATTS,
        }
        return {key: _signal(key, getattr(self, key), *limit) for key, limit in limits.items()}
