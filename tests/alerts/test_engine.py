# SPDX-License-Identifier: Apache-2.0
"""The state machine: against a slow oracle on random series, and what it shows of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otel_hwmetrics.alerts.conditions import Finding, Highest, Level, Totals, Watcher
from otel_hwmetrics.alerts.engine import Engine
from otel_hwmetrics.alerts.instance import BLIND_AFTER
from otel_hwmetrics.alerts.rule import Rule, Severity, Side, State
from otel_hwmetrics.alerts.subjects import MOST_SUBJECTS
from otel_hwmetrics.alerts.transition import Transition
from otel_hwmetrics.catalog import gpu, gpu_health, own, training
from otel_hwmetrics.model import Attribute, Metric, Reading, Series, Snapshot, Window

Value = float | None

LOST = Rule(
    "lost",
    Severity.CRITICAL,
    Level(gpu_health.STATUS),
    Side.ABOVE,
    0.0,
    0.0,
    for_seconds=0.0,
    message="{device} is lost.",
)
"""What silences others."""


def rule(  # noqa: PLR0917 - a row of numbers
    name: str = "hot",
    side: Side = Side.ABOVE,
    threshold: float = 80.0,
    slack: float = 2.0,
    for_seconds: float = 3.0,
    samples: int = 1,
    keep_firing_seconds: float = 0.0,
    warm_up_seconds: float = 0.0,
    cool_down_seconds: float = 0.0,
) -> Rule:
    """A rule on GPU utilization, whatever its numbers; silent in evaluations, and where a GPU is lost."""
    return Rule(
        name,
        Severity.WARNING,
        Level(gpu.UTILIZATION),
        side,
        threshold,
        slack,
        for_seconds,
        "{device}.",
        samples=samples,
        keep_firing_seconds=keep_firing_seconds,
        warm_up_seconds=warm_up_seconds,
        cool_down_seconds=cool_down_seconds,
        inhibited_by=("lost",),
        silent_in=("evaluation",),
    )


def snapshot(
    at: float, values: dict[str, Value], *, window: float = 1.0, silent: bool = False, lost: Sequence[str] = ()
) -> Snapshot:
    """What is read of each device at a moment (None: nothing), whether an evaluation is under way, and who is lost."""
    series = {key: Series(gpu.UTILIZATION, {gpu.HW_ID: key, gpu.GPU_INDEX: int(key)}) for key in values}
    readings = [Reading(series[key], value, at) for key, value in values.items() if value is not None]
    readings += [Reading(Series(gpu_health.STATUS, {gpu.HW_ID: key}), int(key in lost), at) for key in values]
    readings.append(Reading(Series(training.PHASE, {training.PHASE_NAME: "evaluation"}), int(silent), at))
    return Snapshot(readings, Window(at - window, at), round(at * 1e9))


def walk(engine: Engine, values: Sequence[Value], start: int = 0) -> list[tuple[int, State]]:
    """Give one device's values, one a second; every state that is entered, with its second."""
    steps = []
    for second, value in enumerate(values, start):
        steps += [(second, step.state) for step in engine.evaluate(snapshot(second, {"0": value}))]
    return steps


class Look(NamedTuple):
    """What there is at one look at one device."""

    at: float
    value: Value
    silent: bool = False
    lost: bool = False
    window: float = 1.0
    stopped: bool = False
    """Whether the window is more than five times as long as all eight before it."""


class Moment(NamedTuple):
    """What the oracle says of one look."""

    state: State
    since: float
    """When it began to fire."""
    evidence: float = 0.0
    """Entering firing: the seconds that made it fire."""
    blind: bool = False
    """Whether it is told that it fires without readings."""


def oracle(looks: Sequence[Look], of: Rule) -> list[Moment]:
    """The state after each look, by going back over all of the evidence each time."""
    moments: list[Moment] = []
    for now in range(len(looks)):
        if moments and moments[-1].state is State.FIRING:
            moments.append(_still_firing(looks[: now + 1], of, moments))
        else:
            moments.append(_not_firing(looks[: now + 1], of, moments))
    return moments


def _holds(look: Look, of: Rule) -> bool:
    if look.value is None:
        return False
    return look.value > of.threshold if of.side is Side.ABOVE else look.value < of.threshold


def _clear(look: Look, of: Rule) -> bool:
    if look.value is None:
        return False
    if of.side is Side.ABOVE:
        return look.value <= round(of.threshold - of.slack, 6)
    return look.value >= round(of.threshold + of.slack, 6)


def _lasted(seconds: float, asked: float, now: Look) -> bool:
    return seconds >= asked - 0.05 * min(now.window, asked)


def _between(looks: Sequence[Look], counts: Callable[[Look], bool]) -> float:
    """The evidence: seconds between two looks in a row that both count, but for those in which the job was stopped."""
    return sum(
        later.at - earlier.at
        for earlier, later in pairwise(looks)
        if counts(earlier) and counts(later) and not later.stopped
    )


def _still_firing(looks: Sequence[Look], of: Rule, before: Sequence[Moment]) -> Moment:
    now, since = looks[-1], before[-1].since
    if now.lost:
        return Moment(State.RESOLVED, since)
    fired = next(number for number in range(len(before)) if all(m.state is State.FIRING for m in before[number:]))
    if now.value is None:
        read = [number for number in range(fired, len(looks)) if looks[number].value is not None]
        told = any(moment.blind for moment in before[read[-1] :])
        after = max(BLIND_AFTER, 3 * now.window)
        return Moment(State.FIRING, since, blind=not told and now.at - looks[read[-1]].at >= after)
    began = len(looks)
    while began - 1 > fired and (looks[began - 1].value is None or _clear(looks[began - 1], of)):
        began -= 1
    clear = _between(looks[began:], lambda look: _clear(look, of))
    over = _clear(now, of) and _lasted(clear, of.keep_firing_seconds, now)
    return Moment(State.RESOLVED if over else State.FIRING, since)


def _not_firing(looks: Sequence[Look], of: Rule, before: Sequence[Moment]) -> Moment:
    now = looks[-1]
    read = [look.at for look in looks if look.value is not None]
    if now.value is not None and not _holds(now, of):
        return Moment(State.INACTIVE, now.at)
    born = read[0] if read else now.at

    def counts(look: Look) -> bool:
        return _holds(look, of) and not (look.silent or look.lost or look.at - born < of.warm_up_seconds)

    began = len(before)
    while began > 0 and before[began - 1].state is State.PENDING:
        began -= 1
    run = looks[began:]
    if not counts(now):
        evidence = [look.at for look in run if counts(look)]
        patient = bool(evidence) and now.at - evidence[-1] <= of.for_seconds
        other = State.UNKNOWN if now.value is None else State.INACTIVE
        return Moment(State.PENDING if patient else other, now.at)
    seconds = _between(run, counts)
    resolved = [look.at for look, moment in zip(looks, before, strict=False) if moment.state is State.RESOLVED]
    cool = not resolved or now.at >= resolved[-1] + of.cool_down_seconds
    if _lasted(seconds, of.for_seconds, now) and sum(map(counts, run)) >= of.samples and cool:
        return Moment(State.FIRING, now.at, seconds)
    return Moment(State.PENDING, now.at)


LEVELS = st.sampled_from([0.0, 60.0, 78.0, 79.0, 80.0, 81.0, 82.0, 100.0])
VALUES = st.lists(st.none() | LEVELS | st.floats(50, 110), min_size=1, max_size=40)
LENGTHS = st.sampled_from([0.0, 0.0, 1.0, 3.0]) | st.floats(0, 10)
HUNDREDTHS = st.integers(0, 2000).map(lambda some: some / 100)
RULES = st.builds(
    rule,
    side=st.sampled_from(Side),
    threshold=st.sampled_from([80.0, 80.5]) | HUNDREDTHS.map(lambda some: 60 + 2 * some),
    slack=st.sampled_from([0.0, 2.0]) | HUNDREDTHS,
    for_seconds=LENGTHS,
    samples=st.sampled_from([1, 1, 2, 5]),
    keep_firing_seconds=LENGTHS,
    warm_up_seconds=LENGTHS,
    cool_down_seconds=LENGTHS,
)
PAUSES = st.sampled_from([0.25, 0.5, 1.0, 1.0, 1.0, 2.5, 60.0])
RARELY = st.sampled_from([False] * 7 + [True])


@st.composite
def all_looks(draw: st.DrawFn) -> list[list[Look]]:
    """Up to three devices that are looked at together: values with gaps, phases, losses, an uneven pace with stops."""
    devices = draw(st.lists(VALUES, min_size=1, max_size=3))
    length = max(map(len, devices))
    windows = draw(st.lists(PAUSES, min_size=length, max_size=length))
    at = list(accumulate(windows))
    stopped = [moment >= 8 and windows[moment] > 5 * max(windows[moment - 8 : moment]) for moment in range(length)]
    silent = draw(st.lists(RARELY, min_size=length, max_size=length))
    return [
        [
            Look(
                at[moment],
                values[moment] if moment < len(values) else None,
                silent[moment],
                lost,
                windows[moment],
                stopped[moment],
            )
            for moment, lost in enumerate(draw(st.lists(RARELY, min_size=length, max_size=length)))
        ]
        for values in devices
    ]


@settings(max_examples=1000, deadline=None)
@given(of=RULES, devices=all_looks())
@example(of=rule(for_seconds=0.0), devices=[[Look(0, 90.0), *(Look(at, None) for at in range(1, 30))]])
@example(
    of=rule(for_seconds=0.0, keep_firing_seconds=3.0),
    devices=[[Look(0, 90.0), Look(1, 70.0), Look(2, None), Look(3, 70.0), Look(5, 70.0), Look(6, 70.0)]],
)
@example(  # it fires again, and the clock that says for how long it has been clear begins anew
    of=rule(for_seconds=0.0, keep_firing_seconds=3.0),
    devices=[[Look(at, value) for at, value in enumerate([90.0, *[70.0] * 5, 90.0, *[70.0] * 5, 90.0])]],
)
@example(  # samples may come 5 % of their window early, and no more
    of=rule(for_seconds=3.0),
    devices=[[Look(0, 90.0), Look(1, 90.0), Look(2, 90.0), Look(2.94, 90.0), Look(2.96, 90.0), Look(4, 70.0)]],
)
def test_the_engine_agrees_with_a_slow_oracle(of: Rule, devices: list[list[Look]]) -> None:
    """Whatever the series, gaps, phases, losses, the rule and the pace: states, durations and values are the oracle's."""
    expected = [oracle(looks, of) for looks in devices]
    engine = Engine([of, LOST])
    states = {str(key): State.UNKNOWN for key in range(len(devices))}
    for moment, looks in enumerate(zip(*devices, strict=True)):
        lost = [str(key) for key, look in enumerate(looks) if look.lost]
        values = {str(key): look.value for key, look in enumerate(looks)}
        at = looks[0].at
        steps = engine.evaluate(snapshot(at, values, window=looks[0].window, silent=looks[0].silent, lost=lost))
        blind = set()
        for step in (step for step in steps if step.rule is of):
            told = expected[int(step.subject.key)][moment]
            check_step(step, states[step.subject.key], at)
            states[step.subject.key] = step.state
            if step.blind:
                blind.add(step.subject.key)
            elif step.state is State.RESOLVED:
                assert step.duration == at - told.since
                assert step.superseded_by == ("lost" if step.subject.key in lost else "")
            elif step.state is State.FIRING:
                assert step.duration == pytest.approx(told.evidence)
            assert step.value == values[step.subject.key]
        assert states == {str(key): moments[moment].state for key, moments in enumerate(expected)}
        assert blind == {str(key) for key, moments in enumerate(expected) if moments[moment].blind}


def check_step(step: Transition, before: State, at: float) -> None:
    """A step leads on from the last one, to another state; to firing only from pending, or blind from firing."""
    assert step.before is before
    assert step.blind == (step.state is before)
    assert step.blind <= (step.state is State.FIRING and step.finding is None)
    assert (step.state is State.FIRING) <= (step.blind or before is State.PENDING)
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


def slowed(of: Rule, *rows: tuple[Mapping[Metric, float], float]) -> list[tuple[int, State]]:
    """Give one look a second: when each metric was read, of a source with a slower cadence, and the value of all."""
    engine, steps = Engine([of]), []
    for at, (read, value) in enumerate(rows):
        readings = [
            Reading(Series(metric, {gpu.HW_ID: "0"}), value, at) for metric in (gpu.UTILIZATION, gpu.MEMORY_UTILIZATION)
        ]
        kept = {metric.name: when for metric, when in read.items()}
        steps += [(at, step.state) for step in engine.evaluate(Snapshot(readings, Window(at - 1, at), 0, kept))]
    return [(at, state) for at, state in steps if state is not State.INACTIVE]


def test_what_is_told_again_is_no_evidence() -> None:
    """Neither for so many looks, nor that it lasts, nor that it is over: a reading that is new is."""
    often = rule(for_seconds=2.0, samples=3, keep_firing_seconds=2.0)
    rows = [({gpu.UTILIZATION: at // 4 * 4.0}, 90.0 if at < 12 else 70.0) for at in range(20)]
    assert slowed(often, *rows) == [(0, State.PENDING), (8, State.FIRING), (16, State.RESOLVED)]
    assert slowed(rule(for_seconds=2.0), *rows) == [(0, State.PENDING), (4, State.FIRING), (12, State.RESOLVED)]
    other = [({gpu.TEMPERATURE: 0.0}, value) for _, value in rows]
    assert slowed(rule(for_seconds=2.0), *other)[:2] == [(0, State.PENDING), (2, State.FIRING)], (
        "judged by another rule"
    )


def test_of_several_metrics_each_is_to_be_read_anew() -> None:
    """A spike of the one is told again while the other is read at every look; two that are slow at other times count, too."""
    several = replace(rule(for_seconds=2.0), condition=Highest((Level(gpu.UTILIZATION), Level(gpu.MEMORY_UTILIZATION))))
    one = [({gpu.UTILIZATION: at // 4 * 4.0}, 90.0) for at in range(9)]
    assert slowed(several, *one) == [(0, State.PENDING), (4, State.FIRING)]
    both = [({gpu.UTILIZATION: at // 4 * 4, gpu.MEMORY_UTILIZATION: (at - 2) // 4 * 4 + 2}, 90.0) for at in range(9)]
    assert slowed(several, *both) == [(0, State.PENDING), (4, State.FIRING)]


def test_while_the_job_is_stopped_nothing_lasts() -> None:
    """An hour in which the job was stopped tells neither for an alert nor against it."""
    engine = Engine([rule(for_seconds=5.0, keep_firing_seconds=5.0)])
    steps = walk(engine, [70.0] * 6, -6)
    steps += walk(engine, [90.0, 90.0, 90.0, 90.0])
    steps += [(3600, step.state) for step in engine.evaluate(snapshot(3600, {"0": 90.0}, window=3597.0))]
    steps += walk(engine, [90.0, 90.0, 90.0, 90.0, 90.0, 90.0, 70.0, 70.0, 70.0], 3601)
    steps += [(7200, step.state) for step in engine.evaluate(snapshot(7200, {"0": 70.0}, window=3595.0))]
    steps += walk(engine, [70.0, 70.0, 70.0, 70.0], 7201)
    assert steps == [
        (-6, State.INACTIVE),
        (0, State.PENDING),
        (3602, State.FIRING),
        (7203, State.RESOLVED),
        (7204, State.INACTIVE),
    ]


def test_looks_on_demand_make_no_stop_of_the_next_regular_one() -> None:
    """Where exports alone have the machine looked at, two at once and then none for a minute is the usual pace."""
    engine = Engine([rule(for_seconds=60.0)])
    steps, at = [], 0.0
    for window in [0.1, 0.1, 60.0] * 8:
        at += window
        steps += [step.state for step in engine.evaluate(snapshot(at, {"0": 90.0}, window=window))]
    assert steps == [State.PENDING, State.FIRING]


def test_a_phase_silences_for_an_hour() -> None:
    """What goes on for longer may hang in it; the next one silences as long again."""
    engine = Engine([rule(for_seconds=5.0)])
    steps = []
    for at in range(0, 8000, 10):
        silent = not 4000 <= at < 4050
        value = 90.0 if at >= 20 else 70.0
        steps += [(at, step.state) for step in engine.evaluate(snapshot(at, {"0": value}, window=10.0, silent=silent))]
    assert steps == [(0, State.INACTIVE), (3600, State.PENDING), (3610, State.FIRING)]
    walked = [engine.evaluate(snapshot(8000 + at, {"0": 70.0}, silent=False)) for at in range(3)]
    assert [step.state for step in walked[0]] == [State.RESOLVED]


class Broken(Level):
    """A condition with a fault of ours in it."""

    def watcher(self, totals: Totals) -> Watcher:
        """Somebody who fails at the third look."""
        looks = iter(range(2))
        watcher = super().watcher(totals)
        return SimpleNamespace(look=lambda given: (next(looks), watcher.look(given))[1])


def test_a_fault_in_one_rule_takes_nothing_from_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor are steps lost that were made at the same look; it is logged once."""
    monkeypatch.setattr("otel_hwmetrics._guard.LOUD", False)
    broken = replace(rule("broken"), condition=Broken(gpu.UTILIZATION))
    engine = Engine([rule("first", for_seconds=2.0), broken, rule("last", for_seconds=2.0)])
    steps = [step for at in range(5) for step in engine.evaluate(snapshot(at, {"0": 90.0}))]
    assert [step.rule.name for step in steps if step.state is State.FIRING] == ["first", "last"]
    assert len(caplog.records) == 1


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
        ([70.0], {}),
        ([90.0], {"pending": 1, "firing": 0}),
        ([90.0, 70.0], {"pending": 0, "firing": 0}),
        ([90.0] * 4, {"pending": 0, "firing": 1}),
        ([90.0] * 4 + [None], {"pending": 0, "firing": 1}),
        ([90.0] * 4 + [79.0], {"pending": 0, "firing": 1}),
        ([90.0] * 4 + [70.0], {"pending": 0, "firing": 0}),
        ([90.0, None], {"pending": 1, "firing": 0}),
        ([90.0] + [None] * 4, {}),
        ([70.0, None], {}),
        ([90.0] * 4 + [70.0, None], {}),
        ([90.0, 70.0, None, 70.0], {"pending": 0, "firing": 0}),
    ],
)
def test_active_is_one_or_zero_by_state_and_absent_before_the_first_and_while_unknown(
    values: list[Value], expected: dict[str, float]
) -> None:
    """What cannot be read is not shown as well; nor is every rule on every device that never had anything."""
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
        (own.ALERT_TIME, common),
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


def test_counters_start_at_zero_when_an_alert_is_pending_for_the_first_time() -> None:
    """Or a backend could not see the first growth; of a rule that nothing comes of there are none."""
    engine = Engine([rule(), rule("cold", threshold=95.0)])
    walk(engine, [70.0])
    assert transitions(engine) == {}
    walk(engine, [90.0, 70.0, None], start=1)
    assert transitions(engine) == {("hot", "firing"): 0, ("hot", "resolved"): 0}
    assert seconds_in_alert(engine) == 0


@given(values=st.lists(VALUES, min_size=2, max_size=2))
def test_transition_counters_count_what_was_told_and_only_grow(values: list[list[Value]]) -> None:
    """Over all devices, by rule and state."""
    engine = Engine([rule(for_seconds=1.0)])
    seen = [transitions(engine)]
    told: dict[str, int] = {"firing": 0, "resolved": 0}
    for second in range(max(map(len, values))):
        row = {str(key): (each[second] if second < len(each) else None) for key, each in enumerate(values)}
        for step in engine.evaluate(snapshot(second, row)):
            if step.told and not step.blind:
                told[step.state.value] += 1
        seen.append(transitions(engine))
        assert seen[-1] in ({}, {("hot", state): count for state, count in told.items()})
        assert seen[-1] or not any(told.values())
    assert all(later[key] >= earlier[key] for earlier, later in pairwise(seen) for key in earlier)


def seconds_in_alert(engine: Engine) -> float:
    """How long alerts fired so far."""
    return next(reading.value for reading in engine.readings(0.0) if reading.metric is own.ALERT_TIME)


def test_the_time_in_alert_is_that_between_firing_and_resolved() -> None:
    """Of two devices the sum; blind time, too."""
    engine = Engine([rule(for_seconds=2.0)])
    walk(engine, [90.0] * 10 + [None] * 3 + [70.0])  # fires at 2, is resolved at 13
    assert seconds_in_alert(engine) == 11
    for second in range(14, 20):
        engine.evaluate(snapshot(second, {"0": 90.0, "1": 90.0}))  # both fire from 16 on
    assert seconds_in_alert(engine) == 11 + 2 * 3


def test_the_worst_value_is_kept_from_pending_to_resolved() -> None:
    """Above: the highest; below: the lowest; that of the resolving look is none of it."""
    for side, values, peak in ((Side.ABOVE, [90, 95, 91, 99, 84, 70], 99), (Side.BELOW, [70, 60, 75, 50, 79, 100], 50)):
        engine = Engine([rule(side=side)])
        steps = [
            step for second, value in enumerate(values) for step in engine.evaluate(snapshot(second, {"0": value}))
        ]
        assert [step.peak for step in steps if step.state is State.RESOLVED] == [peak]


def test_a_firing_alert_that_cannot_be_read_says_so_once_and_again_after_the_next_reading() -> None:
    """One late sample is no blindness; ten seconds are; and the alert goes on."""
    values = [90.0, *[None] * 30, 90.0, *[None] * 9, 90.0, *[None] * 12, 70.0]
    engine = Engine([rule(for_seconds=0.0)])
    steps = [
        (second, step)
        for second, value in enumerate(values)
        for step in engine.evaluate(snapshot(second, {"0": value}))
        if step.told
    ]
    assert [(second, step.state.value, step.blind) for second, step in steps] == [
        (0, "firing", False),
        (10, "firing", True),
        (51, "firing", True),
        (54, "resolved", False),
    ]
    assert [step.duration for _, step in steps if step.blind] == [10.0, 10.0]


def test_an_alert_of_the_host_silences_that_of_every_device() -> None:
    """A stalled training is the reason why every GPU idles."""
    host = Rule("lost", Severity.CRITICAL, Level(training.STEPS), Side.ABOVE, 5.0, 0.0, 0.0, "{value}.")
    engine = Engine([rule(for_seconds=0.0), host])
    stalled = Reading(Series(training.STEPS), 9.0, 0)
    hot = [Reading(Series(gpu.UTILIZATION, {gpu.HW_ID: key}), 90.0, 0) for key in "ab"]
    steps = engine.evaluate(Snapshot([stalled, *hot], Window(0, 1), 0))
    assert [(step.rule.name, step.state.value) for step in steps if step.told] == [("lost", "firing")]


def test_rules_are_judged_after_those_that_silence_them_in_whatever_order_they_come() -> None:
    """Else the silenced one would fire a look early."""
    names = []
    for rules in ([rule(for_seconds=0.0), LOST], [LOST, rule(for_seconds=0.0)]):
        steps = Engine(rules).evaluate(snapshot(0, {"0": 90.0}, lost=["0"]))
        names.append([step.rule.name for step in steps if step.state is State.FIRING])
    assert names == [["lost"], ["lost"]]


def test_rules_that_silence_each_other_are_refused() -> None:
    """None of them could come first; nor may two rules have one name."""
    one = Rule("one", Severity.INFO, Level(gpu.POWER), Side.ABOVE, 1, 0, 0, ".", inhibited_by=("two",))
    two = Rule("two", Severity.INFO, Level(gpu.POWER), Side.ABOVE, 1, 0, 0, ".", inhibited_by=("one",))
    with pytest.raises(ValueError, match="these rules silence each other: one, two"):
        Engine([one, two])
    with pytest.raises(ValueError, match="two rules have one name"):
        Engine([LOST, LOST])


def test_memory_is_bounded_however_many_subjects_there_are() -> None:
    """Those that were met first are judged; of the others it is counted how often they were passed over."""
    engine = Engine([rule()])
    for second in range(2):
        engine.evaluate(snapshot(second, {str(key): 90.0 for key in range(MOST_SUBJECTS + 7)}))
    assert len([reading for reading in engine.readings(0) if reading.metric is own.ALERT_ACTIVE]) == 2 * MOST_SUBJECTS
    assert engine.passed_over == 14


def test_the_worst_of_those_that_fire_come_first() -> None:
    """As they are told on a span."""
    rules = [
        Rule(severity.value, severity, Level(gpu.UTILIZATION), Side.ABOVE, 80, 0, 0, ".")
        for severity in (Severity.INFO, Severity.CRITICAL, Severity.WARNING)
    ]
    engine = Engine(rules)
    assert engine.firing == []
    engine.evaluate(snapshot(0, {"0": 90.0}))
    assert [instance.rule.name for instance in engine.firing] == ["critical", "warning", "info"]


def test_what_a_finding_tells_is_in_the_step() -> None:
    """Its value and its evidence, for the event."""
    (_, step) = Engine([rule(for_seconds=0.0)]).evaluate(snapshot(0, {"0": 90.0}))
    assert step.finding == Finding(90.0)
