# SPDX-License-Identifier: Apache-2.0
"""Counters that wrap, counters that are reset, and counters that are made of levels."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.catalog import gpu as rows
from otel_hwmetrics.model import Reading, Series
from otel_hwmetrics.sources.counters import Integral, Unwrapped
from otel_hwmetrics.windows import Accumulator, between

SIZES = st.sampled_from([2**32, 2**64, 262_143_328_850])  # the last one is a RAPL counter's


@given(
    size=SIZES,
    start=st.integers(0, 2**64),
    steps=st.lists(st.tuples(st.floats(0.01, 10), st.floats(0, 1)), max_size=50),
)
def test_a_counter_that_wraps_is_counted_exactly(size: int, start: int, steps: list[tuple[float, float]]) -> None:
    """However often, as long as no two wraps lie between two looks."""
    fastest = size / 12
    counter, true, at = Unwrapped(size, fastest), start, 0.0
    counter.advance(true % size, at)
    for seconds, share in steps:
        at += seconds
        true += int(fastest * seconds * share)
        assert counter.advance(true % size, at) == true - start


@given(
    size=SIZES,
    raws=st.lists(st.tuples(st.integers(0, 2**64), st.floats(0.001, 1e6)), min_size=1, max_size=50),
)
def test_whatever_a_counter_says_it_never_grows_faster_than_it_can(size: int, raws: list[tuple[int, float]]) -> None:
    """Resets, garbage, gaps of days: the total grows by no more than the hardware could have counted, or begins again."""
    counter, total, at, since = Unwrapped(size, 1e9), 0, 0.0, 0.0
    for raw, seconds in raws:
        at += seconds
        try:
            after = counter.advance(raw, at)
        except ValueError:
            after = counter.total
        assert after == 0 or total <= after <= total + 1e9 * (at - since + Unwrapped.SLACK) + 1
        if raw < size:
            total, since = after, at


def test_a_reset_is_a_fall() -> None:
    """A driver that is loaded anew begins at 0, and so does the total: nothing is known of the time in between."""
    counter = Unwrapped(2**32, 1000)
    assert counter.advance(2**31, 0) == 0
    assert counter.advance(2**31 + 500, 1) == 500
    assert counter.advance(7, 2) == 0
    assert counter.advance(10, 3) == 3


def test_garbage_for_a_moment_is_no_growth() -> None:
    """A counter that says 0 once and then goes on from where it was has not counted all of that in a second."""
    counter = Unwrapped(2**64, 1e7)
    counter.advance(5 * 10**10, 0)
    assert counter.advance(5 * 10**10 + 1000, 1) == 1000
    assert counter.advance(0, 2) == 0
    assert counter.advance(5 * 10**10 + 3000, 3) == 0
    assert counter.advance(5 * 10**10 + 4000, 4) == 1000


def test_a_gap_in_which_it_may_have_wrapped_more_than_once_is_told_as_such() -> None:
    """Nothing is added for it, and counting goes on behind it."""
    counter = Unwrapped(1000, 100)
    counter.advance(0, 0)
    with pytest.raises(ValueError, match="more than once"):
        counter.advance(500, 60)
    assert counter.advance(600, 61) == 100


@pytest.mark.parametrize("raw", [-1, 1000, 10**30])
def test_a_value_that_is_none_of_the_counter_s_is_refused(raw: int) -> None:
    """And changes nothing."""
    counter = Unwrapped(1000, 100)
    counter.advance(10, 0)
    with pytest.raises(ValueError, match=f"{raw} is not below 1000"):
        counter.advance(raw, 1)
    assert counter.advance(20, 2) == 10


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0, 1000)), min_size=1, max_size=50))
def test_a_level_s_integral_is_the_area_below_its_line(steps: list[tuple[float, float]]) -> None:
    """By the trapezoids of a plain sum, and it never falls."""
    integral, at, points = Integral(), 0.0, []
    totals = []
    for seconds, level in steps:
        at += seconds
        points.append((at, level))
        totals.append(integral.add(level, at))
    expected = sum((a[1] + b[1]) / 2 * (b[0] - a[0]) for a, b in itertools.pairwise(points))
    assert totals[-1] == pytest.approx(expected)
    assert totals == sorted(totals)


def test_a_gap_is_not_integrated() -> None:
    """Nobody knows what was drawn while a machine was suspended: the total begins again, which is no growth and no 0 W."""
    integral = Integral(longest=10)
    assert integral.add(100, 0) == 0
    assert integral.add(100, 5) == 500
    assert integral.add(100, 16) == 0
    assert integral.add(100, 17) == 100


ENERGY = Series(rows.ENERGY, {"hw.id": "GPU-1"})


@given(
    events=st.lists(
        st.tuples(st.sampled_from(["grow", "reset", "absent", "suspend"]), st.integers(0, 10**9), st.integers(1, 10)),
        min_size=2,
        max_size=60,
    )
)
def test_energy_and_power_sum_to_the_truth_whatever_happens_to_the_counter(
    events: list[tuple[str, int, int]],
) -> None:
    """Never negative; what is told is what was counted, less only what a reset hid between two looks."""
    accumulator, raw, at, seen, true = Accumulator(), 10**9, 0.0, 0, 0
    last_raw: int | None = None
    samples = []
    for kind, amount, seconds in events:
        at += seconds * (1000 if kind == "suspend" else 1)
        if kind == "reset":
            raw = amount % 1000
        else:
            raw += amount
        readings = [] if kind == "absent" else [Reading(ENERGY, raw / 1000, at)]
        if kind != "absent":
            if last_raw is not None and raw >= last_raw:
                true += raw - last_raw
            last_raw = raw
            seen += 1
        samples.append(accumulator.sample(readings, at, 0))
    told = [reading.value for sample in samples for reading in between(None, sample).of(rows.ENERGY)]
    assert told == sorted(told)
    if told:
        assert told[-1] == pytest.approx(true / 1000, abs=1e-6)
    joules = 0.0
    for earlier, later in itertools.pairwise([sample for sample in samples if ENERGY in sample.points]):
        start, end = earlier.points[ENERGY], later.points[ENERGY]
        for power in between(earlier, later).of(rows.POWER):
            assert power.value >= 0
            joules += power.value * (end.observed - start.observed)
    if told:
        assert joules == pytest.approx(true / 1000, rel=1e-6, abs=1e-3)
