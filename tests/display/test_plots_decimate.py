# SPDX-License-Identifier: Apache-2.0
"""Long lines become short ones: no peak is lost, no point is made up, and a gap stays a gap."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otel_hwmetrics.display.plots.decimate import thin
from otel_hwmetrics.display.plots.picture import Line, Times, Values

SECOND = 1_000_000_000
START = 1_760_000_000 * SECOND


@st.composite
def lines(draw: st.DrawFn) -> tuple[Times, Values]:
    """Looks by the second, some late, some missing for long."""
    distances = draw(st.lists(st.sampled_from([1, 1, 1, 1, 2, 3, 40, 5000]), max_size=300))
    times = START + SECOND * np.cumsum([0, *distances])
    values = draw(st.lists(st.floats(-1e15, 1e15), min_size=len(times), max_size=len(times)))
    return times.astype(np.int64), np.array(values, np.float64)


@settings(max_examples=150, deadline=None)
@given(lines(), st.integers(1, 60))
def test_peaks_survive_in_order_and_nothing_is_made_up(line: tuple[Times, Values], columns: int) -> None:
    """Of each column the first, last, lowest and highest point are left, in their order, and four of a column at most."""
    times, values = line
    kept_at, kept = thin(times, values, columns, SECOND)
    there = ~np.isnan(kept)
    assert there.sum() <= 4 * columns
    assert (np.diff(kept_at) >= 0).all()
    given_points = set(zip(times.tolist(), values.tolist(), strict=True))
    assert set(zip(kept_at[there].tolist(), kept[there].tolist(), strict=True)) <= given_points
    assert kept[there].max() == values.max()
    assert kept[there].min() == values.min()
    assert (kept_at[0], kept_at[-1]) == (times[0], times[-1])
    span = max(1, int(times[-1] - times[0]))
    where = np.minimum(columns - 1, (times - times[0]) * columns // span)
    kept_where = np.minimum(columns - 1, (kept_at - times[0]) * columns // span)
    for column in np.unique(where).tolist():  # a point on an edge may be of either side
        near = np.abs(kept_where - column) <= 1
        assert np.nanmax(kept[near]) >= values[where == column].max()
        assert np.nanmin(kept[near]) <= values[where == column].min()


@settings(max_examples=150, deadline=None)
@given(lines(), st.integers(1, 400))
@example((START + SECOND * np.array([0, 1, 2, 3, 50, 51, 52]), np.arange(7.0)), 2)
def test_a_gap_as_wide_as_a_column_breaks_the_line_and_nothing_else_does(
    line: tuple[Times, Values], columns: int
) -> None:
    """Between two points of which nothing is known in between there is a NaN; each NaN stands in such a place."""
    times, values = line
    kept_at, kept = thin(times, values, columns, SECOND)
    broken = np.flatnonzero(np.isnan(kept))
    for place in broken.tolist():
        before, after = kept_at[place - 1], kept_at[place + 1]
        assert before < kept_at[place] < after
        assert after - before > 5 * SECOND
        assert not ((times > before) & (times < after)).any()
    column = (times[-1] - times[0]) / columns
    wide = np.flatnonzero(np.diff(times) > max(column, 4999 * SECOND))
    for place in wide.tolist():
        beside = np.diff(times)[max(0, place - 4) : place + 5]
        if np.count_nonzero(beside > SECOND * 3) == 1:
            assert np.isnan(kept[(kept_at > times[place]) & (kept_at < times[place + 1])]).any()


def test_what_is_short_stays_as_it_is() -> None:
    """Every point, up to four for a column."""
    times, values = START + SECOND * np.arange(400), np.arange(400.0)
    at, kept = thin(times, values, 100)
    assert (at == times).all()
    assert (kept == values).all()
    assert len(thin(times[:0], values[:0], 100)[0]) == 0
    assert thin(times[:1], values[:1], 1)[1].tolist() == [0.0]


@pytest.mark.parametrize(
    ("distances", "breaks"),
    [
        ([1] * 9 + [30] + [1] * 9, 1),  # an outage
        ([1] * 9 + [4] + [1] * 9, 0),  # a look that is late
        ([60] * 9 + [1] * 9, 0),  # the older half by the minute
        ([2] * 9 + [1] * 9, 0),  # every other look of the older half is gone
        ([60] * 9 + [400] + [1] * 9, 1),  # likewise, and an outage
        ([10] * 20, 0),  # looked at more seldom than was asked for
        ([1] * 9 + [100, 100] + [1] * 9, 2),  # one look between two outages
        ([30], 1),
    ],
)
def test_a_line_breaks_where_looks_are_missing_by_how_often_there_were_any(distances: list[int], breaks: int) -> None:
    """Not by the interval alone: it changes within a run, and within a file that was thinned."""
    times = START + SECOND * np.cumsum([0, *distances])
    _, kept = thin(times, np.ones(len(times)), 100, SECOND)
    assert np.isnan(kept).sum() == breaks


def test_without_an_interval_most_distances_tell_it() -> None:
    """And two points tell nothing."""
    times = START + SECOND * np.array([0, 10, 20, 30, 200, 210, 220])
    assert np.isnan(thin(times, np.ones(7), 10)[1]).sum() == 1
    assert not np.isnan(thin(times[:2], np.ones(2), 10)[1]).any()


def test_a_line_has_a_column() -> None:
    """None is an error of the caller's."""
    with pytest.raises(ValueError, match="not 0"):
        thin(np.array([START]), np.ones(1), 0)


def test_a_point_alone_is_seen() -> None:
    """Between two breaks, or at an end, a line has no length: such points are told apart."""
    nan = np.nan
    values = np.array([1.0, nan, 2.0, 3.0, nan, 4.0, nan, 5.0])
    line = Line("x", START + SECOND * np.arange(8), values, "#000000")
    assert line.lonely.tolist() == [True, False, False, False, False, True, False, True]
    assert Line("x", np.array([START]), np.ones(1), "#000000").lonely.tolist() == [True]
    assert Line("x", np.empty(0, np.int64), np.empty(0), "#000000").lonely.tolist() == []


def test_millions_of_points_take_no_time() -> None:
    """Ten times as many as one sees in a day; against reading them once, so that the machine does not matter."""
    count = 2_000_000
    times = START + SECOND * np.arange(count)
    values = np.random.default_rng(1).random(count)
    values[1_234_567] = 7.0
    plain = min(_timed(lambda: np.sort(values)) for _ in range(3))
    assert min(_timed(lambda: thin(times, values, 1600, SECOND)) for _ in range(3)) < 10 * plain
    assert np.nanmax(thin(times, values, 1600, SECOND)[1]) == 7.0


def _timed(call: object) -> float:
    assert callable(call)
    started = time.process_time()
    call()
    return time.process_time() - started
