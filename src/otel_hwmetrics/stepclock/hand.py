# SPDX-License-Identifier: Apache-2.0
"""What one training thread has done: written by that thread without a lock, and read by any other at any moment."""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat, starmap
from numbers import Integral
from typing import Any, Final, NamedTuple, TypeVar

from otel_hwmetrics._guard import guard
from otel_hwmetrics.stepclock.phases import EVALUATION, SUSPENDING

T = TypeVar("T")
Count = Callable[[T], int]
"""Tells how many a batch holds."""
Counts = tuple[Count[T] | None, Count[T] | None]
"""Of samples and of tokens."""

NEVER: Final = math.inf
"""When something began that is not under way: up to any moment it has lasted for minus infinity, and that is no time."""


KEPT: Final = 8192
"""How many of its newest steps a hand knows the length of until somebody takes them: those of a second, if each lasts for
no less than 0.12 ms. They take a quarter of a megabyte at the most."""


class Sums(NamedTuple):
    """What one hand, or several together, have counted; the attributes are those of `otel_hwmetrics.stepclock.Look`."""

    steps: int = 0
    time: float = 0.0
    completed: float = 0.0
    waited: float = 0.0
    samples: int = 0
    tokens: int = 0
    gpu_time: float = 0.0

    def plus(self, other: Sums) -> Sums:
        """Both together."""
        return Sums(
            self.steps + other.steps,
            self.time + other.time,
            self.completed + other.completed,
            self.waited + other.waited,
            self.samples + other.samples,
            self.tokens + other.tokens,
            self.gpu_time + other.gpu_time,
        )

    def at_least(self, other: Sums) -> Sums:
        """Of each the greater."""
        return Sums(
            max(self.steps, other.steps),
            max(self.time, other.time),
            max(self.completed, other.completed),
            max(self.waited, other.waited),
            max(self.samples, other.samples),
            max(self.tokens, other.tokens),
            max(self.gpu_time, other.gpu_time),
        )


def _whole(number: Any) -> int:
    """A number of things, as Python's or NumPy's integer.

    Nothing else: to ask a tensor for its value would wait for the GPU that it lies on.
    """
    if not isinstance(number, Integral):
        raise TypeError(f"how many is told by a whole number, not by {type(number).__name__}; a tensor's size is one")
    if number < 0:
        raise ValueError(f"there are no {number} of anything")
    return int(number)


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
        samples: How many it was told of.
        tokens: Likewise.
        gpu_time: Seconds that a GPU was at its steps, as it was told.
        waited: Length of the waits for data that are over.
        began: When the present stretch began.
        since: When the present step began; where none is under way, when the last stretch or suspending phase was over.
        asked: When the data was asked for that is waited for.
        paused: When the phase was opened that suspends all this. No time here is later than that.
        over: Since when, as was seen from outside, no step is expected; whatever its thread does next settles it. Written by
            any thread, in the middle of anything, like the next one.
        resumes: Since when the evaluation is over that this thread has not closed yet.
        loop: Whether the stretch is a loop.
        told: Whether `step` was called in the present stretch; not if that is a loop.
        seen: Whether its last step was seen and not told.
        phases: Those that are open, the innermost last.
        longest: The longest step since `take_longest`, in a cell that is given away then, so that none is lost that is
            written meanwhile.
        laps: How long each step was, the newest last.
    """

    __slots__ = (
        *("_seen", "_taken", "asked", "began", "completed", "gpu_time", "laps", "life", "longest", "loop", "over"),
        *("paused", "phases", "resumes", "samples", "seen", "since", "spent", "steps", "told", "tokens", "waited"),
    )

    def __init__(self, life: weakref.ref[Life]) -> None:
        self.life = life
        self.steps = self.samples = self.tokens = 0
        self.spent = self.completed = self.waited = self.gpu_time = 0.0
        self.began = self.asked = self.paused = self.over = self.resumes = NEVER
        self.since = -NEVER
        self.loop = self.told = self.seen = False
        self.phases: tuple[str, ...] = ()
        self.laps: deque[float] = deque(maxlen=KEPT)
        self.longest = [0.0]
        self._taken = (self.longest, 0.0)  # the cell that was given away last, and what was in it then
        self._seen = Sums()

    def open(self, at: float) -> bool:
        """Begin a loop, whose first data is asked for; False where it does not count."""
        self.settle()
        if self.loop or at >= self.paused:
            return False
        self.loop = True
        self.rest(at)
        self.since = self.asked = self.began = at
        return True

    def rest(self, at: float) -> None:
        """End the stretch of `step` and `ask`, which has nothing more to say; the step that was under way is none."""
        at = max(min(at, self.paused, self.over), self.since)
        self.over = NEVER
        if self.asked < NEVER:
            self.come(max(at, self.asked))
        began, self.began = self.began, NEVER
        self.told = self.seen = False
        if began < NEVER:
            self.spent += at - began
            self.completed += self.since - began
            self.since = at

    def go_on(self) -> None:
        """Training goes on as if nothing had been over but the evaluation that is."""
        self.over = NEVER
        self._resume()

    def _resume(self) -> None:
        if self.resumes < NEVER:
            at, self.resumes = self.resumes, NEVER
            self.leave(EVALUATION, at)

    def settle(self) -> None:
        """What was seen to be over is over, since then."""
        over = self.over
        self.go_on()
        if over < NEVER and not self.loop:
            self.rest(over)

    def has_begun(self, at: float, ago: float, waited: float) -> bool:
        """The first step began some time ago; False where another one is under way, or none can be."""
        if self.loop or at >= self.paused or self.began < NEVER:
            return False
        began = max(at - ago, self.since)
        self.waited += min(waited, at - began)
        self.since = self.began = began
        return True

    def ask(self, at: float) -> bool:
        """Begin to wait for data outside of a loop, and the first step with it; False where that does not count."""
        if self.loop or at >= self.paused or self.asked < NEVER:
            return False
        if self.began == NEVER:
            self.since = self.began = at
        self.asked = at
        return True

    def come(self, at: float) -> None:
        """The data is there that was asked for outside of a loop, or nobody waits for it any more."""
        asked, self.asked = self.asked, NEVER
        if asked < NEVER:
            self.waited += min(at, self.paused) - asked

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
        self.since = at
        return ends

    def lap(self, at: float) -> None:
        """A step has ended, and the next begun."""
        duration = at - self.since
        self.since = at
        self.steps += 1
        self.laps.append(duration)
        longest = self.longest
        if duration > longest[0]:  # noqa: PLR1730 - a call of `max` takes as long as a look at the time
            longest[0] = duration

    def tell(self, at: float, samples: Any, tokens: Any) -> None:
        """Count what was told of, unless it is no step's. What is no number of things is passed over."""
        if at < self.paused:
            with guard("counting samples"):
                if samples is not None:
                    self.samples += _whole(samples)
                if tokens is not None:
                    self.tokens += _whole(tokens)

    def counting(self, batches: Iterator[T], counts_of: Counts[T] | None) -> Iterator[T]:
        """The batches of a loop; what each holds is counted as it comes, unless it is no step's."""
        if counts_of is None:
            return batches

        def count(batch: T) -> T:
            if self.paused == NEVER:
                with guard("counting samples"):
                    self.tell(-NEVER, *(of(batch) if of is not None else None for of in counts_of))
            return batch

        return map(count, batches)

    def enter(self, phase: str, at: float) -> None:
        """Open a phase."""
        self.settle()
        self.phases = (*self.phases, phase)
        if phase in SUSPENDING and self.paused == NEVER:
            self.paused = at

    def leave(self, phase: str, at: float) -> None:
        """Close the innermost phase of that name, if there is one."""
        self._resume()
        if phase not in self.phases:
            return
        place = len(self.phases) - 1 - self.phases[::-1].index(phase)
        self.phases = self.phases[:place] + self.phases[place + 1 :]
        if self.paused < NEVER and SUSPENDING.isdisjoint(self.phases):
            shift = at - self.paused  # as if whatever is under way had begun that much later
            self.began += shift
            self.asked += shift
            # Last: for a moment less is complete, and not more.
            self.since = at if self.began == NEVER else self.since + shift
            self.paused = NEVER

    def sums(self, at: float) -> Sums:
        """What it has counted up to a moment that has passed, and never less than it said before. One reader at a time."""
        # In this order: see the class. What begins after `at` has not lasted at all.
        steps, spent, completed, waited = self.steps, self.spent, self.completed, self.waited
        samples, tokens, gpu_time = self.samples, self.tokens, self.gpu_time
        at = self._counts_until(at)
        since, asked, began = self.since, self.asked, self.began
        found = Sums(
            steps,
            spent + max(0.0, at - began),
            completed + max(0.0, since - began),
            waited + max(0.0, at - asked),
            *(samples, tokens, gpu_time),
        )
        self._seen = found.at_least(self._seen)
        return self._seen

    def _counts_until(self, at: float) -> float:
        """The moment by which the time of what is under way is told."""
        paused, resumes = self.paused, self.resumes
        if resumes < at and self._suspended == 1:
            paused += at - resumes  # as if the phase had been closed then
        return min(at, paused, self.over)

    @property
    def _suspended(self) -> int:
        return sum(phase in SUSPENDING for phase in self.phases)

    @property
    def open_phases(self) -> tuple[str, ...]:
        """Those of which nobody has seen that they are over, the innermost last."""
        phases = self.phases
        if self.resumes < NEVER and EVALUATION in phases:
            place = len(phases) - 1 - phases[::-1].index(EVALUATION)
            return phases[:place] + phases[place + 1 :]
        return phases

    def age(self, at: float) -> float | None:
        """Seconds that the present step has lasted; None where none is under way."""
        at = self._counts_until(at)
        if self.began == NEVER or self.over < NEVER:
            return None
        return max(0.0, at - self.since)  # read last: that of a loop before the present one would be too old

    def take_longest(self) -> float:
        """Seconds of the longest step since the last call; 0 where none has ended. One reader at a time."""
        before, told = self._taken
        cell, self.longest = self.longest, [0.0]
        self._taken = cell, cell[0]
        return max(cell[0], before[0] if before[0] > told else 0.0)

    def take_laps(self) -> Iterable[float]:
        """How long each step was that has ended since the last call. One reader at a time.

        In C, so that it takes 20 ns each. What is full stays so while more comes, so there are as many as it says.
        """
        return starmap(self.laps.popleft, repeat((), len(self.laps)))
