# SPDX-License-Identifier: Apache-2.0
"""What is going to happen: memory that fills up, memory that leaks."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from courses import GB, Course, found, noisy, of_memory, values
from looks import Told, gpu_attributes, once, snapshot, watch
from otel_hwmetrics.alerts.ahead import HOUR, Leaked, TimeToFull
from otel_hwmetrics.alerts.conditions import Finding, Less, Level
from otel_hwmetrics.alerts.subjects import MOST_SUBJECTS
from otel_hwmetrics.catalog import gpu, system, training, tree
from otel_hwmetrics.model import Unit

AVAILABLE = Level(system.MEMORY_AVAILABLE)
FILLS = TimeToFull(AVAILABLE, 600.0)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("start", "slope", "scatter"), [(60 * GB, 20e6, 0.0), (60 * GB, 20e6, 0.2 * GB), (8 * GB, 1e6, 20e6)]
)
def test_a_ramp_is_forecast_within_its_bounds(seed: int, start: float, slope: float, scatter: float) -> None:
    """From a few minutes on it says when nothing is left, and between which bounds; the truth is between them."""
    looks = found(FILLS, of_memory(noisy(lambda at: start - slope * at, scatter, seed)), 1500.0)
    told = [(at, each) for at, each in looks if each is not None and each.value is not None]
    assert told[0][0] <= 300.0
    assert len(told) >= 0.9 * (1500.0 - told[0][0])
    for at, each in told:
        true = start / slope - at
        soonest, latest, left = (float(each.evidence[word]) for word in FILLS.evidence)
        assert soonest <= each.value <= latest  # type: ignore[operator]
        assert soonest - 60 <= true <= latest + 60
        assert left == pytest.approx(start - slope * at, abs=6 * scatter + 1)
    assert told[-1][1].value == pytest.approx(start / slope - 1500.0, rel=0.1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "course",
    [
        lambda _: 5 * GB,
        lambda at: 5 * GB + 1 * GB * math.sin(at / 30),
        lambda at: 5 * GB + 2 * GB * (at % 60 < 20),
        lambda at: 5 * GB + at * 1e6,
        lambda at: 9 * GB if at < 1200 else 4 * GB,
    ],
    ids=["level", "wave", "steps", "rising", "one jump"],
)
def test_what_does_not_surely_shrink_has_no_time_in_which_it_is_full(course: Course, seed: int) -> None:
    """A plateau, however noisy; what comes and goes with batches; what grows; what fell once. It is known, all the same."""
    looks = found(FILLS, of_memory(noisy(course, 0.05 * GB, seed)), 3600.0, every=3.0)
    assert values(looks) == []
    assert all(each == Finding(None) for _, each in looks)


def test_a_fall_that_ends_is_forecast_no_more() -> None:
    """Memory that was filled by a cache, which is full now, or that was given back."""
    ends = found(FILLS, of_memory(lambda at: 20 * GB - 10e6 * min(at, 900.0)), 2400.0)
    moments = [at for at, _ in values(ends)]
    assert min(moments) < 300.0
    assert 900.0 < max(moments) < 1400.0
    back = found(FILLS, of_memory(lambda at: 20 * GB - 10e6 * at if at < 900 else 20 * GB), 2400.0)
    assert max(at for at, _ in values(back)) < 1300.0


def test_a_sawtooth_is_forecast_by_its_worst_moments() -> None:
    """Each batch takes 4 GB and gives them back; that some of it stays is seen below them."""
    saw = found(FILLS, of_memory(lambda at: 20 * GB - 5e6 * at - 4 * GB * (at % 10 < 5)), 1500.0)
    at, value = values(saw)[-1]
    assert value == pytest.approx((16 * GB - 5e6 * at) / 5e6, rel=0.05)


def test_nothing_left_is_full_now() -> None:
    """Once enough of the past is known; whether it falls or not."""
    looks = found(FILLS, of_memory(lambda _: 0.0), 400.0)
    (_, first), *_ = [(at, each) for at, each in looks if each is not None and each.value is not None]
    assert first == Finding(0.0, {"soonest_seconds": 0.0, "latest_seconds": 0.0, "left_bytes": 0})


def test_what_cannot_be_read_is_not_found_and_the_past_is_kept() -> None:
    """A source that is late for a minute costs the forecast nothing."""
    course = of_memory(lambda at: 60 * GB - 20e6 * at)
    looks = found(FILLS, lambda at: [] if 700 <= at < 760 else course(at), 900.0)
    assert [each for at, each in looks if 700 <= at < 760] == [None] * 60
    assert {at for at, _ in values(looks)} >= {*range(400, 700), *range(760, 900)}


def test_the_past_begins_with_the_first_step_where_that_is_asked_for() -> None:
    """What a job loads goes on for minutes and does not come again."""

    def tells(at: float) -> list[Told]:
        told: list[Told] = [(system.MEMORY_AVAILABLE, {}, 60 * GB - 100e6 * min(at, 400.0))]
        return [*told, (training.STEPS, {}, float(max(0.0, at - 400.0)))] if at >= 100.0 else told

    loading = values(found(FILLS, tells, 1500.0))
    assert any(at > 410.0 for at, _ in loading)
    patient = values(found(TimeToFull(AVAILABLE, 600.0, since_first_step=True), tells, 1500.0))
    assert {at for at, _ in patient} == {at for at, _ in loading if at <= 400.0}
    without_steps = found(TimeToFull(AVAILABLE, 600.0, since_first_step=True), lambda at: tells(at)[:1], 500.0)
    assert without_steps == found(FILLS, lambda at: tells(at)[:1], 500.0)


def test_each_subject_has_a_past_of_its_own_and_of_so_many_only() -> None:
    """Of those that come later nothing is found."""
    left = Less(Level(gpu.MEMORY_LIMIT), Level(gpu.MEMORY_USAGE))
    watcher = watch(TimeToFull(left, 60.0))
    for at in range(60):
        told: list[Told] = []
        for index in range(MOST_SUBJECTS + 3 if at > 50 else 2):
            told += [
                (gpu.MEMORY_LIMIT, gpu_attributes(index), 80 * GB),
                (gpu.MEMORY_USAGE, gpu_attributes(index), index * at * 0.1 * GB),
            ]
        findings = watcher.look(snapshot(float(at), told))
    assert [round(each.value or 0.0, -2) for each in findings.values()][:2] == [0.0, 700.0]
    assert len(findings) == MOST_SUBJECTS


def test_conditions_say_what_they_look_at() -> None:
    """By the names of metrics, in seconds and bytes."""
    available = system.MEMORY_AVAILABLE.name
    assert str(FILLS) == f"the time until nothing is left of {available}, by its trend over the last 10 min"
    assert (FILLS.unit, Leaked(AVAILABLE).unit) == (Unit.SECOND, Unit.BYTE)
    assert tree.MEMORY_USAGE.name in str(Leaked(Level(tree.MEMORY_USAGE)))


def of_process(course: Course, steps: Course | None = None) -> Callable[[float], list[Told]]:
    """What is told of the memory of the job's processes, and of its steps."""

    def tells(at: float) -> list[Told]:
        told: list[Told] = [(tree.MEMORY_USAGE, {}, course(at))]
        return told if steps is None or steps(at) < 0 else [*told, (training.STEPS, {}, steps(at))]

    return tells


LEAKS = Leaked(Level(tree.MEMORY_USAGE))


def leaking(at: float) -> float:
    """1 GB an hour, below a garbage collector's coming and going."""
    return 8 * GB + 1 * GB * at / HOUR + 2 * GB * ((at / 37) % 1)


@pytest.mark.parametrize("steps", [None, lambda at: at], ids=["without steps", "with steps"])
def test_a_leak_is_found_with_its_size_and_pace(steps: Course | None) -> None:
    """After half an hour at the earliest; by how much the floor grew, and how much it grows an hour."""
    looks = found(LEAKS, of_process(leaking, steps), 4 * HOUR, every=5.0)
    told = values(looks)
    assert LEAKS.seconds <= told[0][0] <= 1.5 * HOUR
    assert told[-1][1] == pytest.approx(4 * GB, rel=0.2)
    last = looks[-1][1]
    assert last is not None
    low, middle, high = (
        float(last.evidence[word]) for word in ("low_hourly_bytes", "hourly_bytes", "high_hourly_bytes")
    )
    assert low <= middle <= high
    assert low <= GB <= high
    assert middle == pytest.approx(GB, rel=0.2)
    assert float(last.evidence["over_seconds"]) == pytest.approx(4 * HOUR, rel=0.2)
    assert ("step_bytes" in last.evidence) == (steps is not None)
    if steps is not None:
        assert float(last.evidence["step_bytes"]) == pytest.approx(GB / HOUR, rel=0.3)


def test_a_leak_takes_steps_where_they_are_told() -> None:
    """800 of them; that they are told only after a while, or that many came before, makes them no more."""
    slow = lambda at: 5000.0 + at / 20 if at >= 60 else -1.0  # noqa: E731 - a row of numbers
    told = values(found(LEAKS, of_process(leaking, slow), 6 * HOUR, every=5.0))
    assert told[0][0] >= 60 + 800 * 20
    assert told[0][0] <= 60 + 800 * 20 + 900


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "course",
    [
        lambda _: 8 * GB,
        lambda at: 8 * GB + 2 * GB * ((at / 37) % 1),
        lambda at: 8 * GB + 4 * GB * min(1.0, at / 600),
        lambda at: 8 * GB + 4 * GB * (at > 3000),
        lambda at: 8 * GB + 0.1 * GB * at / HOUR,
        lambda at: 20 * GB - 1 * GB * at / HOUR,
        lambda at: 8 * GB + 3 * GB * (1 - math.exp(-at / 900)),
    ],
    ids=["level", "collector", "cache", "jump", "too little", "shrinks", "settles"],
)
def test_what_grows_no_more_or_too_little_is_no_leak(course: Course, seed: int) -> None:
    """A cache that fills up and then is full, a jump, noise."""
    looks = found(LEAKS, of_process(noisy(course, 0.05 * GB, seed), lambda at: at), 4 * HOUR, every=10.0)
    assert [at for at, _ in values(looks) if at > 2 * HOUR] == []
    assert all(each == Finding(None) for at, each in looks if at > 2 * HOUR)


def test_a_leak_that_ends_is_none() -> None:
    """Whoever held on to it let go, or it grows no more."""
    held = lambda at: leaking(min(at, 3 * HOUR)) if at < 4 * HOUR else 8 * GB  # noqa: E731 - a row of numbers
    moments = [at for at, _ in values(found(LEAKS, of_process(held), 8 * HOUR, every=10.0))]
    assert min(moments) < 2 * HOUR
    assert max(moments) < 5 * HOUR


def test_a_leak_is_looked_for_from_the_first_step_on() -> None:
    """Loading a model for half an hour is none."""
    load = lambda at: 8 * GB + 40 * GB * min(1.0, at / 2400)  # noqa: E731 - a row of numbers
    looks = found(LEAKS, of_process(load, lambda at: max(0.0, at - 2400)), 3 * HOUR, every=10.0)
    assert values(looks) == []


def test_memory_that_cannot_be_read_is_not_found() -> None:
    """Absent is absent."""
    assert once(LEAKS, (training.STEPS, {}, 7.0)) == {}
    assert once(LEAKS, (tree.MEMORY_USAGE, {}, 7.0)) == {"": Finding(None)}
