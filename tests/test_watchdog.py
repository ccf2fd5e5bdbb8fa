# SPDX-License-Identifier: Apache-2.0
"""Our threads: one that dies is started again once, then stays off, and says so; what can be told without it is told."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import otel_hwmetrics
from otel_hwmetrics import _guard, threads
from otel_hwmetrics.catalog import own
from otel_hwmetrics.model import Reading, Series, Snapshot
from otel_hwmetrics.pipeline import Pipeline
from otel_hwmetrics.runners import THREAD_ENDED
from otel_hwmetrics.sampler import STUCK, Sampler
from otel_hwmetrics.sources.base import Batch, Source
from otel_hwmetrics.threads import Bystanders, Lasting, cpu_time_of
from otel_hwmetrics.windows import Accumulator

PATIENT = 20.0
"""Real seconds that are never waited for where all is well, however busy the machine is."""


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The guard as it is in production."""
    monkeypatch.setattr(_guard, "LOUD", False)
    yield
    _guard.faults.clear()


def until(holds: Callable[[], object]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENT
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def throw(thread: threading.Thread | None, kind: type[BaseException] = SystemExit) -> None:
    """Throw an exception into a thread, as libraries for timeouts do."""
    assert thread is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(kind))


class Work:
    """What a thread does: it waits, and ends as it is told to."""

    def __init__(self) -> None:
        self.lives = 0
        self.ends: list[BaseException | None] = []
        self._told = threading.Condition()

    def __call__(self) -> None:
        """One life."""
        self.lives += 1
        with self._told:
            assert self._told.wait_for(lambda: self.ends, PATIENT)
            end = self.ends.pop(0)
        if end is not None:
            raise end

    def end(self, by: BaseException | None) -> None:
        """Let the present life end."""
        with self._told:
            self.ends.append(by)
            self._told.notify_all()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged of a thread, but for the first fault's own line with its traceback."""
    return [line for line in caplog.messages if not line.startswith("otel_hwmetrics failed at: ")]


@pytest.mark.parametrize("end", [SystemExit(3), KeyboardInterrupt(), MemoryError(), ValueError("a bug of ours")])
def test_a_thread_that_dies_is_started_again_once(end: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it dies of; the second time it stays off. One line each says so."""
    work = Work()
    life = Lasting("watched", work, "nothing is watched")
    life.start()
    until(lambda: work.lives == 1)
    first = life.thread
    work.end(end)
    until(lambda: work.lives == 2 and life.thread is not first)
    assert life.alive
    work.end(end)
    until(lambda: life.off)
    until(lambda: not life.alive)
    life.check()
    assert work.lives == 2
    assert said(caplog) == [
        "hwmetrics-watched ended unexpectedly. It is started again, once. Training is not affected.",
        "hwmetrics-watched ended again. It stays off: nothing is watched. Training is not affected.",
    ]
    life.join(PATIENT)


def test_a_thread_whose_work_is_done_is_not_started_again(caplog: pytest.LogCaptureFixture) -> None:
    """That is no death, and nothing to speak of."""
    work = Work()
    life = Lasting("watched", work, "")
    life.start()
    work.end(None)
    until(lambda: not life.alive)
    life.check()
    assert (work.lives, life.off, said(caplog)) == (1, False, [])


def test_a_thread_that_is_refused_is_asked_for_again_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A cgroup limits threads: whoever depends on it tries again, and then no more."""
    refused = [RuntimeError("can't start new thread")] * 3
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "hwmetrics-watched" and refused:
            raise refused.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    work = Work()
    gone: list[str] = []
    never, late = (
        Lasting(
            "watched",
            work,
            "nothing is watched",
            gave_up=partial(gone.append, name),
            again="at the next export",
        )
        for name in ("never", "late")
    )
    never.start()
    assert not never.alive
    never.check()
    assert not never.alive
    never.check()
    assert never.off
    late.start()
    late.check()
    until(lambda: work.lives == 1)
    work.end(None)
    late.join(PATIENT)
    refusal = "hwmetrics-watched cannot be started: can't start new thread. "
    tried = f"{refusal}It is tried again at the next export, once. Training is not affected."
    assert said(caplog) == [tried, f"{refusal}It stays off: nothing is watched. Training is not affected.", tried]
    assert gone == ["never"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_starts_none() -> None:
    """It has none of our threads, and is to have none."""
    work = Work()
    life = Lasting("watched", work, "")
    life.start()
    child = os.fork()
    if not child:
        life.check()
        os._exit(len([each for each in threading.enumerate() if each.name == "hwmetrics-watched"]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    work.end(None)
    life.join(PATIENT)


class Still(Source):
    """A source with one reading."""

    name = "still"

    def __init__(self) -> None:
        self.looks = 0
        self.end: BaseException | None = None

    def read(self) -> Batch:
        """One reading, or an end."""
        self.looks += 1
        end, self.end = self.end, None
        if end is not None:
            raise end
        batch = Batch()
        batch.readings.append(Reading(Series(own.INTERNAL_ERRORS, {own.PLACE: "here"}), 0.0, time.monotonic()))
        return batch


class Aside(Still):
    """The same on a thread of its own."""

    name = "aside"
    may_hang = True


class Nobody:
    """Judges nothing."""

    def judge(self, snapshot: Snapshot) -> None:
        """Nothing."""

    def readings(self, at: float) -> Iterable[Reading]:  # noqa: ARG002 - the judge's
        """None."""
        return ()

    def glance(self, snapshot: Callable[[], Snapshot]) -> None:
        """Nothing."""

    def tell(self) -> None:
        """Nothing."""


@pytest.fixture
def sampler() -> Iterator[Sampler]:
    """One that looks at every hundredth of a second."""
    made = Sampler([Still(), Aside()], Nobody(), Accumulator(), interval=0.01, source_timeout=PATIENT)
    made.start()
    assert made.fresh(PATIENT) is not None
    yield made
    made.stop(PATIENT)


def told(sampler: Sampler, series: Series) -> float | None:
    """What the sampler tells of its health."""
    return next((reading.value for reading in sampler.health() if reading.series == series), None)


def test_a_sampler_that_dies_goes_on_and_then_stays_off(sampler: Sampler, caplog: pytest.LogCaptureFixture) -> None:
    """An exit is thrown into it: it samples on, with the same sums; after the second nobody waits for it."""
    first = sampler._life.thread
    throw(first)
    until(lambda: sampler._life.thread is not first)
    before = sampler.latest
    sample = sampler.fresh(PATIENT)
    assert before is not None
    assert sample is not None
    assert sample.number > before.number
    throw(sampler._life.thread)
    until(lambda: sampler._life.off)
    began = time.monotonic()
    for _ in range(100):
        sampler.fresh(PATIENT)
    assert time.monotonic() - began < PATIENT
    assert [line.split(".")[1].strip() for line in said(caplog)] == [
        "It is started again, once",
        "It stays off: there are no samples and alerts until instrument() is called again",
    ]


def test_health_is_told_without_a_sampler(sampler: Sampler) -> None:
    """That its thread is gone, and how old the newest sample has become."""
    up = Series(own.THREAD_UP, {own.THREAD_NAME: "hwmetrics-sampler"})
    assert told(sampler, up) == 1
    assert told(sampler, Series(own.THREAD_UP, {own.THREAD_NAME: "hwmetrics-aside"})) == 1
    first = sampler._life.thread
    throw(first)
    until(lambda: sampler._life.thread is not first)
    throw(sampler._life.thread)
    until(lambda: sampler._life.off and not sampler._life.alive)
    assert told(sampler, up) == 0
    age = told(sampler, Series(own.SAMPLE_AGE))
    time.sleep(0.01)
    later = told(sampler, Series(own.SAMPLE_AGE))
    assert age is not None
    assert later is not None
    assert later >= age + 0.01


def test_who_depends_on_a_sampler_hears_that_it_is_gone_for_good() -> None:
    """Once, and not at its first death: somebody else is to do its work."""
    gone: list[str] = []
    made = Sampler(
        [Still()], Nobody(), Accumulator(), interval=0.01, gave_up=lambda: gone.append(threading.current_thread().name)
    )
    made.start()
    assert made.fresh(PATIENT) is not None
    first = made._life.thread
    throw(first)
    until(lambda: made._life.thread is not first)
    assert gone == []
    throw(made._life.thread)
    until(lambda: gone)
    assert made._life.off
    made.fresh(PATIENT)
    made.stop(PATIENT)
    assert gone == ["hwmetrics-sampler"]


def test_a_look_that_does_not_end_is_stuck_and_one_that_ends_is_not(sampler: Sampler) -> None:
    """Where a call waits for a disk that is gone, nobody may wait for this sampler; once it answers all is well again."""
    source = sampler.runners[0].source
    assert isinstance(source, Still)
    held, free = threading.Event(), threading.Event()

    def read() -> Batch:
        held.set()
        free.wait(PATIENT)
        return Batch()

    assert not sampler.stuck
    for runner in sampler.runners:
        runner.stale_after = 0.01
    sampler.pace._interval = 0.001
    source.read = read  # type: ignore[method-assign]
    assert held.wait(PATIENT)
    assert not sampler.stuck, "it may end yet"
    sampler._busy_since = time.monotonic() - STUCK * sampler.pace.stale_after - 1
    assert sampler.stuck
    free.set()
    until(lambda: not sampler.stuck)


class Spendthrift(Nobody):
    """A judge that costs something."""

    def judge(self, snapshot: Snapshot) -> None:  # noqa: ARG002 - the judge's
        """For two hundredths of a second."""
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass


def test_what_a_fault_cuts_short_is_booked_once_and_what_a_dead_thread_spent_is_not_taken_back() -> None:
    """Neither all of the thread's life at each fault, nor less than nothing for its successor."""
    made = Sampler([Still()], Spendthrift(), Accumulator(), interval=0.01)
    made.start()
    until(lambda: made.pace._looks > 0.1)
    sample, spent = made._accumulator.sample, made.pace._looks

    def fail(*_: object) -> None:
        raise ValueError("a fault of ours")

    made._accumulator.sample = fail  # type: ignore[method-assign, assignment]
    before = len(_guard.faults) and sum(_guard.faults.values())
    until(lambda: sum(_guard.faults.values()) > before + 20)
    assert made.pace._looks < spent + 0.5, "each fault takes less than a millisecond, and the thread 0.1 s so far"
    first, spent = made._life.thread, made.pace._looks
    throw(first)
    until(lambda: made._life.thread is not first)
    faults = sum(_guard.faults.values())
    until(lambda: sum(_guard.faults.values()) > faults + 2)
    assert made.pace._looks >= spent
    made._accumulator.sample = sample  # type: ignore[method-assign]
    made.stop(PATIENT)


class Talkative(Nobody):
    """A judge whose telling takes its time."""

    def __init__(self) -> None:
        self.telling, self.told = threading.Event(), threading.Event()

    def tell(self) -> None:
        """Wait."""
        self.telling.set()
        self.told.wait(PATIENT)


def test_a_sampler_that_outlives_stop_while_it_tells_closes_what_it_reads_itself() -> None:
    """Once it is done with telling; and nothing is closed twice."""
    closed: list[str] = []
    judge, source = Talkative(), Still()
    source.close = lambda: closed.append(threading.current_thread().name)  # type: ignore[method-assign]
    made = Sampler([source], judge, Accumulator(), interval=0.01)
    made.start()
    assert judge.telling.wait(PATIENT)
    made.stop(0.01)
    assert closed == []
    judge.told.set()
    until(lambda: closed)
    made.stop(PATIENT)
    assert closed == ["hwmetrics-sampler"]


def test_a_source_whose_thread_dies_loses_one_look(sampler: Sampler) -> None:
    """The second time it stays off: not up, and what it does not tell is counted, at every sample."""
    runner = sampler.runners[1]
    source = runner.source
    assert isinstance(source, Aside)
    for deaths in (1, 2):
        source.end = SystemExit()
        until(lambda deaths=deaths: runner.lost[THREAD_ENDED] >= deaths)  # type: ignore[misc]
        if deaths == 1:
            looks = source.looks
            until(lambda looks=looks: source.looks > looks and runner.up)  # type: ignore[misc]
            assert runner.lost == {THREAD_ENDED: 1}
    looks = source.looks
    until(lambda: runner.lost[THREAD_ENDED] > 5)
    assert not runner.up
    assert source.looks == looks
    assert told(sampler, Series(own.THREAD_UP, {own.THREAD_NAME: "hwmetrics-aside"})) == 0
    assert sampler.runners[0].up


def test_what_a_source_has_open_is_closed_though_its_thread_is_dead(
    sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver's handle, a thread that waits for its events: whoever stops the sampler closes them in its place."""
    runner = sampler.runners[1]
    source = runner.source
    assert isinstance(source, Aside)
    closed: list[str] = []
    monkeypatch.setattr(source, "close", lambda: closed.append(threading.current_thread().name))
    for deaths in (1, 2):
        source.end = SystemExit()
        until(lambda deaths=deaths: runner.lost[THREAD_ENDED] >= deaths)  # type: ignore[misc]
    sampler.stop(PATIENT)
    assert closed == ["hwmetrics-aside"]


def exported(reader: InMemoryMetricReader) -> dict[str, dict[str, float]]:
    """One collection: values by metric and by the thread or source that they are of."""
    data = reader.get_metrics_data()
    return {
        metric.name: {
            str(
                (point.attributes or {}).get(own.THREAD_NAME, (point.attributes or {}).get(own.SOURCE, ""))
            ): point.value  # type: ignore[union-attr]
            for point in metric.data.data_points
        }
        for resource in (data.resource_metrics if data is not None else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def test_health_is_exported_when_nothing_else_can_be() -> None:
    """The sampler died twice: of the machine there is nothing, of us what is wrong."""
    reader = InMemoryMetricReader()
    with otel_hwmetrics.instrument(
        meter_provider=MeterProvider([reader]), sources="system", sample_interval=0.2
    ) as handle:
        pipeline = handle._pipeline
        assert isinstance(pipeline, Pipeline)
        until(lambda: pipeline.sampler.latest is not None)
        well = exported(reader)
        assert well["hwmetrics.thread.up"] == {"hwmetrics-sampler": 1}
        assert well["hwmetrics.sampling.interval"] == {"": pytest.approx(0.2)}
        assert well["hwmetrics.source.interval"] == {"system": pytest.approx(0.2)}
        assert 0 <= well["hwmetrics.sample.age"][""] < PATIENT
        life = pipeline.sampler._life
        for _ in range(2):
            thread = life.thread
            throw(thread)
            until(lambda thread=thread: life.off or life.thread is not thread)  # type: ignore[misc]
        until(lambda: not life.alive)
        pipeline.sampler.latest = pipeline._shared = None  # as if they were too old
        ill = exported(reader)
        assert "system.cpu.time" in well
        assert set(ill) == {
            *(
                "hwmetrics.thread.up",
                "hwmetrics.sample.age",
                "hwmetrics.sampling.interval",
                "hwmetrics.source.interval",
            ),
        }
        assert ill["hwmetrics.thread.up"] == {"hwmetrics-sampler": 0}


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's clocks of threads are Linux's")
def test_what_other_threads_of_ours_cost_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all but those that are counted elsewhere, and the training's own callbacks; also when they have ended."""
    monkeypatch.setattr(threads, "COUNT_EVERY", 0.0)
    stop, counted = threading.Event(), threading.Event()
    spent: dict[str, float] = {}

    def burn() -> None:
        while not stop.is_set():
            sum(range(1000))
        spent[threading.current_thread().name] = time.thread_time()
        counted.wait(PATIENT)

    names = ("hwmetrics-notify", "hwmetrics-callbacks", "hwmetrics-known", "somebody's")
    burning = [threading.Thread(target=burn, name=name, daemon=True) for name in names]
    bystanders = Bystanders(lambda: {burning[2]})
    for thread in burning:
        thread.start()
    until(lambda: bystanders.cpu_time(0.0) > 0.02)
    stop.set()
    until(lambda: len(spent) == len(names))
    total = bystanders.cpu_time(1.0)
    assert total == pytest.approx(spent["hwmetrics-notify"], abs=0.01), "of that thread alone, and all of it"
    counted.set()
    for thread in burning:
        thread.join(PATIENT)
    total = bystanders.cpu_time(2.0)
    assert total == bystanders.cpu_time(3.0), "it ends with the thread"
    assert cpu_time_of(burning[0]) is None
