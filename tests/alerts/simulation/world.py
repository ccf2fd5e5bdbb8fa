# SPDX-License-Identifier: Apache-2.0
"""Time and chance: what passes between two looks at the machine, and when these are."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from statistics import NormalDist

INTERVAL = 1.0
"""Seconds between two samples, as the option ``sample_interval`` has it by default."""
NEW_YEAR_2026 = 1_767_225_600
"""Seconds by the wall clock at the beginning."""

_DRAWS = 16_381  # a prime, so that what draws in a rhythm does not meet the same ones each time
_LATE = 0.05  # seconds that a sample is late, at most; intervals are so 0.95 to 1.05 s
_HELD_UP = 0.004  # share of samples that something holds up
_HELD_UP_FOR = 0.5


@dataclass(frozen=True, eq=False)
class Activity:
    """What the job does to the machine while it does one thing; shares of the time, of the whole, or of a limit.

    Attributes:
        busy: Share of the time in which kernels run on its GPUs.
        power: Power of its GPUs beyond that of idle ones, as a share of what is left up to their limit.
        tensor: Activity of tensor cores.
        io: PSI: share of the time in which something waits for I/O.
        memory: Likewise for memory.
        cpu: Likewise for a CPU.
        written: Bytes a second that go to the disk of the checkpoints.
        read: Bytes a second that come from storage, through the page cache.
        blocked: Whether some process is in uninterruptible sleep all the time.
    """

    busy: float = 0.0
    power: float = 0.0
    tensor: float = 0.0
    io: float = 0.02
    memory: float = 0.002
    cpu: float = 0.05
    written: float = 0.0
    read: float = 0.0
    blocked: bool = False


class Finished(Exception):
    """The simulation has seen what it was to see."""


class World:
    """One simulated run's time. The job calls `pass_time`; looks happen inside it, when they are due.

    Args:
        seed: Of all chance.

    Attributes:
        now: Seconds of the monotonic clock.
        wall: Seconds by which the wall clock has been set forth (or back, below 0).
        spent: Seconds since the last look, by what the job did.
        look: What is done when a sample is due.
    """

    def __init__(self, seed: str) -> None:
        self.now = 0.0
        self.wall = 0.0
        self.spent: dict[Activity, float] = {}
        self.look: Callable[[], object] = lambda: None
        self.rng = random.Random(seed)  # noqa: S311 - noise, not secrets
        self.noise = _normal(self.rng)
        self.chance = cycle([self.rng.random() for _ in range(_DRAWS)])
        self._due = 0.0
        self._next = 0.0

    @property
    def time_unix_nano(self) -> int:
        """The wall clock."""
        return round((NEW_YEAR_2026 + self.now + self.wall) * 1e9)

    def pass_time(self, seconds: float, activity: Activity) -> None:
        """Let the job do something for so long.

        Raises:
            Finished: The simulation is over.
        """
        end = self.now + seconds
        spent = self.spent
        while self._next <= end:
            spent[activity] = spent.get(activity, 0.0) + self._next - self.now
            self.now = self._next
            self.look()
            spent.clear()
            self._schedule()
        spent[activity] = spent.get(activity, 0.0) + end - self.now
        self.now = end

    def suspend(self, seconds: float) -> None:
        """Stop every process, the sampler's thread as well, and go on later, as Slurm does to make way for another job."""
        self.now += seconds
        self._due = self._next = self.now

    def _schedule(self) -> None:
        """When the next look is: on a grid of seconds, and late by a little, or by more where something is in the way."""
        self._due += INTERVAL
        chance = next(self.chance)
        late = _HELD_UP_FOR if chance < _HELD_UP else _LATE * chance
        if self._due <= self.now:  # missed ones are not made up for
            self._due = self.now + INTERVAL
        self._next = self._due + late


def _normal(rng: random.Random) -> Iterator[float]:
    """Independent normal values without end: the same again after a while, which nobody looks back on for so long."""
    normal = NormalDist()
    # By the inverse, since of all that `random` has only random() is promised to stay what it is.
    return cycle([max(-3.5, min(3.5, normal.inv_cdf(max(1e-9, rng.random())))) for _ in range(_DRAWS)])


def wave(now: float, period: float, phase: float = 0.0) -> float:
    """From -1 to 1 and back in each period."""
    return math.sin(2 * math.pi * (now / period + phase))
