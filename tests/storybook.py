# SPDX-License-Identifier: Apache-2.0
"""Stories of alert rules: what is read, second by second, and what the alerts then do.

A rule ships with its story: `alerts/stories/<rule>.toml`. The head of the file names the series that its stories tell of:

    [series]
    heat = { metric = "hw.temperature", gpu = 0 }
    limit = { metric = "hwmetrics.gpu.power.limit", gpu = 0, otherwise = 700 }
    io = { metric = "hwmetrics.pressure.stall.share", attributes = { "hwmetrics.pressure.resource" = "io" } }

``gpu`` gives a series the attributes that its source gives it: GPU 0 has the id ``GPU-0``. ``otherwise`` is what is read in
stories that say nothing of it. Then come the stories:

    [[story]]
    promise = "Fires when it has lasted."
    until = 30                                   # the last second that is looked at, from 0 on
    given.heat = [[0, 70], [10, 81], [25, 78]]   # 70 until second 10, and so on; "none" is a gap
    transitions = [
      [0, "GPU 0", "inactive"],                  # second, what it is about as people call it, state
      [10, "GPU 0", "pending"],
      [15, "GPU 0", "firing", "is at 81 °C"],    # and, where it matters, what its message says
      [25, "GPU 0", "resolved"],
      [26, "GPU 0", "inactive"],
    ]

All rules are judged. ``transitions`` are every step of the file's own; ``also`` tells the others' that people would be
told of, as ``[second, rule, subject, state]``: where there are none, no other rule has anything to say. ``blind`` stands for
an alert that fires on without a reading. What a story may have besides:

- ``every``: seconds between two looks, 1 if not told; for long stories.
- ``options``: as of `instrument()`: ``{ alert_gpu_hot_for = 0 }``, ``{ rules.gpu_hot.clear = 70 }``.
- ``loop``: training, told by the real step clock: ``[[0, 2.0, 0.1], [100, "stuck"], [300, "over"]]``: steps of 2 s from second
  0 on, 0.1 s of each waiting for data; in the one that is under way at second 100 nothing goes on; the loop is left at 300.
- ``phase``: ``[[100, "checkpoint"], [160, "none"]]``, likewise; the training waits meanwhile.

What is given of a series is a number, steps as above, or a table:

- ``steps``; or ``ramp``, points with straight lines between; or ``rate``, steps of how much a counter grows a second;
- ``saw = [60, 5e9]``: every 60 s it rises by 5e9 and falls back; ``noise = 0.02``: a standard deviation of 2 %;
- ``read = 10``: its source looks every 10 s, and tells its last reading again in between;
- ``gap = [[100, 120]]``: not read from second 100 on, and again from 120 on; ``"none"`` in the place of all is never.
"""

from __future__ import annotations

import random
import sys
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final, NoReturn

from otel_hwmetrics.alerts.engine import Engine
from otel_hwmetrics.alerts.rule import Rule
from otel_hwmetrics.alerts.rulebook import rulebook
from otel_hwmetrics.alerts.transition import Transition
from otel_hwmetrics.catalog import METRICS, framework, gpu
from otel_hwmetrics.config import resolve
from otel_hwmetrics.model import Attribute, Metric, Reading, Series, Snapshot, Window
from otel_hwmetrics.sources.training import TrainingSource
from otel_hwmetrics.stepclock import StepClock

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER: Final = Path(__file__).parent / "alerts" / "stories"

_METRICS: Final = {metric.name: metric for metric in METRICS}


class Course:
    """What is given of a series.

    Args:
        given: As in a story.
        seed: Of its noise.

    Raises:
        ValueError: It is no course.
    """

    def __init__(self, given: Any, seed: str) -> None:
        table: dict[str, Any] = dict(given) if isinstance(given, Mapping) else {"steps": given}
        kinds = [kind for kind in ("steps", "ramp", "rate") if kind in table]
        if len(kinds) != 1:
            raise ValueError(f"{seed}: one of steps, ramp and rate, not {kinds}")
        self._kind = kinds[0]
        points = table.pop(self._kind)
        self._points: list[tuple[float, Any]] = (
            [(0, points)] if isinstance(points, int | float | str) else [(at, value) for at, value in points]
        )
        self._at = [at for at, _ in self._points]
        if sorted(self._at) != self._at:
            raise ValueError(f"{seed}: seconds fall")
        self._period, self._height = table.pop("saw", (1, 0))
        self._noise = table.pop("noise", 0)
        self._gaps = table.pop("gap", ())
        self.read = table.pop("read", 0)
        if table:
            raise ValueError(f"{seed}: no course has {', '.join(table)}")
        self._random = random.Random(seed)  # noqa: S311 - noise, not secrets

    def at(self, second: float) -> float | None:
        """What is read then; None for nothing."""
        value: float | None = {"steps": self._step, "ramp": self._line, "rate": self._sum}[self._kind](second)
        if value is None or any(begin <= second < end for begin, end in self._gaps):
            return None
        value += self._height * (second % self._period) / self._period
        return value * (1 + self._noise * self._chance()) if self._noise else value

    def _chance(self) -> float:
        # Of all that `random` has only this is promised to stay what it is.
        return NormalDist().inv_cdf(min(max(self._random.random(), 1e-9), 1 - 1e-9))

    def _step(self, second: float) -> float | None:
        place = bisect_right(self._at, second) - 1
        value = self._points[place][1] if place >= 0 else "none"
        return None if value == "none" else float(value)

    def _line(self, second: float) -> float:
        place = bisect_right(self._at, second)
        if place in {0, len(self._points)}:
            return float(self._points[max(0, place - 1)][1])
        (began, low), (ended, high) = self._points[place - 1 : place + 1]
        return float(low + (high - low) * (second - began) / (ended - began))

    def _sum(self, second: float) -> float:
        ends = [*self._at[1:], second]
        return float(
            sum(
                rate * max(0.0, min(second, end) - began) for (began, rate), end in zip(self._points, ends, strict=True)
            )
        )


class Told:
    """A series that a story tells of, and how it is read."""

    def __init__(self, series: Series, course: Course) -> None:
        self._series = series
        self._course = course
        self._last: Reading | None = None
        self._due = 0.0

    def readings(self, second: float) -> Iterator[Reading]:
        """The one of a look, if there is one."""
        if second >= self._due:
            value = self._course.at(second)
            if value is not None and self._series.metric.integer:
                value = round(value)
            self._last = Reading(self._series, value, second) if value is not None else None
            self._due = second + self._course.read
        if self._last is not None:
            yield self._last


@dataclass(frozen=True, kw_only=True)
class Story:
    """One story; the module says what the fields mean."""

    rule: str
    series: Mapping[str, Any]
    promise: str
    until: int
    transitions: Sequence[Sequence[Any]]
    every: int = 1
    also: Sequence[Sequence[Any]] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    loop: Sequence[Sequence[Any]] = ()
    phase: Sequence[Sequence[Any]] = ()

    def __str__(self) -> str:
        return f"{self.rule}: {self.promise}"

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All rules, as the story's options make them.

        Raises:
            ValueError: Some option cannot be taken.
        """
        resolved = resolve(dict(self.options), environ={}, directory=FOLDER)
        book = rulebook(resolved.config)
        if errors := (*resolved.errors, *book.errors):
            raise ValueError(f"{self}: {errors[0]}")
        return book.rules

    @property
    def own(self) -> Rule:
        """The rule that it is of."""
        return next(rule for rule in self.rules if rule.name == self.rule)

    def told(self) -> Iterator[Told]:
        """The series that it gives.

        Raises:
            ValueError: One of them is not in the head of the file.
        """
        if unknown := self.given.keys() - self.series.keys():
            raise ValueError(f"{self}: there are no series {', '.join(unknown)}")
        for name, told in self.series.items():
            given = self.given.get(name, told.get("otherwise"))
            if given is not None:
                yield Told(series_of(told), Course(given, f"{self}/{name}"))


def series_of(told: Mapping[str, Any]) -> Series:
    """A series by its line in the head of a file, with the attributes that its source gives it.

    Raises:
        ValueError: The line has something else in it.
    """
    if unknown := told.keys() - {"metric", "gpu", "attributes", "otherwise"}:
        raise ValueError(f"no series has {', '.join(unknown)}")
    metric = _METRICS[told["metric"]]
    own = told.get("attributes", {})
    attributes = (_of_gpu(metric, told["gpu"], own) if "gpu" in told else {}) | own
    if unknown := attributes.keys() - set(metric.attributes):
        raise ValueError(f"{metric.name} has no {', '.join(unknown)}")
    return Series(metric, attributes)


def _of_gpu(metric: Metric, number: int, own: Mapping[str, Attribute]) -> dict[str, Attribute]:
    location = own.get(gpu.HW_SENSOR_LOCATION, "gpu")
    of_sensor: dict[str, Attribute] = {
        gpu.HW_ID: f"GPU-{number}/temperature/{location}",
        gpu.HW_NAME: f"GPU {number} {location} temperature",
        gpu.HW_PARENT: f"GPU-{number}",
        gpu.HW_SENSOR_LOCATION: location,
    }
    of_device: dict[str, Attribute] = {
        gpu.HW_ID: f"GPU-{number}",
        gpu.HW_NAME: f"GPU {number}",
        gpu.HW_TYPE: "gpu",
        gpu.HW_GPU_TASK: "general",
        gpu.ENERGY_METHOD: "counter",
        framework.TORCH_DEVICE: f"cuda:{number}",
        framework.JAX_DEVICE: f"gpu:{number}",
    }
    attributes = of_sensor if gpu.HW_SENSOR_LOCATION in metric.attributes else of_device
    attributes |= {gpu.HW_MODEL: "H100", gpu.GPU_INDEX: number, gpu.CUDA_ORDINAL: number}
    return {key: value for key, value in attributes.items() if key in metric.attributes}


class Finished(Exception):
    """The story is at its end."""


class Scene:
    """A story as it goes on: time, which passes when the job lets it, and what is seen at each look.

    Args:
        story: The story.
    """

    def __init__(self, story: Story) -> None:
        self.now = 0.0
        self.steps: list[tuple[int, Transition]] = []
        self.clock = StepClock(lambda: self.now)
        self._story = story
        self._engine = Engine(story.rules)
        self._told = list(story.told())
        training = story.loop or story.phase
        self._training = TrainingSource(self.clock, now=lambda: self.now) if training else None
        self._looked = 0.0
        self._due = 0

    def pass_until(self, moment: float) -> None:
        """Let time pass, and look when it is due.

        Raises:
            Finished: That was the last look.
        """
        while self._due <= moment:
            self.now = self._due
            self._look(self._due)
            self._due += self._story.every
            if self._due > self._story.until:
                raise Finished
        self.now = moment

    def _look(self, second: int) -> None:
        readings = [reading for told in self._told for reading in told.readings(second)]
        if self._training is not None:
            readings += self._training.read().readings
        snapshot = Snapshot(readings, Window(self._looked, second), second * 10**9)
        self._looked = second
        self.steps += ((second, step) for step in self._engine.evaluate(snapshot))


class Job:
    """The training of a story.

    Args:
        scene: Where it goes on.
        story: What it does when.
    """

    def __init__(self, scene: Scene, story: Story) -> None:
        self._scene = scene
        self._loop = [(at, tuple(what)) for at, *what in story.loop]
        self._phase = [(at, what) for at, what in story.phase]
        self._changes = sorted({at for at, _ in (*self._loop, *self._phase)} | {story.until + 1})

    def run(self) -> NoReturn:
        """Train until the story is at its end. Raises Finished."""
        while True:
            if self._trains():
                for _ in self._scene.clock.steps(self._batches()):
                    self._work(self._pace()[0] - self._pace()[1])
            else:
                self._rest()

    def _batches(self) -> Iterator[int]:
        while self._trains():
            self._work(self._pace()[1])
            if not self._trains():
                return
            yield 0

    def _present(self, of: Sequence[tuple[float, Any]]) -> Any:
        return next((what for at, what in reversed(of) if at <= self._scene.now), None)

    def _trains(self) -> bool:
        return self._present(self._loop) not in {None, ("over",)}

    def _pace(self) -> tuple[float, float]:
        """Seconds of a step, and those of waiting for data in it."""
        paces = [what for at, what in self._loop if at <= self._scene.now and what not in {("stuck",), ("over",)}]
        return paces[-1][0], (*paces[-1], 0.0)[1]

    def _next_change(self) -> float:
        return next(at for at in self._changes if at > self._scene.now)

    def _rest(self) -> None:
        """Do nothing, or what the phase is for, until something changes."""
        phase = self._present(self._phase)
        if phase in {None, "none"}:
            self._scene.pass_until(self._next_change())
        else:
            with self._scene.clock.phase(phase):
                while self._present(self._phase) == phase:
                    self._scene.pass_until(self._next_change())

    def _work(self, seconds: float) -> None:
        """Be at work for so long; while it is stuck or in a phase nothing is done. Less, where the loop is left."""
        while seconds > 1e-6 and self._trains():  # what rounding leaves of a step is none
            if self._present(self._loop) == ("stuck",) or self._present(self._phase) not in {None, "none"}:
                self._rest()
            else:
                began = self._scene.now
                self._scene.pass_until(min(began + seconds, self._next_change()))
                seconds -= self._scene.now - began


def steps_of(story: Story) -> list[tuple[int, Transition]]:
    """Every step that the engine makes of a story, with its second."""
    scene = Scene(story)
    try:
        Job(scene, story).run()
    except Finished:
        return scene.steps


def stories() -> list[Story]:
    """All of them, by file.

    Raises:
        ValueError: A file has something in it that no story has.
    """
    told = []
    known = {each.name for each in fields(Story)} - {"rule", "series"}
    for path in sorted(FOLDER.glob("*.toml")):
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        for story in content["story"]:
            if unknown := (story.keys() - known) | (content.keys() - {"series", "story"}):
                raise ValueError(f"{path.name}: no story has {', '.join(unknown)}")
            told.append(Story(rule=path.stem, series=content["series"], **story))
    return told
