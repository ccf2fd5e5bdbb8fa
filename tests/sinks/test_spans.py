# SPDX-License-Identifier: Apache-2.0
"""Alerts on spans, through the real SDK: as events, and by name."""

from __future__ import annotations

from itertools import pairwise

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN, Span, Tracer

from alarms import AT, alert, on
from otel_hwmetrics.alerts.rule import Severity, State
from otel_hwmetrics.sinks.base import Alert
from otel_hwmetrics.sinks.matching import Matcher
from otel_hwmetrics.sinks.spans import EVENTS_A_SPAN, HOMELESS, MOST_NAMES, SpanSink
from otel_hwmetrics.sinks.tracker import SpanTracker


@pytest.fixture
def tracker() -> SpanTracker:
    """A tracker that is on, and watches epochs and steps."""
    made = SpanTracker()
    made.on = True
    made.watches = Matcher(("epoch", "step"))
    return made


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """Holds what is exported."""
    return InMemorySpanExporter()


@pytest.fixture
def tracer(tracker: SpanTracker, exporter: InMemorySpanExporter) -> Tracer:
    """Of a provider that the tracker has joined."""
    provider = TracerProvider()
    tracker.attach(provider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("training")


@pytest.fixture
def sink(tracker: SpanTracker) -> SpanSink:
    """The sink, by its defaults."""
    return SpanSink(tracker)


def fire(sink: SpanSink, *firing: str, began: str = "", severity: Severity = Severity.WARNING) -> None:
    """One look at which these rules fire, of which one just began; nothing is told."""
    rules = {name: alert(name=name, severity=severity).transition.rule for name in (*firing, began) if name}
    sink.fires([rules[name] for name in firing], [rules[began]] if began else [])
    sink.settle()


def finished(exporter: InMemorySpanExporter) -> ReadableSpan:
    """The one span that was exported."""
    (span,) = exporter.get_finished_spans()
    return span


def names(span: ReadableSpan) -> object:
    """The alerts' names on it."""
    return (span.attributes or {}).get("hwmetrics.alerts")


def states(span: ReadableSpan) -> list[object]:
    """The states that its events tell."""
    return [(event.attributes or {})["hwmetrics.alert.state"] for event in span.events]


def test_an_alert_is_an_event_on_the_span(sink: SpanSink, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """With its name, its time, and what the alert and the device are."""
    with tracer.start_as_current_span("run") as span:
        sink.on_alert(alert(span=span))
    (event,) = finished(exporter).events
    assert (event.name, event.timestamp) == ("hwmetrics.alert", AT)
    assert dict(event.attributes or {}) == {
        "hwmetrics.alert.rule": "gpu_hot",
        "hwmetrics.alert.state": "firing",
        "hwmetrics.alert.severity": "warning",
        "hwmetrics.alert.value": 85.0,
        "hwmetrics.alert.threshold": 80.0,
        "hwmetrics.alert.unit": "Cel",
        "hwmetrics.alert.message": "GPU 0: 85 °C.",
        "hwmetrics.alert.duration": 12.346,
        "hw.id": "GPU-a",
        "hw.name": "GPU 0",
        "hwmetrics.gpu.index": 0,
    }


def test_a_resolution_tells_the_peak_and_a_value_only_if_there_is_one() -> None:
    """Absent is absent, and zero is a value."""
    told = alert(State.RESOLVED, value=None).attributes
    assert "hwmetrics.alert.value" not in told
    assert (told["hwmetrics.alert.state"], told["hwmetrics.alert.peak"]) == ("resolved", 92.0)
    assert alert(value=0.0).attributes["hwmetrics.alert.value"] == 0.0
    assert "hwmetrics.alert.peak" not in alert().attributes


def test_a_blind_alert_is_marked_as_one() -> None:
    """It fires, and nobody knows the value."""
    told = alert(blind=True).attributes
    assert (told["hwmetrics.alert.state"], told["hwmetrics.alert.blind"]) == ("firing", True)
    assert "hwmetrics.alert.blind" not in alert().attributes


def test_our_events_never_push_out_the_user_s(
    sink: SpanSink, tracer: Tracer, exporter: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    """At most 16 of ours on one span, and as many again on the next; those of others stay, and the rest is counted."""
    assert EVENTS_A_SPAN == 16
    with tracer.start_as_current_span("other") as other:
        with tracer.start_as_current_span("run") as span:
            for number in range(112):
                span.add_event(f"theirs {number}")
            for at in range(1000):
                sink.on_alert(alert(at=at, device=f"GPU-{at}", severity=Severity.CRITICAL, span=span))
        sink.on_alert(alert(span=other))
    first, second = exporter.get_finished_spans()
    assert len(first.events) == 128
    ours = [event.timestamp for event in first.events if event.name == "hwmetrics.alert"]
    assert ours == list(range(16))
    assert (first.attributes or {})["hwmetrics.alert.events.dropped"] == 1000 - 16
    assert len(second.events) == 1
    assert caplog.records == []


def test_room_is_kept_for_what_is_critical(sink: SpanSink, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """Eight GPUs that idle, and are no longer idle, do not hide the one that is lost."""
    with tracer.start_as_current_span("run") as span:
        for device in range(8):
            sink.on_alert(alert(State.FIRING, device=f"GPU-{device}", span=span))
            sink.on_alert(alert(State.RESOLVED, device=f"GPU-{device}", span=span))
        sink.on_alert(alert(severity=Severity.CRITICAL, name="gpu_lost", span=span))
    events = finished(exporter).events
    assert [(event.attributes or {})["hwmetrics.alert.rule"] for event in events] == ["gpu_hot"] * 12 + ["gpu_lost"]


@pytest.mark.parametrize(("limit", "events"), [(0, 0), (1, 1), (2, 2), (128, 20)])
def test_the_limit_is_an_option(tracker: SpanTracker, tracer: Tracer, limit: int, events: int) -> None:
    """None at all for who wants only the log."""
    sink = SpanSink(tracker, limit)
    with tracer.start_as_current_span("run") as span:
        for device in range(20):
            sink.on_alert(alert(device=f"GPU-{device}", severity=Severity.CRITICAL, span=span))
    assert len(span.events) == events  # type: ignore[attr-defined]


def test_an_alert_that_comes_and_goes_leaves_room_for_others(
    sink: SpanSink, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    """One rule on one device has a quarter of the room, in pairs: that it began, and that it ended."""
    with tracer.start_as_current_span("run") as span:
        for _ in range(10):
            sink.on_alert(alert(State.FIRING, span=span))
            sink.on_alert(alert(State.RESOLVED, span=span))
        sink.on_alert(alert(device="GPU-other", span=span))
    assert states(finished(exporter)) == ["firing", "resolved", "firing", "resolved", "firing"]
    assert (finished(exporter).attributes or {})["hwmetrics.alert.events.dropped"] == 16


def test_a_critical_one_has_all_of_the_room(sink: SpanSink, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """It does not come and go for nothing."""
    with tracer.start_as_current_span("run") as span:
        for _ in range(10):
            sink.on_alert(alert(State.FIRING, severity=Severity.CRITICAL, span=span))
            sink.on_alert(alert(State.RESOLVED, severity=Severity.CRITICAL, span=span))
    assert states(finished(exporter)) == ["firing", "resolved"] * 8


def test_there_is_room_for_the_end_of_what_began(
    sink: SpanSink, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    """Whatever comes in between; that it fires blind takes no room from that either."""
    with tracer.start_as_current_span("run") as span:
        sink.on_alert(alert(State.FIRING, span=span))
        sink.on_alert(alert(blind=True, span=span))
        for device in range(20):
            sink.on_alert(alert(State.FIRING, device=f"GPU-{device}", span=span))
        sink.on_alert(alert(State.RESOLVED, span=span))
    events = finished(exporter).events
    assert len(events) <= EVENTS_A_SPAN
    assert (events[-1].attributes or {})["hwmetrics.alert.state"] == "resolved"


@pytest.mark.parametrize("span", [None, INVALID_SPAN])
def test_without_a_span_there_is_no_event(sink: SpanSink, span: Span | None) -> None:
    """None was open, or it does not record."""
    sink.on_alert(alert(span=span))
    assert len(sink._rooms) == 0


def test_a_span_that_ended_meanwhile_is_left_alone(
    sink: SpanSink, tracer: Tracer, caplog: pytest.LogCaptureFixture
) -> None:
    """The SDK would warn the user of a fault that is not theirs."""
    span = tracer.start_span("run")
    span.end()
    sink.on_alert(alert(span=span))
    assert caplog.records == []


def test_every_training_span_that_is_open_has_the_alert_s_name(
    sink: SpanSink, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    """The outer ones, too, each name once; a span that is no training span has none."""
    with tracer.start_as_current_span("epoch") as epoch, tracer.start_as_current_span("step") as step:
        with tracer.start_as_current_span("forward"):
            fire(sink, "gpu_hot", began="gpu_hot")
        assert step.is_recording()
        fire(sink)
        fire(sink, "gpu_idle", began="gpu_idle")
        fire(sink, "gpu_hot", began="gpu_hot")
    assert epoch.is_recording() is False
    told = {span.name: names(span) for span in exporter.get_finished_spans()}
    assert told == {"forward": None, "step": "gpu_hot,gpu_idle", "epoch": "gpu_hot,gpu_idle"}


def test_a_training_span_that_opens_under_a_firing_alert_carries_its_name(
    sink: SpanSink, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    """However short it is; the worst first, each once; no event, for nothing happened in it. When nothing fires, nothing."""
    fire(sink, "gpu_lost", "gpu_hot", "gpu_hot")
    with tracer.start_as_current_span("step"), tracer.start_as_current_span("forward"):
        pass
    fire(sink)
    tracer.start_span("step").end()
    assert [(span.name, names(span), len(span.events)) for span in exporter.get_finished_spans()] == [
        ("forward", None, 0),
        ("step", "gpu_lost,gpu_hot", 0),
        ("step", None, 0),
    ]


def test_a_new_alert_joins_those_that_the_span_began_with(sink: SpanSink, tracer: Tracer) -> None:
    """What fired at its start stays, though it may be over; the worst comes first."""
    fire(sink, "gpu_hot")
    span = tracer.start_span("step")
    fire(sink)
    fire(sink, began="gpu_idle")
    fire(sink, began="gpu_lost", severity=Severity.CRITICAL)
    assert names(span) == "gpu_lost,gpu_hot,gpu_idle"  # type: ignore[arg-type]


def test_of_a_hundred_alerts_the_worst_are_named_and_the_others_counted(sink: SpanSink, tracer: Tracer) -> None:
    """So that a span opens as quickly whatever goes wrong."""
    fire(sink, *(f"rule_{number}" for number in range(100)))
    span = tracer.start_span("step")
    told = str(names(span)).split(",")  # type: ignore[arg-type]
    assert told == [*(f"rule_{number}" for number in range(MOST_NAMES)), f"+{100 - MOST_NAMES}"]
    for number in range(100, 110):
        fire(sink, began=f"rule_{number}")
    told = str(names(span)).split(",")  # type: ignore[arg-type]
    assert told == [*(f"rule_{number}" for number in range(MOST_NAMES)), f"+{110 - MOST_NAMES}"]


def test_an_alert_without_a_span_waits_for_the_next_training_span(
    sink: SpanSink, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    """Once, with the time of the span's start, since it is the older one; a span that is none of the training's is passed."""
    sink.on_alert(alert(at=5))
    fire(sink, "gpu_hot")
    tracer.start_span("request").end()
    tracer.start_span("step").end()
    tracer.start_span("step").end()
    request, first, second = exporter.get_finished_spans()
    assert [len(span.events) for span in (request, first, second)] == [0, 1, 0]
    assert first.events[0].timestamp == first.start_time
    assert states(first) == ["firing"]


def test_an_alert_that_is_over_waits_no_more(sink: SpanSink, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """It is history by the time a span opens."""
    sink.on_alert(alert())
    sink.on_alert(alert(State.RESOLVED))
    fire(sink)
    tracer.start_span("step").end()
    assert finished(exporter).events == ()


def test_an_alert_finds_a_span_that_opened_while_it_was_told(sink: SpanSink, tracer: Tracer) -> None:
    """Between asking for the open span and noting that there is none."""
    span = tracer.start_span("step")
    sink.on_alert(alert())
    fire(sink, "gpu_hot")
    assert states(span) == ["firing"]  # type: ignore[arg-type]


def test_those_that_wait_are_bounded(sink: SpanSink, tracer: Tracer) -> None:
    """The last ones wait; without training spans nothing grows."""
    for number in range(1000):
        sink.on_alert(alert(name=f"rule_{number}", severity=Severity.CRITICAL))
    assert len(sink._homeless) == HOMELESS
    fire(sink)
    span = tracer.start_span("step")
    rules = [event.attributes["hwmetrics.alert.rule"] for event in span.events]  # type: ignore[attr-defined]
    assert rules == [f"rule_{number}" for number in range(1000 - HOMELESS, 1000 - HOMELESS + EVENTS_A_SPAN)]


def test_a_span_that_nobody_samples_gets_nothing(tracker: SpanTracker, sink: SpanSink) -> None:
    """It never opens for us, so it takes nobody's place either."""
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    provider = TracerProvider(sampler=ALWAYS_OFF)
    tracker.attach(provider)
    sink.on_alert(alert())
    fire(sink, "gpu_hot")
    with provider.get_tracer("t").start_as_current_span("step") as span:
        assert not span.is_recording()
    assert len(sink._homeless) == 1


def test_the_alert_that_was_housed_tells_of_its_span(sink: SpanSink, tracer: Tracer) -> None:
    """What is on the span is the same event as in the log, which had none."""
    told: list[Alert] = [alert()]
    sink.on_alert(told[0])
    fire(sink, "gpu_hot")
    span = tracer.start_span("step")
    (event,) = span.events  # type: ignore[attr-defined]
    assert dict(event.attributes) == dict(on(span, told[0]).attributes)


def test_events_come_in_their_order(sink: SpanSink, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """As they were told."""
    with tracer.start_as_current_span("run") as span:
        for at in range(5):
            sink.on_alert(alert(device=str(at), at=at, span=span))
    times = [event.timestamp for event in finished(exporter).events]
    assert all(earlier < later for earlier, later in pairwise(times))
