# SPDX-License-Identifier: Apache-2.0
"""Promises of the figures that a job comes to."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.recording.nouns import FIGURES, JobSample, Stat, Totals
from otel_hwmetrics.recording.tally import ERROR, JobTally, Tally

VALUES = st.lists(st.tuples(st.floats(0, 1e15), st.floats(0.001, 100)), min_size=1, max_size=50)


def _exact_p95(values: list[tuple[float, float]]) -> float:
    left = 0.95 * sum(seconds for _, seconds in values)
    for value, seconds in sorted(values):
        left -= seconds
        if left <= 1e-9 * sum(each for _, each in values):
            return value
    return max(values)[0]


@pytest.mark.no_cover
@given(VALUES)
def test_peak_and_mean_are_exact_and_the_percentile_is_near(values: list[tuple[float, float]]) -> None:
    """The percentile is never more than a hundredth above, nor above the peak; weighed by time."""
    tally = Tally()
    for value, seconds in values:
        tally.add(value, seconds)
    stat = tally.stat
    assert stat.peak == max(value for value, _ in values)
    total = sum(seconds for _, seconds in values)
    assert math.isclose(stat.mean, sum(value * seconds for value, seconds in values) / total, rel_tol=1e-9)
    exact = _exact_p95(values)
    near = [value for value, _ in values if exact * (1 - 1e-9) <= value]  # at the very border the next one will do
    assert min(near) * (1 - 1e-9) <= stat.p95 <= stat.peak
    below = [value for value, _ in sorted(values) if value <= exact]
    assert stat.p95 <= max(below[-1] * (1 + ERROR) * (1 + 1e-9), _next_above(values, exact) * (1 + ERROR))


def _next_above(values: list[tuple[float, float]], exact: float) -> float:
    ordered = sorted({value for value, _ in values})
    return next((later for earlier, later in pairwise(ordered) if earlier == exact), exact)


def test_a_figure_that_never_changes_is_told_as_it_is() -> None:
    """Five processes are not 4.98 of them."""
    tally = Tally()
    for _ in range(100):
        tally.add(5.0, 1.0)
    assert tally.stat == Stat(5.0, 5.0, 5.0)


def test_a_single_moment_is_all_there_is() -> None:
    """A job that was looked at once has a peak, and that is its mean."""
    tally = Tally()
    tally.add(3.0, 0.0)
    assert tally.stat == Stat(3.0, 3.0, 3.0)


@pytest.mark.parametrize("value", [0.0, -3.5])
def test_what_is_not_above_zero_counts(value: float) -> None:
    """An idle CPU is a figure like any other, and a cold GPU."""
    tally = Tally()
    for _ in range(10):
        tally.add(value, 1.0)
    assert tally.stat.mean == pytest.approx(value)
    assert tally.stat.peak == value
    assert tally.stat.p95 <= max(0.0, value)


def test_a_job_is_summed_up_by_time_and_not_by_looks() -> None:
    """A look after a long pause speaks for the pause."""
    tally = JobTally(0)
    tally.add(JobSample(1_000_000_000, cpu=1.0, memory=10.0), Totals(1.0))
    tally.add(JobSample(4_000_000_000, cpu=5.0), Totals(16.0, energy=7.0))
    summary = tally.summary
    assert (summary.looks, summary.seconds) == (2, 4.0)
    assert summary.figures["cpu"].mean == pytest.approx((1 * 1 + 3 * 5) / 4)
    assert summary.figures["memory"] == Stat(10.0, 10.0, 10.0)
    assert (summary.cpu_seconds, summary.energy, summary.gpu_seconds) == (16.0, 7.0, None)
    assert set(summary.figures) == {"cpu", "memory"}


def test_what_was_told_once_is_kept() -> None:
    """A total that a later look does not know is still true."""
    tally = JobTally()
    tally.add(JobSample(1), Totals(max_rss=5))
    tally.add(JobSample(2), Totals())
    assert tally.summary.max_rss == 5


def test_samples_have_the_figures_in_their_order() -> None:
    """Columns of the file, of samples and of summaries are one list."""
    assert JobSample._fields == ("at_ns", *FIGURES)


def cpu_of(*looks: tuple[float, float], interval: float = 1.0) -> Stat:
    """What CPU comes to, of so many CPUs over so many seconds each."""
    tally, at = JobTally(0, interval), 0.0
    for cpu, seconds in looks:
        at += seconds
        tally.add(JobSample(round(at * 1e9), cpu=cpu), Totals())
    return tally.summary.figures["cpu"]


def test_a_peak_of_cpu_is_of_a_second_or_more() -> None:
    """A tick of the kernel's clock is 5% of a look 0.2 s after the one before, and no other CPU."""
    exact, more, less = (1.0, 0.2), (1.1, 0.2), (0.9, 0.2)
    assert cpu_of(more, less, exact, more, less, (1.0, 1.0)).peak == pytest.approx(1.0)
    assert cpu_of((1.0, 1.0), (1.0, 1.0), more).peak == pytest.approx(1.007, abs=0.01), "the last look before the end"
    assert cpu_of((4.0, 0.5), (4.0, 0.5), (1.0, 9.0)).peak == pytest.approx(4.0), "what is long enough together"
    assert cpu_of((1.0, 0.5), (3.0, 1.0)).peak == 3.0, "a look of a second is not thinned by one of less"
    assert cpu_of((2.0, 0.1), (1.0, 0.1), interval=0.1).peak == 2.0, "looks that are so near each other are wanted"
    whole = cpu_of((2.0, 0.25), (1.0, 0.25))
    assert whole.peak == whole.mean == pytest.approx(1.5), "of a job that was over before"
    short = cpu_of((8.0, 0.5), (1.0, 1.0))
    assert short.peak >= short.mean
