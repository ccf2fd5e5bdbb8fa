# SPDX-License-Identifier: Apache-2.0
"""The soak's scales: memory, threads and descriptors, between two pipelines and within the life of the longest.

Both are needed. What a pipeline gathers and gives back when it stops is never seen between two; and a training has one
pipeline for weeks. What it leaves behind is seen between two alone.
"""

from __future__ import annotations

import ctypes
import gc
import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from faults.soak_books import PATIENCE

WARM_UP: Final = 0.25
"""Share of the looks after which nothing may grow any more."""
WEIGHINGS: Final = 80
"""How often a soak is weighed: half of the times within the longest life, whatever the soak's length."""
ROBUST: Final = 5
"""Weighings that count together, at either end."""


class Weighing(NamedTuple):
    """What is in use after a look.

    Attributes:
        look: Its number.
        memory: Resident bytes.
        threads: As Python knows them.
        tasks: As the kernel knows them.
        descriptors: Open files.
    """

    look: int
    memory: int
    threads: int
    tasks: int
    descriptors: int


class Scales:
    """Weighs, and tells what has grown.

    Args:
        looks: How many samples the soak takes.

    Attributes:
        every: Looks between two weighings.
        longest: The first and the last look of the longest life: the middle half of the soak.
        during: Weighings while a pipeline runs.
        between: Weighings when none does.
    """

    def __init__(self, looks: int) -> None:
        self.every = max(1, looks // WEIGHINGS)
        self.longest = looks // 4, looks * 3 // 4
        self.during: list[Weighing] = []
        self.between: list[Weighing] = []
        self._warm = looks * WARM_UP

    def weigh(self, look: int) -> None:
        """Note what is in use while a pipeline rests between two looks."""
        gc.collect()
        _trim()
        self.during.append(_weighed(look))

    def rest(self, look: int) -> None:
        """Note what is left when no pipeline is running: threads that were stuck end first."""
        deadline = time.monotonic() + PATIENCE
        while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < deadline:
            time.sleep(0.001)
        self.between.append(_weighed(look))

    @property
    def grown(self) -> float:
        """Bytes of memory that were added after the warm-up; 0 of a soak that is too short to say."""
        return _added([each.memory for each in self.during if each.look > self._warm], statistics.median)

    @property
    def grown_in_life(self) -> dict[str, float]:
        """What was added within the longest life: bytes of memory, threads of the kernel's, descriptors.

        Of threads and descriptors the fewest of some weighings count: while a call hangs, there is one thread more. The
        last look does not count: a thread may have been made to die shortly before it.
        """
        begin, end = self.longest
        life = [each for each in self.during if begin < each.look < end]
        return {
            "memory": _added([each.memory for each in life], statistics.median),
            "tasks": _added([each.tasks for each in life], min),
            "descriptors": _added([each.descriptors for each in life], min),
        }


def _added(course: Sequence[int], typical: Callable[[Sequence[int]], float]) -> float:
    return typical(course[-ROBUST:]) - typical(course[:ROBUST]) if course else 0.0


def _trim() -> None:
    """Have the C library give back what it keeps for later: each thread that comes and goes leaves it some of that.

    What Python allocates is the same after 8,000 looks and after 20,000 (tracemalloc), while that grows for hours.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
    if trim is not None:
        trim(0)


def _weighed(look: int) -> Weighing:
    with open("/proc/self/statm", encoding="ascii") as file:
        memory = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    tasks, descriptors = len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))
    return Weighing(look, memory, threading.active_count(), tasks, descriptors)
