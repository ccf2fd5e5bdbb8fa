# SPDX-License-Identifier: Apache-2.0
"""Memory that fills up within minutes: how long before it is full that is told, and what is no reason to tell it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from courses import GB, Course, found, noisy, of_memory, values
from looks import Told, gpu_attributes, snapshot
from otel_hwmetrics.alerts.ahead import AHEAD, SUDDEN, TimeToFull
from otel_hwmetrics.alerts.builtin import RULES
from otel_hwmetrics.alerts.conditions import Level
from otel_hwmetrics.alerts.engine import Engine
from otel_hwmetrics.alerts.rule import Rule, State
from otel_hwmetrics.catalog import gpu, system, training

RULE_OF = {rule.name: rule for rule in RULES}
BEGINS = 1500.0
"""Seconds of even work before something happens."""
FREE = 40 * GB

Tells = Callable[[float], list[Told]]


def of_host(left: Course) -> Tells:
    """What is told of a host with so much memory left, whose job steps once a second."""
    return lambda at: [*of_memory(lambda at: max(0.0, left(at)))(at), (training.STEPS, {}, at + 1)]


def of_gpu(left: Course) -> Tells:
    """What is told of a GPU, likewise."""

    def tells(at: float) -> list[Told]:
        used = 80 * GB - max(0.0, left(at))
        limit: Told = (gpu.MEMORY_LIMIT, gpu_attributes(), 80 * GB)
        return [limit, (gpu.MEMORY_USAGE, gpu_attributes(), used), (training.STEPS, {}, at + 1)]

    return tells


BOTH = pytest.mark.parametrize(
    ("rule", "tells"), [(RULE_OF["host_oom_ahead"], of_host), (RULE_OF["gpu_oom_ahead"], of_gpu)], ids=["host", "GPU"]
)

pytestmark = pytest.mark.no_cover  # it would take three times as long; others see to that


def fires(rule: Rule, tells: Tells, until: float, every: float = 1.0) -> list[float]:
    """When a rule fires."""
    engine, moments = Engine([rule]), []
    for number in range(int(until / every) + 1):
        at = number * every
        steps = engine.evaluate(snapshot(at, tells(at), window=every if number else 0.0))
        moments += [at for step in steps if step.state is State.FIRING and not step.blind]
    return moments


def leak(seconds: float) -> Course:
    """What is left of 40 GB, that go evenly within so many seconds."""
    return lambda at: FREE - FREE * max(0.0, at - BEGINS) / seconds


def collected(course: Course) -> Course:
    """The same beneath a garbage collector."""
    return noisy(lambda at: course(at) - 1.5 * GB * (at / 213 % 1), 0.02 * GB)


def stepping(course: Course) -> Course:
    """The same beneath steps, each of which is met somewhere in its 5 GB of activations."""
    chance = random.Random(7)  # noqa: S311 - noise
    return lambda at: course(at) - 5 * GB * math.sin(math.pi * chance.random()) ** 2


LEADS = {120: 42, 180: 85, 300: 130, 420: 250, 600: 330, 900: 600}
"""How long before it is full it is told at the latest, by how long the leak takes; in seconds. Before there were short
stretches nothing was told of what takes 420 s or less, and of what takes 600 s it was 129 s before."""


@BOTH
@pytest.mark.parametrize("noise", [lambda course: course, collected, stepping], ids=["even", "collected", "stepping"])
@pytest.mark.parametrize("seconds", LEADS)
def test_a_leak_is_told_of_while_there_is_time(
    rule: Rule, tells: Callable[[Course], Tells], noise: Callable[[Course], Course], seconds: int
) -> None:
    """A third of its time before memory is full, at the least; enough for a checkpoint."""
    told = fires(rule, tells(noise(leak(seconds))), BEGINS + seconds)
    assert len(told) == 1
    assert BEGINS + seconds - told[0] >= LEADS[seconds]


@BOTH
@pytest.mark.parametrize("seconds", LEADS)
def test_who_looks_every_five_seconds_is_told_in_time(
    rule: Rule, tells: Callable[[Course], Tells], seconds: int
) -> None:
    """As soon, give or take two looks."""
    told = fires(rule, tells(leak(seconds)), BEGINS + seconds, every=5.0)
    assert BEGINS + seconds - told[0] >= LEADS[seconds] - 10


def taken(ramp: float, size: float, kept: float, every: float) -> Course:
    """What is left of 30 GB: evenly within so many seconds some is taken, kept for a while and given back, again and again."""

    def left(at: float) -> float:
        since = (at - BEGINS) % every if at >= BEGINS else every
        return 30 * GB - size * min(1.0, since / ramp) * (since < ramp + kept)

    return noisy(left, 0.2 * GB)


NO_LEAKS: dict[str, Course] = {
    "an evaluation's outputs": taken(45, 24 * GB, 180, 1800),
    "a larger batch": taken(1, 24 * GB, 600, 1200),
    "an epoch's cache": noisy(lambda at: 30 * GB - 24 * GB * (at % 300) / 300, 0.5 * GB),
    "a minute's buffer": noisy(lambda at: 30 * GB - 24 * GB * (at % 60) / 60, 0.5 * GB),
    "large activations": lambda at: 40 * GB - 37 * GB * math.sin(math.pi * at * 0.618) ** 2,
    "little left": noisy(lambda _: 3 * GB, 0.3 * GB),
}


@BOTH
@pytest.mark.parametrize("course", NO_LEAKS)
def test_what_is_no_leak_is_not_told_of(rule: Rule, tells: Callable[[Course], Tells], course: str) -> None:
    """For two hours."""
    assert fires(rule, tells(NO_LEAKS[course]), 7200.0) == []


@BOTH
def test_what_came_before_is_known_for_an_hour(rule: Rule, tells: Callable[[Course], Tells]) -> None:
    """What an evaluation takes within five minutes may fill all there is, the first time; then it is what evaluations take."""
    evaluations = taken(300, 24 * GB, 60, 2400)
    assert [at // 2400 for at in fires(rule, tells(evaluations), BEGINS + 3 * 2400)] == [BEGINS // 2400]


@pytest.mark.parametrize("seconds", SUDDEN)
def test_a_short_stretch_is_believed_for_twice_its_length(seconds: float) -> None:
    """And only once as much is known as the long stretch is long: before that everything is less than ever."""
    short = TimeToFull(Level(system.MEMORY_AVAILABLE), 2000.0, sudden=(seconds,))
    falls = lambda at: GB * (2000.0 + 4 * seconds - max(2000.0, at))  # noqa: E731 - a row of numbers
    told = values(found(short, of_memory(falls), 2000.0 + 3 * seconds))
    assert told[0][1] == pytest.approx(AHEAD * seconds, abs=0.05 * seconds)
    assert told[0][1] <= AHEAD * seconds
    early = lambda at: GB * (1900.0 - max(1900.0 - 4 * seconds, at))  # noqa: E731 - a row of numbers
    assert values(found(short, of_memory(early), 1900.0 - seconds)) == []


def test_it_says_over_how_much_of_the_past() -> None:
    """In words, the short stretches too."""
    text = str(TimeToFull(Level(system.MEMORY_AVAILABLE), 600.0, sudden=(60.0, 180.0)))
    assert "over the last 10 min; or over the last 60 s or 3 min, 2 times as far ahead" in text
