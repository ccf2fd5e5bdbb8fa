# SPDX-License-Identifier: Apache-2.0
"""Collections: telling one export from the next, and giving each reader its own window."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

from otel_hwmetrics.catalog import gpu, own, process, system
from otel_hwmetrics.instruments import Collections, Feed, adds_up, instruments_of
from otel_hwmetrics.model import Metric, Reading, Series, Snapshot
from otel_hwmetrics.windows import Accumulator, Sample

ENERGY = Series(gpu.ENERGY, {"hw.id": "GPU-1"})
HEAT = Series(gpu.TEMPERATURE, {"hw.id": "GPU-1/temperature/gpu"})


class Machine:
    """Samples of a GPU whose power is the number of the minute, in watts: nothing to be confused with."""

    def __init__(self) -> None:
        self.accumulator = Accumulator()
        self.at = 0.0
        self.energy = 0.0
        self.looks = 0
        self.first: Sample | None = None
        self.gone = False

    def advance(self, seconds: float, power: float) -> None:
        """Let time pass at a power; the temperature is the power too."""
        for _ in range(int(seconds)):
            self.at += 1
            self.energy += power
            self.look(power)

    def look(self, power: float = 0.0) -> Sample | None:
        """One sample."""
        if self.gone:
            return None
        self.looks += 1
        sample = self.accumulator.sample(
            [Reading(ENERGY, self.energy, self.at), Reading(HEAT, power, self.at)], self.at, int(self.at * 1e9)
        )
        self.first = self.first or sample
        self.latest = sample
        return sample

    def feed(self) -> Feed:
        """As the pipeline gives it: the newest sample is always fresh."""
        return Feed(lambda _: None if self.gone else self.latest, lambda: self.first)


def value(snapshot: Snapshot | None, metric: Metric) -> float:
    """The one value of a metric."""
    assert snapshot is not None
    (reading,) = snapshot.of(metric)
    return reading.value


def on_new_thread(call: Callable[[], Snapshot | None]) -> Snapshot | None:
    """Call as a scrape does, on a thread made for it."""
    results: list[Snapshot | None] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join()
    return results[0]


class Reader:
    """A thread that lives as long as the test, and collects when told, as a periodic reader's does."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._result: Snapshot | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            self._go.acquire()
            self._result = cycle(self._collections)
            self._done.release()

    def collect(self) -> Snapshot | None:
        """One collection on that thread."""
        self._go.release()
        self._done.acquire()
        return self._result


def cycle(collections: Collections) -> Snapshot | None:
    """One collection: every instrument is asked once; all see the same snapshot."""
    first = collections.snapshot_for(gpu.POWER)
    assert collections.snapshot_for(gpu.ENERGY) is first
    assert collections.snapshot_for(system.CPU_TIME) is first
    return first


def test_a_collection_is_one_snapshot_and_the_next_is_another() -> None:
    """Every instrument of a cycle shows the same moment; asking one again begins a new cycle, in whatever order."""
    machine = Machine()
    machine.look()
    collections = Collections(machine.feed())
    one = cycle(collections)
    machine.advance(5, power=100)
    another = collections.snapshot_for(system.CPU_TIME)
    assert another is not one
    assert collections.snapshot_for(gpu.ENERGY) is another
    assert value(another, gpu.POWER) == 100


def test_a_collection_that_broke_off_leaves_nothing_behind() -> None:
    """After a time-out in the middle the next collection is a whole one."""
    machine = Machine()
    machine.look()
    collections = Collections(machine.feed())
    collections.snapshot_for(gpu.POWER)  # and then the SDK gave up
    machine.advance(2, power=50)
    assert value(cycle(collections), gpu.POWER) == 50


def test_the_first_export_reaches_back_to_the_first_sample() -> None:
    """A job that ends before its first export has rates over its whole life."""
    machine = Machine()
    machine.look()
    machine.advance(10, power=30)
    machine.advance(10, power=70)
    assert value(cycle(Collections(machine.feed())), gpu.POWER) == pytest.approx(50)


def test_periodic_readers_do_not_share_windows() -> None:
    """A reader of 60 s beside one of 10 s: each has the truth of its own interval, for counters and for gauges."""
    machine = Machine()
    machine.look()
    collections = Collections(machine.feed())
    slow, fast = Reader(collections), Reader(collections)
    slow.collect()
    fast.collect()
    for power in (10, 20, 30, 40, 50, 60):
        machine.advance(10, power)
        snapshot = fast.collect()
        assert value(snapshot, gpu.POWER) == pytest.approx(power)
        assert value(snapshot, gpu.TEMPERATURE) == pytest.approx(power)
    snapshot = slow.collect()
    assert value(snapshot, gpu.POWER) == pytest.approx(35)
    assert value(snapshot, gpu.TEMPERATURE) == pytest.approx(35)
    assert snapshot is not None
    assert snapshot.window.seconds == 60


def test_a_scrape_has_the_time_since_the_last_one() -> None:
    """Each scrape comes on a new thread; its window is the time since anybody's last collection."""
    machine = Machine()
    machine.look()
    collections = Collections(machine.feed())
    for power in (100, 200, 300):
        machine.advance(15, power)
        assert value(on_new_thread(lambda: cycle(collections)), gpu.POWER) == pytest.approx(power)


def test_a_flush_in_between_takes_nothing_from_the_periodic_reader() -> None:
    """`force_flush` on the training thread leaves the reader's own window whole."""
    machine = Machine()
    machine.look()
    collections = Collections(machine.feed())
    periodic = Reader(collections)
    periodic.collect()
    machine.advance(30, power=100)
    assert value(on_new_thread(lambda: cycle(collections)), gpu.POWER) == pytest.approx(100)
    machine.advance(30, power=200)
    assert value(periodic.collect(), gpu.POWER) == pytest.approx(150)


def test_flushes_have_the_time_since_anybody_s_collection_each_time() -> None:
    """A second `force_flush` on the same thread does not reach back over what the periodic reader has told."""
    machine = Machine()
    machine.look()
    collections = Collections(machine.feed())
    periodic = Reader(collections)
    for power in (100, 200):
        machine.advance(20, power=power)
        periodic.collect()
        machine.advance(5, power=power + 7)
        assert value(cycle(collections), gpu.POWER) == pytest.approx(power + 7)


def test_a_collection_right_after_another_has_rates_all_the_same() -> None:
    """Two scrapes at once: the second's window begins where the first's did."""
    machine = Machine()
    machine.look()
    collections = Collections(machine.feed())
    on_new_thread(lambda: cycle(collections))
    machine.advance(10, power=50)
    for _ in range(3):
        assert value(on_new_thread(lambda: cycle(collections)), gpu.POWER) == pytest.approx(50)


def test_without_a_sample_there_is_no_snapshot_and_later_there_is() -> None:
    """A sampler that is stuck shows nothing rather than the past."""
    machine = Machine()
    machine.look()
    collections = Collections(machine.feed())
    assert cycle(collections) is not None
    machine.gone = True
    assert collections.snapshot_for(gpu.POWER) is None
    assert collections.snapshot_for(own.SOURCE_UP) is None
    machine.gone = False
    machine.advance(3, power=10)
    assert value(cycle(collections), gpu.POWER) == 10


@pytest.mark.parametrize(
    ("preference", "variable", "expected"),
    [
        ("delta", "", True),
        ("cumulative", "delta", False),
        ("unseen", "delta", True),
        ("unseen", "DELTA", True),
        ("unseen", "lowmemory", False),
        ("unseen", "", False),
    ],
)
def test_a_backend_that_adds_up_growth_is_known(preference: str, variable: str, expected: bool) -> None:  # noqa: FBT001
    """By the real SDK's reader; before there is a real provider, by the environment."""
    kinds: dict[str, dict[type, AggregationTemporality]] = {
        "delta": {ObservableCounter: AggregationTemporality.DELTA},
        "cumulative": {ObservableCounter: AggregationTemporality.CUMULATIVE},
    }
    chosen = kinds.get(preference)
    provider = None if chosen is None else MeterProvider([InMemoryMetricReader(preferred_temporality=chosen)])
    environ = {"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": variable}
    assert adds_up(provider, environ) is expected


def test_a_rank_that_is_told_later_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray Train tells a worker when that runs already: from the next collection on its metrics have the rank, and no others."""
    monkeypatch.delenv("RANK", raising=False)
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], resource=Resource({"process.pid": 7}))
    machine = Machine()
    memory = Reading(Series(process.MEMORY_USAGE), 5.0, 1.0)
    machine.first = machine.latest = machine.accumulator.sample([memory], 1.0, 10**9)
    (instruments,) = instruments_of(provider)
    instruments.feed(machine.feed())
    seen = []
    for environ in ({}, {"RANK": "3", "WORLD_SIZE": "4"}, {"RANK": "0", "WORLD_SIZE": "2"}):
        for name, text in environ.items():
            monkeypatch.setenv(name, text)
        data = reader.get_metrics_data()
        assert data is not None
        points = [
            dict(point.attributes or {})
            for metric in data.resource_metrics[0].scope_metrics[0].metrics
            if metric.name == process.MEMORY_USAGE.name
            for point in metric.data.data_points
        ]
        seen.append([{key: each for key, each in point.items() if key.startswith("hwmetrics.")} for point in points])
    assert seen == [
        [{}],
        [{"hwmetrics.rank": 3, "hwmetrics.world_size": 4}],
        [{"hwmetrics.rank": 0, "hwmetrics.world_size": 2}],
    ]
    instruments.feed(None)
