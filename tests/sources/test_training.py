# SPDX-License-Identifier: Apache-2.0
"""Training as the job tells it: nothing until it does, sums and levels of a moment, and all of it as points exported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from time import monotonic
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

import otel_hwmetrics as hw
from otel_hwmetrics import _guard, pipeline
from otel_hwmetrics.catalog import training as rows
from otel_hwmetrics.config import Config
from otel_hwmetrics.model import Peak, Ratio, Reading, Series
from otel_hwmetrics.sources.base import Batch
from otel_hwmetrics.sources.training import PEAK_TOLD_FOR, READERS, TrainingSource
from otel_hwmetrics.stepclock import CLOCK, StepClock
from otel_hwmetrics.testing import ManualClock
from otel_hwmetrics.windows import Accumulator


@pytest.fixture
def time() -> ManualClock:
    """Time that moves by hand."""
    return ManualClock(start=1000.0)


@pytest.fixture
def clock(time: ManualClock) -> StepClock:
    """A step clock that goes by it."""
    return StepClock(time.monotonic)


@pytest.fixture
def source(time: ManualClock, clock: StepClock) -> TrainingSource:
    """A source that reads it."""
    return TrainingSource(clock, now=time.monotonic)


def named(batch: Batch) -> dict[str, float]:
    """What was told, by the metric's name without what all share, or by the phase's name."""
    assert not batch.lost
    told = {
        str(reading.attributes.get(rows.PHASE_NAME)) if reading.attributes else reading.metric.name[19:]: reading.value
        for reading in batch.readings
    }
    assert len(told) == len(batch.readings)
    return told


def loader(time: ManualClock, batches: int, wait: float) -> Iterator[int]:
    """Batches that take their time."""
    for batch in range(batches):
        time.advance(wait)
        yield batch


def test_nothing_is_told_until_the_job_does(source: TrainingSource) -> None:
    """A job that knows nothing of steps has no metrics of them, not even zeros; that is no fault either."""
    source.open()
    for _ in range(3):
        assert named(source.read()) == {}
    source.close()


def test_a_loop_is_told_whole(time: ManualClock, clock: StepClock, source: TrainingSource) -> None:
    """Sums that include what is under way, the longest step, the age of the present one."""
    told: list[dict[str, float]] = []
    peak_and_age = {"step.duration.peak": 4, "step.age": 4}
    for _ in clock.steps(loader(time, 2, wait=1.0)):
        time.advance(3.0)
        told.append(named(source.read()))
    told.append(named(source.read()))
    assert told == [
        {"steps": 0, "step.time": 4, "step.time.completed": 0, "data.wait.time": 1},
        {"steps": 1, "step.time": 8, "step.time.completed": 4, "data.wait.time": 2} | peak_and_age,
        {"steps": 2, "step.time": 8, "step.time.completed": 8, "data.wait.time": 2, "step.duration.peak": 4},
    ]


def test_of_data_nothing_is_told_by_calls_of_step(time: ManualClock, clock: StepClock, source: TrainingSource) -> None:
    """What is not known is absent, not 0."""
    clock.step()
    time.advance(2.0)
    clock.step()
    time.advance(1.0)
    sums, levels = {"steps": 2, "step.time": 3, "step.time.completed": 2}, {"step.duration.peak": 2, "step.age": 1}
    assert named(source.read()) == sums | levels


def test_the_age_is_that_of_the_moment(time: ManualClock, clock: StepClock, source: TrainingSource) -> None:
    """No mean is made of it: an alert sees it as it is. Whatever the sampler's time is, it is an age of the clock's own."""
    clock.step()
    time.advance(7.0)
    other = ManualClock(start=5.0)
    for now, reading_source in ((1007.0, source), (5.0, TrainingSource(clock, now=other.monotonic))):
        (age,) = (reading for reading in reading_source.read().readings if reading.metric is rows.STEP_AGE)
        assert age == Reading(age.series, 7.0, now, now)


def test_the_longest_step_is_told_again_for_a_while(
    time: ManualClock, clock: StepClock, source: TrainingSource
) -> None:
    """At the time at which it was met, so that a reader who comes later hears of it; but not for ever."""
    clock.step()
    time.advance(9.0)
    clock.step()

    def peak() -> Reading | None:
        return next((each for each in source.read().readings if each.metric is rows.STEP_DURATION_PEAK), None)

    first = peak()
    assert first is not None
    assert (first.value, first.at, first.since) == (9.0, 1009.0, None)
    time.advance(PEAK_TOLD_FOR)
    assert peak() == first
    time.advance(1.0)
    assert peak() is None
    clock.step()
    assert peak() == Reading(first.series, PEAK_TOLD_FOR + 1.0, time.monotonic())


def test_a_phase_that_was_met_stays(clock: StepClock, source: TrainingSource) -> None:
    """1 while it is open, on whatever thread and however deep; 0 from then on; and of steps nothing."""
    with clock.phase("eval"), clock.phase("mine"):
        assert named(source.read()) == {"evaluation": 1, "mine": 1}
    with clock.phase("mine"):
        assert named(source.read()) == {"evaluation": 0, "mine": 1}
    assert named(source.read()) == {"evaluation": 0, "mine": 0}


def test_spans_may_tell_the_phase(time: ManualClock, clock: StepClock) -> None:
    """It counts as open, by the same names; and no age of a step reaches back into one in which none is expected."""
    told: list[str | None] = [None]
    source = TrainingSource(clock, now=time.monotonic, spans_phase=lambda: told[0])
    clock.step()

    def look(phase: str | None, seconds: float) -> dict[str, float]:
        told[0] = phase
        time.advance(seconds)
        found = named(source.read())
        return {name: value for name, value in found.items() if not name.startswith("step") or name == "step.age"}

    assert look(None, 5.0) == {"step.age": 5}
    assert look("my own", 1.0) == {"my own": 1, "step.age": 6}
    assert look("Validation", 1.0) == {"my own": 0, "evaluation": 1, "step.age": 0}
    assert look("Validation", 600.0) == {"my own": 0, "evaluation": 1, "step.age": 0}
    assert look(None, 2.0) == {"my own": 0, "evaluation": 0, "step.age": 2}
    clock.step()
    assert look("", 1.0) == {"my own": 0, "evaluation": 0, "step.age": 1}


def test_spans_that_fail_to_tell_cost_the_phase_alone(
    clock: StepClock, time: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps are told all the same."""
    monkeypatch.setattr(_guard, "LOUD", False)

    def fail() -> str:
        raise RuntimeError

    clock.step()
    assert named(TrainingSource(clock, now=time.monotonic, spans_phase=fail).read())["steps"] == 1


def test_what_the_job_tells_by_numbers_is_told(clock: StepClock, source: TrainingSource) -> None:
    """Samples, tokens, and how long the GPU was at steps; each only where it is told."""
    clock.step(samples=32)
    assert {"samples": 32}.items() <= named(source.read()).items()
    clock.step(tokens=500)
    clock.tell_gpu_time(0.25)
    told = named(source.read())
    assert {"samples": 32, "tokens": 500, "step.gpu.time": 0.25}.items() <= told.items()
    clock.begin_wait()
    assert named(source.read())["data.wait.time"] == 0.0


class Recorder:
    """Keeps what is to be recorded, look by look; hears nothing until it is on."""

    def __init__(self) -> None:
        self.on = True
        self.looks: list[Sequence[float]] = []

    def __call__(self, series: Series, take: Callable[[], Sequence[float]]) -> None:
        """Record."""
        assert series.metric is rows.STEP_DURATION_HISTOGRAM
        if self.on:
            self.looks.append(take())


def test_each_step_is_recorded_once_where_somebody_hears(time: ManualClock, clock: StepClock) -> None:
    """Also those before, as far as they are kept."""
    recorder = Recorder()
    source = TrainingSource(clock, record=recorder, now=time.monotonic)

    def train(lengths: Iterable[float]) -> None:
        for length in clock.steps(lengths):
            time.advance(length)
        source.read()

    recorder.on = False
    train([1.0])
    recorder.on = True
    train([2.0, 3.0])
    train([])
    assert recorder.looks == [[1.0, 2.0, 3.0], []]


@pytest.mark.parametrize(
    ("steps", "seconds", "recorded"),
    [
        *((99, 1.0, 99), (100, 1.0, 100), (101, 1.0, 50), (1000, 1.0, 100), (5000, 1.0, 100)),
        *((3000, 60.0, 1000), (50, 0.02, 2)),
    ],
)
def test_of_many_steps_every_so_many_th_is_recorded(
    time: ManualClock, clock: StepClock, steps: int, seconds: float, recorded: int
) -> None:
    """No more a second than may be; beginning with another one each time, so that long ones count for no more than they are."""
    recorder = Recorder()
    source = TrainingSource(clock, record=recorder, now=time.monotonic)
    source.read()
    for _ in range(30):
        until = time.monotonic() + seconds
        for number in clock.steps(range(steps)):
            time.advance(seconds / 2 / steps if number % 2 else seconds * 1.5 / steps)
        time.advance(max(0.0, until - time.monotonic()))
        source.read()
    looks = recorder.looks[1:]
    assert all(abs(len(look) - recorded) <= 1 for look in looks)
    assert sum(map(sum, looks)) / sum(map(len, looks)) == pytest.approx(seconds / steps, rel=0.05)


def test_every_row_is_read_or_follows() -> None:
    """The table and the catalog name the same metrics, and the table says where they come from."""
    read = {metric for reader in READERS for metric in reader.metrics}
    followed = {metric for metric in rows.METRICS if isinstance(metric.derivation, Ratio)}
    assert read | followed == set(rows.METRICS)
    assert not read & followed
    assert {metric for metric in read if metric.derivation is not None} == {rows.STEP_DURATION_PEAK}
    assert isinstance(rows.STEP_DURATION_PEAK.derivation, Peak)
    assert all(reader.call and reader.where for reader in READERS)


# Through the real pipeline


def exported(reader: InMemoryMetricReader) -> dict[str, Any]:
    """The values of the points of one collection, by the metric's name, or by the phase's."""
    data = reader.get_metrics_data()
    return {
        str((point.attributes or {}).get(rows.PHASE_NAME, metric.name.removeprefix("hwmetrics.training."))): point.value
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name.startswith("hwmetrics.training.")
        for point in metric.data.data_points
        if isinstance(point, NumberDataPoint)
    }


@pytest.fixture
def process_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[StepClock]:
    """That of the process, fresh before and after; and fresh totals, which otherwise go on from pipeline to pipeline."""
    monkeypatch.setattr(pipeline, "_accumulator", Accumulator())
    CLOCK.reset()
    yield CLOCK
    CLOCK.reset()


@pytest.fixture
def collect(
    process_clock: StepClock, time: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], dict[str, Any]]]:
    """A pipeline of this source, which looks when it exports, on the process's own step clock; time moves by hand."""
    monkeypatch.setattr(process_clock, "_now", time.monotonic)
    reader = InMemoryMetricReader()
    running = pipeline.Pipeline(
        Config(sources=("training",), sample_interval=0, snapshot_timeout=20.0),
        meter_provider=MeterProvider([reader]),
        clock=time,
    )
    running.start()

    def one() -> dict[str, Any]:
        time.advance(0.25)  # so that no look is shared with the export before
        return exported(reader)

    yield one
    running.stop()


def test_what_is_exported_of_a_loop(time: ManualClock, collect: Callable[[], dict[str, Any]]) -> None:
    """Totals; means, shares and the peak of the export's own window; the age at its end."""
    assert collect() == {}
    told: list[dict[str, Any]] = []
    for step, _ in enumerate(hw.steps(loader(time, 10, wait=1.0))):
        time.advance(2.75 if step != 6 else 6.75)
        if step in {0, 4, 8}:
            told.append(collect())
    told.append(collect())
    totals = [(0, 4.0, 1.0), (4, 19.25, 5.0), (8, 38.5, 9.0), (10, 42.25, 10.0)]
    assert [(each["steps"], each["step.time"], each["data.wait.time"]) for each in told] == totals
    assert [each.get("step.age") for each in told] == [None, 4.0, 4.0, None]
    # The third window has the long step; those in which an export was made took a quarter of a second longer.
    means = [None, (4.0 + 3 * 3.75) / 4, (4.0 + 2 * 3.75 + 7.75) / 4, (4.0 + 3.75) / 2]
    assert [each.get("step.duration") for each in told] == means
    assert [each.get("step.duration.peak") for each in told] == [None, 4.0, 7.75, 4.0]
    assert [each.get("data.wait.share") for each in told] == [None, 4 / 15.25, 4 / 19.25, 1 / 3.75]
    assert all("step.time.completed" not in each for each in told)


def test_a_step_that_is_longer_than_the_window_is_told_whole(
    time: ManualClock, collect: Callable[[], dict[str, Any]]
) -> None:
    """No mean while it lasts; then its length, and not the part of it in the window. Its waiting is seen as it lasts."""
    told: list[dict[str, Any]] = []

    def batches() -> Iterator[int]:
        for _ in range(3):
            for _ in range(4):
                time.advance(9.75)
                told.append(collect())
            yield 0

    for _ in hw.steps(batches()):
        time.advance(0.0)
    assert [each.get("step.duration") for each in told] == [*(None,) * 4, 40, *(None,) * 3, 40, *(None,) * 3]
    assert [each.get("data.wait.share") for each in told] == [None, *(1.0,) * 11]
    assert [each["data.wait.time"] for each in told] == [10.0 * number for number in range(1, 13)]
    assert [each.get("step.age") for each in told] == [*(None,) * 4, *(10.0, 20.0, 30.0, 40.0) * 2]


def test_what_is_exported_of_phases(time: ManualClock, collect: Callable[[], dict[str, Any]]) -> None:
    """1 while it is open, 0 afterwards; the age stands still."""
    hw.step()
    time.advance(3.0)
    with hw.phase("val"):
        time.advance(100.0)
        first = collect()
    second = collect()
    assert (first["evaluation"], first["step.age"]) == (1, 3.0)
    assert (second["evaluation"], second["step.age"]) == (0, 3.25)


def test_it_works_in_real_time_with_three_lines(process_clock: StepClock) -> None:
    """`instrument()`, `steps()`, `phase()`: what was done is in the export."""
    reader = InMemoryMetricReader()
    with hw.instrument(sources=["training"], meter_provider=MeterProvider([reader]), snapshot_timeout=20.0):
        with hw.phase("checkpoint"):
            for _ in hw.steps("no steps"):
                pass
        for _ in hw.steps(range(5)):
            pass
        deadline = monotonic() + 20
        while "steps" not in (told := exported(reader)) and monotonic() < deadline:
            pass  # exports that come within 50 ms share a look
    assert told["steps"] == process_clock.look().steps == 5
    assert told["checkpoint"] == 0
    assert 0 < told["data.wait.time"] < told["step.time"] < 20
    assert 0 < told["step.duration.peak"] <= told["step.time"]
