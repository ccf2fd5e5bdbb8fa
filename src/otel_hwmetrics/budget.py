# SPDX-License-Identifier: Apache-2.0
"""How often to look at the machine, so that looking stays within its share of a CPU.

A token bucket: time fills it, CPU time empties it, and what two minutes put into it may be spent at once, since a
single costly look (memory page by page, once in a quarter of an hour) is no reason to look less often. When it is
empty, what costs most gets a slower cadence: a source that takes more than half of all, alone, so that the others are as
exact as before; else everything. A cadence comes back by halves, that of all first, once the overdraft is paid for and the
faster one is sure to fit, so that it does not go to and fro.

Pure: time and CPU time are arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

CREDIT: Final = 120.0
"""Seconds whose share may be spent at once."""
DEBT: Final = 300.0
"""Seconds whose share is paid for at most, before a cadence comes back."""
STRETCH: Final = 30.0
"""Seconds that a cadence is watched for before it may come back, at least; and whose share may be spent between two steps."""
LOOKS: Final = 4
"""Looks of the slowest cadence that this takes, at least."""
FITS: Final = 0.8
"""What a faster cadence may take of the budget, by what it is expected to cost."""
MOST: Final = 32.0
"""Seconds of the slowest cadence."""
SLOWEST: Final = 32
"""The same as a multiple of the interval that was asked for."""
HALF: Final = 0.5
"""What a source takes of all looks for it to be slowed alone; and what others (exports, notifications) may take of the
budget: to look less often makes them no cheaper. They come in lumps, so it is this part of what two minutes put into it."""

ALL: Final = ""
"""In the place of a source's name: all of them."""


class Change(NamedTuple):
    """A step.

    Attributes:
        source: Whose cadence has changed; `ALL` for that of all.
        every: Seconds between two looks from now on.
        share: Of a CPU, that was spent.
        left: Whether this leaves the cadence that was asked for.
        back: Whether it is the cadence that was asked for again.
        exhausted: Nothing can be slowed any more, and it is not enough; said once.
    """

    source: str
    every: float
    share: float
    left: bool = False
    back: bool = False
    exhausted: bool = False


class Budget:
    """Decides on the cadence after each regular look. Used by one thread at a time.

    Args:
        share: Of a CPU, that may be spent; more than 0.
        interval: Seconds between two looks, as it was asked for; more than 0.
    """

    def __init__(self, share: float, interval: float) -> None:
        self.interval = interval
        """Seconds between two looks, now."""
        self.rests: dict[str, float] = {}
        """Seconds between two looks at each source that is slowed alone, in the order in which they were."""
        self._share = share
        self._room = 0.0  # for others
        self._asked = interval
        self._most = max(interval, min(MOST, interval * SLOWEST))
        self._full = share * CREDIT
        self._credit = self._full
        self._debt = 0.0
        self._exhausted = False
        self._at: float | None = None
        self._looks = self._other = 0.0
        # The stretch that is watched: where everything stood when it began, and when it has lasted long enough.
        self._since = self._until = 0.0
        self._before: Mapping[str, float] | None = None
        self._looks_before = self._other_before = self._total_before = 0.0
        self._past = (0.0, 0.0)  # of the stretch before: what others spent, and its seconds

    def allow(self, share: float) -> None:
        """Allow another share from now on, as GPUs appear and vanish."""
        if share != self._share:
            more = (share - self._share) * CREDIT
            self._share, self._full = share, share * CREDIT
            self._credit = min(self._full, self._credit + max(0.0, more))

    def charge(self, at: float, looks: float, other: float) -> bool:
        """Book what was spent so far, after a regular look.

        Args:
            at: Seconds of a monotonic clock.
            looks: CPU seconds that regular looks have taken, all in all.
            other: Those that everything else of ours has.

        Returns:
            Whether there is something to `decide`.
        """
        if self._at is None:  # the first look loads and opens much; the budget is of those after it
            self._at, self._looks, self._other = at, looks, other
            return True
        seconds = at - self._at
        self._room = min(HALF * self._full, self._room + HALF * self._share * seconds)
        by_others = min(other - self._other, self._room)
        self._room -= by_others
        spent = looks - self._looks + by_others
        self._at, self._looks, self._other = at, looks, other
        self._credit += self._share * seconds - spent
        if self._credit > self._full:
            self._debt = max(0.0, self._debt - (self._credit - self._full))
            self._credit = self._full
        return self._credit < 0.0 or at >= self._until

    def decide(self, costs: Mapping[str, float], total: float) -> Change | None:
        """Step to a slower or a faster cadence, if that is due. After `charge` has said so.

        Args:
            costs: CPU seconds of looks that each source has taken, all in all; those for exports, too.
            total: Those of all such looks.
        """
        if self._at is None:
            return None
        change = None
        seconds = self._at - self._since
        if self._before is not None and seconds > 0:
            grown = {source: cost - self._before.get(source, 0.0) for source, cost in costs.items()}
            looks = self._looks - self._looks_before
            share = (looks + self._other - self._other_before) / seconds
            if self._credit < 0.0:
                change = self._slower(grown, looks, total - self._total_before, seconds, share)
                self._debt = min(self._share * DEBT, self._debt + self._share * STRETCH - self._credit)
                self._credit = self._share * STRETCH
            elif not self._debt:
                change = self._faster(grown, looks, seconds, share)
        if change is not None or self._at >= self._until:
            self._watch(costs, total)
        return change

    def _watch(self, costs: Mapping[str, float], total: float) -> None:
        """Begin another stretch."""
        if self._before is not None:
            self._past = (self._other - self._other_before, (self._at or 0.0) - self._since)
        slowest = max(self.interval, *self.rests.values(), 0.0)
        self._since = self._at or 0.0
        self._until = self._since + max(STRETCH, LOOKS * slowest)
        self._before, self._looks_before, self._other_before = costs, self._looks, self._other
        self._total_before = total

    def _slower(
        self, grown: Mapping[str, float], looks: float, total: float, seconds: float, share: float
    ) -> Change | None:
        dearest = max(grown, key=lambda source: grown[source], default=ALL)
        every = 2.0 * max(self.interval, self.rests.get(dearest, 0.0))
        if grown.get(dearest, 0.0) > HALF * total and every <= self._most:
            left = dearest not in self.rests
            self.rests[dearest] = every
            return Change(dearest, every, share, left=left)
        # To slow all is of no use where what cannot be slowed any more takes nearly everything.
        resting = sum(cost for source, cost in grown.items() if 2.0 * self.rests.get(source, 0.0) > self._most)
        if 2.0 * self.interval <= self._most and looks - resting > HALF * self._share * seconds:
            left = self.interval == self._asked
            self.interval *= 2.0
            return Change(ALL, self.interval, share, left=left)
        if self._exhausted:
            return None
        self._exhausted = True
        return Change(ALL, self.interval, share, exhausted=True)

    def _faster(self, grown: Mapping[str, float], looks: float, seconds: float, share: float) -> Change | None:
        """Come back by a half where that fits: to look twice as often costs twice as much, at most."""
        others, before = self._past
        others = (others + self._other - self._other_before) * seconds / (before + seconds)  # a lump is not in each
        other = min(others, HALF * self._share * seconds)
        room = FITS * self._share * seconds - looks - other
        if self.interval > self._asked and looks <= room:
            self.interval /= 2.0
            self._exhausted = False
            return Change(ALL, self.interval, share, back=self.interval == self._asked)
        for source, every in reversed(self.rests.items()):
            if grown.get(source, 0.0) <= room:
                self._exhausted = False
                if every / 2.0 > self.interval:
                    self.rests[source] = every / 2.0
                    return Change(source, every / 2.0, share)
                del self.rests[source]
                return Change(source, self.interval, share, back=True)
        return None
