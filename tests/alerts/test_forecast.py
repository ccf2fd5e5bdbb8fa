# SPDX-License-Identifier: Apache-2.0
"""Where a series is going: the line, the outlook and the leak, against slow oracles."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, combinations, pairwise, permutations
from statistics import NormalDist, mean, median, pvariance

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from otel_hwmetrics.alerts import forecast
from otel_hwmetrics.alerts.forecast import FEWEST, Growth, Outlook, Point, Trend, leak, time_left, trend

unhurried = settings(deadline=None)


def line(count: int = 20, slope: float = 2.0, start: float = 10.0, every: float = 5.0) -> list[Point]:
    """A series that is a straight line."""
    return [Point(every * number, start + slope * every * number) for number in range(count)]


def series(steps: Sequence[tuple[float, float]]) -> list[Point]:
    """Values, each so much later than the one before."""
    return [Point(at, value) for at, (_, value) in zip(accumulate(pause for pause, _ in steps), steps, strict=True)]


def known(found: Trend | None) -> Trend:
    """A trend, where there must be one."""
    assert found is not None
    return found


def test_a_straight_line_is_its_own_trend() -> None:
    """Its slope without doubt, and its level at the last point."""
    assert trend(line(20)) == Trend(slope=2, low=2, high=2, level=200, at=95, count=20, recent=2)


@pytest.mark.parametrize(
    "points",
    [
        pytest.param(line(FEWEST - 1), id="too few points"),
        pytest.param([Point(3, value) for value in range(20)], id="no time between them"),
        pytest.param([*line(10), *[Point(45, value) for value in range(10)]], id="nor between the recent ones"),
        pytest.param([], id="none"),
    ],
)
def test_no_trend(points: list[Point]) -> None:
    """Where there is too little to see one."""
    assert trend(points) is None


@pytest.mark.parametrize("times", [range(20), [0] * 7 + [1], [0, 0, 0, 0, 0, 0, 1, 2]], ids=str)
def test_what_never_moves_has_no_slope(times: Sequence[int]) -> None:
    """Nor any doubt about it, nor does it rise or fall; even where most times tie, too."""
    found = known(trend([Point(at, 5) for at in times]))
    assert (found.slope, found.low, found.high, found.level) == (0, 0, 0, 5)
    assert not found.rising
    assert not found.falling


def test_level_and_recent_slope_are_those_of_now() -> None:
    """After a jump the level is the new one; after a rise that ended, the recent slope is none."""
    jumped = [Point(at, value + 1000 * (at >= 75)) for at, value in line(20)]
    assert known(trend(jumped)).level == pytest.approx(1200, rel=0.02)
    ended = known(trend([Point(at, min(value, 110)) for at, value in line(20)]))
    assert (ended.recent, ended.level) == (0, 110)
    assert ended.slope > 0


def test_a_fifth_of_the_points_may_be_wrong() -> None:
    """However wrong: slope and level are those of the rest."""
    rng = random.Random(1)  # noqa: S311 - noise, not secrets
    points = [
        Point(at, rng.choice([-1e12, 1e12])) if number % 5 == 2 else Point(at, value)
        for number, (at, value) in enumerate(line(30))
    ]
    found = known(trend(points))
    assert found.slope == pytest.approx(2)
    assert found.level == pytest.approx(300)
    assert found.low > 0


@pytest.mark.parametrize("times", [[0, 1, 2, 3, 4], [0, 0, 1, 2, 3], [0, 0, 1, 1, 1]], ids=str)
@pytest.mark.parametrize(
    "values", [[1, 2, 3, 4, 5], [1, 1, 2, 3, 4], [1, 1, 2, 2, 2], [1, 1, 1, 1, 2], [3] * 5], ids=str
)
def test_kendalls_variance_is_that_of_all_permutations(times: list[int], values: list[int]) -> None:
    """Were there no trend, any order of the values would be as likely: whatever ties, in values or times."""

    def rising_less_falling(shuffled: tuple[int, ...]) -> int:
        pairs = combinations(zip(times, shuffled, strict=True), 2)
        return sum(((b > a) - (b < a)) * ((then > at) - (then < at)) for (at, a), (then, b) in pairs)

    expected = pvariance([rising_less_falling(shuffled) for shuffled in permutations(values)])
    points = [Point(*each) for each in zip(times, values, strict=True)]
    assert forecast._variance(points) == pytest.approx(expected)


def oracle(points: Sequence[Point], confidence: float) -> tuple[float, float, float]:
    """Slope and interval, slowly: Sen's by counting, and what autocorrelation adds."""
    n = len(points)
    slopes = [(b - a) / (then - at) for (at, a), (then, b) in combinations(points, 2) if then != at]
    reach = NormalDist().inv_cdf(0.5 + confidence / 2) * math.sqrt(forecast._variance(points))
    slope = median(slopes)
    # Just beyond which of the slopes the series, less such a trend, has no significant one.
    low = min(
        one for one in slopes if sum(each > one for each in slopes) - sum(each <= one for each in slopes) <= reach
    )
    high = max(
        one for one in slopes if sum(each < one for each in slopes) - sum(each >= one for each in slopes) <= reach
    )
    residuals = [value - points[0].value - slope * (at - points[0].at) for at, value in points]
    ranks = [mean(place for place, each in enumerate(sorted(residuals)) if each == one) for one in residuals]
    products = [(one - mean(ranks)) * (other - mean(ranks)) for one, other in pairwise(ranks)]
    lag_one = sum(products) / (n * pvariance(ranks)) if len(set(ranks)) > 1 else 0
    r = (n * (lag_one + math.sqrt((1 - lag_one**2) / n)) + 2) / (n - 4)
    wider = math.sqrt(1.5 * n if r >= 1 else min(1.5 * n, max(1, (1 + r) / (1 - r))))
    return slope, slope - wider * (slope - low), slope + wider * (high - slope)


WHOLE = st.lists(
    st.tuples(st.sampled_from([0, 1, 1, 1, 2, 8]), st.integers(-40, 40)), min_size=FEWEST, max_size=30
).map(series)
"""Whole numbers, which floats count exactly."""


@unhurried
@given(points=WHOLE, drift=st.sampled_from([0, 0, 1, 5]), confidence=st.sampled_from([0.8, 0.95, 0.99]))
def test_a_trend_agrees_with_a_slow_oracle(points: list[Point], drift: int, confidence: float) -> None:
    """Slope and both bounds, whatever ties."""
    points = [Point(at, value + drift * at) for at, value in points]
    assume(points[len(points) // 2].at < points[-1].at)
    found = known(trend(points, confidence))
    assert (found.slope, found.low, found.high) == pytest.approx(oracle(points, confidence))
    assert found.low <= found.slope <= found.high
    assert (found.at, found.count) == (points[-1].at, len(points))


SHIFTS = st.integers(-1000, 1000)


@unhurried
@given(
    points=WHOLE,
    shift=SHIFTS,
    later=SHIFTS,
    scale=st.sampled_from([0.25, 1, 1024]),
    slower=st.sampled_from([0.5, 1, 8]),
)
def test_a_trend_moves_with_its_series(
    points: list[Point], shift: int, later: int, scale: float, slower: float
) -> None:
    """In whatever unit values and times are, and wherever their zeros lie."""
    assume(points[len(points) // 2].at < points[-1].at)
    found = known(trend(points))
    moved = known(trend([Point(slower * at + later, scale * value + shift) for at, value in points]))
    slopes = [scale / slower * each for each in (found.slope, found.low, found.high, found.recent)]
    assert [moved.slope, moved.low, moved.high, moved.recent] == pytest.approx(slopes)
    assert moved.level == pytest.approx(scale * found.level + shift, abs=1e-6)


@unhurried
@given(points=WHOLE, drift=st.integers(-9, 9))
def test_a_slope_that_is_added_is_found(points: list[Point], drift: int) -> None:
    """On top of the one that is there."""
    assume(points[len(points) // 2].at < points[-1].at)
    found = known(trend(points))
    tilted = known(trend([Point(at, value + drift * at) for at, value in points]))
    assert (tilted.slope, tilted.recent) == pytest.approx((found.slope + drift, found.recent + drift))


@unhurried
@given(points=WHOLE)
def test_what_falls_is_the_mirror_of_what_rises(points: list[Point]) -> None:
    """Upside down, bounds change places."""
    assume(points[len(points) // 2].at < points[-1].at)
    found = known(trend(points))
    mirrored = known(trend([Point(at, -value) for at, value in points]))
    assert (-mirrored.slope, -mirrored.high, -mirrored.low, -mirrored.level) == pytest.approx(
        (found.slope, found.low, found.high, found.level)
    )
    assert (mirrored.falling, mirrored.rising) == (found.rising, found.falling)


# When nothing is left

FALLING = Trend(slope=-2, low=-4, high=-1, level=20, at=600, count=30, recent=-2)


@pytest.mark.parametrize(
    ("line", "outlook"),
    [
        pytest.param(FALLING, Outlook(10, 5, 20), id="it falls"),
        pytest.param(replace(FALLING, level=0), Outlook(0, 0, 0), id="nothing is left"),
        pytest.param(replace(FALLING, level=-10), Outlook(0, 0, 0), id="less than nothing"),
        pytest.param(Trend(2, 1, 4, 0, 600, 30, 2), Outlook(0, 0, 0), id="nothing, however it grows"),
        pytest.param(Trend(2, 1, 4, 80, 600, 30, 2), None, id="it grows"),
        pytest.param(replace(FALLING, high=0.0), None, id="it may stand still"),
        pytest.param(replace(FALLING, high=0.5), None, id="it may grow"),
        pytest.param(replace(FALLING, recent=-8), Outlook(10, 2.5, 20), id="it falls ever faster"),
        pytest.param(replace(FALLING, recent=-1), Outlook(10, 5, 20), id="it slows down"),
        pytest.param(replace(FALLING, recent=-0.9), None, id="it has all but ceased to fall"),
    ],
)
def test_when_nothing_is_left(line: Trend, outlook: Outlook | None) -> None:
    """What is left over the slope, and over its bounds; never, where the slope may lead elsewhere."""
    assert time_left(line) == outlook


@unhurried
@given(points=WHOLE, drift=st.integers(-9, 9), shift=st.integers(-500, 500))
def test_an_outlook_is_in_order(points: list[Point], drift: int, shift: int) -> None:
    """Soonest, expected, latest, none of them in the past."""
    found = trend([Point(at, value + drift * at + shift) for at, value in points])
    outlook = time_left(found) if found is not None else None
    if outlook is not None:
        assert 0 <= outlook.soonest <= outlook.expected <= outlook.latest


# Leaks

FILLED = [Point(at, min(value, 2410)) for at, value in line(64, slope=3, start=1000, every=10)]
"""A cache that was filled for two thirds of the time: its whole still is a rise beyond doubt."""


def test_a_leak_tells_how_much_and_how_fast() -> None:
    """Of a straight line all is certain."""
    leaking = line(32, slope=3, start=1000, every=10)
    assert leak(leaking, share=0.9, lasting=310) == Growth(start=1000, grown=930, over=310, slope=3, low=3, high=3)


@pytest.mark.parametrize(
    ("points", "share", "lasting"),
    [
        pytest.param(line(32, 3, 1000, 10), 0.94, 0, id="too little"),
        pytest.param(line(32, 3, 1000, 10), 0.0, 311, id="too short"),
        pytest.param(line(32, 0, 1000, 10), 0.0, 0, id="constant"),
        pytest.param(line(32, -3, 1000, 10), 0.0, 0, id="falling"),
        pytest.param(line(FEWEST - 1, 3, 1000, 10), 0.0, 0, id="too few points"),
        pytest.param([*line(31, 3, 1000, 10), Point(310, 1850)], 0.0, 0, id="it fell back by more than 2 %"),
        pytest.param([*line(20, 3, 1000, 10), *line(32, 0, 1600, 10)[20:]], 0.0, 0, id="a cache that is full"),
        pytest.param(FILLED, 0.0, 0, id="one that is full since a little while"),
    ],
)
def test_what_is_no_leak(points: list[Point], share: float, lasting: float) -> None:
    """Each of the conditions alone is enough to say so."""
    assert leak(points, share=share, lasting=lasting) is None


def test_a_rise_beyond_doubt_may_have_ended() -> None:
    """Which only the recent half can tell."""
    found = known(trend(FILLED))
    assert found.low > 0
    assert not found.rising


def test_a_leak_may_begin_late() -> None:
    """Where the whole is no line, the recent half is judged by itself."""
    late = [Point(at, max(3000, value)) for at, value in line(64, slope=10, start=0, every=10)]
    assert not known(trend(late)).rising
    assert leak(late, share=0.9) == Growth(3200, 3100, over=310, slope=10, low=10, high=10)
    assert leak(late, share=0.9, lasting=311) is None


def test_what_a_jump_added_is_not_leaking() -> None:
    """Growth is by the line, from the level that it has now."""
    jumped = [Point(at, value + 5000 * (at >= 100)) for at, value in line(64, slope=3, start=1000, every=10)]
    found = leak(jumped, share=0.06)
    assert found is not None
    assert found.grown == pytest.approx(1890, rel=0.1)
    assert found.start == pytest.approx(6000, rel=0.1)


def test_a_leak_may_fall_back_a_little() -> None:
    """By less than 2 % of its highest level."""
    assert leak([*line(31, 3, 1000, 10), Point(310, 1870)], share=0.9) is not None


def test_what_a_program_loads_first_is_no_growth() -> None:
    """The first level is that of the early points together, not of the very first."""
    points = [Point(0, 10), Point(10, 20), *[Point(10 * number, 1000 + number % 3) for number in range(2, 32)]]
    assert leak(points, share=0.06) is None
    growing = [Point(0, 10), Point(10, 20), *line(32, slope=3, start=1000, every=10)[2:]]
    found = leak(growing, share=0.9)
    assert found is not None
    assert found.grown == pytest.approx(930)
