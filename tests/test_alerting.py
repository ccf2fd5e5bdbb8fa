# SPDX-License-Identifier: Apache-2.0
"""From a scripted GPU to everybody who is told of its alerts, through the whole pipeline."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span

import otel_hwmetrics as hw
from otel_hwmetrics.sinks.flight_file import read_flight
from otel_hwmetrics.testing import FakeGpu, FakeNvml
from worlds import World

Make = Callable[..., World]

HOT = FakeGpu(temperature=[(0.0, 60.0), (9.5, 60.0), (10.0, 84.0), (30.0, 84.0), (30.5, 60.0)], utilization=0.9)
"""A GPU that is hot from second 10 to 30: its alert fires at 15 and is resolved at 31."""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes worlds, and ends them."""
    made: list[World] = []

    def world(gpus: list[FakeGpu], **options: object) -> World:
        made.append(World(gpus, **{"directory": str(tmp_path), **options}))
        return made[-1]

    yield world
    for each in made:
        each.close()


def train(world: World, seconds: int) -> Span:
    """Train for so long within a span; gives it."""
    with hw.training_span("epoch", tracer_provider=world.tracer_provider) as span:
        world.advance(seconds)
    return span


@pytest.mark.parametrize(("channels", "events", "records"), [("both", 2, 2), ("span", 2, 0), ("log", 0, 2)])
def test_alerts_go_where_they_are_wanted(
    make: Make, channels: str, events: int, records: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Onto spans, into logs (OpenTelemetry's and Python's), or both."""
    world = make([HOT], alert_channels=channels)
    with caplog.at_level(logging.INFO, "otel_hwmetrics.alerts"):
        span = train(world, 40)
    assert len(span.events) == events  # type: ignore[attr-defined]
    assert ("hwmetrics.alerts" in span.attributes) is (events > 0)  # type: ignore[attr-defined]
    assert len(world.records.get_finished_logs()) == records
    assert len([record for record in caplog.records if record.name == "otel_hwmetrics.alerts"]) == records


def test_the_option_says_which_spans_are_the_training_s(make: Make) -> None:
    """A span that matches is preferred to the one within it, and gets the sums."""
    world = make([HOT], alert_spans="my.*")
    tracer = world.tracer_provider.get_tracer("t")
    with tracer.start_as_current_span("my.loop") as outer, tracer.start_as_current_span("epoch") as inner:
        world.advance(20)
    assert (len(outer.events), len(inner.events)) == (1, 0)  # type: ignore[attr-defined]
    assert "hwmetrics.summary.gpu.energy" in outer.attributes  # type: ignore[attr-defined]
    assert "hwmetrics.summary.gpu.energy" not in inner.attributes  # type: ignore[attr-defined]


def test_an_alert_between_two_epochs_is_on_the_next_one(make: Make) -> None:
    """While it fires; the epoch also carries its name from its start, as the one after it, which has no event."""
    world = make([HOT])
    train(world, 5)
    world.advance(15)
    second, third = train(world, 2), train(world, 2)
    world.advance(10)
    last = train(world, 2)
    spans = (second, third, last)
    assert [len(span.events) for span in spans] == [1, 0, 0]  # type: ignore[attr-defined]
    assert [span.attributes.get("hwmetrics.alerts") for span in spans] == ["gpu_hot", "gpu_hot", None]  # type: ignore[attr-defined]


def test_a_rule_of_one_s_own_fires(make: Make) -> None:
    """From the catalog's metric to the event on the span."""
    rules = {"mine": {"metric": "hw.power", "above": 200, "severity": "critical", "message": "{device} draws {value}."}}
    world = make([FakeGpu(power=[(0, 100.0), (5, 100.0), (5.5, 300.0)], utilization=0.9)], rules=rules)
    span = train(world, 10)
    (event,) = span.events  # type: ignore[attr-defined]
    assert event.attributes["hwmetrics.alert.rule"] == "mine"
    assert event.attributes["hwmetrics.alert.message"] == "GPU 0 draws 250 W."  # the mean of its second


def test_a_gpu_that_is_lost_is_one_alert_and_not_many(make: Make) -> None:
    """What fired on it is resolved as superseded, and neither idleness nor heat is told of it."""
    world = make([FakeGpu(temperature=84.0, utilization=0.9)])
    world.advance(10)
    world.nvml.lose(0)
    world.advance(400)
    told = [
        (record.log_record.attributes["hwmetrics.alert.rule"], record.log_record.attributes["hwmetrics.alert.state"])  # type: ignore[index]
        for record in world.records.get_finished_logs()
    ]
    assert told[:3] == [("gpu_hot", "firing"), ("gpu_lost", "firing"), ("gpu_hot", "resolved")]
    assert {rule for rule, _ in told} <= {"gpu_hot", "gpu_lost", "gpu_xid_critical", "source_failing"}


def exemplars(world: World) -> set[int | None]:
    """The spans that the exported values lead to."""
    data = world.reader.get_metrics_data()
    assert data is not None
    points: list[Any] = [
        point
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    ]
    assert points
    return {exemplar.span_id for point in points for exemplar in point.exemplars or ()}


def test_values_lead_to_the_training_span_that_was_open(make: Make) -> None:
    """To the innermost one, though a span of somebody else is current where it is collected."""
    world = make([HOT])
    tracer = world.tracer_provider.get_tracer("t")
    with hw.training_span("epoch", tracer_provider=world.tracer_provider) as epoch:
        world.advance(3)
        with tracer.start_as_current_span("request"):
            assert exemplars(world) == {epoch.get_span_context().span_id}
    with tracer.start_as_current_span("request"):
        assert exemplars(world) == set()


def test_exemplars_can_be_switched_off(make: Make) -> None:
    """Then no value leads anywhere, whatever is current."""
    world = make([HOT], exemplars=False)
    with hw.training_span("epoch", tracer_provider=world.tracer_provider):
        world.advance(3)
        assert exemplars(world) == set()


def test_a_critical_alert_names_its_flight_recording(make: Make, tmp_path: Path) -> None:
    """On the span and in the log; the file has the samples up to it, and the alert."""
    world = make([FakeGpu(temperature=[(0, 60.0), (9.5, 60.0), (10, 95.0)], utilization=0.9)])
    span = train(world, 20)
    by_rule = {event.attributes["hwmetrics.alert.rule"]: event.attributes for event in span.events}  # type: ignore[attr-defined]
    path = Path(by_rule["gpu_very_hot"]["hwmetrics.alert.flight_recording.path"])
    assert path.parent == tmp_path
    recording = read_flight(str(path))
    assert recording.complete
    assert recording.header["reason"] == "gpu_very_hot"
    assert [sample["monotonic"] - 1000 for sample in recording.samples][-16:] == list(range(16))
    assert "gpu_very_hot" in str(recording.transitions[-1])
    logged = [dict(record.log_record.attributes or {}) for record in world.records.get_finished_logs()]
    assert dict(by_rule["gpu_very_hot"]) in logged


def test_the_flight_recorder_can_be_switched_off(make: Make, tmp_path: Path) -> None:
    """No file, no path, and the end of the job is not ours to hear of."""
    import sys

    hook = sys.excepthook
    world = make([FakeGpu(temperature=95.0)], flight_recorder=0)
    assert sys.excepthook is hook
    span = train(world, 10)
    assert "hwmetrics.alert.flight_recording.path" not in span.events[0].attributes  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


def test_callbacks_are_called_whenever_they_were_added(make: Make) -> None:
    """Before the pipeline starts or while it runs."""
    told: list[tuple[str, str]] = []

    def called(alert: hw.Alert) -> None:
        told.append((alert.name, alert.state.value))

    hw.on_alert(called)
    try:
        world = make([HOT])
        world.advance(40)
    finally:
        hw.off_alert(called)
    assert told == [("gpu_hot", "firing"), ("gpu_hot", "resolved")]


def test_a_foreign_tracer_s_spans_get_alerts_when_they_are_watched(make: Make) -> None:
    """One that takes no span processor."""
    world = make([HOT])
    foreign = TracerProvider().get_tracer("elsewhere")  # not the provider that was joined
    with foreign.start_as_current_span("epoch") as unknown:
        world.advance(10)
        hw.watch(unknown)
        world.advance(10)
    assert [event.attributes["hwmetrics.alert.rule"] for event in unknown.events] == ["gpu_hot"]  # type: ignore[attr-defined]
    assert "hwmetrics.summary.gpu.energy" in unknown.attributes  # type: ignore[attr-defined]


INTERVAL = 1.0


def test_an_event_is_on_the_span_within_an_interval_and_a_tenth_of_the_sample_that_made_it_fire() -> None:
    """In real time, with everything on: the span event, and the callback."""
    heard: list[float] = []
    done = threading.Event()

    def called(alert: hw.Alert) -> None:
        heard.append(time.time() - alert.time_unix_nano / 1e9)
        done.set()

    provider = TracerProvider()
    hw.on_alert(called)
    with (
        FakeNvml([FakeGpu(temperature=[(0, 60.0), (1.4, 60.0), (1.5, 84.0)], utilization=0.9)]),
        hw.instrument(
            sample_interval=INTERVAL,
            alert_gpu_hot_for=0,
            tracer_provider=provider,
            meter_provider=MeterProvider([InMemoryMetricReader()]),
            logger_provider=LoggerProvider(),
        ),
        hw.training_span("epoch", tracer_provider=provider) as span,
    ):
        deadline = time.monotonic() + 30
        while not span.events and time.monotonic() < deadline:  # type: ignore[attr-defined]
            time.sleep(0.005)
        (event,) = span.events  # type: ignore[attr-defined]
        late = time.time() - event.timestamp / 1e9
        assert done.wait(30)
    assert event.attributes["hwmetrics.alert.rule"] == "gpu_hot"
    assert late < INTERVAL + 0.1
    assert heard[0] < INTERVAL + 0.1


def test_the_sums_of_a_training_span_are_those_of_its_time() -> None:
    """In real time: 300 W over the span's own length, CPU time that was burnt within it, and none of before or after.

    The end of a span waits a hundredth of its length for a last look; a machine that is slower than that gets three tries.
    """
    provider = TracerProvider()
    with (
        FakeNvml([FakeGpu(power=300.0, utilization=0.5)]),
        hw.instrument(
            sample_interval=0.25, snapshot_timeout=5, tracer_provider=provider, logger_provider=LoggerProvider()
        ),
    ):
        for _ in range(3):
            burn(0.7)
            with hw.training_span("epoch", tracer_provider=provider) as span:
                burnt = burn(1.6)
            burn(0.7)
            attributes: dict[str, Any] = dict(span.attributes)  # type: ignore[attr-defined]
            seconds = (span.end_time - span.start_time) / 1e9  # type: ignore[attr-defined]
            if attributes["hwmetrics.summary.time"] == pytest.approx(seconds, rel=0.02):
                break
    assert attributes["hwmetrics.summary.time"] == pytest.approx(seconds, rel=0.02)
    assert attributes["hwmetrics.summary.gpu.energy"] == pytest.approx(300 * seconds, rel=0.1)
    assert attributes["hwmetrics.summary.gpu.utilization"] == pytest.approx(0.5, rel=0.05)
    assert attributes["hwmetrics.summary.cpu.time"] == pytest.approx(burnt, abs=0.5)


def burn(seconds: float) -> float:
    """Use the CPU for a while; gives how much of it this process used."""
    began, end = time.process_time(), time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(2000))
        time.sleep(0.001)
    return time.process_time() - began


class Slow:
    """A sink that takes all the time that it is given at the end."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self._name = name
        self._calls = calls

    def on_alert(self, alert: hw.Alert) -> None:
        """Nothing."""

    def close(self) -> None:
        """Told to end."""
        self._calls.append(f"close {self._name}")

    def join(self, timeout: float) -> None:
        """Waited for."""
        self._calls.append(f"join {self._name}")
        time.sleep(timeout)


def test_at_the_end_nobody_waits_for_another_one_s_service(make: Make) -> None:
    """A log exporter that hangs takes no time from who notifies: all are told to end first, and have one deadline."""
    calls: list[str] = []
    world = make([HOT])
    judging = world.pipeline._judging
    judging._waiting[:0] = [Slow("logs", calls), Slow("notifications", calls)]
    began = time.monotonic()
    judging.stop(0.1)
    del judging._waiting[:2]
    assert calls == ["close logs", "close notifications", "join logs", "join notifications"]
    assert time.monotonic() - began < 10
