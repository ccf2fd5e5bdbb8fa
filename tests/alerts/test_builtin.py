# SPDX-License-Identifier: Apache-2.0
"""The rules that come with the package: each by its stories in `stories/`, series in and transitions out."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping
from functools import cache
from statistics import fmean, stdev
from typing import Any

import pytest

from otel_hwmetrics.alerts.builtin import RULES
from otel_hwmetrics.alerts.conditions import Finding
from otel_hwmetrics.alerts.engine import Engine
from otel_hwmetrics.alerts.rule import Rule, Severity, Side, State
from otel_hwmetrics.alerts.rulebook import rulebook
from otel_hwmetrics.alerts.subjects import HOST, Subject
from otel_hwmetrics.alerts.transition import Transition
from otel_hwmetrics.catalog import gpu
from otel_hwmetrics.config import Config, flat_options, resolve
from otel_hwmetrics.model import Attribute, Unit
from storybook import FOLDER, Course, Story, series_of, steps_of, stories

pytestmark = pytest.mark.no_cover  # it would take three times as long; others see to that

STORIES = stories()
EACH_RULE = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
ON_A_GPU = {rule.name for rule in RULES if rule.name.startswith("gpu")}

told = cache(lambda index: steps_of(STORIES[index]))


def of(rule: Rule) -> list[int]:
    """The places of its stories."""
    return [index for index, story in enumerate(STORIES) if story.rule == rule.name]


def line(second: int, step: Transition, *, rule: bool = False) -> tuple[object, ...]:
    """A step as a story tells it."""
    state = "blind" if step.blind else step.state.value
    return (second, *([step.rule.name] if rule else []), step.subject.name or "host", state)


@pytest.mark.parametrize("index", range(len(STORIES)), ids=[str(story) for story in STORIES])
def test_story(index: int) -> None:
    """Series in, transitions out: each with its second, subject and state, and nobody else has anything to say."""
    story, steps = STORIES[index], told(index)
    own = [(second, step) for second, step in steps if step.rule.name == story.rule]
    assert [line(*step) for step in own] == [tuple(step[:3]) for step in story.transitions]
    for (_, step), (*_, says) in zip(own, ([*row, ""][:4] for row in story.transitions), strict=True):
        assert says in step.message
    others = [(second, step) for second, step in steps if step.told and step.rule.name != story.rule]
    assert [line(*step, rule=True) for step in others] == [tuple(step) for step in story.also]
    assert all(step.time_unix_nano == second * 10**9 for second, step in steps)


def test_every_rule_has_its_stories() -> None:
    """A rule ships with its story, and no file is left without a rule."""
    assert {path.stem for path in FOLDER.iterdir()} == {rule.name for rule in RULES}
    assert {story.rule for story in STORIES} == {rule.name for rule in RULES}
    assert len({str(story) for story in STORIES}) == len(STORIES)


@EACH_RULE
def test_a_rule_s_stories_show_all_that_can_happen(rule: Rule) -> None:
    """Each state, silence just before, an option; of a GPU's rule, two GPUs; whatever silences it, doing that."""
    own = [(STORIES[index], told(index)) for index in of(rule)]
    entered = {row[2] for story, _ in own for row in story.transitions}
    assert entered - {"blind"} == {state.value for state in State}
    assert any(story.options for story, _ in own)
    assert any(not {row[2] for row in story.transitions} & {"firing", "resolved"} for story, _ in own)
    if rule.name in ON_A_GPU:
        assert any(len({row[1] for row in story.transitions}) > 1 for story, _ in own)
    phases = {row[1] for story, _ in own for row in story.phase}
    assert phases >= set(rule.silent_in)
    inhibitors = {row[1] for story, _ in own for row in story.also if row[3] == "firing"}
    assert inhibitors >= set(rule.inhibited_by)


@EACH_RULE
def test_every_message_of_every_story_is_a_sentence(rule: Rule) -> None:
    """Nothing is left open or unknown; it ends in a full stop; what to do about it is said when it fires, and only then."""
    for index in of(rule):
        for _, step in told(index):
            if step.rule.name == rule.name and step.told:
                message = step.message
                assert not set("{}?") & set(message), message
                assert message.endswith("."), message
                assert not set(message.split()) & {"None", "nan", "inf"}, message
                assert message.startswith("Resolved after ") == (step.state is State.RESOLVED)
                assert (_advice(step) in message) == (step.state is State.FIRING and not step.blind), message


def _advice(step: Transition) -> str:
    return str(step.finding.evidence["advice"]) if step.rule.advice == "{advice}" and step.finding else step.rule.advice


@EACH_RULE
@pytest.mark.parametrize("state", [State.FIRING, State.RESOLVED])
def test_every_message_fills(rule: Rule, state: State) -> None:
    """It names its device and has fields of no other name than a condition gives; it is told even if evidence lacks."""
    fields = {field for text in (rule.message, rule.advice) for field in _fields(text)}
    assert fields <= {"device", "value", "threshold", "beyond", *rule.condition.evidence}
    assert (rule.name in ON_A_GPU) <= ("device" in fields)
    subject = Subject("GPU-a", {gpu.HW_NAME: "GPU 7"}) if "device" in fields else HOST
    evidence: dict[str, Attribute] = {
        word: 90 if word.rpartition("_")[2] in {"seconds", "bytes", "share"} else "Word."
        for word in rule.condition.evidence
    }
    step = Transition(rule, subject, State.PENDING, state, Finding(0.625, evidence), 0, 12.4)
    assert not set("{}?") & set(step.message)
    assert ("GPU 7" in step.message) == ("device" in fields)
    assert step.message.endswith(".")
    bare = Transition(rule, subject, State.PENDING, state, Finding(None), 0, 12.4)
    assert bare.message


def _fields(text: str) -> Iterable[str]:
    return [field for _, field, _, _ in string.Formatter().parse(text) if field is not None]


@EACH_RULE
def test_every_rule_says_what_to_do(rule: Rule) -> None:
    """A message of one sentence or two, advice, and a condition that can be told in words."""
    assert rule.advice
    assert rule.message[0] in string.ascii_uppercase + "{"
    assert str(rule.condition)


@EACH_RULE
def test_every_rule_has_its_three_options(rule: Rule) -> None:
    """A switch, a threshold, a duration; and they arrive in the rule, and nothing else of it changes."""
    switch, threshold, length = flat_options(rule.name)
    values = {threshold: 0.25, length: 7.0}
    changed = {each.name: each for each in _rules(values)}[rule.name]
    assert (changed.threshold, changed.for_seconds) == (0.25, 7.0)
    assert (changed.severity, changed.condition, changed.side) == (rule.severity, rule.condition, rule.side)
    assert (changed.slack, changed.message, changed.advice) == (rule.slack, rule.message, rule.advice)
    assert {each.name for each in _rules({switch: False})} == {each.name for each in RULES} - {rule.name}


def _rules(options: Mapping[str, object]) -> tuple[Rule, ...]:
    resolved = resolve(options, environ={}, directory=FOLDER)
    book = rulebook(resolved.config)
    assert not resolved.errors
    assert not book.errors
    return book.rules


def test_all_alerts_can_be_switched_off_at_once() -> None:
    """`alerts = false` leaves no rule; by default all are there, in the table's order."""
    assert rulebook(Config(alerts=False)).rules == ()
    assert rulebook(Config()).rules == RULES


def test_the_rules_fit_together() -> None:
    """No two have one name, none silences another in a circle or names one that is not there."""
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    assert {name for rule in RULES for name in rule.inhibited_by} <= set(names)
    Engine(RULES)


def test_shares_are_shares() -> None:
    """Thresholds and where they are cleared lie between 0 and 1 where the unit is a ratio; flags and codes are above 0."""
    for rule in RULES:
        if rule.condition.unit is Unit.RATIO:
            assert 0 <= rule.clear <= 1, rule.name
            assert 0 <= rule.threshold <= 1, rule.name


SEVERITIES = {
    Severity.CRITICAL: {
        *("training_stalled", "gpu_lost", "gpu_recovery_needed", "gpu_xid_critical", "gpu_ecc_uncorrected"),
        *("gpu_remap_failed", "gpu_oom_ahead", "gpu_very_hot", "gpu_idle", "oom_kill", "host_oom_ahead"),
    },
    Severity.INFO: {"gpu_xid_info", "gpu_power_limit", "cpu_saturated", "monitor_over_budget"},
}
"""Critical is what ends a job, or has ended it; info is what harms nobody by itself. The rest are warnings."""


def test_severities_are_as_asked_for() -> None:
    """Those that page somebody, and those that never should."""
    for severity, names in SEVERITIES.items():
        assert {rule.name for rule in RULES if rule.severity is severity} == names


@pytest.mark.parametrize(
    ("name", "side", "threshold", "for_seconds"),
    [
        ("gpu_memory_pressure", Side.ABOVE, 0.9, 5.0),
        ("gpu_hot", Side.ABOVE, 80.0, 5.0),
        ("gpu_power_limit", Side.ABOVE, 0.95, 60.0),
        ("gpu_underused", Side.BELOW, 0.5, 120.0),
        ("gpu_idle", Side.BELOW, 0.05, 300.0),
        ("host_memory_pressure", Side.ABOVE, 0.9, 5.0),
        ("io_bottleneck", Side.ABOVE, 0.3, 30.0),
    ],
)
def test_thresholds_are_those_that_people_know(name: str, side: Side, threshold: float, for_seconds: float) -> None:
    """What training callbacks and GPU monitors warn of by default."""
    (rule,) = (rule for rule in RULES if rule.name == name)
    assert (rule.side, rule.threshold, rule.for_seconds) == (side, threshold, for_seconds)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (5, [5, 5, 5, 5]),
        ([[0, 1], [2, "none"], [3, 4]], [1, 1, None, 4]),
        ([[2, 7]], [None, None, 7, 7]),
        ({"ramp": [[0, 0], [2, 4]]}, [0, 2, 4, 4]),
        ({"rate": [[0, 2], [2, 10]]}, [0, 2, 4, 14]),
        ({"steps": 1, "saw": [2, 6]}, [1, 4, 1, 4]),
        ({"steps": 1, "gap": [[1, 3]]}, [1, None, None, 1]),
    ],
)
def test_what_stories_give_is_what_is_read(given: Any, told: list[float | None]) -> None:
    """Steps, ramps, counters by their rate, saw teeth and gaps, second by second."""
    assert [Course(given, "seed").at(second) for second in range(4)] == told


def test_noise_is_the_same_each_time_and_as_large_as_told() -> None:
    """A story has one end, on every machine."""
    one, same, other = (Course({"steps": 100, "noise": 0.02}, seed) for seed in ("a", "a", "b"))
    values = [one.at(second) or 0.0 for second in range(1000)]
    assert values == [same.at(second) for second in range(1000)]
    assert values != [other.at(second) for second in range(1000)]
    assert 1.8 < stdev(values) < 2.2
    assert 99.7 < fmean(values) < 100.3


@pytest.mark.parametrize(
    "given", [{"step": 1}, {"steps": 1, "ramp": [[0, 1]]}, {"steps": 1, "every": 5}, [[5, 1], [0, 1]]]
)
def test_what_no_story_can_give_is_refused(given: Any) -> None:
    """A slip of the pen must not be silence."""
    with pytest.raises(ValueError, match="seed: "):
        Course(given, "seed")


@pytest.mark.parametrize(
    "told",
    [
        {"metric": "hw.temperature", "gpus": 0},
        {"metric": "system.memory.utilization", "attributes": {"state": "used"}},
    ],
)
def test_a_series_that_cannot_be_is_refused(told: dict[str, Any]) -> None:
    """As is an attribute that its metric does not have."""
    with pytest.raises(ValueError, match=r"has no|no series has"):
        series_of(told)


@pytest.mark.parametrize(
    "wrong",
    [{"given": {"cold": 1}}, {"options": {"alert_gpu_hot_treshold": 1}}, {"options": {"alert_gpu_hot_for": "soon"}}],
)
def test_a_story_of_what_is_not_there_is_refused(wrong: dict[str, Any]) -> None:
    """A series that the head does not have, an option that nobody knows, a value that it does not take."""
    head = {"heat": {"metric": "hw.temperature", "gpu": 0}}
    story = Story(rule="gpu_hot", series=head, promise="It ends.", until=1, transitions=(), **wrong)
    with pytest.raises(ValueError, match="gpu_hot: It ends"):
        steps_of(story)
