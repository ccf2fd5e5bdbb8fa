# SPDX-License-Identifier: Apache-2.0
"""The envelope of a series, against a list of all of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import accumulate, groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_hwmetrics.alerts.forecast import Envelope, Point

unhurried = settings(deadline=None)

EXTREMES = pytest.mark.parametrize("extreme", [max, min])
Extreme = Callable[[float, float], float]


def filled(envelope: Envelope, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """What an envelope makes of a series."""
    for at, value in points:
        envelope.add(at, value)
    return list(envelope.points())


def series(steps: Sequence[tuple[float, float]]) -> list[Point]:
    """Values, each so much later than the one before."""
    return [Point(at, value) for at, (_, value) in zip(accumulate(pause for pause, _ in steps), steps, strict=True)]


@pytest.mark.parametrize(
    ("extreme", "points", "envelope"),
    [
        pytest.param(max, [(0, 1), (1, 3), (9, 2), (10, 5), (15, 4)], [(1, 3), (10, 5)], id="the highest of each"),
        pytest.param(min, [(0, 1), (1, 3), (9, 0), (10, 5), (15, 4)], [(9, 0), (15, 4)], id="the lowest of each"),
        pytest.param(max, [(0, 1), (1, 3), (2, 3)], [(1, 3)], id="when it was seen first"),
        pytest.param(max, [(0, 1), (25, 2), (39, 3)], [(0, 1), (25, 2), (39, 3)], id="a gap leaves its buckets out"),
        pytest.param(max, [(0, 9), (11, 2), (39, 3), (40, 1)], [(11, 2), (39, 3), (40, 1)], id="the old fall out"),
        pytest.param(max, [(0, 9), (11, 2), (500, 3)], [(500, 3)], id="a long gap leaves nothing"),
        pytest.param(max, [(7, 1), (16, 2), (17, 3)], [(16, 2), (17, 3)], id="counted from the first value on"),
        pytest.param(max, [(5, 1), (5, 2), (5, 0)], [(5, 2)], id="equal times"),
        pytest.param(max, [(5, 1), (4, 2), (5, 0)], [(5, 1)], id="what comes from the past is passed over"),
        pytest.param(max, [(5, 1), (6, math.inf), (6, math.nan), (math.inf, 1)], [(5, 1)], id="what is no number, too"),
        pytest.param(max, [], [], id="nothing"),
    ],
)
def test_a_span(extreme: Extreme, points: list[tuple[float, float]], envelope: list[tuple[float, float]]) -> None:
    """Forty seconds in four buckets."""
    assert filled(Envelope(extreme, span=40, buckets=4), points) == envelope


@pytest.mark.parametrize(
    ("points", "envelope"),
    [
        pytest.param([(0, 1), (10, 2), (20, 3), (39, 4)], [(0, 1), (10, 2), (20, 3), (39, 4)], id="full"),
        pytest.param([(0, 1), (10, 2), (20, 3), (39, 4), (40, 5)], [(0, 1), (20, 3), (40, 5)], id="merged in pairs"),
        pytest.param([(0, 2), (10, 1), (20, 3), (30, 3), (79, 5)], [(10, 1), (20, 3), (79, 5)], id="the extreme stays"),
        pytest.param([(0, 2), (10, 1), (640, 5)], [(10, 1), (640, 5)], id="merged as often as a gap asks for"),
    ],
)
def test_a_whole_run(points: list[tuple[float, float]], envelope: list[tuple[float, float]]) -> None:
    """Nothing falls out: at twice the span the buckets are twice as long."""
    assert filled(Envelope(min, span=40, buckets=4, whole_run=True), points) == envelope


def sorted_into(points: Sequence[Point], length: float, extreme: Extreme) -> list[Point]:
    """The oracle: of each stretch of this length since the first value, the first that is as extreme as any."""
    stretches = [list(each) for _, each in groupby(points, lambda point: int((point.at - points[0].at) / length))]
    sought = [reduce(extreme, (value for _, value in stretch)) for stretch in stretches]
    return [next(point for point in each if point.value == one) for each, one in zip(stretches, sought, strict=True)]


PAUSES = st.sampled_from([0.0, 0.3, 1.0, 1.0, 1.0, 9.7, 150.0])
VALUES = st.integers(-9, 9) | st.floats(-1e9, 1e9)


@unhurried
@EXTREMES
@given(
    points=st.lists(st.tuples(PAUSES, VALUES), max_size=200).map(series),
    buckets=st.integers(1, 12),
    span=st.sampled_from([1.0, 8.0, 30.0, 700.0]),
)
def test_an_envelope_agrees_with_a_list(extreme: Extreme, points: list[Point], buckets: int, span: float) -> None:
    """Whatever the series, its gaps and ties: over a span, and over the whole run with the shortest span that covers it."""
    length = span / buckets
    recent = filled(Envelope(extreme, span, buckets), points)
    whole = filled(Envelope(extreme, span, buckets, whole_run=True), points)
    assert max(len(recent), len(whole)) <= buckets
    if not points:
        assert recent == whole == []
        return
    newest = int((points[-1][0] - points[0][0]) / length)
    within = [each for each in points if int((each[0] - points[0][0]) / length) > newest - buckets]
    assert recent == sorted_into([points[0], *within], length, extreme)[within[0] != points[0] :]
    while int((points[-1][0] - points[0][0]) / length) >= buckets:
        length *= 2
    assert whole == sorted_into(points, length, extreme)


def test_the_unfinished_bucket_can_be_left_out() -> None:
    """What it has seen so far may not be the extreme of its whole length."""
    envelope = Envelope(min, span=40, buckets=4)
    filled(envelope, [(0, 1), (10, 2), (20, 3)])
    assert envelope.points(unfinished=False) == [(0, 1), (10, 2)]
    assert Envelope(min, span=40, buckets=4).points(unfinished=False) == []


def test_a_whole_run_takes_no_more_memory_the_longer_it_is() -> None:
    """A week at one a second: between half and all of its buckets are in use."""
    envelope, used = Envelope(max, span=600, buckets=30, whole_run=True), []
    for at in range(0, 7 * 86400, 60):
        envelope.add(at, at % 7)
        used.append(len(envelope.points()))
    assert max(used) <= 30
    assert min(used[30:]) >= 15


@pytest.mark.parametrize(("span", "buckets"), [(0, 3), (-1, 3), (math.inf, 3), (math.nan, 3), (60, 0)])
def test_an_envelope_needs_something_to_divide(span: float, buckets: int) -> None:
    """And something to divide it into."""
    with pytest.raises(ValueError, match="cannot be divided"):
        Envelope(max, span, buckets)
