# SPDX-License-Identifier: Apache-2.0
"""Uninterruptible sleeps (state D), and how long one has lasted without a break.

Who reads a lot is met in that state at many looks, each time in another sleep. A main thread that was in it at both of
two looks, and was switched as often at the second as at the first, has been in one sleep: the kernel's own watch tells by
the same figures (task_is_hung in kernel/hung_task.c). CPU time would not tell. What /proc/<pid>/stat has is that of all
threads, this package's own among them; and many short sleeps may go by before it grows by a tick.

The switches are in a file that a look does not read otherwise. So it is read only of those that were in the state at
more than one look, the longest sleep first, and no further than to one that goes on: only the longest is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Final

FEW: Final = 2
PART: Final = 4
"""How many sleeps are begun a look, and how many looked after, at most: `FEW`, or one in `PART` of all if that is more.
Who was not asked comes before those who were, so everybody has their turn within a few looks."""

Switches = tuple[int, int]
"""Voluntary and involuntary ones of a main thread."""


class Wait:
    """A main thread that has been in uninterruptible sleep at every look since one.

    Args:
        switches: Reads how often it was switched.
    """

    __slots__ = ("_proven", "_seen", "_switches", "since")

    def __init__(self, switches: Callable[[], Switches]) -> None:
        self.since: float | None = None
        self._proven: float | None = None
        self._seen: Switches | None = None
        self._switches = switches

    @property
    def fresh(self) -> bool:
        """Whether its switches were not read yet, so that nothing is known of how long it lasts."""
        return self._seen is None

    def goes_on(self, at: float) -> bool:
        """Whether it is the sleep that it was; else it begins anew.

        Raises:
            OSError: The switches cannot be read.
            ValueError: They make no sense.
        """
        if self._proven == at:  # asked before at this look, for another tree
            return True
        try:
            switches = self._switches()
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            switches = None
        if switches is not None and switches == self._seen:
            self._proven = at
            return True
        self.since, self._seen = at, switches
        return False


def longest(waits: Iterable[Wait], at: float) -> float:
    """For how many seconds the longest sleep has lasted; 0 when there is none.

    Args:
        waits: Those of all who are in the state.
        at: When this look began, in seconds of the monotonic clock.

    Raises:
        OSError: The switches of one that may be it cannot be read.
        ValueError: They make no sense.
    """
    lasting = []
    for wait in waits:
        if wait.since is None:
            wait.since = at
        elif wait.since < at:
            lasting.append(wait)
    lasting.sort(key=attrgetter("since"))
    turns = max(FEW, len(lasting) // PART)
    fresh = [wait for wait in lasting if wait.fresh]
    known = [wait for wait in lasting if not wait.fresh]
    for wait in fresh[:turns]:
        wait.goes_on(at)
    for wait in known[:turns]:
        since = wait.since
        if since is not None and wait.goes_on(at):
            return at - since
    return 0.0
