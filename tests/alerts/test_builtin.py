# SPDX-License-Identifier: Apache-2.0
"""The rules that come with the package: each by its story in `stories/`, series in and transitions out."""

from __future__ import annotations

import string
import sys
from pathlib import Path
from typing import Any

import pytest

from otel_hwmetrics.alerts.builtin import ROWS, Row, rules
from otel_hwmetrics.alerts.conditions import HOST, Rule, Severity, Side, State, Subject
from otel_hwmetrics.alerts.engine import Engine, Transition
from otel_hwmetrics.catalog import METRICS, gpu
from otel_hwmetrics.config import OPTIONS, Config
from otel_hwmetrics.model import Attribute, Reading, Series, Snapshot, Window

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent / "stories"
STORIES: list[tuple[str, dict[str, Any]]] = [
    (path.stem, story)
    for path in sorted(FOLDER.glob("*.toml"))
    for story in tomllib.loads(path.read_text(encoding="utf-8"))["story"]
]
ROW_OF = {metric.name: metric for metric in METRICS}


def series_of(told: dict[str, Any]) -> Series:
    """The series that a story speaks of, with the attributes that a source gives it."""
    metric = ROW_OF[told["metric"]]
    attributes: dict[str, Attribute] = dict(told.get("attributes", {}))
    if "gpu" in told:
        attributes |= {gpu.HW_ID: told["gpu"], gpu.HW_NAME: told["gpu"], gpu.GPU_INDEX: 0}
        if metric is gpu.TEMPERATURE:
            location = told.get("sensor", "gpu")
            attributes |= {gpu.HW_ID: f"{told['gpu']}/temperature/{location}", gpu.HW_PARENT: told["gpu"]}
            attributes |= {gpu.HW_SENSOR_LOCATION: location}
        if metric is gpu.UTILIZATION:
            attributes |= {gpu.HW_GPU_TASK: told.get("task", "general")}
    return Series(metric, attributes)


def value_at(steps: list[tuple[int, float | str]], second: int) -> float | None:
    """The value of a series at a second: that of the last step before; None where it is "none"."""
    value = [value for at, value in steps if at <= second][-1]
    return None if isinstance(value, str) else value


def config_with(options: dict[str, Any]) -> Config:
    """The defaults but for these."""
    return Config(**options)


def rule_called(name: str, config: Config) -> Rule:
    """One of the rules."""
    (rule,) = (rule for rule in rules(config) if rule.name == name)
    return rule


def told_by(story: dict[str, Any], rule: Rule) -> list[tuple[int, Transition]]:
    """What the engine makes of a story, looking every second."""
    engine = Engine([rule])
    series = [(series_of(told), told["steps"]) for told in story["series"]]
    steps: list[tuple[int, Transition]] = []
    for second in range(story["until"] + 1):
        values = [(each, value_at(steps_, second)) for each, steps_ in series]
        readings = [Reading(each, value, second) for each, value in values if value is not None]
        snapshot = Snapshot(readings, Window(second - 1, second), second * 10**9)
        steps += ((second, transition) for transition in engine.evaluate(snapshot))
    return steps


@pytest.mark.parametrize(
    ("name", "story"), [pytest.param(name, story, id=f"{name}: {story['promise']}") for name, story in STORIES]
)
def test_story(name: str, story: dict[str, Any]) -> None:
    """Series in, transitions out, each with its second, device and state."""
    told = told_by(story, rule_called(name, config_with(story.get("options", {}))))
    expected = [tuple(step) for step in story["transitions"]]
    assert [(second, step.subject.key or "host", step.state.value) for second, step in told] == expected
    assert [step.time_unix_nano for _, step in told] == [second * 10**9 for second, _, _ in expected]


def test_every_rule_has_its_stories() -> None:
    """A rule ships with its story, and no story is left without a rule."""
    assert {path.stem for path in FOLDER.iterdir()} == {row.name for row in ROWS}
    assert {name for name, _ in STORIES} == {row.name for row in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_rule_s_stories_show_all_that_can_happen(row: Row) -> None:
    """Each state, a gap, an option, and, of a GPU's rule, two GPUs at once."""
    stories = [story for name, story in STORIES if name == row.name]
    assert {step[2] for story in stories for step in story["transitions"]} == {state.value for state in State}
    assert any("options" in story for story in stories)
    if row.name.startswith("gpu"):
        assert any(len({step[1] for step in story["transitions"]}) == 2 for story in stories)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_rule_has_its_three_options(row: Row) -> None:
    """A switch, a threshold, a duration; and they arrive in the rule."""
    stem = f"alert_{row.name}"
    assert {name for name in OPTIONS if name == stem or name.startswith(f"{stem}_")} >= {
        stem,
        f"{stem}_threshold",
        f"{stem}_for",
    }
    rule = rule_called(row.name, config_with({f"{stem}_threshold": 0.25, f"{stem}_for": 7.0}))
    assert (rule.threshold, rule.for_seconds) == (0.25, 7.0)
    assert (rule.severity, rule.condition, rule.side) == (row.severity, row.condition, row.side)
    assert (rule.slack, rule.message) == (row.slack, row.message)
    off = rules(config_with({stem: False}))
    assert {rule.name for rule in off} == {other.name for other in ROWS} - {row.name}


def test_no_option_is_of_a_rule_that_is_not_there() -> None:
    """Every option that begins with `alert_` is one of some rule's three."""
    of_rules = {f"alert_{row.name}{end}" for row in ROWS for end in ("", "_threshold", "_for")}
    assert {name for name in OPTIONS if name.startswith("alert_")} == of_rules


def test_all_alerts_can_be_switched_off_at_once() -> None:
    """`alerts = false` leaves no rule; by default all are there, in the table's order."""
    assert rules(Config(alerts=False)) == ()
    assert [rule.name for rule in rules(Config())] == [row.name for row in ROWS]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("state", [State.FIRING, State.RESOLVED])
def test_every_message_fills(row: Row, state: State) -> None:
    """It has the value, the threshold and, of a GPU's rule, the device; and nothing is left open."""
    used = {field for _, field, _, _ in string.Formatter().parse(row.message) if field is not None}
    of_gpu = row.name.startswith("gpu")
    assert used == {"value", "beyond"} | ({"device"} if of_gpu else set())
    subject = Subject("GPU-a", {gpu.HW_NAME: "GPU 7"}) if of_gpu else HOST
    rule = rule_called(row.name, Config())
    message = Transition(rule, subject, State.PENDING, state, 0.625, 0, 12.4).message
    assert not set("{}") & set(message)
    assert ("62%" in message) != ("1 °C" in message)
    assert ("GPU 7" in message) == of_gpu
    assert message.startswith("Resolved after 12 s: ") == (state is State.RESOLVED)
    assert message.endswith(".")
    assert (row.advice in message) == (state is State.FIRING)
    assert ("no longer" in message) == (state is State.RESOLVED)


def test_severities_and_sides_are_as_asked_for() -> None:
    """Pressure, heat and waiting are above; under-use and idleness below; only idleness, maybe a hang, is critical."""
    assert {row.name for row in ROWS if row.side is Side.BELOW} == {"gpu_underused", "gpu_idle"}
    assert {row.name for row in ROWS if row.severity is Severity.CRITICAL} == {"gpu_idle"}
    assert {row.name for row in ROWS if row.severity is Severity.INFO} == {"gpu_power_limit"}
