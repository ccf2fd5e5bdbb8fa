# SPDX-License-Identifier: Apache-2.0
"""Time that a test moves by hand."""

from __future__ import annotations

import math
import threading
from typing import Final, Protocol

_NS_PER_S: Final = 1_000_000_000
_NEW_YEAR_2026_NS: Final = 1_767_225_600 * _NS_PER_S


class Clock(Protocol):
    """What `FakeNvml` asks of a clock; the `time` module is one."""

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""
        ...


class ManualClock:
    """A monotonic and a wall clock that move together, and only when told to.

    Every method may be called from any thread.

    Args:
        start: What `monotonic()` gives at first, in seconds.
        start_ns: What `time_ns()` gives at first, in nanoseconds since the Unix epoch.
    """

    def __init__(self, start: float = 0.0, start_ns: int = _NEW_YEAR_2026_NS) -> None:
        self._start = start
        self._start_ns = start_ns
        # Whole nanoseconds, so that ten steps of 0.1 s are one second exactly.
        self._elapsed_ns = 0
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        """Return the monotonic time in seconds."""
        with self._lock:
            return self._start + self._elapsed_ns / _NS_PER_S

    def time_ns(self) -> int:
        """Return the wall time in nanoseconds since the Unix epoch."""
        with self._lock:
            return self._start_ns + self._elapsed_ns

    def advance(self, seconds: float) -> None:
        """Move both clocks forward.

        Args:
            seconds: How far; rounded to whole nanoseconds.

        Raises:
            ValueError: `seconds` is negative or not finite.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            message = f"a clock advances by a finite number of seconds >= 0, not {seconds!r}"
            raise ValueError(message)
        with self._lock:
            self._elapsed_ns += round(seconds * _NS_PER_S)
