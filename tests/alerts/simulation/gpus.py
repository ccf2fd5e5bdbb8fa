# SPDX-License-Identifier: Apache-2.0
"""The simulated GPUs, and what the driver and PyTorch's allocator tell of them at each look.

Eight boards of one model are no eight equal boards: chips differ by some percent at the same power, and places in the
chassis by some degrees. What is read seldom is told again in between with its own time, each GPU's in its own turn, as
the sources do it (`otel_hwmetrics.sources.gpu.nvidia`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from alerts.simulation.world import Activity, World, wave
from otel_hwmetrics.catalog import framework, gpu, gpu_activity, gpu_health, gpu_links
from otel_hwmetrics.model import Attribute, Metric, Reading, Series
from otel_hwmetrics.sources.gpu.nvidia.source import HUNG_FOR

Told = dict[str, list[Reading]]
"""Readings by the name of their metric."""

GIB: Final = 1024**3
LIMIT: Final = 81_559 * 1024**2
"""Bytes of memory of an H100 with 80 GB, as its driver tells it."""
POWER_LIMIT: Final = 700.0
IDLE_POWER: Final = 75.0
CLOCK: Final = 1980e6
IDLE_CLOCK: Final = 345e6
SLOWDOWN: Final = 87.0
"""Degrees at which it slows itself down."""
HEAT_CAPACITY: Final = 25.0
"""Seconds in which two thirds of a change of temperature are made."""

CAUSES: Final = ("sw_power_cap", "sw_thermal", "hw_thermal", "hw_power_brake", "board_limit")
LINK_ERRORS: Final = ("replay", "recovery", "recovery_failed", "receive", "crc")
STATES: Final = ("ok", "degraded", "failed", "predicted_failure")

_NEW = tuple.__new__  # what the constructor of a reading calls, in half the time
_GPM_EVERY, _OTHER_EVERY, _SLOW_EVERY, _LINKS_EVERY = 2.0, 5.0, 10.0, 30.0


class Mean(NamedTuple):
    """What the job did since the last look, on average."""

    busy: float
    power: float
    tensor: float
    io: float
    memory: float
    cpu: float


def mean_of(spent: Mapping[Activity, float]) -> Mean:
    """The mean of what was done, by how long it was."""
    whole = sum(spent.values())
    if whole <= 0:
        return Mean(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    if len(spent) == 1:
        (one,) = spent
        return Mean(one.busy, one.power, one.tensor, one.io, one.memory, one.cpu)
    parts = [(each, seconds / whole) for each, seconds in spent.items()]
    return Mean(
        sum(each.busy * part for each, part in parts),
        sum(each.power * part for each, part in parts),
        sum(each.tensor * part for each, part in parts),
        sum(each.io * part for each, part in parts),
        sum(each.memory * part for each, part in parts),
        sum(each.cpu * part for each, part in parts),
    )


class Gpu:
    """One board: what it is like, how it is, and what is wrong with it."""

    def __init__(self, index: int, world: World) -> None:
        self.index = index
        self.id = f"GPU-{index:08x}-6d9a-4c1e-9f10-2b7c5a3e8d40"
        self.resistance = 0.066 + 0.005 * world.rng.random()  # degrees for each watt
        self.silicon = 1.0 + 0.02 * (world.rng.random() - 0.5)  # of its clock at the same power
        self.temperature = 33.0
        self.busy = self.power = self.thermal = self.tensor = self.allocated = 0.0
        self.corrected = 0
        # What is wrong with it.
        self.lost = False
        self.uses: float | None = None  # share of the time that kernels run, whatever the job does
        self.cooling = 1.0  # how much better heat stays than it should
        self.clock = 1.0  # of the clock that it should have
        self.braked = 0.0  # share of the time that the node's power supply holds it back
        self.power_limit = POWER_LIMIT
        self.leak = self.kept = 0.0  # bytes a second of tensors that nobody lets go of, and all of them
        self.swing = 1.0  # of the activations that the job has planned
        self.taken = 0.0  # bytes that others have taken
        self.uncorrected = 0
        self.remap_pending = self.remap_failed = self.recovery = 0
        self.generation, self.width = 5, 16
        self.xids: dict[int, int] = {}
        self.link_errors: dict[str, float] = dict.fromkeys(LINK_ERRORS, 0)
        self.link_error_rates: dict[str, float] = {}

    def series(self, metric: Metric, **others: Attribute) -> Series:
        """A series of the whole board."""
        return Series(metric, {**self._identity, **{_KEYS[key]: value for key, value in others.items()}})

    def of_torch(self, metric: Metric) -> Series:
        """A series of PyTorch's allocator on it."""
        device: dict[str, Attribute] = {gpu.HW_ID: self.id, gpu.CUDA_ORDINAL: self.index}
        return Series(metric, {**device, framework.TORCH_DEVICE: f"cuda:{self.index}"})

    @property
    def thermometer(self) -> Series:
        """Its sensor of temperature."""
        name = f"GPU {self.index} temperature"
        own: dict[str, Attribute] = {gpu.HW_ID: f"{self.id}/temperature/gpu", gpu.HW_NAME: name, gpu.HW_PARENT: self.id}
        kept = {key: value for key, value in self._identity.items() if key != gpu.HW_TYPE}
        return Series(gpu.TEMPERATURE, {**kept, **own, gpu.HW_SENSOR_LOCATION: "gpu"})

    @property
    def _identity(self) -> dict[str, Attribute]:
        return {
            gpu.HW_ID: self.id,
            gpu.HW_NAME: f"GPU {self.index}",
            gpu.HW_TYPE: "gpu",
            gpu.HW_VENDOR: "NVIDIA",
            gpu.HW_MODEL: "NVIDIA H100 80GB HBM3",
            gpu.GPU_INDEX: self.index,
        }


_KEYS: Final = {
    "task": gpu.HW_GPU_TASK,
    "cause": gpu_activity.THROTTLE_CAUSE,
    "domain": gpu_activity.CLOCK_DOMAIN,
    "state": gpu_health.HW_STATE,
    "error": gpu_health.ERROR_TYPE,
    "xid": gpu_health.XID,
}


class _Rows:
    """The series of one board."""

    def __init__(self, board: Gpu) -> None:
        self.utilization = board.series(gpu.UTILIZATION, task="general")
        self.usage = board.series(gpu.MEMORY_USAGE)
        self.limit = board.series(gpu.MEMORY_LIMIT)
        self.share = board.series(gpu.MEMORY_UTILIZATION)
        self.ours = Series(gpu_activity.PROCESS_MEMORY, {**self.usage.attributes, gpu_activity.PROCESS_SCOPE: "tree"})
        self.power = board.series(gpu.POWER)
        self.power_limit = board.series(gpu.POWER_LIMIT)
        self.temperature = board.thermometer
        self.margin = board.series(gpu.TEMPERATURE_MARGIN)
        self.throttled = [board.series(gpu_activity.THROTTLE_SHARE, cause=cause) for cause in CAUSES]
        self.states = [board.series(gpu_health.STATUS, state=state) for state in STATES]
        self.tensor = board.series(gpu_activity.TENSOR_ACTIVITY)
        self.clock = board.series(gpu_activity.CLOCK, domain="sm")
        self.performance = board.series(gpu_activity.PERFORMANCE_STATE)
        self.corrected = board.series(gpu_health.ERRORS, error="corrected")
        self.uncorrected = board.series(gpu_health.ERRORS, error="uncorrected")
        self.remap_pending = board.series(gpu_health.REMAP_PENDING)
        self.remap_failed = board.series(gpu_health.REMAP_FAILED)
        self.recovery = board.series(gpu_health.RECOVERY_ACTION)
        self.link_errors = {error: board.series(gpu_links.NVLINK_ERRORS, error=error) for error in LINK_ERRORS}
        self.pcie = [
            board.series(metric)
            for metric in (
                gpu_links.PCIE_GENERATION,
                gpu_links.PCIE_WIDTH,
                gpu_links.PCIE_GENERATION_LIMIT,
                gpu_links.PCIE_WIDTH_LIMIT,
            )
        ]
        self.allocated = board.of_torch(framework.TORCH_ALLOCATED)
        self.reserved = board.of_torch(framework.TORCH_RESERVED)
        self.split = board.of_torch(framework.TORCH_INACTIVE_SPLIT)
        self.other = board.of_torch(framework.TORCH_OTHER)
        self.xids: dict[int, Series] = {}


class Gpus:
    """The boards of the machine, and of their memory what the job has planned.

    Args:
        world: Time and chance.
        count: How many there are.
        with_torch: On how many of them PyTorch's allocator is this process's own, so that it tells of them.

    Attributes:
        weights: Bytes of parameters and optimizer on each.
        activations: Bytes that come and go within a step, at most.
        reserved: Bytes that the allocator holds.
        split: Bytes that are lost to fragmentation.
    """

    def __init__(self, world: World, count: int, with_torch: int) -> None:
        self.boards = [Gpu(index, world) for index in range(count)]
        self.weights = self.activations = self.reserved = self.split = 0.0
        self.hang = False  # a call into the driver does not come back
        self._world = world
        self._with_torch = with_torch
        self._rows = [_Rows(board) for board in self.boards]
        self._idle_for = self._hung_since = 0.0
        # What is told again, by metric and then by board: (board, which of several).
        self._kept: dict[str, dict[tuple[int, int], Reading]] = {}
        self._due = {every: [0.0] * count for every in (_GPM_EVERY, _OTHER_EVERY, _SLOW_EVERY, _LINKS_EVERY)}

    def tell(self, told: Told, mean: Mean, seconds: float, *, late: bool) -> None:
        """Let so much time pass, and tell of every board; of a source that is late only what is known without asking."""
        world = self._world
        self._idle_for = 0.0 if mean.busy >= 0.05 else self._idle_for + seconds
        for board in self.boards:
            self._live(board, mean, seconds)
        at = world.now
        told[gpu_health.ERRORS.name] = list(self._events(at))
        if self.hang or not late:
            self._tell_states(told, at)
        if self.hang or late:
            return
        alive = [(board, rows) for board, rows in zip(self.boards, self._rows, strict=True) if not board.lost]
        for board, rows in alive:
            self._read_slowly(board, rows, at)
        self._tell_now(told, alive, at)
        self._tell_torch(told, alive, at)
        for name, kept in self._kept.items():
            told.setdefault(name, []).extend(kept.values())

    def forget(self, index: int) -> None:
        """Tell nothing again of a board: it does not answer any more."""
        for kept in self._kept.values():
            for key in [key for key in kept if key[0] == index]:
                del kept[key]

    def _live(self, board: Gpu, mean: Mean, seconds: float) -> None:
        noise = self._world.noise
        uses = mean.busy if board.uses is None else board.uses
        board.busy = min(1.0, max(0.0, uses + 0.012 * next(noise))) if uses else 0.0
        scale = 1.0 if board.uses is None or not mean.busy else min(1.0, board.uses / mean.busy)
        share = mean.power * scale * (1.0 - 0.45 * board.thermal) * (0.6 + 0.4 * board.clock)
        share *= 1.0 + 0.02 * wave(self._world.now, 240, board.silicon) + 0.012 * next(noise)
        board.power = min(board.power_limit, IDLE_POWER + max(0.0, share) * (POWER_LIMIT - IDLE_POWER))
        board.tensor = max(0.0, mean.tensor * scale * (1.0 + 0.04 * next(noise)))
        room = 26.5 + 2.5 * wave(self._world.now, 86_400, 0.3)
        warm = room + board.resistance * board.cooling * board.power
        board.temperature += (warm - board.temperature) * (1.0 - math.exp(-seconds / HEAT_CAPACITY))
        board.thermal = min(1.0, max(0.0, (board.temperature - SLOWDOWN + 1.0) / 8.0))
        board.kept += board.leak * seconds
        board.allocated = self.weights + board.kept
        if mean.tensor > 0.05:
            swing = math.sin(math.pi * next(self._world.chance)) ** 2
            board.allocated += self.activations * board.swing * swing
        board.allocated = min(board.allocated, LIMIT - _others(board) - self.split)
        for error, rate in board.link_error_rates.items():
            board.link_errors[error] += rate * seconds

    def _tell_now(self, told: Told, alive: list[tuple[Gpu, _Rows]], at: float) -> None:
        """What is read at every look."""
        noise = self._world.noise
        used = [(rows, self._used(board)) for board, rows in alive]
        told[gpu.UTILIZATION.name] = [_read(rows.utilization, board.busy, at) for board, rows in alive]
        told[gpu.MEMORY_USAGE.name] = [_read(rows.usage, value, at) for rows, value in used]
        told[gpu.MEMORY_LIMIT.name] = [_read(rows.limit, LIMIT, at) for rows, _ in used]
        told[gpu.MEMORY_UTILIZATION.name] = [_read(rows.share, value / LIMIT, at) for rows, value in used]
        told[gpu.POWER.name] = [_read(rows.power, board.power, at) for board, rows in alive]
        told[gpu.TEMPERATURE.name] = [
            _read(rows.temperature, round(board.temperature + 0.4 * next(noise)), at) for board, rows in alive
        ]
        told[gpu_activity.THROTTLE_SHARE.name] = [
            _read(series, share, at)
            for board, rows in alive
            for series, share in zip(rows.throttled, self._throttled(board), strict=True)
        ]

    def _tell_states(self, told: Told, at: float) -> None:
        self._hung_since = at if not self.hang else self._hung_since
        hung = STATES.index("failed" if at - self._hung_since >= HUNG_FOR else "degraded")
        states = [hung if self.hang else _state(board) for board in self.boards]
        told[gpu_health.STATUS.name] = [
            _read(series, int(number == state), at)
            for state, rows in zip(states, self._rows, strict=True)
            for number, series in enumerate(rows.states)
        ]

    def _tell_torch(self, told: Told, alive: list[tuple[Gpu, _Rows]], at: float) -> None:
        if not self.weights:  # it has not used a device yet
            return
        ours = [(board, rows) for board, rows in alive if board.index < self._with_torch]
        told[framework.TORCH_ALLOCATED.name] = [_read(rows.allocated, board.allocated, at) for board, rows in ours]
        told[framework.TORCH_RESERVED.name] = [_read(rows.reserved, self._reserved(board), at) for board, rows in ours]
        told[framework.TORCH_INACTIVE_SPLIT.name] = [_read(rows.split, self.split, at) for _, rows in ours]

    def _throttled(self, board: Gpu) -> tuple[float, ...]:
        """By cause: at the power limit clocks are held back all the time, and that is as it should be."""
        capped = min(1.0, max(0.0, (board.power / board.power_limit - 0.9) * 8.0))
        now_and_then = 0.02 if board.temperature > 74 and next(self._world.chance) < 0.02 else 0.0
        return (capped, max(now_and_then, board.thermal), 0.6 * board.thermal, board.braked, 0.0)

    def _reserved(self, board: Gpu) -> float:
        return min(LIMIT - _others(board), max(self.reserved, board.allocated + self.split))

    def _used(self, board: Gpu) -> float:
        return min(LIMIT, self._reserved(board) + _others(board)) if self.weights else 0.4e9 + board.taken

    def _events(self, at: float) -> Iterator[Reading]:
        """XIDs, which the driver tells by itself."""
        for board, rows in zip(self.boards, self._rows, strict=True):
            for code, count in board.xids.items():
                if code not in rows.xids:
                    rows.xids[code] = board.series(gpu_health.ERRORS, error="xid", xid=code)
                yield _read(rows.xids[code], count, at)

    def _read_slowly(self, board: Gpu, rows: _Rows, at: float) -> None:
        """Read again what is due."""
        for every, dues in self._due.items():
            due = dues[board.index]
            if at >= due:
                dues[board.index] = at + every * (1 - (board.index / len(self.boards) if not due else 0)) - 0.1
                for which, reading in enumerate(self._slow(every, board, rows, at)):
                    self._kept.setdefault(reading.metric.name, {})[board.index, which] = reading

    def _slow(self, every: float, board: Gpu, rows: _Rows, at: float) -> Iterable[Reading]:
        if every == _GPM_EVERY:
            yield Reading(rows.tensor, board.tensor, at, at - _GPM_EVERY)
        elif every == _OTHER_EVERY:
            if self.weights and board.index < self._with_torch:
                yield Reading(rows.other, _others(board), at)
        elif every == _SLOW_EVERY:
            yield Reading(rows.power_limit, board.power_limit, at)
            yield Reading(rows.margin, round(SLOWDOWN - board.temperature), at)
            yield Reading(rows.clock, self._clock(board), at)
            yield Reading(rows.performance, 0, at)
            yield Reading(rows.corrected, board.corrected, at)
            yield Reading(rows.uncorrected, board.uncorrected, at)
            yield Reading(rows.remap_pending, board.remap_pending, at)
            yield Reading(rows.remap_failed, board.remap_failed, at)
            yield Reading(rows.recovery, board.recovery, at)
        else:
            generation = board.generation if self._idle_for < 5.0 else 1  # an idle link is slowed down
            ours = self.weights and board.index < self._with_torch  # on others it is other ranks' processes
            yield Reading(rows.ours, self._used(board) - board.taken - 0.4e9 if ours else 0, at)
            for series, value in zip(rows.pcie, (generation, board.width, 5, 16), strict=True):
                yield Reading(series, value, at)
            for error, series in rows.link_errors.items():
                yield Reading(series, int(board.link_errors[error]), at)

    def _clock(self, board: Gpu) -> float:
        """The clock: lower for the power limit, the more so the denser the work is; lower for heat; low when idle."""
        if self._idle_for > 20.0:
            return IDLE_CLOCK
        held_back = 1.0 - 0.75 * max(0.0, board.power / board.power_limit - 0.85)
        held_back *= 1.0 - 0.4 * board.thermal
        megahertz = CLOCK * held_back * board.silicon * board.clock * (1.0 + 0.004 * next(self._world.noise)) / 1e6
        return min(CLOCK, 15e6 * round(megahertz / 15))


def _others(board: Gpu) -> float:
    """Contexts, NCCL's buffers, and whatever else has taken memory of it."""
    return 2.4e9 + 0.05e9 * board.index + board.taken


def _state(board: Gpu) -> int:
    if board.lost:
        return STATES.index("failed")
    if board.recovery or board.remap_failed:
        return STATES.index("degraded")
    return STATES.index("predicted_failure") if board.remap_pending else STATES.index("ok")


def _read(series: Series, value: float, at: float) -> Reading:
    return _NEW(Reading, (series, value, at, None))
