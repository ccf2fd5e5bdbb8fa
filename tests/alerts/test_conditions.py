# SPDX-License-Identifier: Apache-2.0
"""What rules look at: conditions of one metric, and what is worked out from several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from looks import Told, gpu_attributes, once, sensor_attributes, snapshot, values, watch
from otel_hwmetrics.alerts import conditions
from otel_hwmetrics.alerts.builtin import RULES
from otel_hwmetrics.alerts.conditions import (
    Condition,
    Extreme,
    Finding,
    FirstOf,
    Highest,
    Less,
    Level,
    Lowest,
    Readings,
    ShareOf,
    Sum,
    Totals,
    Watcher,
    Where,
)
from otel_hwmetrics.alerts.subjects import HOST, Subject
from otel_hwmetrics.catalog import METRICS, framework, gpu, gpu_activity, system
from otel_hwmetrics.model import Attribute, Metric, Reading, Series, Snapshot, Unit, Window

A, B = gpu_attributes(0), gpu_attributes(1)
CAUSE = gpu_activity.THROTTLE_CAUSE
STATES = [(system.MEMORY_UTILIZATION, {system.MEMORY_STATE: name}, share) for name, share in
          (("used", 0.7), ("free", 0.2), ("cached", 0.1))]  # fmt: skip


def test_a_level_is_the_value_of_each_device() -> None:
    """Of its own metric, and of no other."""
    found = once(
        Level(gpu.TEMPERATURE),
        (gpu.TEMPERATURE, sensor_attributes(0), 71.0),
        (gpu.TEMPERATURE, sensor_attributes(1), 72.0),
        (gpu.POWER, A, 300.0),
    )
    assert found == {"GPU-0": Finding(71.0), "GPU-1": Finding(72.0)}
    assert Level(gpu.TEMPERATURE).unit is Unit.CELSIUS
    assert once(Level(gpu.TEMPERATURE)) == {}


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({}, ["a", "b", "c", "d"]),
        ({CAUSE: "hw_thermal"}, ["a"]),
        ({CAUSE: frozenset({"hw_thermal", "sw_thermal"})}, ["a", "b"]),
        ({CAUSE: frozenset()}, []),
        ({CAUSE: None}, ["d"]),
        ({CAUSE: "hw_thermal", gpu.GPU_INDEX: 1}, []),
        ({CAUSE: frozenset({"sw_thermal"}), gpu.GPU_INDEX: frozenset({1, 2})}, ["b"]),
        ({"no.such.attribute": None, CAUSE: "sync_boost"}, ["c"]),
        ({"no.such.attribute": "x"}, []),
    ],
)
def test_where_picks_series_by_a_value_by_any_of_several_or_by_none(where: Where, found: list[str]) -> None:
    """All of it must fit; None asks for an attribute that is not there."""
    causes: dict[str, dict[str, Attribute]] = {
        "a": {CAUSE: "hw_thermal"},
        "b": {CAUSE: "sw_thermal"},
        "c": {CAUSE: "sync_boost"},
        "d": {},
    }
    told: list[Told] = [
        (gpu_activity.THROTTLE_SHARE, {gpu.HW_ID: key, gpu.GPU_INDEX: index, **cause}, 0.5)
        for index, (key, cause) in enumerate(causes.items())
    ]
    assert list(once(Level(gpu_activity.THROTTLE_SHARE, where), *told)) == found


def test_a_level_looks_at_the_readings_that_it_names() -> None:
    """`where` picks one of several states; without it nothing is found."""
    condition = Level(system.MEMORY_UTILIZATION, {system.MEMORY_STATE: "used"})
    assert once(condition, *STATES) == {"": Finding(0.7)}
    assert once(condition, *STATES[1:]) == {}


@pytest.mark.parametrize(("lowest", "value", "state"), [(False, 0.7, "used"), (True, 0.1, "cached")])
def test_an_extreme_is_the_furthest_of_a_subject_s_series_and_says_which(
    lowest: bool,  # noqa: FBT001 - a column of the table
    value: float,
    state: str,
) -> None:
    """The highest or the lowest, whatever their order; of each device its own."""
    condition = Extreme(system.MEMORY_UTILIZATION, lowest=lowest, across=system.MEMORY_STATE, word="state")
    for told in (STATES, STATES[::-1]):
        assert once(condition, *told) == {"": Finding(value, {"state": state})}
    assert condition.evidence == ("state",)
    unnamed = Extreme(system.MEMORY_UTILIZATION, lowest=lowest)
    assert (once(unnamed, *STATES), unnamed.evidence) == ({"": Finding(value)}, ())
    heat = [
        (gpu.TEMPERATURE, sensor_attributes(n, place), 70.0 + n + len(place))
        for n in (0, 1)
        for place in ("gpu", "memory")
    ]
    assert values(once(Extreme(gpu.TEMPERATURE), *heat)) == {"GPU-0": 76.0, "GPU-1": 77.0}


@pytest.mark.parametrize(
    ("readings", "share"),
    [
        ([(gpu.POWER, A, 270.0), (gpu.POWER_LIMIT, A, 300.0)], {"GPU-0": 0.9}),
        ([(gpu.POWER, A, 0.0), (gpu.POWER_LIMIT, A, 300.0)], {"GPU-0": 0.0}),
        ([(gpu.POWER, A, 270.0)], {}),
        ([(gpu.POWER_LIMIT, A, 300.0)], {}),
        ([(gpu.POWER, A, 270.0), (gpu.POWER_LIMIT, A, 0.0)], {}),
        ([(gpu.POWER, A, 270.0), (gpu.POWER_LIMIT, B, 300.0)], {}),
        (
            [(gpu.POWER, A, 270.0), (gpu.POWER, B, 60.0), (gpu.POWER_LIMIT, B, 600.0), (gpu.POWER_LIMIT, A, 300.0)],
            {"GPU-0": 0.9, "GPU-1": 0.1},
        ),
        ([], {}),
    ],
)
def test_a_share_is_of_the_same_device(readings: list[Told], share: dict[str, float]) -> None:
    """Absent where either part is, and where the whole is nothing; never another device's."""
    condition = ShareOf(Level(gpu.POWER), Level(gpu.POWER_LIMIT))
    assert values(once(condition, *readings)) == pytest.approx(share)
    assert condition.unit is Unit.RATIO


PARTS = (Level(gpu.MEMORY_USAGE), Level(gpu.MEMORY_RESERVED), Level(gpu.MEMORY_FREE))


@pytest.mark.parametrize(
    ("kind", "read", "value"),
    [
        (Highest, (3.0, 5.0, 4.0), 5.0),
        (Highest, (None, 5.0, None), 5.0),
        (Highest, (None, None, None), None),
        (Lowest, (3.0, 5.0, 4.0), 3.0),
        (Lowest, (None, 5.0, 4.0), 4.0),
        (Sum, (3.0, 5.0, 4.0), 12.0),
        (Sum, (3.0, None, 4.0), None),
        (Sum, (0.0, 0.0, 0.0), 0.0),
        (FirstOf, (3.0, 5.0, 4.0), 3.0),
        (FirstOf, (None, 5.0, 4.0), 5.0),
        (FirstOf, (0.0, 5.0, 4.0), 0.0),
        (FirstOf, (None, None, 4.0), 4.0),
        (lambda parts: Less(parts[0], parts[1]), (3.0, 5.0, 4.0), -2.0),
        (lambda parts: Less(parts[0], parts[1]), (3.0, None, 4.0), None),
        (lambda parts: Less(parts[0], parts[1]), (None, 5.0, 4.0), None),
    ],
)
def test_what_is_made_of_several_conditions(kind: Any, read: tuple[float | None, ...], value: float | None) -> None:
    """Of those that were read, or of all of them; where there is no value, nothing is found."""
    told = [(part.metric, A, each) for part, each in zip(PARTS, read, strict=True) if each is not None]
    condition = kind(PARTS)
    assert values(once(condition, *told)) == ({} if value is None else {"GPU-0": value})
    assert condition.unit is Unit.BYTE


@pytest.mark.parametrize(
    "make",
    [
        lambda: Highest((Level(gpu.TEMPERATURE), Level(gpu.UTILIZATION))),
        lambda: Lowest((Level(gpu.POWER), Level(gpu.UTILIZATION))),
        lambda: Sum((Level(gpu.POWER), Level(gpu.POWER), Level(gpu.ENERGY))),
        lambda: FirstOf((Level(gpu.POWER), ShareOf(Level(gpu.POWER), Level(gpu.POWER_LIMIT)))),
        lambda: Less(Level(gpu.MEMORY_LIMIT), Level(gpu.MEMORY_UTILIZATION)),
        lambda: Sum(()),
    ],
)
def test_what_has_different_units_is_refused(make: Any) -> None:
    """Degrees are not compared with ratios, nor taken from them; of nothing nothing is made."""
    with pytest.raises(ValueError, match="different units"):
        make()


def test_the_subject_that_is_known_best_is_told_of() -> None:
    """An allocator knows less of a GPU than its driver, whichever of them is asked first."""
    torch: dict[str, Attribute] = {gpu.HW_ID: "GPU-0", gpu.CUDA_ORDINAL: 0, framework.TORCH_DEVICE: "cuda:0"}
    told: list[Told] = [(framework.TORCH_ALLOCATED, torch, 8.0), (gpu.MEMORY_LIMIT, A, 10.0)]
    for condition in (
        ShareOf(Level(framework.TORCH_ALLOCATED), Level(gpu.MEMORY_LIMIT)),
        Less(Level(gpu.MEMORY_LIMIT), Level(framework.TORCH_ALLOCATED)),
    ):
        (subject,) = watch(condition).look(snapshot(1.0, told))
        assert (subject.key, dict(subject.attributes)) == ("GPU-0", A)


HOT = Extreme(gpu.TEMPERATURE, across=gpu.HW_SENSOR_LOCATION, word="place")
PEAK = Extreme(gpu.TEMPERATURE_PEAK, across=gpu.HW_SENSOR_LOCATION, word="place")
LIMIT = Extreme(gpu.TEMPERATURE_LIMIT, across=gpu.HW_LIMIT_TYPE, word="limit")


@pytest.mark.parametrize(
    ("condition", "finding"),
    [
        (ShareOf(HOT, LIMIT), Finding(0.8, {"place": "gpu", "limit": "max"})),
        (Less(LIMIT, HOT), Finding(20.0, {"place": "gpu", "limit": "max"})),
        (Highest((HOT, PEAK)), Finding(90.0, {"place": "memory"})),
        (Highest((PEAK, HOT)), Finding(90.0, {"place": "memory"})),
        (Lowest((HOT, PEAK)), Finding(80.0, {"place": "gpu"})),
        (Lowest((PEAK, HOT)), Finding(80.0, {"place": "gpu"})),
        (FirstOf((HOT, PEAK)), Finding(80.0, {"place": "gpu"})),
        (FirstOf((PEAK, HOT)), Finding(90.0, {"place": "memory"})),
        (Sum((HOT, Level(gpu.TEMPERATURE_MARGIN))), Finding(85.0, {"place": "gpu"})),
        (Sum((PEAK, HOT)), Finding(170.0, {"place": "memory"})),
    ],
)
def test_the_evidence_of_all_parts_is_joined(condition: Condition, finding: Finding) -> None:
    """Two parts that use one word: the one that has the value tells it, else the first; and a rule knows the words."""
    told: list[Told] = [
        (gpu.TEMPERATURE, sensor_attributes(0, "gpu"), 80.0),
        (gpu.TEMPERATURE_PEAK, sensor_attributes(0, "memory"), 90.0),
        (gpu.TEMPERATURE_LIMIT, {**sensor_attributes(0), gpu.HW_LIMIT_TYPE: "max"}, 100.0),
        (gpu.TEMPERATURE_MARGIN, A, 5.0),
    ]
    assert once(condition, *told) == {"GPU-0": finding}
    assert set(condition.evidence) == set(finding.evidence)


@dataclass(frozen=True)
class _Nothing(Condition):
    """Finds that a subject has no such value."""

    unit = Unit.BYTE

    def watcher(self, totals: Totals) -> Watcher:
        del totals
        return self

    def look(self, _: Snapshot) -> dict[Subject, Finding]:
        return {HOST: Finding(None)}

    def __str__(self) -> str:
        return "nothing"


def test_a_part_that_has_no_such_value_is_none() -> None:
    """Memory that does not grow stands for nothing in a sum, and has no say in what is the lowest."""
    size = Level(system.MEMORY_LIMIT)
    assert once(Lowest((_Nothing(), size)), (system.MEMORY_LIMIT, {}, 5.0)) == {"": Finding(5.0)}
    assert once(Sum((_Nothing(), size)), (system.MEMORY_LIMIT, {}, 5.0)) == {}


@given(
    read=st.lists(
        st.tuples(st.none() | st.integers(-9, 9), st.none() | st.integers(-9, 9), st.none() | st.integers(-9, 9)),
        max_size=6,
    )
)
def test_several_conditions_of_several_devices_agree_with_a_slow_look(read: list[tuple[int | None, ...]]) -> None:
    """Each device by itself, whatever can be read of the others."""
    told: list[Told] = [
        (part.metric, gpu_attributes(index), float(value))
        for index, row in enumerate(read)
        for part, value in zip(PARTS, row, strict=True)
        if value is not None
    ]
    of = {f"GPU-{index}": [value for value in row if value is not None] for index, row in enumerate(read)}
    assert values(once(Highest(PARTS), *told)) == {key: max(row) for key, row in of.items() if row}
    assert values(once(Lowest(PARTS), *told)) == {key: min(row) for key, row in of.items() if row}
    assert values(once(FirstOf(PARTS), *told)) == {key: row[0] for key, row in of.items() if row}
    assert values(once(Sum(PARTS), *told)) == {key: sum(row) for key, row in of.items() if len(row) == len(PARTS)}


def test_what_series_are_of_is_found_out_once_and_forgotten_when_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many interfaces come and go, so many are remembered; and each is found all the same."""
    monkeypatch.setattr(conditions, "MOST_SERIES", 8)
    readings = Readings(system.NETWORK_IO, {system.NETWORK_DIRECTION: "receive"})
    for look in range(5):
        names = [f"veth{look}-{number}" for number in range(7)]
        told = [
            Reading(Series(system.NETWORK_IO, {system.NETWORK_INTERFACE: name, system.NETWORK_DIRECTION: way}), 1, look)
            for name in names
            for way in ("receive", "transmit")
        ]
        found = [subject.name for subject, _ in readings.of(Snapshot(told, Window(look, look + 1), 0))]
        assert found == names
        assert len(readings._subjects) <= 8


def test_conditions_are_keys() -> None:
    """A rule is kept by itself, and equal conditions are the same one, whatever dictionary `where` was written as."""
    where: Where = {system.MEMORY_STATE: "used"}
    for kind in (Level, Extreme):
        one, other = kind(system.MEMORY_UTILIZATION, where), kind(system.MEMORY_UTILIZATION, dict(where))
        assert one == other
        assert hash(one) == hash(other)
        assert one != kind(system.MEMORY_UTILIZATION)
    assert len({Highest(PARTS), Highest((*PARTS,)), Lowest(PARTS), Sum(PARTS), FirstOf(PARTS)}) == 4


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (Level(gpu.POWER), "hw.power"),
        (Level(gpu.UTILIZATION, {gpu.HW_GPU_TASK: "general"}), "hw.gpu.utilization with hw.gpu.task=general"),
        (
            Level(system.CPU_UTILIZATION, {system.CPU_MODE: frozenset({"user", "system"}), system.CPU_NUMBER: None}),
            "system.cpu.utilization with cpu.mode=system|user",
        ),
        (Extreme(gpu.TEMPERATURE), "the highest hw.temperature"),
        (
            Extreme(gpu.TEMPERATURE, lowest=True, across=gpu.HW_SENSOR_LOCATION, word="place"),
            "the lowest hw.temperature of any hw.sensor_location",
        ),
        (Highest((Level(gpu.POWER), Level(gpu.POWER_LIMIT))), "the highest of hw.power and hwmetrics.gpu.power.limit"),
        (FirstOf((Level(gpu.POWER), Level(gpu.POWER_LIMIT))), "hw.power, else hwmetrics.gpu.power.limit"),
        (ShareOf(Level(gpu.POWER), Level(gpu.POWER_LIMIT)), "hw.power as a share of hwmetrics.gpu.power.limit"),
        (
            Less(Level(gpu.MEMORY_LIMIT), FirstOf((Sum(PARTS[:2]), PARTS[2]))),
            f"hw.gpu.memory.limit less ((the sum of {PARTS[0]} and {PARTS[1]}), else {PARTS[2]})",
        ),
    ],
)
def test_a_condition_says_in_words_what_it_looks_at(condition: Condition, text: str) -> None:
    """Metrics and attributes by their names; what is in it in brackets, so that nobody need guess."""
    assert str(condition) == text


NAMES = {metric.name for metric in METRICS}


def metrics_of(part: Any) -> Iterator[Metric]:
    """The metrics that are written in a condition, however deep."""
    for value in vars(part).values():
        if isinstance(value, Metric):
            yield value
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, Condition):
                yield from metrics_of(inner)


@pytest.mark.parametrize("condition", [rule.condition for rule in RULES], ids=[rule.name for rule in RULES])
def test_the_text_of_every_rule_s_condition_names_its_metrics(condition: Condition) -> None:
    """Documentation makes links of them; one that is looked at and not named could not be found."""
    text = str(condition)
    named = {word.strip("(),;") for word in text.split()} & NAMES
    assert named >= {metric.name for metric in metrics_of(condition)}
    assert named
    assert not any(mark in text for mark in "<>{}[]")
