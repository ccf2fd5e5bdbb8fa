# SPDX-License-Identifier: Apache-2.0
"""What rules look at, and when they hold and clear."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from otel_hwmetrics.alerts.conditions import HOST, Highest, Level, Rule, Severity, ShareOf, Side, Subject, subject_of
from otel_hwmetrics.catalog import gpu, system
from otel_hwmetrics.model import Attribute, Metric, Reading, Series, Snapshot, Unit, Window

DEVICE: dict[str, Attribute] = {
    gpu.HW_ID: "GPU-a",
    gpu.HW_NAME: "GPU 3",
    gpu.HW_TYPE: "gpu",
    gpu.HW_VENDOR: "NVIDIA",
    gpu.HW_MODEL: "H200",
    gpu.GPU_INDEX: 3,
}
SENSOR: dict[str, Attribute] = {
    gpu.HW_ID: "GPU-a/temperature",
    gpu.HW_NAME: "GPU 3 temperature",
    gpu.HW_PARENT: "GPU-a",
    gpu.HW_SENSOR_LOCATION: "gpu",
    gpu.HW_VENDOR: "NVIDIA",
    gpu.HW_MODEL: "H200",
    gpu.GPU_INDEX: 3,
}


def snapshot(*readings: tuple[Metric, Mapping[str, Attribute], float]) -> Snapshot:
    """A moment with these readings."""
    return Snapshot(
        (Reading(Series(row, attributes), value, 1) for row, attributes, value in readings), Window(0, 1), 0
    )


def rule(**changes: Any) -> Rule:
    """A rule on temperature, above 80."""
    row: dict[str, Any] = {
        "name": "hot",
        "severity": Severity.WARNING,
        "condition": Level(gpu.TEMPERATURE),
        "side": Side.ABOVE,
        "threshold": 80.0,
        "slack": 2.0,
        "for_seconds": 5.0,
        "message": "{device} {value} {threshold}.",
    }
    return Rule(**(row | changes))


@pytest.mark.parametrize(
    ("side", "value", "holds", "clears"),
    [
        (Side.ABOVE, 80.1, True, False),
        (Side.ABOVE, 80.0, False, False),
        (Side.ABOVE, 78.1, False, False),
        (Side.ABOVE, 78.0, False, True),
        (Side.ABOVE, -5.0, False, True),
        (Side.BELOW, 79.9, True, False),
        (Side.BELOW, 80.0, False, False),
        (Side.BELOW, 81.9, False, False),
        (Side.BELOW, 82.0, False, True),
        (Side.BELOW, 1e9, False, True),
    ],
)
def test_holds_beyond_the_threshold_and_clears_across_the_slack(
    side: Side,
    value: float,
    holds: bool,  # noqa: FBT001 - a column of the table
    clears: bool,  # noqa: FBT001 - likewise
) -> None:
    """Strictly beyond the threshold it holds; it clears a slack away on the other side, that point included."""
    assert rule(side=side).holds(value) is holds
    assert rule(side=side).clears(value) is clears


@pytest.mark.parametrize("side", Side)
def test_without_slack_it_clears_where_it_does_not_hold(side: Side) -> None:
    """There is no value at which a rule without slack neither holds nor clears."""
    assert all(
        rule(side=side, slack=0.0).holds(value) != rule(side=side, slack=0.0).clears(value) for value in (79, 80, 81)
    )


@pytest.mark.parametrize("changes", [{"slack": -0.1}, {"for_seconds": -1.0}])
def test_a_rule_that_contradicts_itself_is_refused(changes: dict[str, float]) -> None:
    """It could fire and be resolved at the same value, or before it began."""
    with pytest.raises(ValueError, match="hot: slack and for_seconds cannot be negative"):
        rule(**changes)


def test_rules_are_keys() -> None:
    """The engine keeps its memory by rule."""
    where = {system.MEMORY_STATE: "used"}
    assert hash(rule(condition=Level(system.MEMORY_UTILIZATION, where))) == hash(
        rule(condition=Level(system.MEMORY_UTILIZATION, dict(where)))
    )
    assert rule() == rule() != rule(name="cold")


def test_a_device_is_known_by_its_id() -> None:
    """The GPU's UUID is the key; its attributes go with the event, the task and such do not."""
    subject = subject_of(Series(gpu.UTILIZATION, {**DEVICE, gpu.HW_GPU_TASK: "general"}))
    assert subject.key == "GPU-a"
    assert dict(subject.attributes) == DEVICE


def test_a_sensor_speaks_for_its_gpu() -> None:
    """`hw.id`, `hw.name` and `hw.type` are the GPU's, not the sensor's; the sensor's own attributes are gone."""
    subject = subject_of(Series(gpu.TEMPERATURE, SENSOR))
    assert subject == subject_of(Series(gpu.UTILIZATION, DEVICE))
    assert dict(subject.attributes) == DEVICE


def test_what_is_of_no_device_is_of_the_host() -> None:
    """Without a `hw.id` the subject is the host, which has no attributes of its own."""
    assert subject_of(Series(system.CPU_UTILIZATION, {system.CPU_MODE: "iowait"})) is HOST
    assert subject_of(Series(system.MEMORY_LIMIT)) is HOST
    assert dict(HOST.attributes) == {}


def test_attributes_of_a_subject_cannot_be_changed() -> None:
    """It is cached and shared."""
    subject = subject_of(Series(gpu.UTILIZATION, DEVICE))
    with pytest.raises(TypeError):
        subject.attributes["hw.id"] = "other"  # type: ignore[index]


def test_a_level_is_the_value_of_each_device() -> None:
    """Of its own metric, and of no other."""
    condition = Level(gpu.TEMPERATURE)
    values = condition.values(
        snapshot(
            (gpu.TEMPERATURE, SENSOR, 71.0),
            (gpu.TEMPERATURE, SENSOR | {gpu.HW_ID: "GPU-b/temperature", gpu.HW_PARENT: "GPU-b"}, 72.0),
            (gpu.POWER, DEVICE, 300.0),
        )
    )
    assert values == {Subject("GPU-a"): 71.0, Subject("GPU-b"): 72.0}
    assert condition.unit is Unit.CELSIUS


def test_a_level_looks_at_the_readings_that_it_names() -> None:
    """`where` picks one of several states."""
    condition = Level(system.MEMORY_UTILIZATION, {system.MEMORY_STATE: "used"})
    states = [(system.MEMORY_UTILIZATION, {system.MEMORY_STATE: name}, share) for name, share in SHARES]
    assert condition.values(snapshot(*states)) == {HOST: 0.7}
    assert condition.values(snapshot(*states[1:])) == {}


SHARES = (("used", 0.7), ("free", 0.2), ("cached", 0.1))


@pytest.mark.parametrize(
    ("readings", "values"),
    [
        ([(gpu.POWER, "a", 270.0), (gpu.POWER_LIMIT, "a", 300.0)], {"a": 0.9}),
        ([(gpu.POWER, "a", 0.0), (gpu.POWER_LIMIT, "a", 300.0)], {"a": 0.0}),
        ([(gpu.POWER, "a", 270.0)], {}),
        ([(gpu.POWER_LIMIT, "a", 300.0)], {}),
        ([(gpu.POWER, "a", 270.0), (gpu.POWER_LIMIT, "a", 0.0)], {}),
        ([(gpu.POWER, "a", 270.0), (gpu.POWER_LIMIT, "b", 300.0)], {}),
        (
            [
                (gpu.POWER, "a", 270.0),
                (gpu.POWER, "b", 60.0),
                (gpu.POWER_LIMIT, "b", 600.0),
                (gpu.POWER_LIMIT, "a", 300.0),
            ],
            {"a": 0.9, "b": 0.1},
        ),
        ([], {}),
    ],
)
def test_a_share_is_of_the_same_device(readings: list[tuple[Metric, str, float]], values: dict[str, float]) -> None:
    """Absent where either part is, and where the whole is nothing; never another device's."""
    condition = ShareOf(gpu.POWER, gpu.POWER_LIMIT)
    found = condition.values(snapshot(*((row, {gpu.HW_ID: device}, value) for row, device, value in readings)))
    assert {subject.key: value for subject, value in found.items()} == pytest.approx(values)
    assert condition.unit is Unit.RATIO


def test_the_highest_of_several_is_by_device() -> None:
    """Of those that have a value; one that has none takes nothing away."""
    condition = Highest((Level(gpu.UTILIZATION), Level(gpu.MEMORY_UTILIZATION)))
    other = DEVICE | {gpu.HW_ID: "GPU-b"}
    found = condition.values(
        snapshot(
            (gpu.UTILIZATION, DEVICE, 0.3), (gpu.MEMORY_UTILIZATION, DEVICE, 0.7), (gpu.MEMORY_UTILIZATION, other, 0.2)
        )
    )
    assert {subject.key: value for subject, value in found.items()} == {"GPU-a": 0.7, "GPU-b": 0.2}
    assert condition.values(snapshot()) == {}
    assert condition.unit is Unit.RATIO


def test_what_has_different_units_has_no_highest() -> None:
    """Degrees are not compared with ratios."""
    with pytest.raises(ValueError, match="different units"):
        Highest((Level(gpu.TEMPERATURE), Level(gpu.UTILIZATION)))


def test_a_part_of_a_gpu_is_a_device_of_its_own() -> None:
    """A MIG instance has its GPU as parent, and is judged by itself."""
    instance = DEVICE | {gpu.HW_ID: "MIG-1", gpu.HW_PARENT: "GPU-a", gpu.HW_NAME: "GPU 3 MIG 1/0"}
    subject = subject_of(Series(gpu.MEMORY_UTILIZATION, instance))
    assert subject.key == "MIG-1"
    assert dict(subject.attributes) == instance
