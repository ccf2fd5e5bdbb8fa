# SPDX-License-Identifier: Apache-2.0
"""One look at a time: what a sample waits for, what it goes without, and what a source that hangs costs the others."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import pairwise
from types import SimpleNamespace

import pytest

from otel_hwmetrics import _guard, budget, output
from otel_hwmetrics import runners as runners_module
from otel_hwmetrics import sampler as sampler_module
from otel_hwmetrics.catalog import own, process, system
from otel_hwmetrics.model import Reading, Series, Snapshot
from otel_hwmetrics.runners import BACK_OFF_MOST, HUNG_AFTER, STALE_AFTER, ThreadRunner
from otel_hwmetrics.sampler import Judge, Sampler
from otel_hwmetrics.sources.base import Batch, Source, SourceUnavailable
from otel_hwmetrics.testing import ManualClock
from otel_hwmetrics.windows import Accumulator, Sample, between

PATIENT = 60.0
"""Real seconds that are never waited for where all is well, however busy the machine is."""
SHORT = 0.02
"""Real seconds that are waited for in vain."""

LOOKS = Series(system.MEMORY_LIMIT)


class Steady(Source):
    """A source that tells how often it was read, on the sampler's own thread."""

    name = "steady"
    series = LOOKS

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.looks = 0
        self.closed = threading.Event()
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        """While it is not set, a look gets stuck."""
        self.gate.set()
        self.fault: Exception | None = None

    def read(self) -> Batch:
        """One look, if nothing is in its way."""
        batch = Batch()
        self.looks += 1
        looks, at = self.looks, self.clock.monotonic()
        self.entered.release()
        assert self.gate.wait(PATIENT)
        if self.fault is not None:
            raise self.fault
        batch.readings.append(Reading(self.series, looks, at))
        return batch

    def close(self) -> None:
        """Remember it."""
        self.closed.set()


class Turnstile(threading.Event):
    """A gate through which each `set` lets one look."""

    def __init__(self) -> None:
        super().__init__()
        self._passes = threading.Semaphore(0)

    def set(self) -> None:
        """Let one look pass."""
        self._passes.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for one's turn."""
        return self._passes.acquire(timeout=timeout)


class Driver(Steady):
    """A source like a driver: it may hang, in opening too, so it has a thread of its own."""

    name = "driver"
    may_hang = True
    series = Series(process.THREAD_COUNT)
    more = (Series(process.MEMORY_USAGE), Series(process.MEMORY_VIRTUAL))

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.opens = threading.Event()
        self.opens.set()

    def open(self) -> None:
        """Take as long as the test likes."""
        assert self.opens.wait(PATIENT)

    def read(self) -> Batch:
        """Three readings."""
        batch = super().read()
        batch.readings += [Reading(series, 0, batch.readings[0].at) for series in self.more]
        return batch


class Counting(Steady):
    """Its looks as a total."""

    series = Series(process.DISK_IO, {"disk.io.direction": "write"})


class Absent(Source):
    """A source that is not there."""

    name = "absent"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def open(self) -> None:
        """Say why not."""
        raise self.error

    def read(self) -> Batch:
        """Never called."""
        raise AssertionError("a source that is unavailable is not read")


class AbsentDriver(Absent):
    """The same on a thread of its own."""

    may_hang = True


class Recorder:
    """A judge that remembers what it was given."""

    def __init__(self) -> None:
        self.judged: list[Snapshot] = []
        self.glanced: list[Snapshot] = []
        self.told = threading.Semaphore(0)

    def judge(self, snapshot: Snapshot) -> None:
        """Remember it."""
        self.judged.append(snapshot)

    def readings(self, at: float) -> Iterable[Reading]:
        """One, to be found in the sample."""
        yield Reading(Series(own.ALERT_TRANSITIONS), len(self.judged), at)

    def glance(self, snapshot: Callable[[], Snapshot]) -> None:
        """Remember what it was of."""
        self.glanced.append(snapshot())

    def tell(self) -> None:
        """Let the test go on."""
        self.told.release()


class World:
    """A sampler and what it is made of."""

    def __init__(
        self, *make: Callable[[ManualClock], Source], judge: Judge | None = None, interval: float = 0.0
    ) -> None:
        self.clock = ManualClock(start=1000.0)
        self.sources = [each(self.clock) for each in make]
        self.recorder = Recorder()
        self.sampler = Sampler(
            self.sources,
            judge or self.recorder,
            Accumulator(),
            clock=self.clock,
            interval=interval,
            source_timeout=PATIENT,
        )

    def start(self) -> None:
        """Start the sampler's own thread, and wait for its first look."""
        self.sampler.start()
        assert self.recorder.told.acquire(timeout=PATIENT)

    def open(self) -> None:
        """Open the sources only, for a test that samples by hand."""
        for runner in self.sampler.runners:
            runner.start()
            if isinstance(runner, ThreadRunner):
                assert runner.wait_opened(PATIENT)

    def sample(self, *, patience: float = PATIENT) -> Sample:
        """One look by hand; a source that is late by ``patience`` is left out."""
        self.sampler._source_timeout = patience
        return self.sampler.sample()

    def settle(self, runner: ThreadRunner) -> None:
        """Wait until a look that was stuck is over."""
        with runner._condition:
            assert runner._condition.wait_for(lambda: not runner._busy, PATIENT)

    def asked(self, times: int) -> None:
        """Wait until that many have asked for a fresh sample."""
        with self.sampler._condition:
            assert self.sampler._condition.wait_for(lambda: self.sampler._asked >= times, PATIENT)


@contextmanager
def running(world: World, *, by_hand: bool = False) -> Iterator[World]:
    """A world that is started, and afterwards ended whatever became of it."""
    (world.open if by_hand else world.start)()
    try:
        yield world
    finally:
        for source in world.sources:
            if isinstance(source, Steady):
                source.gate.set()
            if isinstance(source, Driver):
                source.opens.set()
        world.sampler.stop(PATIENT)
        assert not threads(world)


def threads(world: World) -> list[threading.Thread]:
    """The threads of a sampler that are alive."""
    sampler = world.sampler
    lives = [sampler._life, *(r.life for r in sampler.runners if isinstance(r, ThreadRunner))]
    return [life.thread for life in lives if life.thread is not None and life.thread.is_alive()]


class Hung:
    """A world of one steady source and one driver that has hung in its second look, sampled by hand."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = world.clock
        steady, driver = world.sources
        assert isinstance(steady, Steady)
        assert isinstance(driver, Driver)
        self.steady, self.driver = steady, driver
        runner = world.sampler.runners[1]
        assert isinstance(runner, ThreadRunner)
        self.runner = runner

    def hang(self) -> Sample:
        """The sample in which it hangs."""
        while self.driver.entered.acquire(blocking=False):
            pass  # the looks so far
        self.driver.gate.clear()
        sample = self.world.sample(patience=SHORT)
        assert self.driver.entered.acquire(timeout=PATIENT), "it was not asked"
        return sample

    def release(self, *, after: float = HUNG_AFTER) -> None:
        """Let the stuck look end after so many seconds, and later ones pass."""
        self.clock.advance(after)
        self.driver.gate.set()
        self.world.settle(self.runner)


@pytest.fixture
def hung() -> Iterator[Hung]:
    """Looked at once with both sources well, then with the driver hung."""
    with running(World(Steady, Driver), by_hand=True) as world:
        made = Hung(world)
        assert look(world.sample(), made.driver) == 1
        made.hang()
        yield made


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The guard as it is in production, with no faults so far."""
    monkeypatch.setattr(_guard, "LOUD", False)
    before = dict(_guard.faults)
    _guard.faults.clear()
    yield
    _guard.faults.clear()
    _guard.faults.update(before)


def look(sample: Sample, source: Steady) -> float | None:
    """Which look of a source a sample holds; None where it holds none."""
    point = sample.points.get(source.series)
    return point.value if point is not None else None


def up(sample: Sample, source: Source) -> float | None:
    """What a sample says of a source."""
    point = sample.points.get(Series(own.SOURCE_UP, {own.SOURCE: source.name}))
    return point.value if point is not None else None


def lost(sample: Sample, source: Source) -> dict[object, float]:
    """How many readings of a source a sample says were lost so far, by type of error."""
    return {
        series.attributes[own.ERROR_TYPE]: point.value
        for series, point in sample.points.items()
        if series.metric is own.READINGS_LOST and series.attributes[own.SOURCE] == source.name
    }


# A fresh sample.


def test_a_fresh_sample_is_taken_after_it_was_asked_for() -> None:
    """A look that was under way when a sample was asked for does not count: the machine is looked at again."""
    world = World(Steady)
    (source,) = world.sources
    assert isinstance(source, Steady)
    with running(world), ThreadPoolExecutor() as pool:
        source.gate = Turnstile()
        early = pool.submit(world.sampler.fresh, PATIENT)
        for _ in range(2):  # the first look, at the start, and that for `early`
            assert source.entered.acquire(timeout=PATIENT)
        asked_in_between = pool.submit(world.sampler.fresh, PATIENT)
        world.asked(2)
        source.gate.set()
        first = early.result(PATIENT)
        assert source.entered.acquire(timeout=PATIENT)
        assert not wait([asked_in_between], SHORT).done, "served by the look that was under way"
        source.gate.set()
        second = asked_in_between.result(PATIENT)
        assert first is not None
        assert second is not None
        assert (look(first, source), look(second, source)) == (2, 3)


def test_however_many_ask_one_look_serves_them() -> None:
    """Sixteen that ask while the thread is busy are all served by the one look that follows."""
    world = World(Steady)
    (source,) = world.sources
    assert isinstance(source, Steady)
    with running(world), ThreadPoolExecutor(20) as pool:
        source.gate.clear()
        pool.submit(world.sampler.fresh, PATIENT)
        for _ in range(2):
            assert source.entered.acquire(timeout=PATIENT)
        crowd = [pool.submit(world.sampler.fresh, PATIENT) for _ in range(16)]
        world.asked(17)
        source.gate.set()
        samples = [asked.result(PATIENT) for asked in crowd]
        assert {look(sample, source) for sample in samples if sample is not None} == {3}
        assert len({id(sample) for sample in samples}) == 1
        assert source.looks == 3


def test_whoever_asks_waits_a_bounded_time_and_gets_what_is_recent() -> None:
    """While the thread is stuck the last sample is served, until it is too old to be shown as the present."""
    world = World(Steady)
    (source,) = world.sources
    assert isinstance(source, Steady)
    with running(world):
        last = world.sampler.fresh(PATIENT)
        assert last is not None
        source.gate.clear()
        started = time.monotonic()
        assert world.sampler.fresh(SHORT) is last
        world.clock.advance(STALE_AFTER)
        assert world.sampler.fresh(SHORT) is last
        world.clock.advance(0.001)
        assert world.sampler.fresh(SHORT) is None
        assert time.monotonic() - started < PATIENT / 2


def test_what_is_recent_follows_the_interval() -> None:
    """With samples far apart the last one is the present for three intervals, however long that is."""
    world = World(Steady, interval=3600)
    (source,) = world.sources
    assert isinstance(source, Steady)
    with running(world):
        source.gate.clear()
        world.clock.advance(3 * 3600)
        assert world.sampler.fresh(SHORT) is world.sampler.latest
        world.clock.advance(1)
        assert world.sampler.fresh(SHORT) is None


def test_before_the_first_sample_there_is_nothing_to_serve() -> None:
    """Asked before anything was read, the answer is nothing, after a bounded time."""
    world = World(Steady)
    (source,) = world.sources
    assert isinstance(source, Steady)
    source.gate.clear()
    world.sampler.start()
    try:
        assert world.sampler.fresh(SHORT) is None
        assert world.sampler.first is None
    finally:
        source.gate.set()
        world.sampler.stop(PATIENT)


def test_the_first_sample_is_kept() -> None:
    """The sample that totals and rates count from stays the first one."""
    with running(World(Steady), by_hand=True) as world:
        first = world.sample()
        later = world.sample()
        assert world.sampler.first is first
        assert world.sampler.latest is later


# A source that hangs.


def test_a_source_that_hangs_is_left_out_and_counted(hung: Hung, caplog: pytest.LogCaptureFixture) -> None:
    """The sample goes without it: what it lacks is counted by readings, it is not up, and the log says so once."""
    sample = hung.world.sampler.latest
    assert sample is not None
    assert look(sample, hung.driver) is None
    assert look(sample, hung.steady) == 2
    assert (up(sample, hung.driver), up(sample, hung.steady)) == (0, 1)
    assert lost(sample, hung.driver) == {"timeout": 3}
    assert lost(sample, hung.steady) == {}
    with caplog.at_level(logging.WARNING):
        assert lost(hung.world.sample(), hung.driver) == {"timeout": 6}
    assert caplog.records == []


def test_a_source_that_hangs_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The first time in a source's life that it is late, a warning names it, and never again."""
    with running(World(Steady, Driver), by_hand=True) as world:
        hung = Hung(world)
        for _ in range(3):
            hung.hang()
            hung.release()
            world.sample()
            hung.clock.advance(BACK_OFF_MOST)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "driver does not answer in time" in record.getMessage()
    assert own.READINGS_LOST.name in record.getMessage()


def test_a_source_that_hangs_costs_the_following_samples_no_wait(hung: Hung) -> None:
    """A source is waited for once; from then on samples come at once until it answers."""
    started = time.monotonic()
    for number in range(3, 13):
        assert look(hung.world.sample(patience=PATIENT), hung.steady) == number
    assert time.monotonic() - started < PATIENT / 2
    assert hung.driver.looks == 2


def test_a_late_batch_joins_the_next_sample(hung: Hung) -> None:
    """What a late look found is not thrown away: the next sample holds it, with the time at which it was read."""
    read_at = hung.clock.monotonic()
    hung.release(after=STALE_AFTER)
    sample = hung.world.sample()
    assert look(sample, hung.driver) == 2
    assert sample.points[hung.driver.series].at == read_at
    assert sample.at == read_at + STALE_AFTER
    assert up(sample, hung.driver) == 1
    assert lost(sample, hung.driver) == {"timeout": 3}


def test_a_batch_that_is_too_old_is_dropped(hung: Hung) -> None:
    """A look that ended more than `STALE_AFTER` after it began is no reading of the present."""
    hung.release(after=STALE_AFTER + 0.001)
    sample = hung.world.sample()
    assert look(sample, hung.driver) is None
    assert lost(sample, hung.driver) == {"timeout": 6}
    assert up(sample, hung.driver) == 0


def test_a_source_that_hung_rests_and_comes_back(hung: Hung) -> None:
    """After a hang a source is left alone for a second, counted as lost meanwhile, then read as before."""
    hung.release()
    assert look(hung.world.sample(), hung.driver) == 2
    hung.clock.advance(0.999)
    resting = hung.world.sample()
    assert look(resting, hung.driver) is None
    assert (up(resting, hung.driver), lost(resting, hung.driver)) == (0, {"timeout": 6})
    assert hung.driver.looks == 2
    hung.clock.advance(0.001)
    for number in (3, 4, 5):
        back = hung.world.sample()
        assert look(back, hung.driver) == number
        assert (up(back, hung.driver), lost(back, hung.driver)) == (1, {"timeout": 6})


def test_how_long_a_look_took_is_not_how_long_it_lay(hung: Hung) -> None:
    """A look that ended soon after its sample was only slow, however long the next sample keeps it waiting."""
    hung.release(after=0.1)
    hung.clock.advance(STALE_AFTER - 1)  # the next sample comes late
    assert look(hung.world.sample(), hung.driver) == 2
    assert look(hung.world.sample(), hung.driver) == 3


def test_a_source_that_was_only_slow_gets_no_rest(hung: Hung) -> None:
    """A look that was late by less than `HUNG_AFTER` loses its own sample, and the next but one asks again."""
    hung.release(after=HUNG_AFTER - 0.001)
    assert look(hung.world.sample(), hung.driver) == 2
    assert look(hung.world.sample(), hung.driver) == 3


def test_a_slow_neighbour_takes_nothing_from_the_time_a_source_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that may hang is waited for from when the others are read, however long those took."""
    passed = [0.0]
    fake = SimpleNamespace(monotonic=lambda: time.monotonic() + passed[0], thread_time=time.thread_time)
    monkeypatch.setattr(sampler_module, "time", fake)
    monkeypatch.setattr(runners_module, "time", fake)
    with running(World(Steady, Driver), by_hand=True) as world:
        steady, driver = world.sources
        assert isinstance(steady, Steady)
        assert isinstance(driver, Driver)
        driver.gate.clear()
        read = steady.read

        def slow_read() -> Batch:
            batch = read()
            assert driver.entered.acquire(timeout=PATIENT)
            passed[0] += 10 * PATIENT
            driver.gate.set()
            return batch

        monkeypatch.setattr(steady, "read", slow_read)
        assert look(world.sample(), driver) == 1


def test_the_rests_grow_while_it_keeps_hanging_and_are_forgotten_once_it_does_not(hung: Hung) -> None:
    """A source that hangs at each look is asked after 1, 2, 4 … 60 s, and after one good look after 1 s again."""
    for rest in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, BACK_OFF_MOST, BACK_OFF_MOST):
        hung.release()
        assert look(hung.world.sample(), hung.driver) == hung.driver.looks
        looks = hung.driver.looks
        hung.clock.advance(rest - 0.001)
        hung.world.sample()
        assert hung.driver.looks == looks, f"asked before {rest} s"
        hung.clock.advance(0.001)
        hung.hang()
        assert hung.driver.looks == looks + 1, f"not asked after {rest} s"
    hung.release()
    hung.world.sample()
    hung.clock.advance(BACK_OFF_MOST)
    assert look(hung.world.sample(), hung.driver) == hung.driver.looks
    hung.hang()
    hung.release()
    hung.world.sample()
    looks = hung.driver.looks
    hung.clock.advance(1.0)
    assert look(hung.world.sample(), hung.driver) == looks + 1


def test_slow_opening_loses_nothing() -> None:
    """A driver may take seconds to start: samples go on without it, nothing counts as lost, then it is there."""
    world = World(Steady, Driver)
    steady, driver = world.sources
    assert isinstance(steady, Steady)
    assert isinstance(driver, Driver)
    driver.opens.clear()
    for runner in world.sampler.runners:
        runner.start()
    try:
        without = world.sample(patience=SHORT)
        started = time.monotonic()
        for _ in range(3):
            without = world.sample()  # waited for once, not each time
        assert time.monotonic() - started < PATIENT / 2
        assert look(without, steady) == 4
        assert look(without, driver) is None
        assert lost(without, driver) == {}
        driver.opens.set()
        runner = world.sampler.runners[1]
        assert isinstance(runner, ThreadRunner)
        assert runner.wait_opened(PATIENT)
        opened = world.sample()
        assert look(opened, driver) == 1
        assert (up(opened, driver), lost(opened, driver)) == (1, {})
    finally:
        driver.opens.set()
        world.sampler.stop(PATIENT)


# A source that is not there, or fails.


@pytest.mark.parametrize("make", [Absent, AbsentDriver])
def test_an_unavailable_source_is_told_of_once_and_has_no_series(
    caplog: pytest.LogCaptureFixture, make: type[Absent]
) -> None:
    """What is not there gets one INFO line without a traceback, and neither readings nor `hwmetrics.source.up`."""
    absent = make(SourceUnavailable("absent", "no driver", "install one"))
    with caplog.at_level(logging.INFO), running(World(Steady, lambda _: absent), by_hand=True) as world:
        for _ in range(3):
            sample = world.sample()
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage() == "No readings from absent: no driver; install one. Everything else goes on."
    assert record.exc_info is None
    assert sample.points[LOOKS].value == 3
    assert not [series for series in sample.points if series.attributes.get(own.SOURCE) == "absent"]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("make", [Absent, AbsentDriver])
def test_an_unforeseen_fault_in_opening_makes_a_source_unavailable(
    caplog: pytest.LogCaptureFixture, make: type[Absent]
) -> None:
    """Whatever opening a source raises ends that source only, is counted, and says what it was."""
    absent = make(LookupError("surprise"))
    with caplog.at_level(logging.INFO), running(World(Steady, lambda _: absent), by_hand=True) as world:
        sample = world.sample()
    assert sample.points[LOOKS].value == 1
    assert up(sample, absent) is None
    assert caplog.messages[-1] == "No readings from absent: LookupError: surprise. Everything else goes on."
    assert sample.points[Series(own.INTERNAL_ERRORS, {own.PLACE: "opening absent"})].value == 1


def test_lines_that_nobody_took_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first on; a log that is read has no such metric."""
    dropped = Series(own.LINES_DROPPED)
    with running(World(Steady), by_hand=True) as world:
        monkeypatch.setattr(output, "passed_over", 0)
        assert dropped not in world.sample().points
        monkeypatch.setattr(output, "passed_over", 2)
        assert world.sample().points[dropped].value == 2


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("make", [Steady, Driver])
def test_an_unforeseen_fault_in_reading_is_guarded_and_counted(make: type[Steady]) -> None:
    """A source that raises loses its own readings, is counted twice over, and is read again at the next sample."""
    other = Driver if make is Steady else Steady
    with running(World(make, other), by_hand=True) as world:
        faulty, sound = world.sources
        assert isinstance(faulty, Steady)
        assert isinstance(sound, Steady)
        faulty.fault = ZeroDivisionError("a bug of ours")
        for number in (1, 2):
            sample = world.sample()
            assert look(sample, sound) == number
            assert look(sample, faulty) is None
            assert up(sample, faulty) == 0
            assert lost(sample, faulty) == {"ZeroDivisionError": number}
            place = Series(own.INTERNAL_ERRORS, {own.PLACE: f"reading {faulty.name}"})
            assert sample.points[place].value == number
        faulty.fault = None
        assert look(world.sample(), faulty) == 3


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("method", ["judge", "readings", "tell"])
def test_a_judge_that_raises_loses_no_sample(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """A fault in judging, in showing what was judged, or in telling of it costs no sample and is counted."""
    world = World(Steady)

    def fail(*_: object) -> None:
        if method == "tell":
            world.recorder.told.release()
        raise ArithmeticError("a bug of ours")

    monkeypatch.setattr(world.recorder, method, fail)
    with running(world):
        (source,) = world.sources
        assert isinstance(source, Steady)
        for number in (2, 3):
            sample = world.sampler.fresh(PATIENT)
            assert sample is not None
            assert look(sample, source) == number
        places = {"judge": "judging alerts", "readings": "showing alerts", "tell": "telling of alerts"}
        assert set(_guard.faults) == {places[method]}


@pytest.mark.usefixtures("quiet")
def test_a_fault_in_sampling_answers_who_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a whole sample fails, nobody waits for it in vain, and the thread lives on."""
    with running(World(Steady)) as world:
        before = world.sampler.latest

        def fail(**_: object) -> Sample:
            raise ArithmeticError("a bug of ours")

        with monkeypatch.context() as broken:
            broken.setattr(world.sampler, "sample", fail)
            assert world.sampler.fresh(PATIENT) is before
        after = world.sampler.fresh(PATIENT)
        assert after is not None
        assert after is not before


# When it looks, and which looks are judged.


def test_with_no_interval_it_looks_at_first_and_when_asked() -> None:
    """With an interval of 0 the machine is looked at once at the start and once for each asking; all are judged."""
    with running(World(Steady)) as world:
        for number in range(2, 12):
            sample = world.sampler.fresh(PATIENT)
            assert sample is not None
            assert look(sample, world.sources[0]) == number  # type: ignore[arg-type]
            assert world.recorder.told.acquire(timeout=PATIENT)
            assert len(world.recorder.judged) == number
        # No series of looks of its own between them: each of the ten was the next one.


def test_it_looks_by_itself_at_every_interval() -> None:
    """With an interval nobody needs to ask: samples come, are judged, and are told of once they are out."""
    with running(World(Steady, interval=0.01)) as world:
        for _ in range(5):
            assert world.recorder.told.acquire(timeout=PATIENT)
        assert len(world.recorder.judged) >= 6


def test_only_regular_samples_are_judged() -> None:
    """An export in between two regular samples moves neither the times of judging nor the windows judged."""
    with running(World(Steady, interval=3600)) as world:
        for number in (2, 3, 4):
            sample = world.sampler.fresh(PATIENT)
            assert sample is not None
            assert look(sample, world.sources[0]) == number  # type: ignore[arg-type]
        assert len(world.recorder.judged) == 1


def test_the_window_judged_is_that_between_regular_samples() -> None:
    """A judge's window begins at the regular sample before, whatever was looked at for exports meanwhile."""
    with running(World(Steady, interval=3600), by_hand=True) as world:
        sampler, judged = world.sampler, world.recorder.judged
        sampler.sample(regular=True)
        world.clock.advance(1)
        sampler.sample(regular=False)
        world.clock.advance(2)
        sampler.sample(regular=True)
        assert [(snapshot.window.start, snapshot.window.end) for snapshot in judged] == [(1000, 1000), (1000, 1003)]
        assert sampler.snapshot is judged[-1]


def test_what_was_decided_is_in_the_same_sample() -> None:
    """A judge's own readings join the sample that it judged."""
    with running(World(Steady), by_hand=True) as world:
        world.sample()
        assert world.sample().points[Series(own.ALERT_TRANSITIONS)].value == 2


def test_missed_looks_are_not_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a long stop one regular look is made, not two in quick succession that have no rates between them."""
    stopped = [0.0]
    fake = SimpleNamespace(monotonic=lambda: time.monotonic() + stopped[0], thread_time=time.thread_time)
    monkeypatch.setattr(sampler_module, "time", fake)
    monkeypatch.setattr(runners_module, "time", fake)
    with running(World(Steady, interval=3600)) as world:
        stopped[0] = 3 * 3600.0
        for _ in range(3):
            assert world.sampler.fresh(PATIENT) is not None
        assert len(world.recorder.judged) == 2


def test_it_counts_its_own_cost() -> None:
    """Each sample tells how long its sources and the sampling itself have taken so far."""
    with running(World(Steady, Driver), by_hand=True) as world:
        first, second = world.sample(), world.sample()
        for name in ("steady", "driver"):
            series = Series(own.SOURCE_READ_TIME, {own.SOURCE: name})
            assert 0 <= first.points[series].value < second.points[series].value
        series = Series(own.SAMPLING_TIME)
        assert 0 <= first.points[series].value < second.points[series].value


# The end.


def test_stop_ends_all_threads_and_closes_all_sources() -> None:
    """After `stop` no thread of ours is alive and every source was closed, once it is stopped again, too."""
    world = World(Steady, Driver, interval=0.01)
    world.start()
    assert len(threads(world)) == 2
    world.sampler.stop(PATIENT)
    world.sampler.stop(PATIENT)
    assert threads(world) == []
    assert all(isinstance(source, Steady) and source.closed.is_set() for source in world.sources)


def test_stop_leaves_a_hung_source_behind() -> None:
    """A source that hangs holds `stop` up for its timeout only; when its call ends, it is closed after all."""
    world = World(Driver)
    (driver,) = world.sources
    assert isinstance(driver, Driver)
    world.start()
    driver.gate.clear()
    world.sampler._source_timeout = SHORT
    assert world.sampler.fresh(PATIENT) is not None
    for _ in range(2):
        assert driver.entered.acquire(timeout=PATIENT)
    started = time.monotonic()
    world.sampler.stop(SHORT)
    assert time.monotonic() - started < PATIENT / 2
    (stuck,) = threads(world)
    assert stuck.daemon, "or the process could not end"
    assert not driver.closed.is_set()
    driver.gate.set()
    stuck.join(PATIENT)
    assert driver.closed.is_set()
    assert driver.looks == 2


def test_stop_while_a_source_opens_closes_it_once_it_is_open() -> None:
    """What is still opening when all is stopped is closed without ever being read."""
    world = World(Driver)
    (driver,) = world.sources
    assert isinstance(driver, Driver)
    driver.opens.clear()
    world.sampler._source_timeout = SHORT
    world.start()
    world.sampler.stop(SHORT)
    driver.opens.set()
    assert driver.closed.wait(PATIENT)
    assert driver.looks == 0


def test_stop_lets_go_of_who_waits() -> None:
    """Whoever waits for a fresh sample when all is stopped gets what there is, and at once."""
    world = World(Steady)
    (source,) = world.sources
    assert isinstance(source, Steady)
    with running(world), ThreadPoolExecutor() as pool:
        source.gate.clear()
        waiting = pool.submit(world.sampler.fresh, PATIENT)
        world.asked(1)
        world.sampler.stop(SHORT)
        started = time.monotonic()
        waited = waiting.result(PATIENT)
        assert time.monotonic() - started < PATIENT / 2
        assert waited is not None
        assert look(waited, source) == 1


@pytest.mark.usefixtures("quiet")
def test_a_source_that_fails_to_close_keeps_no_other_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in closing is counted, and the next source is closed all the same."""
    world = World(Steady, Steady, Driver)

    def fail() -> None:
        raise ArithmeticError("a bug of ours")

    monkeypatch.setattr(world.sources[0], "close", fail)
    monkeypatch.setattr(world.sources[2], "close", fail)
    world.start()
    world.sampler.stop(PATIENT)
    assert isinstance(world.sources[1], Steady)
    assert world.sources[1].closed.is_set()
    assert threads(world) == []
    assert _guard.faults == {"closing steady": 1, "closing driver": 1}


def test_time_between_two_samplers_is_not_observed() -> None:
    """A sampler that takes over an accumulator goes on with its totals, and knows that nobody looked meanwhile."""
    accumulator, clock = Accumulator(), ManualClock(1000.0)
    source = Counting(clock)
    ended = []
    for _ in range(2):
        sampler = Sampler([source], Recorder(), accumulator, clock=clock, interval=0)
        sampler.start()
        assert sampler.fresh(PATIENT) is not None
        sampler.stop(PATIENT)
        ended.append(sampler)
        clock.advance(60)
    before, after = ended[0].latest, ended[1].first
    assert before is not None
    assert after is not None
    assert after.number == before.number + 2, "one sample is missing between them"
    assert look(after, source) == look(before, source) + 1  # type: ignore[operator]


def test_a_look_that_outlives_its_sampler_adds_nothing_to_the_totals() -> None:
    """The sums go on with another sampler: what an old one still brings would count twice."""
    world = World(Counting)
    (counting,) = world.sources
    assert isinstance(counting, Counting)
    world.start()
    assert world.sampler.fresh(PATIENT) is not None
    counting.gate.clear()
    while counting.entered.acquire(blocking=False):
        pass
    world.sampler.fresh(SHORT)
    assert counting.entered.acquire(timeout=PATIENT)
    numbered = world.sampler._accumulator._number
    world.sampler.stop(SHORT)
    assert not counting.closed.is_set(), "it is being read"
    counting.gate.set()
    (thread,) = threads(world)
    thread.join(PATIENT)
    assert world.sampler._accumulator._number == numbered
    assert counting.closed.is_set()


class Sleeper(Driver):
    """A source that has nothing to read until somebody loads a library."""

    asleep = True

    @property
    def dormant(self) -> bool:
        """As the test says."""
        return self.asleep


def test_a_dormant_source_has_no_thread_and_is_not_told_of() -> None:
    """Until there is something to read: then it is read like any other."""
    with running(World(Steady, Sleeper), by_hand=True) as world:
        _, sleeper = world.sources
        assert isinstance(sleeper, Sleeper)
        sample = world.sample()
        assert up(sample, sleeper) is None
        assert not [thread for thread in threads(world) if thread.name == "hwmetrics-driver"]
        sleeper.asleep = False
        for _ in range(3):
            sample = world.sample()
        assert up(sample, sleeper) == 1
        assert look(sample, sleeper) is not None


class Quiet(Steady):
    """A source that is there and has nothing to tell."""

    name = "quiet"

    def read(self) -> Batch:
        """Nothing."""
        return Batch()


def test_a_source_with_nothing_to_tell_is_up() -> None:
    """Which is no fault of it."""
    with running(World(Steady, Quiet), by_hand=True) as world:
        _, quiet_one = world.sources
        assert up(world.sample(), quiet_one) == 1


class Aside(Steady):
    """A source that knows something without being asked."""

    name = "aside"
    known = Series(process.MEMORY_VIRTUAL)

    def aside(self, *, hangs: bool) -> Iterable[Reading]:
        """Whether it hangs."""
        yield Reading(self.known, int(hangs), self.clock.monotonic())


class AsideDriver(Driver):
    """Likewise, on a thread of its own."""

    known = Series(process.CPU_LIMIT)

    def aside(self, *, hangs: bool) -> Iterable[Reading]:
        """Whether it hangs."""
        yield Reading(self.known, int(hangs), self.clock.monotonic())


def test_what_a_source_knows_without_being_asked_is_told_while_it_hangs() -> None:
    """And that it hangs, once a look has been under way for `HUNG_AFTER` seconds."""
    with running(World(Aside, AsideDriver), by_hand=True) as world:
        steady, driver = world.sources
        assert isinstance(driver, AsideDriver)
        assert isinstance(steady, Aside)
        sample = world.sample()
        assert (sample.points[steady.known].value, sample.points[driver.known].value) == (0, 0)
        driver.gate.clear()
        world.sample(patience=SHORT)
        world.clock.advance(HUNG_AFTER)
        sample = world.sample(patience=SHORT)
        assert sample.points[driver.known].value == 1
        driver.gate.set()


# A slower cadence, where looks cost too much.


def rate(earlier: Sample, later: Sample) -> float | None:
    """How fast the looks of `Counting` grew between two samples."""
    return next((reading.value for reading in between(earlier, later).of(process.DISK_IO_RATE)), None)


@pytest.mark.parametrize("make", [Counting, Driver])
def test_a_source_with_a_slower_cadence_is_told_again_until_it_is_due(make: type[Steady]) -> None:
    """With the time at which it was read; it is up, and nothing is lost. Looks for exports do not hasten it."""
    with running(World(Steady, make), by_hand=True) as world:
        steady, slow = world.sources
        assert isinstance(steady, Steady)
        assert isinstance(slow, Steady)
        world.sampler.runners[1].every, world.sampler.pace.slowed = 4.0, True
        for second in range(9):
            for regular in (True, False):
                sample = world.sampler.sample(regular=regular)
                assert look(sample, slow) == second // 4 + 1
                assert sample.points[slow.series].at == 1000 + second // 4 * 4
                assert (up(sample, slow), lost(sample, slow)) == (1, {})
            world.clock.advance(1)
        assert steady.looks == 18
        world.sampler.runners[1].every = 0.0
        assert look(world.sample(), slow) == 4
        assert look(world.sample(), slow) == 5


def test_the_rate_of_a_source_with_a_slower_cadence_is_told_again() -> None:
    """A rule that asks for a rate to last finds it at every sample, and not at every fourth alone."""
    with running(World(Counting), by_hand=True) as world:
        (counting,) = world.sources
        assert isinstance(counting, Counting)
        world.sampler.runners[0].every, world.sampler.pace.slowed = 4.0, True
        samples = []
        for _ in range(13):
            samples.append(world.sample())
            world.clock.advance(1)
        rates = [rate(earlier, later) for earlier, later in pairwise(samples)]
        assert rates == [None] * 3 + [0.25] * 9
        assert rate(samples[2], samples[12]) == 0.25
        assert samples[-1].before
        world.sampler.runners[0].every = 0.0
        assert world.sample().before == {}


class Pensive(Recorder):
    """A judge that takes its time."""

    pensive = True

    def judge(self, snapshot: Snapshot) -> None:
        """Use a CPU for a while."""
        super().judge(snapshot)
        end = time.thread_time() + 0.02 * self.pensive
        while time.thread_time() < end:
            pass


def test_above_its_budget_it_looks_less_often_and_comes_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What costs belongs to no source: all are read less often. Said once when it begins, and once when it is over."""
    for name, value in {"CREDIT": 0.5, "DEBT": 0.1, "STRETCH": 0.05, "LOOKS": 1}.items():
        monkeypatch.setattr(budget, name, value)
    judge = Pensive()
    world = World(Steady, judge=judge)
    world.sampler = Sampler(world.sources, judge, Accumulator(), interval=0.2, cpu_budget=0.05)
    with caplog.at_level(logging.INFO):
        world.sampler.start()
        try:
            began = time.monotonic()
            while world.sampler.pace.interval == 0.2:
                assert time.monotonic() - began < PATIENT
                time.sleep(0.01)
            (reading, *_) = world.sampler.pace.readings(0.0)
            assert reading.metric is own.SAMPLING_INTERVAL
            assert reading.value >= 0.4
            assert world.sampler.pace.stale_after == STALE_AFTER
            judge.pensive = False
            while world.sampler.pace.interval > 0.2:
                assert time.monotonic() - began < PATIENT
                time.sleep(0.01)
        finally:
            world.sampler.stop(PATIENT)
    said = [record.getMessage() for record in caplog.records]
    assert "more than the 5 % that cpu_budget=0.05 allows. It looks at the machine every 0.4 s from now on" in said[0]
    assert "it comes back to every 0.2 s once that fits" in said[0]
    fits = "otel_hwmetrics fits again into the 5 % that cpu_budget=0.05 allows: the machine is looked at every 0.2 s."
    assert said[-1] == fits


def test_with_fewer_looks_the_last_sample_is_the_present_for_longer() -> None:
    """For three intervals, as with samples that were asked for to be so far apart."""
    world = World(Steady, interval=1.0)
    world.sampler.pace._interval = 8.0
    world.sampler.pace._apply()
    assert world.sampler.pace.stale_after == 24.0
    assert [runner.stale_after for runner in world.sampler.runners] == [24.0]


def test_what_exports_cost_is_counted() -> None:
    """A look for an export, and its formatting on the reader's thread."""
    with running(World(Steady), by_hand=True) as world:
        before = world.sample().points[Series(own.SAMPLING_TIME)].value
        world.sampler.pace.format(10.0)
        world.sampler.sample(regular=False)
        assert world.sample().points[Series(own.SAMPLING_TIME)].value > before + 10.0
