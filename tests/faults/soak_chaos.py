# SPDX-License-Identifier: Apache-2.0
"""The soak's faults: what goes wrong next is drawn from a seed, and mended some looks later."""

from __future__ import annotations

import errno
import heapq
import itertools
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from faults.soak_books import PLACES, Books
from otel_hwmetrics.pipeline import Pipeline
from otel_hwmetrics.runners import Runner
from otel_hwmetrics.sources.base import Batch
from otel_hwmetrics.testing import FakeNvml, ManualClock

EVERY: Final = 40
"""Looks between two faults, on average."""
CALLS: Final = (
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetFieldValues",
    "nvmlDeviceGetSamples",
)
"""What GPUs are asked each time: the first two of every one, then of one that tells little, then of one of today."""
ERRORS: Final = (
    "NVML_ERROR_UNKNOWN",
    "NVML_ERROR_TIMEOUT",
    "NVML_ERROR_GPU_IS_LOST",
    "NVML_ERROR_NO_PERMISSION",
    "NVML_ERROR_IRQ_ISSUE",
    "NVML_ERROR_INSUFFICIENT_POWER",
)
"""Not NVML_ERROR_NOT_SUPPORTED: that is for ever, and would leave little to read of the longest pipeline."""
XIDS: Final = (13, 31, 43, 45, 48, 63, 64, 74, 79, 92, 94, 95, 119, 140, 154, 2**32 - 1)
RAISED: Final[tuple[Callable[[], Exception], ...]] = (
    lambda: OSError(errno.EMFILE, "Too many open files"),
    lambda: PermissionError(errno.EPERM, "Operation not permitted"),
    lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ZeroDivisionError,
    MemoryError,
    RecursionError,
)

Mend = Callable[[], object]


class World:
    """What a fault may touch; the soak keeps it up to date.

    Attributes:
        clock: The time.
        nvml: The driver.
        pipeline: The one that is running.
        books: Where the places that are told of alerts are.
        files: Where recordings are written.
        fork: Forks a child, and asks it whether it is silent.
        raised: How often a source has raised what nobody foresaw, by what the guard calls the place.
    """

    def __init__(self, clock: ManualClock, nvml: FakeNvml, books: Books, files: Path, fork: Callable[[], None]) -> None:
        self.clock = clock
        self.nvml = nvml
        self.books = books
        self.files = files
        self.fork = fork
        self.raised: Counter[str] = Counter()
        self.pipeline: Pipeline | None = None

    def runner(self, name: str) -> Runner:
        """Who reads a source."""
        assert self.pipeline is not None
        return next(runner for runner in self.pipeline.sampler.runners if runner.source.name == name)


Fault = Callable[[World, random.Random], "Iterator[int]"]
"""Does harm, gives for how many looks it lasts, and mends it."""


def call_fails(world: World, chance: random.Random) -> Iterator[int]:
    """One call, or every one about a GPU, answers an error."""
    function = chance.choice((*CALLS, "*"))
    world.nvml.fail(function, chance.choice(ERRORS), gpu=_gpu(world, chance))
    yield chance.randint(1, 60)
    world.nvml.recover(function)


def call_is_garbled(world: World, chance: random.Random) -> Iterator[int]:
    """A call says success and writes all ones."""
    function = chance.choice(CALLS)
    world.nvml.garble(function, gpu=_gpu(world, chance))
    yield chance.randint(1, 60)
    world.nvml.recover(function)


def call_is_slow(world: World, chance: random.Random) -> Iterator[int]:
    """A call takes a millisecond more: time that is waited is real, and there is little of it."""
    function = chance.choice(CALLS)
    world.nvml.delay(function, 0.001)
    yield chance.randint(1, 5)
    world.nvml.recover(function)


def call_hangs(world: World, chance: random.Random) -> Iterator[int]:
    """A call does not return, for so long that the GPUs count as degraded or as failed."""
    function = chance.choice(CALLS)
    world.nvml.hang(function)
    yield chance.choice((1, 2, 5, 20, 90))
    world.nvml.recover(function)


def gpu_is_lost(world: World, chance: random.Random) -> Iterator[int]:
    """A GPU falls off its bus, and is back after a reset."""
    gpu = _gpu(world, chance)
    world.nvml.lose(gpu)
    yield chance.choice((2, 10, 30, 120, 400))
    if gpu < len(world.nvml.gpus):
        world.nvml.restore(gpu)


def driver_is_reloaded(world: World, chance: random.Random) -> Iterator[int]:
    """The driver goes, and comes back with all counters at zero."""
    world.nvml.reload_driver()
    yield chance.randint(1, 60)
    world.nvml.driver_back()


def xid_comes(world: World, chance: random.Random) -> Iterator[int]:
    """The driver tells of an error by itself, or of something that is none."""
    code, gpu = chance.choice(XIDS), _gpu(world, chance)
    if world.nvml.machine.devices:  # else the driver is away
        world.nvml.xid(code, gpu=gpu)
    yield 0


def source_raises(world: World, chance: random.Random) -> Iterator[int]:
    """Reading a source raises something that nobody foresaw."""
    assert world.pipeline is not None
    source = chance.choice(world.pipeline.sampler.runners).source
    error = chance.choice(RAISED)

    def read() -> Batch:
        world.raised[f"reading {source.name}"] += 1
        raise error()

    source.read = read  # type: ignore[method-assign]
    yield chance.randint(1, 30)
    source.__dict__.pop("read", None)


def source_thread_dies(world: World, chance: random.Random) -> Iterator[int]:
    """What ends a thread goes through every guard."""
    source = world.runner("nvidia").source

    def read() -> Batch:
        raise SystemExit

    source.read = read  # type: ignore[method-assign]
    yield chance.randint(1, 3)
    source.__dict__.pop("read", None)


def place_refuses(world: World, chance: random.Random) -> Iterator[int]:
    """A log processor, a handler or a callback raises."""
    place = chance.choice(PLACES)
    world.books.refusing.add(place)
    yield chance.randint(10, 200)
    world.books.refusing.discard(place)


def files_vanish(world: World, chance: random.Random) -> Iterator[int]:
    """The folder of recordings is removed; now and then a file is where it was."""
    shutil.rmtree(world.files, ignore_errors=True)
    if chance.random() < 0.5 and not world.files.exists():
        world.files.touch()
    yield chance.randint(10, 300)
    if world.files.is_file():
        world.files.unlink()


def machine_sleeps(world: World, chance: random.Random) -> Iterator[int]:
    """Nobody looks for a while."""
    world.clock.advance(chance.choice((7, 60, 600, 4000)))
    yield 0


def job_forks(world: World, chance: random.Random) -> Iterator[int]:
    """A child comes, says nothing, and ends."""
    del chance
    if hasattr(os, "fork"):
        world.fork()
    yield 0


FAULTS: Final[dict[Fault, int]] = {
    call_fails: 20,
    call_is_garbled: 10,
    call_is_slow: 4,
    call_hangs: 1,
    gpu_is_lost: 6,
    driver_is_reloaded: 2,
    xid_comes: 4,
    source_raises: 8,
    place_refuses: 10,
    files_vanish: 2,
    machine_sleeps: 3,
    job_forks: 1,
}
"""Each fault, and how often it comes in comparison to the others."""


class Chaos:
    """Begins faults, and mends them.

    Attributes:
        world: What they touch.
        counts: How often each came.
    """

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world = world
        self.counts: Counter[str] = Counter()
        self._chance = chance
        self._faults, self._weights = zip(*FAULTS.items(), strict=True)
        self._under_way: list[tuple[int, int, Iterator[int], Fault]] = []
        self._numbers = itertools.count()
        self._next = EVERY

    def step(self, look: int) -> None:
        """Before each look: mend what is due, and see whether something breaks."""
        while self._under_way and self._under_way[0][0] <= look:
            next(heapq.heappop(self._under_way)[2], None)
        if look >= self._next:
            self._next = look + self._chance.randint(1, 2 * EVERY)
            (fault,) = self._chance.choices(self._faults, self._weights)
            if all(fault is not other for *_, other in self._under_way):  # each but once at a time
                self.begin(fault, look)

    def begin(self, fault: Fault, look: int) -> None:
        """Have something break now."""
        going = fault(self.world, self._chance)
        self.counts[fault.__name__] += 1
        lasts = next(going)
        heapq.heappush(self._under_way, (look + lasts, next(self._numbers), going, fault))

    def mend(self) -> None:
        """Mend everything now."""
        for *_, going, _ in sorted(self._under_way, key=lambda each: each[:2]):
            next(going, None)
        self._under_way.clear()


def _gpu(world: World, chance: random.Random) -> int:
    return chance.randrange(len(world.nvml.gpus))
