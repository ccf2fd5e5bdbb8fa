# SPDX-License-Identifier: Apache-2.0
"""The state machine: against a slow oracle on random series, and what it shows of itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otel_hwmetrics.alerts.conditions import HOST, Level, Rule, Severity, Side, State, Subject
from otel_hwmetrics.alerts.engine import Engine, Transition
from otel_hwmetrics.catalog import gpu, own
from otel_hwmetrics.model import Attribute, Kind, Metric, Reading, Series, Snapshot, Unit, Window

Value = float | None


def rule(
    name: str = "hot", side: Side = Side.ABOVE, threshold: float = 80.0, slack: float = 2.0, for_seconds: float = 3.0
) -> Rule:
    """A rule on GPU utilization, whatever its numbers."""
    return Rule(name, Severity.WARNING, Level(gpu.UTILIZATION), side, threshold, slack, for_seconds, "{device}.")


def snapshot(at: float, values: dict[str, Value]) -> Snapshot:
    """What is read of each device at a moment; None: nothing."""
    series = {key: Series(gpu.UTILIZATION, {gpu.HW_ID: key, gpu.GPU_INDEX: int(key)}) for key in values}
    readings = [Reading(series[key], value, at) for key, value in values.items() if value is not None]
    return Snapshot(readings, Window(at - 1, at), round(at * 1e9))


def walk(engine: Engine, values: Sequence[Value], start: int = 0) -> list[tuple[int, State]]:
    """Give one device's values, one a second; every state that is entered, with its second."""
    steps = []
    for second, value in enumerate(values, start):
        steps += [(second, step.state) for step in engine.evaluate(snapshot(second, {"0": value}))]
    return steps


class Moment(NamedTuple):
    """What the oracle says of one moment."""

    state: State
    since: float
    """When it began to fire, or, pending, now less the evidence."""
    evidence: float = 0.0
    """Firing: the seconds that made it fire."""


def oracle(at: Sequence[float], values: Sequence[Value], of: Rule) -> list[Moment]:
    """The state after each value, by looking back over all of the evidence each time."""
    if of.side is Side.ABOVE:
        bad = [value is not None and value > of.threshold for value in values]
        good = [value is not None and value <= of.threshold - of.slack for value in values]
    else:
        bad = [value is not None and value < of.threshold for value in values]
        good = [value is not None and value >= of.threshold + of.slack for value in values]
    moments: list[Moment] = []
    for now, value in enumerate(values):
        if moments and moments[-1].state is State.FIRING:
            state = State.RESOLVED if good[now] else State.FIRING
            moments.append(Moment(state, moments[-1].since))
            continue
        began = now
        while began > 0 and moments[began - 1].state is State.PENDING:
            began -= 1
        # Evidence is the time between two looks in a row that both had a reading.
        pairs = [(look - 1, look) for look in range(began + 1, now + 1)]
        evidence = sum(at[b] - at[a] for a, b in pairs if values[a] is not None and values[b] is not None)
        read = [at[look] for look in range(now) if values[look] is not None]
        if value is None:
            patient = began < now and at[now] - read[-1] <= of.for_seconds
            moments.append(Moment(State.PENDING if patient else State.UNKNOWN, at[now] - evidence))
        elif not bad[now]:
            moments.append(Moment(State.INACTIVE, at[now]))
        elif evidence >= of.for_seconds - 0.05 * min(1.0, of.for_seconds):
            moments.append(Moment(State.FIRING, at[now], evidence))
        else:
            moments.append(Moment(State.PENDING, at[now] - evidence))
    return moments


LEVELS = st.sampled_from([0.0, 60.0, 78.0, 79.0, 80.0, 81.0, 82.0, 100.0])
VALUES = st.lists(st.none() | LEVELS | st.floats(50, 110), min_size=1, max_size=40)
RULES = st.builds(
    rule,
    side=st.sampled_from(Side),
    threshold=st.sampled_from([80.0, 80.5]) | st.floats(60, 100),
    slack=st.sampled_from([0.0, 2.0]) | st.floats(0, 20),
    for_seconds=st.sampled_from([0.0, 1.0, 3.0]) | st.floats(0, 10),
)
PAUSES = st.sampled_from([0.25, 0.5, 1.0, 1.0, 2.5])


@settings(max_examples=500, deadline=None)
@given(of=RULES, devices=st.lists(VALUES, min_size=1, max_size=3), data=st.data())
def test_the_engine_agrees_with_a_slow_oracle(of: Rule, devices: list[list[Value]], data: st.DataObject) -> None:
    """Whatever the series, their gaps, the rule and the pace: states, durations and values are the oracle's."""
    length = max(map(len, devices))
    pauses = data.draw(st.lists(PAUSES, min_size=length, max_size=length), label="pauses")
    at = list(accumulate(pauses))
    series = [values + [None] * (length - len(values)) for values in devices]
    expected = [oracle(at, values, of) for values in series]
    engine = Engine([of])
    states = {str(key): State.UNKNOWN for key in range(len(devices))}
    for moment in range(length):
        steps = engine.evaluate(snapshot(at[moment], {str(key): values[moment] for key, values in enumerate(series)}))
        for step in steps:
            check_step(step, states[step.subject.key], at[moment])
            states[step.subject.key] = step.state
            told = expected[int(step.subject.key)]
            if step.state is State.RESOLVED:
                assert step.duration == at[moment] - told[moment].since
            if step.state is State.FIRING:
                assert step.duration == told[moment].evidence
            assert step.value == series[int(step.subject.key)][moment]
        assert states == {str(key): moments[moment].state for key, moments in enumerate(expected)}


def check_step(step: Transition, before: State, at: float) -> None:
    """A step leads on from the last one, to another state; to firing only from pending."""
    assert step.before is before is not step.state
    assert (step.state is State.FIRING) <= (before is State.PENDING)
    assert (step.state is State.RESOLVED) <= (before is State.FIRING)
    assert step.time_unix_nano == round(at * 1e9)
    assert step.told == (step.state in {State.FIRING, State.RESOLVED})
    assert step.told or step.duration == 0


@given(values=VALUES, others=VALUES)
@example(values=[100.0] * 9, others=[None, 100.0])
def test_rules_and_devices_do_not_know_of_each_other(values: list[Value], others: list[Value]) -> None:
    """A device walks as it would alone, beside another device and another rule."""
    alone = walk(Engine([rule()]), values)
    engine = Engine([rule("cold", side=Side.BELOW), rule()])
    steps: list[tuple[int, Transition]] = []
    for second, value in enumerate(values):
        other = others[second] if second < len(others) else None
        steps += ((second, step) for step in engine.evaluate(snapshot(second, {"1": other, "0": value})))
    together = [(at, step.state) for at, step in steps if step.subject.key == "0" and step.rule.name == "hot"]
    assert together == alone


def test_nothing_ever_read_is_nothing_told() -> None:
    """A device that was never there has no alert, not even an unknown one."""
    engine = Engine([rule()])
    assert walk(engine, [None] * 5) == []
    assert [reading for reading in engine.readings(5) if reading.metric is own.ALERT_ACTIVE] == []


def test_it_must_last_by_the_clock_and_not_by_the_number_of_looks() -> None:
    """Two looks a minute apart are a minute of evidence; a hundred in a second are not."""
    engine = Engine([rule(for_seconds=60.0)])
    assert [step.state for step in engine.evaluate(snapshot(0, {"0": 90.0}))] == [State.PENDING]
    for look in range(1, 100):
        assert engine.evaluate(snapshot(look / 100, {"0": 90.0})) == []
    assert [step.state for step in engine.evaluate(snapshot(60, {"0": 90.0}))] == [State.FIRING]


def test_a_long_window_is_no_evidence_for_a_short_for() -> None:
    """At one look a minute, "for 2 s" takes a second look; the tolerance for jitter does not swallow it."""
    engine = Engine([rule(for_seconds=2.0)])
    reading = Reading(Series(gpu.UTILIZATION, {gpu.HW_ID: "0"}), 90.0, 0)
    states = [
        [step.state for step in engine.evaluate(Snapshot([reading], Window(at - 60, at), 0))] for at in (60.0, 120.0)
    ]
    assert states == [[State.PENDING], [State.FIRING]]


def test_for_zero_fires_at_once() -> None:
    """Both steps are made at the same moment, in their order."""
    assert walk(Engine([rule(for_seconds=0.0)]), [90.0]) == [(0, State.PENDING), (0, State.FIRING)]


def active(engine: Engine) -> dict[str, float]:
    """The alert's gauges of device 0, by state."""
    return {
        str(reading.attributes[own.ALERT_STATE]): reading.value
        for reading in engine.readings(7.0)
        if reading.metric is own.ALERT_ACTIVE
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], {}),
        ([70.0], {"pending": 0, "firing": 0}),
        ([90.0], {"pending": 1, "firing": 0}),
        ([90.0] * 4, {"pending": 0, "firing": 1}),
        ([90.0] * 4 + [None], {"pending": 0, "firing": 1}),
        ([90.0] * 4 + [79.0], {"pending": 0, "firing": 1}),
        ([90.0] * 4 + [70.0], {"pending": 0, "firing": 0}),
        ([90.0, None], {"pending": 1, "firing": 0}),
        ([90.0] + [None] * 4, {}),
        ([70.0, None], {}),
        ([90.0] * 4 + [70.0, None], {}),
        ([70.0, None, 70.0], {"pending": 0, "firing": 0}),
    ],
)
def test_active_is_one_or_zero_by_state_and_absent_while_unknown(
    values: list[Value], expected: dict[str, float]
) -> None:
    """What cannot be read is not shown as well."""
    engine = Engine([rule()])
    walk(engine, values)
    assert active(engine) == expected


def test_readings_carry_what_their_rows_declare() -> None:
    """Rule, severity, state; the device's id and index on what is of a device; the moment that was asked for."""
    engine = Engine([rule()])
    walk(engine, [90.0])
    readings = list(engine.readings(7.0))
    common = {own.ALERT_RULE: "hot", own.ALERT_SEVERITY: "warning"}
    device = {gpu.HW_ID: "0", gpu.GPU_INDEX: 0}
    assert [(reading.metric, dict(reading.attributes)) for reading in readings] == [
        (own.ALERT_ACTIVE, {**common, **device, own.ALERT_STATE: "pending"}),
        (own.ALERT_ACTIVE, {**common, **device, own.ALERT_STATE: "firing"}),
        (own.ALERT_TRANSITIONS, {**common, own.ALERT_STATE: "firing"}),
        (own.ALERT_TRANSITIONS, {**common, own.ALERT_STATE: "resolved"}),
    ]
    assert {reading.at for reading in readings} == {7.0}
    assert all(set(reading.attributes) <= set(reading.metric.attributes) for reading in readings)


def test_a_sensor_s_alert_is_its_gpu_s() -> None:
    """`hw.id` of `hwmetrics.alert.active` is the GPU's UUID, on which it can be joined, and not the sensor's."""
    engine = Engine([Rule("hot", Severity.WARNING, Level(gpu.TEMPERATURE), Side.ABOVE, 80, 2, 0, "{device}.")])
    attributes: dict[str, Attribute] = {gpu.HW_ID: "GPU-a/temperature", gpu.HW_PARENT: "GPU-a", gpu.GPU_INDEX: 2}
    attributes[gpu.HW_SENSOR_LOCATION] = "gpu"
    heat = Reading(Series(gpu.TEMPERATURE, attributes), 90.0, 0)
    (_, step) = engine.evaluate(Snapshot([heat], Window(0, 1), 0))
    assert step.subject.key == step.subject.attributes[gpu.HW_ID] == "GPU-a"
    assert step.message == "GPU 2."
    shown = [reading for reading in engine.readings(1) if reading.metric is own.ALERT_ACTIVE]
    assert {(reading.attributes[gpu.HW_ID], reading.attributes[gpu.GPU_INDEX]) for reading in shown} == {("GPU-a", 2)}


def transitions(engine: Engine) -> dict[tuple[str, str], float]:
    """The transition counters, by rule and state."""
    return {
        (str(reading.attributes[own.ALERT_RULE]), str(reading.attributes[own.ALERT_STATE])): reading.value
        for reading in engine.readings(0.0)
        if reading.metric is own.ALERT_TRANSITIONS
    }


def test_transition_counters_start_at_zero() -> None:
    """Before anything happened they are there, or a backend could not see the first growth."""
    engine = Engine([rule(), rule("cold")])
    zero = {(name, state): 0 for name in ("hot", "cold") for state in ("firing", "resolved")}
    assert transitions(engine) == zero
    walk(engine, [90.0, 70.0, None])
    assert transitions(engine) == zero


@given(values=st.lists(VALUES, min_size=2, max_size=2))
def test_transition_counters_count_what_was_told_and_only_grow(values: list[list[Value]]) -> None:
    """Over all devices, by rule and state."""
    engine = Engine([rule(for_seconds=1.0)])
    seen = [transitions(engine)]
    told: dict[str, int] = {"firing": 0, "resolved": 0}
    for second in range(max(map(len, values))):
        row = {str(key): (each[second] if second < len(each) else None) for key, each in enumerate(values)}
        for step in engine.evaluate(snapshot(second, row)):
            if step.told:
                told[step.state.value] += 1
        seen.append(transitions(engine))
        assert seen[-1] == {("hot", state): count for state, count in told.items()}
    assert all(later[key] >= earlier[key] for earlier, later in pairwise(seen) for key in earlier)


WEIGHT = Metric("test.weight", Kind.GAUGE, Unit.WATT, "Something in watts.")


@pytest.mark.parametrize(
    ("metric", "value", "threshold", "shown"),
    [
        (gpu.UTILIZATION, 0.914, 0.9, "GPU 0: 91% above 90%."),
        (gpu.UTILIZATION, 0.0, 0.05, "GPU 0: 0% above 5%."),
        (gpu.TEMPERATURE, 81.6, 80.0, "GPU 0: 82 °C above 80 °C."),
        (WEIGHT, 312.5, 300.0, "GPU 0: 312.5 W above 300 W."),
        (gpu.UTILIZATION, None, 0.5, "GPU 0: ? above 50%."),
    ],
)
def test_a_message_shows_values_with_their_units(metric: Metric, value: Value, threshold: float, shown: str) -> None:
    """As people read them: percent, degrees, a number with its unit."""
    of = Rule(
        "r", Severity.INFO, Level(metric), Side.ABOVE, threshold, 0, 0, "{device}: {value} {beyond}.", advice="Cool it."
    )
    subject = Subject("GPU-a", {gpu.HW_NAME: "GPU 0"})
    assert Transition(of, subject, State.PENDING, State.FIRING, value, 0, 1.0).message == f"{shown} Cool it."
    resolved = Transition(of, subject, State.FIRING, State.RESOLVED, value, 0, 61.5)
    assert resolved.message == f"Resolved after 62 s: {shown.replace('above', 'no longer above')}"


def test_a_device_without_a_name_is_called_by_its_id() -> None:
    """And braces in a device's name are only braces."""
    for subject, name in (
        (Subject("GPU-a"), "GPU-a."),
        (Subject("x", {gpu.HW_NAME: "{value}"}), "{value}."),
        (HOST, "."),
    ):
        assert Transition(rule(), subject, State.PENDING, State.FIRING, 1.0, 0, 1.0).message == name
