# SPDX-License-Identifier: Apache-2.0
"""Runs of the simulation, and what the alerts made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

from alerts.simulation.gpus import Gpu, Gpus, Told, mean_of
from alerts.simulation.host import GB, Host
from alerts.simulation.job import Job, Setup, traffic_of
from alerts.simulation.world import Finished, World, wave
from otel_hwmetrics.alerts.builtin import RULES
from otel_hwmetrics.alerts.engine import Engine
from otel_hwmetrics.alerts.rule import Rule, State
from otel_hwmetrics.alerts.transition import TOLD, Transition
from otel_hwmetrics.catalog import gpu_activity
from otel_hwmetrics.model import Metric, Reading, Snapshot, Window

SEED: Final = "soak"
HOUR: Final = 3600
"""Snapshots."""

_TRAFFIC_EVERY: Final = 2.0
_LATE: Final = 0.002  # share of the looks for which the driver is late


class Healthy(NamedTuple):
    """A run on which nothing fails.

    Attributes:
        title: What it is, for people.
        setup: What trains, and on what.
        snapshots: How many looks at it there are, one a second.
        beginning: How many of them are made where the whole would take too long.
    """

    title: str
    setup: Setup
    snapshots: int
    beginning: int


_BASE: Final = Setup()

HEALTHY: Final[Mapping[str, Healthy]] = {
    "told": Healthy(
        "eight GPUs, checkpoints and evaluations told as phases",
        replace(_BASE, suspended_at=30_000.0),
        24 * HOUR,
        HOUR,
    ),
    "untold": Healthy(
        "eight GPUs, no phases told, evaluations within the training loop, too, of which some generate text",
        replace(_BASE, tells=False, evaluates_within=True, suspended_at=9000.0, suspended_within=7900.0),
        12 * HOUR,
        27 * HOUR // 10,  # with both suspensions
    ),
    "hungry": Healthy(
        "one GPU whose allocator takes 96 % of its memory, no limit but the host's memory",
        replace(
            _BASE,
            gpus=1,
            with_torch=1,
            weights=24 * GB,
            activations=50 * GB,
            held=0.96,
            workers=8,
            limit=None,
            step=0.7,
        ),
        6 * HOUR,
        HOUR,
    ),
    "rank": Healthy(
        "one rank of eight, that sees all GPUs and the allocator of its own",
        replace(_BASE, with_torch=1, workers=4, limit=None),
        6 * HOUR,
        HOUR,
    ),
    "cpus": Healthy(
        "no GPU, and steps of 20 s",
        replace(_BASE, gpus=0, with_torch=0, step=20.0, workers=8, tells=False, suspended_within=1500.0),
        6 * HOUR,
        HOUR,
    ),
}
"""Every healthy run, by a short name."""


class Found(NamedTuple):
    """One transition of which people are told, and when it was, in seconds since the beginning."""

    at: float
    transition: Transition


class Look(Snapshot):
    """A snapshot of readings that are in order already; remembers of which metrics rules found readings."""

    __slots__ = ("asked",)

    def __init__(self, told: Told, window: Window, time_unix_nano: int, asked: dict[str, bool] | None) -> None:
        super().__init__((), window, time_unix_nano)
        self._by_metric = told
        self.asked = asked

    def of(self, metric: Metric) -> tuple[Reading, ...]:
        """Every reading of one metric; empty when there is none."""
        found = super().of(metric)
        if self.asked is not None:
            self.asked[metric.name] = self.asked.get(metric.name, False) or bool(found)
        return found


class Run:
    """One run: a machine, a job, and the engine that judges what is seen of them.

    Args:
        setup: What trains, and on what.
        seed: Of all chance.
        rules: What is judged.
        notes: Whether to note of which metrics rules ask.

    Attributes:
        found: Every transition of which people are told, in their order.
        judged: Rules that could judge something: whose condition held, or did not.
        asked: Of which metrics rules asked, and whether there ever was a reading.
        after: Called after each look; raises `Finished` when it is enough.
    """

    def __init__(self, setup: Setup, seed: str = SEED, rules: Sequence[Rule] = RULES, *, notes: bool = False) -> None:
        self.world = World(seed)
        self.gpus = Gpus(self.world, setup.gpus, setup.with_torch)
        self.host = Host(self.world, setup.limit)
        self.job = Job(self.world, self.gpus, self.host, setup)
        self.rules = {rule.name for rule in rules}
        self.found: list[Found] = []
        self.judged: set[str] = set()
        self.asked: dict[str, bool] = {}
        self.snapshots = 0
        self.after: Callable[[], object] = lambda: None
        if setup.eventful:
            self._let_things_happen()
        self.notes = notes
        self._engine = Engine(rules)
        self._before = 0.0
        self._traffic_series = [board.series(gpu_activity.DRAM_ACTIVITY) for board in self.gpus.boards]
        self._traffic: list[Reading] = []
        self._traffic_at = -math.inf
        self.world.look = self._look

    def go(self) -> None:
        """Run until `after` says that it is over."""
        with suppress(Finished):
            self.job.run()

    def _let_things_happen(self) -> None:
        """What happens to healthy machines, too: corrected errors, notes of the driver, a wall clock that is set."""
        world = self.world

        def corrects(board: Gpu) -> None:
            board.corrected += 1

        def is_set(seconds: float) -> None:
            world.wall += seconds

        for board in self.gpus.boards[5:6]:
            for hour in (2.2, 5.2, 6.2, 11.2, 19.2):
                self.job.happens(hour * HOUR, partial(corrects, board))
            self.job.happens(2.5 * HOUR, partial(board.xids.update, {106: 1}))
        for hour, seconds in ((1.2, 2.0), (4.0, -0.8), (13.0, -3600.0)):
            self.job.happens(hour * HOUR, partial(is_set, seconds))

    def _read_traffic(self) -> list[Reading]:
        """How much memory the boards move: read every other second, and told again in between, as all such activity is."""
        now, boards = self.world.now, self.gpus.boards
        if now - self._traffic_at > _TRAFFIC_EVERY - 0.1:
            self._traffic_at, traffic = now, traffic_of(self.world.spent)
            self._traffic = [
                Reading(series, traffic * (1.0 + 0.05 * wave(now, 37.0, board.silicon)), now, now - _TRAFFIC_EVERY)
                for board, series in zip(boards, self._traffic_series, strict=True)
            ]
        return [reading for board, reading in zip(boards, self._traffic, strict=True) if not board.lost]

    def _look(self) -> None:
        world = self.world
        seconds = world.now - self._before
        late = frozenset({"nvidia"}) if next(world.chance) < _LATE else frozenset()
        mean, told = mean_of(world.spent), Told()
        self.gpus.tell(told, mean, seconds, late=bool(late))
        if not late and not self.gpus.hang:
            told[gpu_activity.DRAM_ACTIVITY.name] = self._read_traffic()
        self.host.tell(told, mean, self.job.doing, seconds, late=late)
        for reading in self.job.source.read().readings:
            told.setdefault(reading.metric.name, []).append(reading)
        window = Window(self._before, world.now)
        self._before = world.now
        for step in self._engine.evaluate(Look(told, window, world.time_unix_nano, self.asked if self.notes else None)):
            if step.state is not State.UNKNOWN:
                self.judged.add(step.rule.name)
            if step.state in TOLD:
                self.found.append(Found(world.now, step))
        self.snapshots += 1
        self.after()
