# SPDX-License-Identifier: Apache-2.0
"""For looks whose cost grows with their subject: never more than a small share of the time."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from otel_hwmetrics.model import Reading
from otel_hwmetrics.sources.base import Clock

SHARE = 0.001
"""Of the time, at most, that a costly look may take."""


class Sparing:
    """A look that tells what it told last until a thousand times its own duration has passed.

    The memory of a process is counted page by page: 0.2 ms for a small one, a second for hundreds of gigabytes.

    Args:
        look: Gives the readings; None for none this time, when what was told last is told again.
        clock: Times the look.
    """

    def __init__(self, look: Callable[[], Iterable[Reading] | None], clock: Clock) -> None:
        self._look = look
        self._clock = clock
        self._due: float | None = None
        self._told: tuple[Reading, ...] = ()

    def __call__(self) -> tuple[Reading, ...]:
        """The readings, new if they are due. Raises what the look raises."""
        began = self._clock()
        if self._due is not None and began < self._due:
            return self._told
        readings = self._look()
        ended = self._clock()
        self._due = ended + (ended - began) / SHARE
        if readings is not None:
            self._told = tuple(readings)
        return self._told
