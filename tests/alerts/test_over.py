# SPDX-License-Identifier: Apache-2.0
"""A metric over a stretch of time: against a slow oracle, and where its counters began."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from looks import Attributes, Told, gpu_attributes, snapshot, values, watch
from otel_hwmetrics.alerts import over
from otel_hwmetrics.alerts.conditions import Watcher
from otel_hwmetrics.alerts.over import PARTS, Aggregate, Growth, Over
from otel_hwmetrics.alerts.rule import Side
from otel_hwmetrics.catalog import framework, gpu, gpu_health, gpu_links, process, system, training
from otel_hwmetrics.model import Metric, Reading, Series, Snapshot, Unit, Window

LEVELS: dict[Aggregate, Callable[[Sequence[float]], float]] = {
    Aggregate.MEAN: fmean,
    Aggregate.MIN: min,
    Aggregate.MAX: max,
}


class Look(NamedTuple):
    """One reading."""

    at: float
    value: float


PAUSES = st.sampled_from([0.0, 0.01, 0.2, 1.0, 1.0, 1.003, 7.0, 10.0, 61.0, 3600.0])
SECONDS = st.sampled_from([0.1, 1.0, 2.5, 10.0, 60.0, 300.0])


@st.composite
def looks(draw: Any, *, growing: bool) -> list[Look]:
    """Readings at irregular moments, some of them told twice, with gaps; totals that never fall, or levels."""
    steps = draw(st.lists(st.tuples(PAUSES, st.integers(0 if growing else -50, 50)), min_size=1, max_size=80))
    made: list[Look] = []
    at, value = 0.0, 0.0
    for pause, step in steps:
        at += pause
        if pause or not made:
            value = value + step if growing else float(step)
        made.append(Look(at, value))
    return made


def level_candidates(past: Sequence[Look], seconds: float) -> list[list[float]]:
    """The values that may count: those of the last seconds, less some of the first sixtieth of them."""
    once = list(dict(past).items())  # what is told again is no second reading
    now = once[-1][0]
    may = [value for at, value in once if at > now - seconds] or [once[-1][1]]
    must = sum(at > now - seconds + seconds / PARTS for at, _ in once) or 1
    return [may[start:] for start in range(len(may) - must + 1)]


@settings(max_examples=200, deadline=None)
@given(aggregate=st.sampled_from(list(LEVELS)), seconds=SECONDS, told=looks(growing=False))
@example(aggregate=Aggregate.MIN, seconds=10.0, told=[Look(0.0, -9.0), *(Look(at, 1.0) for at in range(1, 60))])
def test_levels_agree_with_a_slow_oracle(aggregate: Aggregate, seconds: float, told: list[Look]) -> None:
    """Mean, least and most of the last seconds, whose beginning is exact to a sixtieth of them."""
    watcher = watch(Over(gpu.POWER, aggregate, seconds))
    for number, look in enumerate(told):
        (found,) = watcher.look(snapshot(look.at, [(gpu.POWER, {}, look.value)])).values()
        expected = [LEVELS[aggregate](each) for each in level_candidates(told[: number + 1], seconds)]
        assert any(found.value == pytest.approx(each, abs=1e-9) for each in expected)


def growth_candidates(past: Sequence[Look], seconds: float, began: Look) -> list[Look]:
    """The readings from which growth may count: the last one before the stretch, and those a sixtieth before it."""
    now = past[-1].at
    before = [began, *past[:-1]]
    outside = [look for look in before if look.at <= now - seconds] or [began]
    return [look for look in outside if look.at > now - seconds * (1 + 1 / PARTS)] or [outside[-1]]


@settings(max_examples=200, deadline=None)
@given(aggregate=st.sampled_from([Aggregate.INCREASE, Aggregate.RATE]), seconds=SECONDS, told=looks(growing=True))
@example(aggregate=Aggregate.RATE, seconds=60.0, told=[Look(float(at), at * 10.0) for at in range(200)])
def test_growth_agrees_with_a_slow_oracle(aggregate: Aggregate, seconds: float, told: list[Look]) -> None:
    """How much a counter grew over the last seconds, and how fast; exact to a sixtieth of them, or to the pause of readings."""
    began = Look(-1.0, 0.0)
    growth = Growth(aggregate, seconds, began.value, began.at)
    for number, look in enumerate(told):
        found = growth.add(look.at, look.value)
        bases = growth_candidates(told[: number + 1], seconds, began)
        per = 1.0 if aggregate is Aggregate.INCREASE else 0.0
        expected = [(look.value - base.value) / (per or look.at - base.at) for base in bases]
        assert any(found == pytest.approx(each) for each in expected)
        assert growth.last == look.value


@pytest.mark.parametrize("aggregate", Aggregate)
@pytest.mark.parametrize("pause", [0.001, 1.0, 40.0])
def test_memory_is_bounded_however_long_the_stretch_and_short_the_pause(aggregate: Aggregate, pause: float) -> None:
    """Of each sixtieth something is kept, and no more."""
    counts = aggregate.of_counters
    metric = system.NETWORK_IO if counts else gpu.POWER
    watcher = watch(Over(metric, aggregate, 3600.0))
    most = 0
    for number in range(8000):
        watcher.look(snapshot(number * pause, [(metric, {}, float(number))]))
        (memory,) = watcher._known.values()  # type: ignore[attr-defined]
        most = max(most, len(memory._totals if counts else memory._parts))
    assert most <= (2 * PARTS + 3 if counts else PARTS + 1)


def told_by(watcher: Watcher, at: float, *told: Told, window: float = 1.0) -> dict[str, float | None]:
    """What is found at a moment."""
    return values({subject.key: each for subject, each in watcher.look(snapshot(at, told, window=window)).items()})


ERRORS = Over(gpu_health.ERRORS, Aggregate.INCREASE, 60.0)


def xid(code: int, index: int = 0) -> Attributes:
    """The attributes of XIDs of a code."""
    return gpu_attributes(index) | {gpu_health.XID: code}


def test_what_comes_into_being_while_we_look_began_at_nothing() -> None:
    """The first error of a kind is growth, though no 0 was ever read; it is forgotten when the stretch is over."""
    watcher = watch(ERRORS)
    assert told_by(watcher, 1.0) == {}
    assert told_by(watcher, 2.0, (gpu_health.ERRORS, xid(79), 1.0)) == {"GPU-0": 1.0}
    assert told_by(watcher, 30.0, (gpu_health.ERRORS, xid(79), 1.0)) == {"GPU-0": 1.0}
    assert told_by(watcher, 60.0, (gpu_health.ERRORS, xid(79), 1.0)) == {"GPU-0": 1.0}
    assert told_by(watcher, 62.0, (gpu_health.ERRORS, xid(79), 1.0)) == {"GPU-0": 0.0}


def test_what_another_pipeline_has_counted_is_no_growth() -> None:
    """It stood there before the first look, however late its source tells of it."""
    stood = {Series(gpu_health.ERRORS, xid(79)): 5.0}
    watcher = watch(ERRORS, stood)
    assert told_by(watcher, 1.0) == {}
    assert told_by(watcher, 2.0, (gpu_health.ERRORS, xid(79), 5.0), (gpu_health.ERRORS, xid(31), 1.0)) == {"GPU-0": 1.0}
    assert told_by(watcher, 3.0, (gpu_health.ERRORS, xid(79), 7.0), (gpu_health.ERRORS, xid(31), 1.0)) == {"GPU-0": 3.0}


@pytest.mark.parametrize("aggregate", [Aggregate.INCREASE, Aggregate.RATE])
def test_what_is_there_at_a_first_look_is_no_growth(aggregate: Aggregate) -> None:
    """A job that has read for hours before `instrument()` did not read all of it in our first second."""
    watcher = watch(Over(process.DISK_IO, aggregate, 60.0))
    read: Attributes = {process.IO_DIRECTION: "read"}
    first = told_by(watcher, 100.0, (process.DISK_IO, read, 1e15), window=0.0)
    assert first == ({"": 0.0} if aggregate is Aggregate.INCREASE else {})
    assert told_by(watcher, 101.0, (process.DISK_IO, read, 1e15 + 500)) == {"": 500.0}


def test_a_reading_that_is_told_again_is_no_second_one() -> None:
    """Neither in a mean nor in a rate, which is that of the time between the readings."""
    power, network = Series(gpu.POWER), Series(system.NETWORK_IO)
    mean, rate = (
        watch(Over(of.metric, aggregate, 60.0))
        for of, aggregate in ((power, Aggregate.MEAN), (network, Aggregate.RATE))
    )

    def look(now: float, at: float, value: float) -> tuple[float | None, ...]:
        told = Snapshot([Reading(each, value, at) for each in (power, network)], Window(now - 1, now), 0)
        return tuple(finding.value for watcher in (mean, rate) for finding in watcher.look(told).values())

    assert look(0.0, 0.0, 0.0) == (0.0, 0.0)
    assert [look(now, 10.0, 900.0) for now in (10.0, 11.0, 12.0)] == [(450.0, 900 / 11)] * 3
    assert look(20.0, 20.0, 0.0 + 900.0) == (600.0, 900 / 21)


def test_a_slow_reading_that_was_made_before_the_window_makes_no_rate_of_it() -> None:
    """What was counted up to ten seconds ago was not counted within the last one."""
    series = Series(system.NETWORK_IO)
    watcher = watch(Over(series.metric, Aggregate.RATE, 60.0))
    assert watcher.look(Snapshot([Reading(series, 900.0, 90.0)], Window(99, 100), 0)) == {}
    (found,) = watcher.look(Snapshot([Reading(series, 910.0, 100.0)], Window(99, 100), 0)).values()
    assert found.value == 91.0


def test_a_gap_hides_no_growth_and_makes_no_level() -> None:
    """What grew while nothing could be read is told once it can; levels from before it are past."""
    errors, power = watch(ERRORS), watch(Over(gpu.POWER, Aggregate.MAX, 60.0))
    told_by(errors, 1.0, (gpu_health.ERRORS, xid(79), 1.0))
    told_by(power, 1.0, (gpu.POWER, {}, 700.0))
    assert told_by(errors, 2.0) == told_by(power, 2.0) == {}
    assert told_by(errors, 1000.0, (gpu_health.ERRORS, xid(79), 4.0)) == {"GPU-0": 3.0}
    assert told_by(power, 1000.0, (gpu.POWER, {}, 100.0)) == {"": 100.0}
    assert told_by(errors, 1061.0, (gpu_health.ERRORS, xid(79), 4.0)) == {"GPU-0": 0.0}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Over(gpu.TEMPERATURE, Aggregate.MEAN, 60.0), 75.0),
        (Over(gpu.TEMPERATURE, Aggregate.MEAN, 60.0, side=Side.BELOW), 45.0),
        (Over(gpu.TEMPERATURE, Aggregate.MAX, 60.0, side=Side.BELOW), 50.0),
        (Over(gpu.TEMPERATURE, Aggregate.MIN, 60.0), 70.0),
    ],
)
def test_of_several_levels_of_a_subject_the_furthest_counts(condition: Over, expected: float) -> None:
    """That on the side on which the rule fires."""
    watcher = watch(condition)
    for at, warm in ((1.0, 0.0), (2.0, 10.0)):
        found = told_by(
            watcher,
            at,
            *(
                (
                    gpu.TEMPERATURE,
                    {gpu.HW_ID: f"{place}", gpu.HW_PARENT: "GPU-0", gpu.HW_SENSOR_LOCATION: place},
                    base + warm,
                )
                for place, base in (("gpu", 40.0), ("memory", 70.0))
            ),
        )
    assert found == {"GPU-0": expected}


def test_growth_of_several_series_of_a_subject_is_added_up() -> None:
    """Errors of any type count; of another GPU, and of a type that is not asked for, they do not."""
    condition = Over(
        gpu_links.NVLINK_ERRORS, Aggregate.INCREASE, 60.0, {gpu_links.ERROR_TYPE: frozenset({"replay", "recovery"})}
    )
    watcher = watch(condition)

    def told(growth: float) -> list[Told]:
        return [
            (gpu_links.NVLINK_ERRORS, gpu_attributes(index) | {gpu_links.ERROR_TYPE: kind}, growth * (index + 1))
            for index in (0, 1)
            for kind in ("replay", "recovery", "crc")
        ]

    assert told_by(watcher, 1.0, *told(0.0)) == {"GPU-0": 0.0, "GPU-1": 0.0}
    assert told_by(watcher, 2.0, *told(3.0)) == {"GPU-0": 6.0, "GPU-1": 12.0}


def test_series_that_come_and_go_for_days_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are gone are forgotten when there are too many; one that comes back then did not begin at nothing."""
    monkeypatch.setattr(over, "MOST_SERIES", 20)
    watcher = watch(Over(system.NETWORK_IO, Aggregate.INCREASE, 60.0))

    def look(number: int, total: float, *names: str) -> dict[str, float | None]:
        told: list[Told] = [(system.NETWORK_IO, {system.NETWORK_INTERFACE: name}, total) for name in ("eth0", *names)]
        return {key.rpartition("=")[2]: value for key, value in told_by(watcher, float(number), *told).items()}

    look(0, 5.0, "back")
    for number in range(1, 40):
        assert look(number, 5.0, f"veth{number}") == {"eth0": 5.0, f"veth{number}": 5.0 if number < 20 else 0.0}
        assert len(watcher._known) <= 22  # type: ignore[attr-defined]
    assert look(41, 9.0, "back", "new") == {"eth0": 9.0, "back": 0.0, "new": 0.0}
    assert look(42, 12.0, "back", "new") == {"eth0": 12.0, "back": 3.0, "new": 3.0}


@pytest.mark.parametrize(
    ("metric", "aggregate", "seconds", "message"),
    [
        (gpu.POWER, Aggregate.RATE, 60.0, "hw.power is no counter, and has no rate; it takes mean, min, max"),
        (gpu.MEMORY_USAGE, Aggregate.INCREASE, 60.0, "no counter, and has no increase"),
        (gpu_health.ERRORS, Aggregate.MEAN, 60.0, "hw.errors is a counter, and has no mean; it takes increase, rate"),
        (gpu_health.ERRORS, Aggregate.MAX, 60.0, "is a counter, and has no max"),
        (training.STEPS, Aggregate.RATE, 60.0, "is in {step}, and has no rate; it takes increase"),
        (gpu.POWER, Aggregate.MEAN, 0.0, "it takes more than 0 s, and less than for ever"),
        (gpu.POWER, Aggregate.MEAN, -1.0, "more than 0 s"),
        (gpu.POWER, Aggregate.MEAN, float("inf"), "less than for ever"),
    ],
)
def test_what_cannot_be_made_of_a_metric_is_refused(
    metric: Metric, aggregate: Aggregate, seconds: float, message: str
) -> None:
    """With what it takes instead, for whoever writes a rule."""
    with pytest.raises(ValueError, match=message):
        Over(metric, aggregate, seconds)


@pytest.mark.parametrize("seconds", [5e-324, 1e-12, 1e308])
@pytest.mark.parametrize("aggregate", Aggregate)
def test_a_stretch_that_is_shorter_than_the_clock_can_tell_or_longer_than_any_run_is_one(
    aggregate: Aggregate, seconds: float
) -> None:
    """The last reading counts then, or all of them; nothing fails."""
    metric = system.NETWORK_IO if aggregate.of_counters else gpu.POWER
    watcher = watch(Over(metric, aggregate, seconds))
    for number in range(200):
        found = told_by(watcher, 1e6 + number, (metric, {}, 1000.0 + number))
    last = seconds < 1
    assert found == {
        "": {
            Aggregate.MEAN: 1199.0 if last else 1099.5,
            Aggregate.MIN: 1199.0 if last else 1000.0,
            Aggregate.MAX: 1199.0,
            Aggregate.INCREASE: 1.0 if last else 1199.0,
            Aggregate.RATE: 1.0 if last else 1199 / 200,
        }[aggregate]
    }


@pytest.mark.parametrize(
    ("condition", "unit", "text"),
    [
        (Over(gpu.POWER, Aggregate.MEAN, 300.0), Unit.WATT, "the mean of hw.power over 5 min"),
        (Over(gpu.POWER, Aggregate.MAX, 90.0), Unit.WATT, "the max of hw.power over 90 s"),
        (ERRORS, Unit.ERROR, "the growth of hw.errors over 60 s"),
        (
            Over(system.NETWORK_IO, Aggregate.RATE, 60.0, {system.NETWORK_DIRECTION: "receive"}),
            Unit.BYTE_PER_SECOND,
            "the growth a second of system.network.io with network.io.direction=receive over 60 s",
        ),
        (Over(process.CPU_TIME, Aggregate.RATE, 60.0), Unit.RATIO, "the growth a second of process.cpu.time over 60 s"),
        (Over(process.CPU_TIME, Aggregate.INCREASE, 60.0), Unit.SECOND, "the growth of process.cpu.time over 60 s"),
        (
            Over(framework.TORCH_OOMS, Aggregate.RATE, 7200.0),
            Unit.ERROR_PER_SECOND,
            "the growth a second of hwmetrics.torch.memory.ooms over 2 h",
        ),
    ],
)
def test_it_says_in_words_and_units_what_it_is(condition: Over, unit: Unit, text: str) -> None:
    """Of a rate that a second; seconds a second are a ratio."""
    assert (condition.unit, str(condition)) == (unit, text)
    assert hash(condition) == hash(
        Over(condition.metric, condition.aggregate, condition.seconds, dict(condition.where))
    )
