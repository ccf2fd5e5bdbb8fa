# SPDX-License-Identifier: Apache-2.0
"""What is usual in this run, as a second reason to fire."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from looks import gpu_attributes, snapshot
from otel_hwmetrics.alerts.adaptive import EVIDENCE, watcher_of
from otel_hwmetrics.alerts.conditions import Extreme, Finding, Level
from otel_hwmetrics.alerts.engine import Engine
from otel_hwmetrics.alerts.rule import Adaptive, Rule, Severity, Side, State
from otel_hwmetrics.alerts.subjects import MOST_SUBJECTS
from otel_hwmetrics.catalog import gpu, system


def rule(adaptive: Adaptive | None, side: Side = Side.ABOVE, threshold: float = 100.0, **more: Any) -> Rule:
    """A rule on power, which its threshold alone seldom makes fire."""
    condition = more.pop("condition", Level(gpu.POWER))
    return Rule(
        "r", Severity.WARNING, condition, side, threshold, 0.0, 0.0, "{device}: {value}.", adaptive=adaptive, **more
    )


QUICK = Adaptive(deviation=6.0, window=600.0, warm_up=30)


def noise(count: int, level: float = 50.0, scatter: float = 1.0, seed: int = 1) -> list[float]:
    """Values that scatter around a level, the same each time."""
    normal = random.Random(seed)  # noqa: S311 - noise
    return [normal.gauss(level, scatter) for _ in range(count)]


def findings(of: Rule, series: Iterable[float | None]) -> list[Finding]:
    """What is found of one GPU, a value a second; of one that cannot be read nothing."""
    watcher = watcher_of(of, {})
    told: list[Finding] = []
    for second, value in enumerate(series):
        told += watcher.look(
            snapshot(second, [(gpu.POWER, gpu_attributes(), value)] if value is not None else [])
        ).values()
    return told


def states(of: Rule, series: Sequence[float]) -> list[tuple[int, State]]:
    """The states that are entered, with their seconds, but for those of a machine at peace."""
    engine = Engine([of])
    return [
        (second, step.state)
        for second, value in enumerate(series)
        for step in engine.evaluate(snapshot(second, [(gpu.POWER, gpu_attributes(), value)]))
        if step.state in {State.FIRING, State.RESOLVED}
    ]


def test_a_rule_that_is_not_adaptive_is_looked_at_as_it_is() -> None:
    """Nothing is learned, nothing told."""
    assert findings(rule(None), [1.0] * 100) == [Finding(1.0)] * 100


def test_nothing_is_usual_before_it_has_warmed_up() -> None:
    """So many readings first; what cannot be read is none."""
    told = findings(rule(QUICK), [value for each in noise(40) for value in (each, None)])
    assert [finding.deviation for finding in told[:30]] == [None] * 30
    assert [dict(finding.evidence) for finding in told[:30]] == [{}] * 30
    assert all(finding.deviation is not None for finding in told[30:])


def test_what_is_found_tells_what_is_usual_how_far_from_it_it_is_and_from_how_many() -> None:
    """Beside the condition's own evidence; as it was before the value itself, which is not its own judge."""
    series = noise(100)
    last = findings(rule(QUICK), [*series, 60.0])[-1]
    assert tuple(last.evidence) == EVIDENCE
    baseline, deviation, count = last.evidence.values()
    assert baseline == pytest.approx(50.0, abs=0.5)
    assert deviation == last.deviation == pytest.approx(5.0, rel=0.1)
    assert count == 100
    assert last.value == 60.0
    named = Extreme(gpu.POWER, across=gpu.ENERGY_METHOD, word="method")
    with_words = findings(rule(QUICK, condition=named), series)[-1]
    assert tuple(with_words.evidence) == ("method", *EVIDENCE)


@pytest.mark.parametrize(("side", "outlier"), [(Side.ABOVE, 70.0), (Side.BELOW, 30.0)])
def test_it_fires_on_what_is_far_out_on_the_rule_s_side(side: Side, outlier: float) -> None:
    """And is resolved when it is usual again; what is as far out on the other side is none of its affair."""
    threshold = 100.0 if side is Side.ABOVE else 0.0
    series = noise(200)
    series[100:105] = [outlier] * 5
    series[150:155] = [100.0 - outlier] * 5
    assert states(rule(QUICK, side, threshold), series) == [(100, State.FIRING), (105, State.RESOLVED)]
    assert states(rule(None, side, threshold), series) == []


@pytest.mark.parametrize(("side", "threshold"), [(Side.ABOVE, 45.0), (Side.BELOW, 55.0)])
def test_it_never_replaces_the_threshold(side: Side, threshold: float) -> None:
    """A value beyond it fires from the first look on, however usual it is, and goes on firing."""
    assert states(rule(QUICK, side, threshold), noise(3000)) == [(0, State.FIRING)]


def test_slow_drift_is_followed() -> None:
    """A machine room that gets warmer over a day is no alarm; the same within a minute is."""
    drift = [level + second / 500 for second, level in enumerate(noise(7200))]
    assert states(rule(QUICK), drift) == []
    assert findings(rule(QUICK), drift)[-1].evidence["baseline"] == pytest.approx(50 + 7200 / 500, abs=1.5)
    steep = [*noise(600), *(level + second / 3 for second, level in enumerate(noise(60)))]
    assert states(rule(QUICK), steep)[:1] != []


def test_a_level_that_lasts_becomes_the_usual_one() -> None:
    """No alarm lasts for ever: after the window the new level is what is usual."""
    series = [*noise(600), *noise(2400, level=70.0)]
    (_, fired), (ended, resolved) = states(rule(QUICK), series)
    assert (fired, resolved) == (State.FIRING, State.RESOLVED)
    assert 600 + QUICK.window <= ended <= 600 + QUICK.window + 60


def test_what_is_suspect_is_not_learned() -> None:
    """Many short excursions do not widen what is usual: the last one is as far out as the first."""
    series = noise(6000)
    for start in range(600, 6000, 60):
        series[start : start + 20] = [70.0] * 20  # a third of the time
    told = findings(rule(QUICK), series)
    first, last = told[600].deviation, told[5940].deviation
    assert first is not None
    assert last == pytest.approx(first, rel=0.3)
    assert told[-1].evidence["baseline"] == pytest.approx(50.0, abs=1.0)


@pytest.mark.parametrize("deviation", [0.1, 1.0, 3.0])
def test_a_rule_that_fires_on_little_learns_from_it_all_the_same(deviation: float) -> None:
    """Who learned only what is near the middle would find the scatter ever smaller, and everything far out."""
    adaptive = Adaptive(deviation=deviation, window=600.0, warm_up=30)
    told = findings(rule(adaptive), noise(4000, scatter=4.0))[1000:]
    beyond = sum(abs(finding.deviation or 0.0) > 3.0 for finding in told) / len(told)
    assert beyond < 0.02


@pytest.mark.parametrize(
    ("level", "threshold", "wiggle", "unusual"),
    [
        (1000.0, 2000.0, 1030.0, False),
        (1000.0, 2000.0, 2000.0, True),
        (0.0, 0.3, 0.02, False),
        (0.0, 0.3, 0.1, True),
        (0.0, 0.0, -1e-9, False),
    ],
)
def test_a_series_that_never_moved_is_not_unusual_at_its_first_wiggle(
    level: float,
    threshold: float,
    wiggle: float,
    unusual: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """Some scatter is always allowed for: a share of what is usual, and of the threshold where that is nothing."""
    told = findings(rule(QUICK, threshold=threshold), [*[level] * 100, wiggle])[-1]
    assert (told.deviation is not None and told.deviation > QUICK.deviation) is unusual
    assert told.deviation is None or math.isfinite(told.deviation)


def test_each_subject_has_its_own_usual() -> None:
    """What is usual of one GPU is far out of another."""
    watcher = watcher_of(rule(QUICK, condition=Level(gpu.POWER)), {})
    for second in range(100):
        values = zip((50.0, 90.0), (noise(100, seed=1)[second], noise(100, seed=2)[second]), strict=True)
        told = [
            (gpu.POWER, gpu_attributes(index), level + scatter - 50.0) for index, (level, scatter) in enumerate(values)
        ]
        found = watcher.look(snapshot(second, told))
    assert [round(float(finding.evidence["baseline"]), -1) for finding in found.values()] == [50.0, 90.0]


def test_memory_is_bounded_however_many_subjects_there_are() -> None:
    """Of those that came too late nothing is learned; they are judged by the threshold."""
    adaptive = Adaptive(warm_up=2)
    watcher = watcher_of(rule(adaptive, condition=Level(system.NETWORK_IO)), {})
    for second in range(4):
        told = [
            (system.NETWORK_IO, {system.NETWORK_INTERFACE: str(number)}, 5.0) for number in range(MOST_SUBJECTS + 3)
        ]
        found = list(watcher.look(snapshot(second, told)).values())
    assert [finding.deviation for finding in found] == [0.0] * MOST_SUBJECTS + [None] * 3
    assert {finding.value for finding in found} == {5.0}


@settings(max_examples=100, deadline=None)
@given(
    series=st.lists(st.none() | st.floats(-1e12, 1e12) | st.sampled_from([0.0, 5e-324, 1e308, -1e308]), max_size=80),
    deviation=st.floats(0.1, 1e9),
    window=st.floats(1.0, 1e308),
    warm_up=st.integers(2, 50),
)
def test_values_are_passed_on_and_nothing_is_infinite(
    series: list[float | None], deviation: float, window: float, warm_up: int
) -> None:
    """Whatever comes, in whatever order: the value is the condition's, and what is told of it can be exported."""
    told = findings(rule(Adaptive(deviation, window, warm_up)), series)
    assert [finding.value for finding in told] == [value for value in series if value is not None]
    for finding in told:
        assert all(math.isfinite(float(value)) for value in finding.evidence.values())
