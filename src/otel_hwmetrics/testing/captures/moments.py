# SPDX-License-Identifier: Apache-2.0
"""The driver's time stamps, written so that they can be told again at another time.

NVML stamps in microseconds: field values with the time since 1970, samples with what is in practice the time since
boot (CLOCK_BOOTTIME). Which of the two it is shows in the number, as it lies close to the one clock and far from the
other. So a capture says "10 ms before the call, on the clock since boot".
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from otel_hwmetrics.testing.clock import Clock

MOMENT_FIELDS: Final = frozenset({"timestamp", "timeStamp", "referenceTime"})

CLOCKS: Final = ("epoch", "boot")
"""The time since 1970, and since the machine started."""

_MOMENT: Final = re.compile(r"(?P<clock>epoch|boot)(?P<seconds>[+-]\d+(\.\d+)?)")
# How far from now a time stamp may be and still be one: rings and long calls reach back minutes at most.
_REACH_US: Final = 86_400 * 1_000_000
# What the age of an answer may vary from call to call without being news.
_JITTER_S: Final = 0.02


class Clocks:
    """The clocks that the driver stamps with, and the one that a recording or a replay goes by.

    Args:
        clock: Something with `monotonic()` in seconds, and with `time_ns()` where it has a wall time of its own.
    """

    def __init__(self, clock: Clock | None) -> None:
        self._clock: Any = time if clock is None else clock
        self._origin = dict.fromkeys(CLOCKS, 0)

    def monotonic(self) -> float:
        """Return the seconds that a recording or a replay goes by."""
        return float(self._clock.monotonic())

    def now(self, clock: str) -> int:
        """Return what one of the driver's clocks shows, in microseconds."""
        if clock == "epoch":
            return int(getattr(self._clock, "time_ns", time.time_ns)()) // 1000
        if self._clock is time and hasattr(time, "CLOCK_BOOTTIME"):
            return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
        return round(self.monotonic() * 1_000_000)

    def read(self) -> dict[str, int]:
        """Return what each of the driver's clocks shows."""
        return {clock: self.now(clock) for clock in CLOCKS}

    def start(self) -> float:
        """Remember what the clocks show as second 0, and return the monotonic one."""
        self._origin = self.read()
        return self.monotonic()

    def moment(self, stamp: int, now: dict[str, int]) -> int | str:
        """Return a time stamp relative to what the clocks showed, as it is if it is none."""
        for clock in CLOCKS:
            age = stamp - now[clock]
            if stamp > 0 and abs(age) < _REACH_US:
                return f"{clock}{age / 1_000_000:+.3f}"
        return stamp

    def stamped(self, stamp: int) -> tuple[str, float] | None:
        """Return on which clock a time stamp is and how many seconds after second 0, None if it is none."""
        for clock in CLOCKS:
            after = stamp - self._origin[clock]
            if stamp > 0 and abs(after) < _REACH_US:
                return clock, after / 1_000_000
        return None

    def stamp(self, clock: str, seconds: float) -> int:
        """Return the time stamp of so many seconds after second 0."""
        return self._origin[clock] + round(seconds * 1_000_000)

    def resolve(self, moment: str) -> int | None:
        """Return the time stamp that a moment is now, None if the text is no moment."""
        match = _MOMENT.fullmatch(moment)
        return None if match is None else self.now(match["clock"]) + round(float(match["seconds"]) * 1_000_000)


def same_moment(one: str, other: str) -> bool:
    """Say whether two texts are moments on one clock, apart by no more than calls are from each other."""
    first, second = _MOMENT.fullmatch(one), _MOMENT.fullmatch(other)
    return (
        first is not None
        and second is not None
        and first["clock"] == second["clock"]
        and abs(float(first["seconds"]) - float(second["seconds"])) < _JITTER_S
    )
