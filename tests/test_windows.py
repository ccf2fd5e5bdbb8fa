# SPDX-License-Identifier: Apache-2.0
"""From readings to windows: what a counter, a level and what follows from them are worth between any two samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_hwmetrics.catalog import dataset, gpu, own, process, system, tree
from otel_hwmetrics.model import Metric, Reading, Series, Snapshot, Window
from otel_hwmetrics.windows import FORGET_AFTER, FORGET_EVERY, SHORTEST, Accumulator, Sample, between

ENERGY = Series(gpu.ENERGY, {"hw.id": "GPU-1"})  # counted since boot
POWER = ENERGY.of(gpu.POWER)
HEAT = Series(gpu.TEMPERATURE, {"hw.id": "GPU-1/temperature/gpu"})
WRITTEN = Series(process.DISK_IO, {"disk.io.direction": "write"})  # counted since the process began
WRITE_RATE = WRITTEN.of(process.DISK_IO_RATE)
USER = Series(process.CPU_TIME, {"cpu.mode": "user"})
CPUS = Series(process.CPU_LIMIT)
USED = Series(gpu.MEMORY_USAGE, {"hw.id": "GPU-1"})
SIZE = Series(gpu.MEMORY_LIMIT, {"hw.id": "GPU-1"})
USED_SHARE = USED.of(gpu.MEMORY_UTILIZATION)


def _mode(mode: str) -> Series:
    return Series(system.CPU_TIME, {"cpu.mode": mode})


# The machine may be busy with anything else.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Story:
    """An accumulator that is told of moments one after the other."""

    def __init__(self) -> None:
        self.accumulator = Accumulator()

    def at(self, at: float, values: dict[Series, float]) -> Sample:
        """One sample, all of it read at the same moment."""
        readings = [Reading(series, value, at) for series, value in values.items()]
        return self.accumulator.sample(readings, at, int(at * 1e9))


def value(snapshot: Snapshot, series: Series) -> float | None:
    """The value of one series; None where it is absent."""
    found = [reading.value for reading in snapshot.of(series.metric) if reading.series == series]
    assert len(found) <= 1, "a series is told once"
    return found[0] if found else None


def values_of(snapshot: Snapshot, metric: Metric) -> dict[str, float]:
    """The values of a metric whose series have the CPU mode as their only attribute."""
    return {str(reading.attributes["cpu.mode"]): reading.value for reading in snapshot.of(metric)}


def totals(series: Series, raws: Sequence[float | None]) -> list[float | None]:
    """What is exported of a counter, sample by sample, each second one."""
    story = Story()
    samples = [story.at(second, {} if raw is None else {series: raw}) for second, raw in enumerate(raws)]
    return [value(between(None, sample), series) for sample in samples]


@pytest.mark.parametrize(
    ("raws", "since_instrument", "since_zero"),
    [
        pytest.param([1000, 1005, 1012], [0, 5, 12], [1000, 1005, 1012], id="grows"),
        pytest.param([1000, 1000, 1001], [0, 0, 1], [1000, 1000, 1001], id="stands still"),
        pytest.param([1000, 1010, 3, 5], [0, 10, 10, 12], [1000, 1010, 1010, 1012], id="reset"),
        pytest.param([1000, 1010, 0, 0], [0, 10, 10, 10], [1000, 1010, 1010, 1010], id="reset to nothing"),
        pytest.param([5, 9, 2, 4, 1, 2], [0, 4, 4, 6, 6, 7], [5, 9, 9, 11, 11, 12], id="two resets"),
        pytest.param([10, None, 30], [0, None, 20], [10, None, 30], id="a gap in reading is none in counting"),
        pytest.param([10, None, 4, 6], [0, None, 0, 2], [10, None, 10, 12], id="reset in a gap"),
        pytest.param([None, None, 7, 9], [None, None, 0, 2], [None, None, 7, 9], id="met late"),
        pytest.param([2**53, 2**53 + 1], [0, 1], [2**53, 2**53 + 1], id="bytes are counted as integers, exactly"),
    ],
)
def test_totals(raws: list[float | None], since_instrument: list[float | None], since_zero: list[float | None]) -> None:
    """A lifetime counter begins at 0, one of this process at what it is; a fall is a new base, and no total falls."""
    assert totals(ENERGY, raws) == since_instrument
    assert totals(WRITTEN, raws) == since_zero


def test_totals_outlive_a_pause() -> None:
    """A pause between two pipelines costs a counter nothing: what it grew meanwhile is in its total."""
    story = Story()
    story.at(0, {ENERGY: 100})
    story.accumulator.pause()
    assert value(between(None, story.at(60, {ENERGY: 150})), ENERGY) == 50


def test_a_counter_that_was_missed_where_a_window_begins_loses_no_rate() -> None:
    """One late look at the window's edge: the rate is over the time since the counter was read last."""
    story = Story()
    story.at(0, {ENERGY: 0})
    edge = story.at(1, {})
    assert value(between(edge, story.at(4, {ENERGY: 400})), POWER) == 100


def test_what_each_pipeline_counts_anew_adds_up() -> None:
    """Whether the next pipeline's count is above the last one's or below it."""
    transitions = Series(own.ALERT_TRANSITIONS, {"hwmetrics.alert.rule": "gpu_hot"})
    story = Story()
    story.at(0, {transitions: 0})
    story.at(1, {transitions: 3})
    for begun, total in ((0, 3), (5, 8), (7, 10)):
        if begun == 0:
            story.accumulator.pause()
        assert value(between(None, story.at(2 + begun, {transitions: begun})), transitions) == total
    story.accumulator.pause()
    assert value(between(None, story.at(20, {transitions: 2})), transitions) == 12


def test_what_a_pipeline_no_longer_counts_is_forgotten_like_anything_else() -> None:
    """An hour on; its total is kept, and no sample fails for it."""
    lost = Series(own.READINGS_LOST, {"error.type": "TimeoutError"})
    story = Story()
    story.at(0, {lost: 3})
    story.accumulator.pause()
    for number in range(1, FORGET_EVERY + 1):
        story.at(FORGET_AFTER + number, {ENERGY: 0})
    sample = story.at(2 * FORGET_AFTER, {lost: 1})
    assert lost not in sample.absent
    assert value(between(None, sample), lost) == 4


@pytest.mark.parametrize("series", [ENERGY, WRITTEN, Series(own.ALERT_TRANSITIONS)])
def test_a_job_that_is_stopped_for_hours_forgets_nothing(series: Series) -> None:
    """Whichever sample is the first after that: what was counted is counted once, and what grew meanwhile is there."""
    expected = totals(series, [5, 7, 9])
    story = Story()
    story.at(0, {series: 5})
    for number in range(FORGET_EVERY - 2):
        story.at(1 + number, {series: 7})
    after = story.at(5 * FORGET_AFTER, {series: 9})
    assert after.number == FORGET_EVERY
    assert value(between(None, after), series) == expected[-1]


def test_what_a_pipeline_tells_again_after_hours_is_counted_once() -> None:
    """A source that was away for so long: its count went on."""
    lost = Series(own.READINGS_LOST, {"error.type": "TimeoutError"})
    story = Story()
    story.at(0, {lost: 3})
    for number in range(FORGET_EVERY):
        story.at(FORGET_AFTER + number, {ENERGY: 0})
    assert value(between(None, story.at(2 * FORGET_AFTER, {lost: 4})), lost) == 4


def test_an_heir_goes_on_from_the_totals() -> None:
    """A forked child's counters never fall below its parent's, wherever their zero lies."""
    story = Story()
    story.at(0, {ENERGY: 1000, WRITTEN: 70})
    story.at(1, {ENERGY: 1500, WRITTEN: 90})
    story.accumulator = story.accumulator.heir()
    first = between(None, story.at(2, {ENERGY: 1600, WRITTEN: 4}))
    assert (value(first, ENERGY), value(first, WRITTEN)) == (500, 94)
    second = between(None, story.at(3, {ENERGY: 1650, WRITTEN: 9}))
    assert (value(second, ENERGY), value(second, WRITTEN)) == (550, 99)


RAWS: st.SearchStrategy[list[float | None]] = st.one_of(  # a source reads a counter as one type, always
    st.lists(st.none() | st.integers(0, 2**63) | st.integers(0, 5), max_size=30),
    st.lists(st.none() | st.floats(0, 1e15) | st.sampled_from([0.0, 7.0, 7.5]), max_size=30),
)
STEPS = st.floats(0.001, 100.0)


@unhurried
@given(raws=RAWS, data=st.data())
def test_no_total_falls_and_no_rate_is_negative(raws: list[float | None], data: st.DataObject) -> None:
    """Whatever a counter does (falls, resets, gaps, repeats), totals never fall and rates are never negative."""
    story, at = Story(), 0.0
    samples = []
    for raw in raws:
        at += data.draw(STEPS)
        samples.append(story.at(at, {} if raw is None else {ENERGY: raw, WRITTEN: raw}))
    for total in (ENERGY, WRITTEN):
        told = [known for sample in samples if (known := value(between(None, sample), total)) is not None]
        assert told == sorted(told)
        assert not told or told[0] >= 0
    for start, earlier in enumerate(samples):
        for later in samples[start + 1 :]:
            for rate in (POWER, WRITE_RATE):
                told_rate = value(between(earlier, later), rate)
                assert told_rate is None or (told_rate >= 0 and math.isfinite(told_rate))
                begin = earlier.points.get(ENERGY) or earlier.absent.get(ENERGY)
                end = later.points.get(ENERGY)
                known = False
                if begin is not None and end is not None and end.at - begin.at >= SHORTEST:
                    known = end.observed > begin.observed  # of a reset nothing is known
                assert (told_rate is not None) == known


@unhurried
@given(
    growths=st.lists(st.tuples(st.floats(0.1, 100.0), st.floats(0, 1e9)), min_size=1, max_size=20),
    start=st.floats(0, 1e9),
)
def test_nothing_between_two_windows_is_missed(growths: list[tuple[float, float]], start: float) -> None:
    """Of a counter that does not fall, the rates times the lengths of consecutive windows are its whole growth."""
    story, at, raw = Story(), 0.0, start
    samples = [story.at(at, {ENERGY: raw})]
    for seconds, growth in growths:
        at, raw = at + seconds, raw + growth
        samples.append(story.at(at, {ENERGY: raw}))
    joined = 0.0
    for earlier, later in pairwise(samples):
        snapshot = between(earlier, later)
        rate = value(snapshot, POWER)
        if snapshot.window.seconds < SHORTEST:  # 0.1 s less a rounding of the sum
            rate = (later.points[ENERGY].value - earlier.points[ENERGY].value) / snapshot.window.seconds
        assert rate is not None
        joined += rate * snapshot.window.seconds
    assert joined == pytest.approx(raw - start, rel=1e-9, abs=1e-3)
    assert value(between(samples[0], samples[-1]), ENERGY) == pytest.approx(raw - start, rel=1e-9, abs=1e-3)


LEVELS = st.lists(st.tuples(st.floats(0.01, 60.0), st.none() | st.floats(-50.0, 150.0)), min_size=2, max_size=25)


@unhurried
@given(levels=LEVELS, data=st.data())
def test_a_mean_is_that_of_its_own_window(levels: list[tuple[float, float | None]], data: st.DataObject) -> None:
    """A level's mean is time-weighted over exactly the samples of the window, whatever other windows are cut."""
    story, at = Story(), 0.0
    samples, times = [], []
    for seconds, level in levels:
        at += seconds
        times.append(at)
        samples.append(story.at(at, {} if level is None else {HEAT: level}))
    for _ in range(4):
        first = data.draw(st.integers(0, len(samples) - 2))
        last = data.draw(st.integers(first + 1, len(samples) - 1))
        told = value(between(samples[first], samples[last]), HEAT)
        end = levels[last][1]
        if end is None:
            assert told is None
            continue
        area = observed = 0.0
        for index in range(first + 1, last + 1):
            level = levels[index][1]
            if level is not None and levels[index - 1][1] is not None:  # else nothing is known of the time before it
                area += level * (times[index] - times[index - 1])
                observed += times[index] - times[index - 1]
        assert told == pytest.approx(area / observed if observed else end, rel=1e-6, abs=1e-6)


def test_a_gap_contributes_nothing() -> None:
    """A level that could not be read for a while has the mean of the time in which it could."""
    story = Story()
    first = story.at(0, {HEAT: 50})
    story.at(1, {HEAT: 60})
    story.at(2, {})
    story.at(100, {HEAT: 90})  # nothing is known of the 99 s before
    assert value(between(first, story.at(101, {HEAT: 80})), HEAT) == pytest.approx(70)


def test_a_window_that_begins_in_a_gap_knows_nothing_of_the_time_before_it() -> None:
    """A level that was missing when a window began has the mean of that window, not of its whole life."""
    story = Story()
    story.at(0, {HEAT: 20})
    story.at(1000, {HEAT: 20})
    gap = story.at(1001, {})
    back = story.at(1002, {HEAT: 90})
    assert value(between(gap, back), HEAT) == 90
    assert value(between(gap, story.at(1003, {HEAT: 80})), HEAT) == 80
    gap = story.at(1004, {})
    story.at(1005, {HEAT: 70})
    assert value(between(gap, story.at(1006, {HEAT: 60})), HEAT) == 60


def test_a_first_look_tells_the_level_of_the_moment() -> None:
    """With no earlier sample a level is what it is now, also where the accumulator knows its past."""
    story = Story()
    story.at(0, {HEAT: 20})
    story.at(1000, {HEAT: 20})
    assert value(between(None, story.at(1001, {HEAT: 90})), HEAT) == 90


def test_time_before_a_pause_is_not_in_a_mean() -> None:
    """The time between two pipelines was not observed, so it has no part in any mean."""
    story = Story()
    first = story.at(0, {HEAT: 10})
    story.at(1, {HEAT: 20})
    story.accumulator.pause()
    story.at(1001, {HEAT: 90})
    assert value(between(first, story.at(1002, {HEAT: 40})), HEAT) == pytest.approx(30)


def test_a_first_look_has_totals_and_levels_and_no_rates() -> None:
    """With no earlier sample, or when a series was not in it, nothing is known of any growth: absent, not 0."""
    story = Story()
    first = story.at(5, {WRITTEN: 1000, HEAT: 50})
    snapshot = between(None, first)
    assert {reading.metric for reading in snapshot} == {process.DISK_IO, gpu.TEMPERATURE, gpu.TEMPERATURE_PEAK}
    assert snapshot.window == Window(5, 5)
    second = story.at(6, {WRITTEN: 1500, ENERGY: 7})
    assert value(between(first, second), WRITE_RATE) == 500
    assert value(between(first, second), POWER) is None


@pytest.mark.parametrize(("seconds", "told"), [(SHORTEST / 2, False), (SHORTEST * 1.5, True), (0.0, False)])
def test_a_window_too_short_has_no_rates(seconds: float, *, told: bool) -> None:
    """Below `SHORTEST` the kernel's steps are larger than what is measured: totals are told, rates are not."""
    story = Story()
    snapshot = between(
        story.at(10, {WRITTEN: 1000, _mode("user"): 1, _mode("idle"): 1}),
        story.at(10 + seconds, {WRITTEN: 1100, _mode("user"): 2, _mode("idle"): 2}),
    )
    assert value(snapshot, WRITTEN) == 1100
    assert (value(snapshot, WRITE_RATE) is not None) is told
    assert bool(snapshot.of(system.CPU_UTILIZATION)) is told


def test_a_rate_counts_from_when_its_readings_were_taken() -> None:
    """A reading of a slow source is older than its sample; its rate is over the time between its own readings."""
    accumulator = Accumulator()
    first = accumulator.sample([Reading(ENERGY, 0, 0.0)], 0.5, 0)
    second = accumulator.sample([Reading(ENERGY, 300, 3.0)], 2.5, 0)
    assert value(between(first, second), POWER) == 100


@unhurried
@given(
    growths=st.dictionaries(
        st.sampled_from(["user", "system", "idle", "iowait", "steal"]), st.floats(0, 1e6), min_size=1
    )
)
def test_shares_sum_to_one(growths: dict[str, float]) -> None:
    """What each mode took of the CPU time sums to 1, and where the kernel counted none there is no share of it."""
    story = Story()
    first = story.at(0, {_mode(mode): 100.0 for mode in growths})
    second = story.at(1, {_mode(mode): 100.0 + growth for mode, growth in growths.items()})
    shares = values_of(between(first, second), system.CPU_UTILIZATION)
    whole = sum((100.0 + growth) - 100.0 for growth in growths.values())
    if whole == 0:
        assert shares == {}
    else:
        assert sum(shares.values()) == pytest.approx(1)
        assert shares == pytest.approx({mode: ((100 + growth) - 100) / whole for mode, growth in growths.items()})


def test_shares_of_a_falling_part_are_those_of_the_others() -> None:
    """The kernel lets iowait fall now and then (proc(5)); its share is 0 then, and the others' are still shares."""
    story = Story()
    first = story.at(0, {_mode("user"): 10, _mode("iowait"): 50})
    second = story.at(1, {_mode("user"): 14, _mode("iowait"): 40})
    assert values_of(between(first, second), system.CPU_UTILIZATION) == {"user": 1.0, "iowait": 0.0}


def test_quotient_is_of_the_same_device_and_averaged() -> None:
    """A quotient takes both parts from one device at one moment; its mean is over the window like any level's."""
    other_used = Series(gpu.MEMORY_USAGE, {"hw.id": "GPU-2"})
    other_size = Series(gpu.MEMORY_LIMIT, {"hw.id": "GPU-2"})
    story = Story()
    first = story.at(0, {USED: 0, SIZE: 100, other_used: 100, other_size: 400})
    story.at(1, {USED: 20, SIZE: 100, other_used: 100, other_size: 400})
    snapshot = between(first, story.at(2, {USED: 40, SIZE: 100, other_used: 100, other_size: 400}))
    assert value(snapshot, USED_SHARE) == pytest.approx(0.3)
    assert value(snapshot, other_used.of(gpu.MEMORY_UTILIZATION)) == pytest.approx(0.25)


@pytest.mark.parametrize("limit", [None, 0])
def test_quotient_without_a_divisor_is_absent(limit: int | None) -> None:
    """Where a device's size is missing or 0, its used share is absent, and what was read is still told."""
    story = Story()
    snapshot = between(None, story.at(0, {USED: 5} if limit is None else {USED: 5, SIZE: limit}))
    assert value(snapshot, USED_SHARE) is None
    assert value(snapshot, USED) == 5


def test_a_quotient_by_the_whole() -> None:
    """Memory by state is divided by the machine's one size, which has no state."""
    story = Story()
    used = Series(system.MEMORY_USAGE, {"system.memory.state": "used"})
    sample = story.at(0, {used: 25, Series(system.MEMORY_LIMIT): 100})
    assert value(between(None, sample), used.of(system.MEMORY_UTILIZATION)) == 0.25


@pytest.mark.parametrize(("limit", "expected"), [(4, 0.5), (1, 2.0), (0, None), (None, None)])
def test_cpu_utilization_is_per_cpu_available(limit: int | None, expected: float | None) -> None:
    """The process's CPU time per second is divided by the CPUs that it may use; unknown, there is no utilization."""
    story = Story()
    limits: dict[Series, float] = {} if limit is None else {CPUS: limit}
    first = story.at(0, {USER: 100, **limits})
    second = story.at(2, {USER: 104, **limits})
    assert value(between(first, second), USER.of(process.CPU_UTILIZATION)) == expected


def test_read_directly_wins() -> None:
    """A derived metric that a source read itself is told as read, once; a board may tell its power and no energy."""
    story = Story()
    first = story.at(0, {POWER: 100, ENERGY: 0, USED: 10, SIZE: 100, USED_SHARE: 0.5})
    second = story.at(1, {POWER: 300, ENERGY: 7, USED: 10, SIZE: 100, USED_SHARE: 0.7})
    assert value(between(first, second), POWER) == 300
    assert value(between(first, second), USED_SHARE) == value(between(None, second), USED_SHARE) == 0.7
    board = story.at(2, {POWER: 200})
    assert value(between(second, board), POWER) == 200


def test_what_is_not_in_the_newest_sample_is_absent() -> None:
    """A GPU that fell off the bus takes all its series along, those that follow from others, too."""
    story = Story()
    first = story.at(0, {ENERGY: 0, HEAT: 50, USED: 10, SIZE: 100, CPUS: 4})
    story.at(1, {ENERGY: 10, HEAT: 50, USED: 10, SIZE: 100, CPUS: 4})
    snapshot = between(first, story.at(2, {CPUS: 4}))
    assert [reading.series for reading in snapshot] == [CPUS]


def test_a_sample_does_not_change_once_it_is_taken() -> None:
    """What was published stays as it is: the same window told twice is the same, whatever was sampled since."""
    story = Story()
    first = story.at(0, {ENERGY: 0, HEAT: 50})
    second = story.at(1, {ENERGY: 10, HEAT: 70})
    before = list(between(first, second))
    story.at(2, {ENERGY: 3, HEAT: 90})
    story.at(3, {})
    assert list(between(first, second)) == before


REQUESTED = Series(tree.DATA_IO, {"disk.io.direction": "read"})
REQUESTS = REQUESTED.of(tree.DATA_OPERATIONS)
REQUEST_SIZE = REQUESTED.of(dataset.REQUEST_SIZE)
MEAN = Series(gpu.UTILIZATION, {"hw.id": "GPU-1", "hw.gpu.task": "general"})
PEAK = USED.of(gpu.MEMORY_PEAK)


def test_a_mean_over_a_stretch_stands_for_all_of_it() -> None:
    """Also after samples that had no reading, and for the first reading; a stretch that was told twice counts once."""
    story = Story()
    first = story.at(0, {})
    story.accumulator.sample([Reading(MEAN, 0.2, 10, since=0)], 10, 0)
    story.at(11, {})
    last = story.accumulator.sample([Reading(MEAN, 0.8, 30, since=10)], 30, 0)
    assert value(between(first, last), MEAN) == pytest.approx((0.2 * 10 + 0.8 * 20) / 30)
    again = story.accumulator.sample([Reading(MEAN, 0.8, 30, since=10)], 31, 0)
    assert value(between(first, again), MEAN) == pytest.approx((0.2 * 10 + 0.8 * 20) / 30)
    overlapping = story.accumulator.sample([Reading(MEAN, 0.0, 40, since=20)], 40, 0)
    assert value(between(first, overlapping), MEAN) == pytest.approx((0.2 * 10 + 0.8 * 20) / 40)


def test_a_slow_reader_s_level_is_told_until_it_is_read_again() -> None:
    """Its reading comes again with the time at which it was made, and stands for the time before that, once."""
    story = Story()
    first = story.at(0, {HEAT: 50})
    for at in (1, 2, 3):
        latest = story.accumulator.sample([Reading(HEAT, 50, 0)], at, 0)
        assert value(between(first, latest), HEAT) == 50
    read_again = story.at(4, {HEAT: 60})
    assert value(between(first, read_again), HEAT) == 60


unhurried_steps = st.lists(st.one_of(st.none(), st.integers(0, 10)), min_size=1, max_size=60)


@unhurried
@given(levels=unhurried_steps, data=st.data())
def test_a_peak_is_the_highest_level_since_the_window_began(levels: list[int | None], data: st.DataObject) -> None:
    """Whatever rose, fell or was missing in between, for any two samples."""
    story = Story()
    samples = [story.at(at, {} if level is None else {USED: level}) for at, level in enumerate(levels)]
    end = data.draw(st.integers(0, len(levels) - 1))
    start = data.draw(st.integers(0, end))
    told = value(between(samples[start], samples[end]), PEAK)
    if levels[end] is None:
        assert told is None
    elif start == end or all(level is None for level in levels[:end]):
        assert told == levels[end]
    else:
        before = [at for at in range(start + 1) if levels[at] is not None]
        seen = [level for at, level in enumerate(levels[: end + 1]) if level is not None and (not before or at > start)]
        assert told == max(seen)


def test_a_level_that_falls_for_days_costs_no_more_memory_than_one_that_does_not() -> None:
    """The chain of its peaks is thinned; what it then says is never too low, and right for the whole."""
    story = Story()
    first = story.at(0, {USED: 1e9})
    start, latest = story.at(1, {USED: 1e9 - 1}), first
    for at in range(2, 5_000):
        latest = story.at(at, {USED: 1e9 - at})
    ridge = latest.points[PEAK].ridge
    assert ridge is not None
    assert ridge.length <= 512
    assert value(between(None, latest), PEAK) == 1e9 - 4_999
    assert 1e9 - 2 <= (value(between(start, latest), PEAK) or 0) <= 1e9


def test_a_rate_does_not_count_the_time_of_a_reset() -> None:
    """500 W before, during and after a reload of the driver are 500 W, whatever the counter says meanwhile."""
    story = Story()
    first = story.at(0, {ENERGY: 1e9})
    story.at(30, {ENERGY: 1e9 + 15_000})
    story.at(60, {ENERGY: 100})  # it began again at 59.8
    last = story.at(90, {ENERGY: 15_100})
    assert value(between(first, last), POWER) == pytest.approx(500)
    assert value(between(first, last), ENERGY) == pytest.approx(30_000)


def test_a_window_that_is_a_reset_has_no_rate() -> None:
    """Nothing is known of it: not 0."""
    story = Story()
    first = story.at(0, {ENERGY: 1e9})
    assert value(between(first, story.at(1, {ENERGY: 5})), POWER) is None


def test_a_peak_that_was_read_is_better_than_one_that_was_seen() -> None:
    """A driver's own ring of samples knows of peaks between two looks."""
    story = Story()
    first = story.at(0, {USED: 1, PEAK: 1})
    second = story.at(1, {USED: 2, PEAK: 9})
    third = story.at(2, {USED: 3, PEAK: 4})
    assert value(between(first, third), PEAK) == 9
    assert value(between(second, third), PEAK) == 4


def test_a_ratio_is_growth_by_growth() -> None:
    """What one operation took on average over the window; absent while there was none."""
    story = Story()
    first = story.at(0, {REQUESTED: 1000, REQUESTS: 10})
    second = story.at(1, {REQUESTED: 9000, REQUESTS: 12})
    third = story.at(2, {REQUESTED: 9000, REQUESTS: 12})
    assert value(between(first, second), REQUEST_SIZE) == 4000
    assert value(between(first, third), REQUEST_SIZE) == 4000
    assert value(between(second, third), REQUEST_SIZE) is None
    assert value(between(None, second), REQUEST_SIZE) is None
    alone = story.at(3, {REQUESTED: 9500})
    assert value(between(third, alone), REQUEST_SIZE) is None


def test_a_ratio_may_be_of_one_kind_of_series_alone() -> None:
    """What storage had to do with it is told of reads; of writes it would say nothing."""
    story = Story()
    written, stored = (Series(row, {"disk.io.direction": "write"}) for row in (tree.DATA_IO, tree.DISK_IO))
    fetched = REQUESTED.of(tree.DISK_IO)
    first = story.at(0, {REQUESTED: 0, fetched: 0, written: 0, stored: 0})
    second = story.at(1, {REQUESTED: 100, fetched: 25, written: 100, stored: 25})
    (share,) = between(first, second).of(dataset.STORAGE_SHARE)
    assert (share.value, share.attributes["disk.io.direction"]) == (0.25, "read")


def test_a_series_that_vanished_is_forgotten_but_for_its_total() -> None:
    """Interfaces and mounts come and go for weeks; a counter that is back after hours goes on where it was."""
    story = Story()
    story.at(0, {ENERGY: 100, HEAT: 50, WRITTEN: 7})
    story.at(1, {ENERGY: 150, HEAT: 50, WRITTEN: 9})
    for number in range(2 * FORGET_EVERY):
        latest = story.at(2 + number * 10, {USED: 1})
    assert not {ENERGY, HEAT} & set(latest.absent)
    assert WRITTEN in latest.absent, "what counts from zero is not to be counted again"
    back = story.at(20_000, {ENERGY: 400, WRITTEN: 12})
    assert value(between(None, back), ENERGY) == 50
    assert value(between(None, back), WRITTEN) == 12
    later = story.at(20_001, {ENERGY: 410, WRITTEN: 12})
    assert value(between(back, later), POWER) == 10
