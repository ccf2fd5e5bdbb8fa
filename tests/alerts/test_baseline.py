# SPDX-License-Identifier: Apache-2.0
"""What is usual in a run: against a sort of the whole window, under outliers, drift, shifts and long suspicion."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_hwmetrics.alerts.baseline import KEPT, NORMAL, Baseline, Usual

WINDOW = 600.0
unhurried = settings(deadline=None)


def learned(values: Iterable[float], baseline: Baseline, start: float = 0.0, every: float = 1.0) -> Usual | None:
    """What is usual after values that come at an even pace."""
    for number, value in enumerate(values):
        baseline.learn(start + number * every, value)
    return baseline.now()


def known(usual: Usual | None) -> Usual:
    """What is usual, where it must be known."""
    assert usual is not None
    return usual


def seeded(seed: object) -> random.Random:
    """Chance that is the same in every run."""
    return random.Random(str(seed))  # noqa: S311 - noise, not secrets


def gauss(seed: str, count: int, mean: float = 100.0, sigma: float = 1.0) -> list[float]:
    """Normal noise, always the same."""
    rng = seeded(seed)
    return [rng.gauss(mean, sigma) for _ in range(count)]


@pytest.mark.parametrize(
    ("values", "location", "scale"),
    [
        pytest.param([1, 2, 3, 4, 5], 3, NORMAL * 1, id="odd"),
        pytest.param([5, 1, 4, 2], 3, NORMAL * 1.5, id="even, and in no order"),
        pytest.param([1, 1, 2, 2, 4, 6, 9], 2, NORMAL * 1, id="the textbook's"),
        pytest.param([7, 7, 7, 7, 8], 7, 0.5, id="the floor"),
        pytest.param([1000, 1000, 1001], 1000, 10, id="the floor as a share"),
        pytest.param([-1000, -1000, -1001], -1000, 10, id="the floor as a share of something negative"),
    ],
)
def test_known_answers(values: list[float], location: float, scale: float) -> None:
    """The median, and 1.4826 times the median of the distances from it, but never less than the floor."""
    usual = known(learned(values, Baseline(WINDOW, warm_up=3, floor=0.5, floor_share=0.01)))
    assert usual == Usual(location, scale, len(values))


@pytest.mark.parametrize(
    ("usual", "value", "deviation"),
    [
        pytest.param(Usual(10, 2, 9), 13, 1.5, id="above"),
        pytest.param(Usual(10, 2, 9), 7, -1.5, id="below"),
        pytest.param(Usual(10, 2, 9), 10, 0, id="usual"),
        pytest.param(Usual(10, 0, 9), 10, 0, id="constant, and so is the value"),
        pytest.param(Usual(10, 0, 9), 10.5, math.inf, id="constant, and the value is above"),
        pytest.param(Usual(10, 0, 9), 9.5, -math.inf, id="constant, and the value is below"),
    ],
)
def test_deviation(usual: Usual, value: float, deviation: float) -> None:
    """In scales, with its sign; without scatter, and without a floor, any deviation is without end."""
    assert usual.deviation(value) == deviation


def test_it_is_silent_until_it_has_warmed_up() -> None:
    """Through as many values as were asked for."""
    baseline = Baseline(WINDOW, warm_up=30)
    assert learned(range(29), baseline) is None
    assert learned([29], baseline, start=29) is not None


def test_a_warm_up_may_be_longer_than_what_is_kept() -> None:
    """Values are counted, whether or not they are kept."""
    baseline = Baseline(WINDOW, warm_up=3 * KEPT)
    assert learned(range(3 * KEPT - 1), baseline, every=0.1) is None
    assert learned([0], baseline, start=0.3 * KEPT) is not None


def test_a_window_that_never_holds_the_warm_up_says_nothing() -> None:
    """Three values are no evidence, however many came before them."""
    assert learned(range(100), Baseline(WINDOW, warm_up=30), every=200) is None


def test_a_window_must_have_a_length() -> None:
    """Else nothing could be learned."""
    with pytest.raises(ValueError, match="0 s is no window"):
        Baseline(0, warm_up=3)


PACES = st.sampled_from([0.0, 0.5, 1.0, 1.0, 7.0, 59.0, 61.0, 70.0])
VALUES = st.floats(-1e9, 1e9) | st.integers(-3, 3).map(float)


@unhurried
@given(series=st.lists(st.tuples(PACES, VALUES), max_size=KEPT), warm_up=st.integers(1, 12))
def test_it_agrees_with_a_sort_of_the_whole_window(series: list[tuple[float, float]], warm_up: int) -> None:
    """Whatever the values, ties and pauses, after each one; as long as no window has more than are kept."""
    baseline, window, at = Baseline(60, warm_up, floor=0.01), list[tuple[float, float]](), 0.0
    for pause, value in series:
        at += pause
        baseline.learn(at, value)
        window = [(then, old) for then, old in window if at - then <= 60] + [(at, value)]
        values = [old for _, old in window]
        if len(values) < warm_up:
            assert baseline.now() is None
        else:
            location = median(values)
            mad = median(abs(value - location) for value in values)
            assert baseline.now() == Usual(location, max(NORMAL * mad, 0.01), len(values))


@pytest.mark.parametrize("every", [0.001, 0.1, 1.0, 5.0], ids="every {} s".format)
def test_memory_is_bounded_and_what_is_kept_speaks_for_all(every: float) -> None:
    """At any pace: never more than the limit, never less than a quarter of it, and the window's own location and scale."""
    baseline, values = Baseline(WINDOW, warm_up=30), gauss("bound", 3000)
    kept = []
    for number, value in enumerate(values):
        baseline.learn(number * every, value)
        kept.append(len(baseline._known))
        assert number < 30 or known(baseline.now()).location == median(baseline._known._ordered)
    usual = known(baseline.now())
    assert max(kept) <= KEPT
    assert min(kept[KEPT:]) >= KEPT // 4
    assert usual.location == pytest.approx(100, abs=0.3)
    assert usual.scale == pytest.approx(1, abs=0.3)
    assert usual.count == kept[-1]


def test_when_values_come_more_slowly_more_of_them_are_kept() -> None:
    """A burst does not make it coarse for ever."""
    baseline = Baseline(WINDOW, warm_up=30)
    learned(gauss("burst", 10_000), baseline, every=0.01)
    learned(gauss("calm", 300), baseline, start=100, every=5)
    assert known(baseline.now()).count > 100


@pytest.mark.parametrize("period", [2, 3, 4, 8, 16, 32])
def test_no_rhythm_of_the_series_meets_that_of_the_choice(period: int) -> None:
    """Where each so-manieth value is another, as when gradients are accumulated, it has its share of what is kept."""
    baseline = Baseline(WINDOW, warm_up=30)
    learned([float(number % period == 0) for number in range(20_000)], baseline, every=0.05)
    assert sum(baseline._known._ordered) / len(baseline._known) == pytest.approx(1 / period, abs=0.05)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.2, 0.3, 0.4])
@pytest.mark.parametrize("sides", [(1,), (1, -1)], ids=["above", "on both sides"])
def test_outliers_move_it_little(share: float, sides: Sequence[int]) -> None:
    """Up to 40 % of the values a thousand scales away: the location stays within the noise, and they stand out."""
    rng = seeded((share, sides))
    values = gauss("clean", 600)
    dirty = [value + 1000 * rng.choice(sides) if rng.random() < share else value for value in values]
    usual = known(learned(dirty, Baseline(WINDOW, warm_up=30)))
    assert abs(usual.location - 100) < 1.5
    assert 0.7 < usual.scale < 4
    assert abs(usual.deviation(1100)) > 200


def test_one_outlier_is_no_new_normal() -> None:
    """A single one changes next to nothing."""
    baseline = Baseline(WINDOW, warm_up=30)
    before = known(learned(gauss("one", 200), baseline))
    after = known(learned([1e9], baseline, start=200))
    assert after.location == pytest.approx(before.location, abs=0.05)
    assert after.scale == pytest.approx(before.scale, rel=0.05)


@pytest.mark.parametrize("slope", [0.001, 0.01, 0.1, 1, 10])
def test_slow_drift_is_followed_and_no_deviation(slope: float) -> None:
    """However far it drifts: it lags by half the window, which widens the scale, too."""
    baseline, worst = Baseline(WINDOW, warm_up=30), 0.0
    values = [value + slope * number for number, value in enumerate(gauss("drift", 4000, mean=0))]
    for number, value in enumerate(values):
        usual = baseline.now()
        worst = max(worst, abs(usual.deviation(value)) if usual is not None and number > WINDOW else 0)
        baseline.learn(number, value)
    assert worst < 5
    assert known(baseline.now()).location == pytest.approx(slope * (4000 - WINDOW / 2), abs=0.5 + 20 * slope)


def test_a_lasting_change_of_level_is_a_new_normal_after_half_the_window() -> None:
    """Not before two fifths of it, surely after three."""
    baseline = Baseline(WINDOW, warm_up=30)
    learned(gauss("old", 900), baseline)
    locations = [
        known(learned([value], baseline, start=900 + number)).location
        for number, value in enumerate(gauss("new", 600, mean=200))
    ]
    assert all(location < 110 for location in locations[: round(0.4 * WINDOW)])
    assert all(location > 190 for location in locations[round(0.6 * WINDOW) :])


def test_a_gap_longer_than_the_window_empties_it() -> None:
    """What was usual before tells nothing: it warms up again. A shorter gap does not."""
    baseline = Baseline(WINDOW, warm_up=30)
    learned(gauss("before", 100), baseline)
    baseline.learn(99 + WINDOW / 2, 100)
    assert baseline.now() is not None
    baseline.learn(99 + 2 * WINDOW, 5)
    assert baseline.now() is None
    assert known(learned([5.0] * 30, baseline, start=100 + 2 * WINDOW)).location == 5


def test_a_gap_under_suspicion_empties_it_as_well() -> None:
    """Time does not stand still for what nobody heard of for so long."""
    baseline = Baseline(WINDOW, warm_up=30)
    learned(gauss("before", 100), baseline)
    baseline.learn(100, 500, suspect=True)
    baseline.learn(100 + 2 * WINDOW, 100)
    assert baseline.now() is None


@pytest.mark.parametrize(
    ("at", "value"),
    [
        pytest.param(98.0, 7.0, id="from the past"),
        pytest.param(100.0, math.nan, id="not a number"),
        pytest.param(100.0, math.inf, id="without end"),
        pytest.param(math.inf, 7.0, id="at no time"),
    ],
)
def test_what_is_no_value_is_passed_over(at: float, value: float) -> None:
    """And harms nothing."""
    baseline = Baseline(WINDOW, warm_up=3)
    before = learned(range(100), baseline)
    baseline.learn(at, value)
    baseline.learn(at, value, suspect=True)
    assert baseline.now() == before
    assert known(learned([50], baseline, start=99)).count == 101


def test_suspicious_values_are_not_learned() -> None:
    """An alert's values do not make themselves usual, and what is known does not age meanwhile."""
    baseline = Baseline(WINDOW, warm_up=30, floor=0.1)
    before = learned([10.0, 11.0, 12.0] * 70, baseline)
    for at in range(210, 800):
        baseline.learn(at, 99, suspect=True)
        assert baseline.now() == before
    after = known(learned([11], baseline, start=800))
    assert (after.location, after.count) == (11, 211)


def test_suspicion_that_ends_is_forgotten() -> None:
    """Two suspicions of most of a window each, with one clean value between, are no reason to take anything over."""
    baseline = Baseline(WINDOW, warm_up=30)
    learned(gauss("calm", 300), baseline)
    for start in (300, 900):
        for at in range(start, start + 590):
            baseline.learn(at, 200, suspect=True)
        baseline.learn(start + 590, 100)
    assert known(baseline.now()).location == pytest.approx(100, abs=0.5)


def test_suspicion_that_lasts_longer_than_the_window_is_the_new_normal() -> None:
    """At the first value after the window's length what was kept aside is taken over, at once and whole."""
    baseline = Baseline(WINDOW, warm_up=30)
    learned(gauss("calm", 300), baseline)
    for at, value in enumerate(gauss("raised", 602, mean=200), 300):
        assert known(baseline.now()).location < 110
        baseline.learn(at, value, suspect=True)
    usual = known(baseline.now())
    assert usual.location == pytest.approx(200, abs=0.3)
    assert usual.scale == pytest.approx(1, abs=0.2)


def test_what_was_taken_over_ages_like_any_other() -> None:
    """Whatever earlier suspicions came to nothing."""
    baseline = Baseline(60, warm_up=10)
    for at in range(151):
        baseline.learn(at, 200, suspect=30 <= at < 50 or 51 <= at < 113)
    assert known(baseline.now()).count == 61


def test_rare_suspicious_values_are_taken_over_and_warm_up_again() -> None:
    """A new level that few values speak for is not yet usual, and the old one no longer is."""
    baseline = Baseline(WINDOW, warm_up=30)
    learned(gauss("calm", 300), baseline)
    for at in range(300, 1100, 200):
        baseline.learn(at, 200, suspect=True)
    assert baseline.now() is not None
    baseline.learn(1100, 200, suspect=True)
    assert baseline.now() is None


@unhurried
@given(
    levels=st.lists(st.tuples(st.integers(1, 900), st.floats(-1e4, 1e4)), min_size=1, max_size=4),
    every=st.sampled_from([0.7, 1.0, 4.0]),
    seed=st.integers(0, 9),
)
def test_no_alarm_lasts_for_ever(levels: list[tuple[int, float]], every: float, seed: int) -> None:
    """Whatever levels come and go: if what deviates is suspect, nothing deviates for longer than a window and a moment."""
    baseline, rng = Baseline(60, 10, floor=1.0), seeded(seed)
    at, since = 0.0, math.inf
    for count, level in levels:
        for _ in range(count):
            at += every
            value = level + rng.gauss(0, 1)
            usual = baseline.now()
            alarm = usual is not None and abs(usual.deviation(value)) > 6
            since = min(since, at) if alarm else math.inf
            # One window for the suspicion; a change of level in the midst of it starts another one.
            assert at - since <= 60 * (1 + len(levels)) + every
            baseline.learn(at, value, suspect=alarm)
