# SPDX-License-Identifier: Apache-2.0
"""What one training thread has done: written by that thread without a lock, and read by any other at any moment."""

from __future__ import annotations

import math
import weakref
from typing import Final, NamedTuple

from otel_hwmetrics.stepclock.phases import SUSPENDING

NEVER: Final = math.inf
"""When something began that is not under way: up to any moment it has lasted for minus infinity, and that is no time."""


class Sums(NamedTuple):
    """What one hand, or several together, have counted; the attributes are those of `otel_hwmetrics.stepclock.Look`."""

    steps: int = 0
    time: float = 0.0
    completed: float = 0.0
    waited: float = 0.0

    def plus(self, other: Sums) -> Sums:
        """Both together."""
        return Sums(
            self.steps + other.steps,
            self.time + other.time,
            self.completed + other.completed,
            self.waited + other.waited,
        )

    def at_least(self, other: Sums) -> Sums:
        """Of each the greater."""
        return Sums(
            max(self.steps, other.steps),
            max(self.time, other.time),
            max(self.completed, other.completed),
            max(self.waited, other.waited),
        )


class Life:
    """Lives in a thread's own storage, and ends with the thread."""

    __slots__ = ("__weakref__",)


class Hand:
    """A hand of the clock, moved by one thread.

    A reader may find a change half made. So what is under way is taken away before it is added to what is over, and a
    reader reads in the opposite order (`sums`): for a moment it may miss time, and then goes by what it saw last, but
    it never counts any twice. Times are seconds of the clock's `now`.

    Attributes:
        life: Dead when the thread is.
        steps: How many have ended.
        spent: Length of the stretches (a loop; from the first call of `step` on) that are over.
        completed: Of that, what steps took that have ended.
        waited: Length of the waits for data that are over.
        began: When the present stretch began.
        since: When the present step began; once the stretch is over, that which would have been next.
        asked: When the data was asked for that is waited for.
        paused: When the phase was opened that suspends all this. No time here is later than that.
        loop: Whether the stretch is a loop.
        phases: Those that are open, the innermost last.
        longest: The longest step since `take_longest`, in a cell that is given away then, so that none is lost that is
            written meanwhile.
    """

    __slots__ = (
        *("_seen", "_taken", "asked", "began", "completed", "life", "longest", "loop", "paused", "phases"),
        *("since", "spent", "steps", "waited"),
    )

    def __init__(self, life: weakref.ref[Life]) -> None:
        self.life = life
        self.steps = 0
        self.spent = self.completed = self.waited = 0.0
        self.began = self.asked = self.paused = NEVER
        self.since = -NEVER
        self.loop = False
        self.phases: tuple[str, ...] = ()
        self.longest = [0.0]
        self._taken = (self.longest, 0.0)  # the cell that was given away last, and what was in it then
        self._seen = Sums()

    def open(self, at: float) -> bool:
        """Begin a loop, whose first data is asked for; False where it does not count."""
        if self.loop or at >= self.paused:
            return False
        self.loop = True
        began, self.began = self.began, NEVER
        if began < NEVER:  # that of `step`, which from here on has nothing to say
            self.spent += at - began
            self.completed += self.since - began
        self.since = self.asked = self.began = at
        return True

    def close(self, at: float) -> bool:
        """End the loop; True where that ends a step, because its data had come."""
        came, ends = self.asked == NEVER, False
        if at >= self.paused:
            at = self.paused
        elif came:
            self.lap(at)
            ends = True
        began, asked = self.began, self.asked
        self.loop = False
        self.asked = self.began = NEVER
        if not came:
            self.waited += at - asked
        self.spent += at - began
        self.completed += self.since - began
        return ends

    def lap(self, at: float) -> None:
        """A step has ended, and the next begun."""
        duration = at - self.since
        self.since = at
        self.steps += 1
        longest = self.longest
        if duration > longest[0]:  # noqa: PLR1730 - a call of `max` takes as long as a look at the time
            longest[0] = duration

    def enter(self, phase: str, at: float) -> None:
        """Open a phase."""
        self.phases = (*self.phases, phase)
        if phase in SUSPENDING and self.paused == NEVER:
            self.paused = at

    def leave(self, phase: str, at: float) -> None:
        """Close the innermost phase of that name, if there is one."""
        if phase not in self.phases:
            return
        place = len(self.phases) - 1 - self.phases[::-1].index(phase)
        self.phases = self.phases[:place] + self.phases[place + 1 :]
        if self.paused < NEVER and SUSPENDING.isdisjoint(self.phases):
            shift = at - self.paused  # as if whatever is under way had begun that much later
            self.began += shift
            self.asked += shift
            self.since += shift
            self.paused = NEVER

    def sums(self, at: float) -> Sums:
        """What it has counted up to a moment that has passed, and never less than it said before. One reader at a time."""
        # In this order: see the class. What begins after `at` has not lasted at all.
        steps, spent, completed, waited = self.steps, self.spent, self.completed, self.waited
        at = min(at, self.paused)
        since, asked, began = self.since, self.asked, self.began
        found = Sums(
            steps,
            spent + max(0.0, at - began),
            completed + max(0.0, since - began),
            waited + max(0.0, at - asked),
        )
        self._seen = found.at_least(self._seen)
        return self._seen

    def age(self, at: float) -> float | None:
        """Seconds that the present step has lasted; None where none is under way."""
        at = min(at, self.paused)
        if self.began == NEVER:
            return None
        return max(0.0, at - self.since)  # read last: that of a loop before the present one would be too old

    def take_longest(self) -> float:
        """Seconds of the longest step since the last call; 0 where none has ended. One reader at a time."""
        before, told = self._taken
        cell, self.longest = self.longest, [0.0]
        self._taken = cell, cell[0]
        return max(cell[0], before[0] if before[0] > told else 0.0)
