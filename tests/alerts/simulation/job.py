# SPDX-License-Identifier: Apache-2.0
"""The simulated training: a start that takes minutes, epochs, steps, slow batches, checkpoints, evaluations.

It is written as one writes a training, and what it tells of itself goes through the package's own step clock and the
source that reads it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import count
from typing import Final

from alerts.simulation.gpus import LIMIT, Gpus
from alerts.simulation.host import CHECKPOINTS, GB, Host
from alerts.simulation.world import Activity, World
from otel_hwmetrics.sources.training import TrainingSource
from otel_hwmetrics.stepclock import CHECKPOINT, EVALUATION, StepClock

IMPORTS: Final = Activity(io=0.1, cpu=0.02, read=0.1 * GB)
INDEXING: Final = Activity(io=0.2, cpu=0.1, read=0.5 * GB)
LOADING: Final = Activity(busy=0.03, power=0.08, io=0.45, cpu=0.05, read=2 * GB)
COMPILING: Final = Activity(busy=0.12, power=0.1, cpu=0.3)
TRAINING: Final = Activity(busy=0.97, power=0.84, tensor=0.42, read=0.06 * GB)
DENSE: Final = Activity(busy=0.99, power=0.975, tensor=0.55, read=0.06 * GB)
WAITING: Final = Activity(power=0.09, io=0.25, cpu=0.1)
STARTING_WORKERS: Final = Activity(power=0.09, io=0.12, cpu=0.4)
SAVING: Final = Activity(power=0.07, io=0.45, memory=0.04, cpu=0.05, written=1 * GB, blocked=True)
EVALUATING: Final = Activity(busy=0.93, power=0.66, tensor=0.3)
GENERATING: Final = Activity(busy=0.95, power=0.44, tensor=0.05)
"""Text, token by token: at 58 % of the power of training, since it is memory that is waited for."""
ON_CPUS: Final = Activity(cpu=0.3)
STOPPED_FOR: Final = 600.0

TRAFFIC: Final[Mapping[Activity, float]] = {
    TRAINING: 0.38,
    DENSE: 0.31,
    EVALUATING: 0.36,
    GENERATING: 0.68,
    LOADING: 0.02,
}
"""Share of the bandwidth of the GPUs' memory that something uses; what is not there uses none."""


def traffic_of(spent: Mapping[Activity, float]) -> float:
    """That of what was done, by how long it was."""
    whole = sum(spent.values())
    return sum(TRAFFIC.get(each, 0.0) * seconds for each, seconds in spent.items()) / whole if whole > 0 else 0.0


@dataclass(frozen=True)
class Setup:
    """What trains, and on what.

    Attributes:
        gpus: How many the process sees.
        with_torch: On how many of them it has an allocator itself.
        weights: Bytes on each GPU that stay.
        activations: Bytes on each GPU that come and go within a step, at most.
        held: Share of the GPUs' memory that the allocator ends up holding.
        step: Seconds of a step.
        epoch: Seconds of an epoch.
        checkpoint_every: Seconds between checkpoints.
        checkpoint: Seconds that one takes, at least and at most; it is written at 1 GB/s.
        workers: Processes that load data.
        limit: Bytes of memory that the container may use.
        tells: Whether phases are told.
        evaluates_within: Whether it evaluates in the middle of an epoch's loop, too, and generates text for a while later.
        suspended_at: When every process of it is stopped for ten minutes, between two steps.
        suspended_within: Likewise, in the middle of a step, and again ten minutes later.
        eventful: Whether there are corrected errors, notes of the driver, and a wall clock that is set.
    """

    gpus: int = 8
    with_torch: int = 8
    weights: float = 30 * GB
    activations: float = 37 * GB
    held: float = 0.92
    step: float = 0.4
    epoch: float = 7200.0
    checkpoint_every: float = 1800.0
    checkpoint: tuple[float, float] = (30.0, 90.0)
    workers: int = 32
    limit: float | None = 300 * GB
    tells: bool = True
    evaluates_within: bool = False
    suspended_at: float = math.inf
    suspended_within: float = math.inf
    eventful: bool = True


class Job:
    """A training on a simulated machine.

    Attributes:
        hang: What it does instead of its steps, while that is set.
        starved: Seconds that each batch comes late.
        starved_as: What it does to the machine meanwhile.
        slower: How many times as long its steps take.
    """

    def __init__(self, world: World, gpus: Gpus, host: Host, setup: Setup) -> None:
        self._world, self._gpus, self._host, self._setup = world, gpus, host, setup
        clock = StepClock(now=lambda: world.now)
        self.clock = clock
        self.source = TrainingSource(clock, now=lambda: world.now)
        self.doing = IMPORTS
        self.hang: Activity | None = None
        self.starved = 0.0
        self.starved_as = WAITING
        self.slower = 1.0
        self._training = TRAINING
        self._slow_batch_at = math.inf
        self._checkpoints: list[float] = []
        self._happens: list[tuple[float, Callable[[], object]]] = []
        self._suspended_within = [setup.suspended_within, setup.suspended_within + 2 * STOPPED_FOR]
        self.happens(setup.suspended_at, lambda: world.suspend(STOPPED_FOR))

    def happens(self, at: float, what: Callable[[], object]) -> None:
        """Have something happen between two steps, once that time has come."""
        self._happens = sorted([*self._happens, (at, what)], key=lambda happening: happening[0])

    def run(self) -> None:
        """Train without end.

        Raises:
            Finished: The simulation is over.
        """
        self._start_up()
        checkpoint_at = self._world.now + self._setup.checkpoint_every
        for epoch in count():
            # The attention of long sequences, say, every third time: as dense as the boards can take.
            self._training = DENSE if epoch % 3 == 2 else TRAINING
            half, later = (self._world.now + share * self._setup.epoch for share in (0.5, 0.7))
            for number, _ in enumerate(self.clock.steps(_Loader(self))):
                self._step(epoch, number)
                if self._world.now >= checkpoint_at:
                    checkpoint_at += self._setup.checkpoint_every
                    self._save()
                if self._setup.evaluates_within and self._world.now >= half:
                    half = math.inf
                    self._evaluate()
                if self._setup.evaluates_within and self._world.now >= later:
                    later = math.inf
                    self._evaluate(GENERATING, 600)  # longer than what else no one tells of makes usual
            self._evaluate()

    def _do(self, seconds: float, activity: Activity) -> None:
        self.doing = activity
        self._world.pass_time(seconds, activity)

    def _start_up(self) -> None:
        host, gpus, setup = self._host, self._gpus, self._setup
        self._do(25, IMPORTS)
        host.main = 6 * GB
        for _ in range(65):
            self._do(1, INDEXING)
            host.main += 0.15 * GB
        # Parts of the model are read into memory and copied to the GPUs, one after the other.
        parts = 60
        for part in range(1, parts + 1):
            self._do(2.5, LOADING)
            host.main += (1.2 if part % 6 else -5.6) * GB
            if setup.gpus:
                gpus.weights = setup.weights * part / parts
                gpus.reserved = gpus.weights + 0.5 * GB
        host.main = 18 * GB

    def _step(self, epoch: int, number: int) -> None:
        world, setup = self._world, self._setup
        if self._happens and world.now >= self._happens[0][0]:
            self._happens.pop(0)[1]()
        while self.hang is not None:
            self._do(1.0, self.hang)
        if not setup.gpus:
            self._work(setup.step * self.slower * (1 + 0.05 * next(world.noise)), ON_CPUS)
            return
        self._allocate(epoch, number)
        if epoch == 0 and number < 2:  # the first ones compile
            self._do(45 if number == 0 else 12, COMPILING)
        seconds = setup.step * self.slower * (1 + 0.03 * next(world.noise))
        self._work(seconds * (1.6 if number % 50 == 0 else 1.0), self._training)

    def _work(self, seconds: float, activity: Activity) -> None:
        """Do that, and be stopped in the middle of it once that time has come."""
        if self._world.now < self._suspended_within[0]:
            self._do(seconds, activity)
            return
        self._suspended_within = [*self._suspended_within[1:], math.inf]
        self._do(seconds / 2, activity)
        self._world.suspend(STOPPED_FOR)
        self._do(seconds / 2, activity)

    def _allocate(self, epoch: int, number: int) -> None:
        """The allocator takes memory in stairs, and loses some to fragments, until it has what it needs."""
        gpus, setup = self._gpus, self._setup
        gpus.activations = setup.activations
        if epoch == 0 and number < 4000:
            stairs = min(1.0, (1 + number // 400) / 8)
            gpus.reserved = max(gpus.reserved, setup.weights + stairs * (setup.held * LIMIT - setup.weights))
            gpus.split = 0.1 * GB * min(8, 1 + number // 500)
            self._host.main += 2e5  # caches fill, and logs of the run

    def _phase(self, name: str) -> AbstractContextManager[object]:
        return self.clock.phase(name) if self._setup.tells else nullcontext()

    def _save(self) -> None:
        least, most = self._setup.checkpoint
        seconds = least + (most - least) * next(self._world.chance)
        with self._phase(CHECKPOINT):
            self._do(seconds, SAVING)
            self._checkpoints.append(seconds * SAVING.written)
            if len(self._checkpoints) > 3:
                self._host.free[CHECKPOINTS] += self._checkpoints.pop(0)

    def _evaluate(self, how: Activity = EVALUATING, seconds: int = 180) -> None:
        if not self._setup.gpus:
            return
        with self._phase(EVALUATION):
            for _ in range(seconds):
                self._do(1.0, how)

    # What the loader asks for.

    def batches(self) -> Iterator[None]:
        """An epoch's: workers are started first, and now and then one batch comes late."""
        world, setup = self._world, self._setup
        self._do(10 + 10 * next(world.chance), STARTING_WORKERS)
        self._host.start_workers(setup.workers)
        end = world.now + setup.epoch
        if self._slow_batch_at == math.inf:
            self._slow_batch_at = world.now + self._until_slow_batch()
        while world.now < end:
            self._do(0.003, WAITING)
            if world.now >= self._slow_batch_at:
                self._do(5 + 15 * next(world.chance), WAITING)
                self._slow_batch_at = world.now + self._until_slow_batch()
            if self.starved:
                self._do(self.starved, self.starved_as)
            yield None

    def _until_slow_batch(self) -> float:
        """Slow batches come as they like, one in 25 minutes on average."""
        return -1500 * math.log(1 - next(self._world.chance))


class _Loader:
    """What a `torch.utils.data.DataLoader` is to the training."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __iter__(self) -> Iterator[None]:
        return self._job.batches()
