# SPDX-License-Identifier: Apache-2.0
"""Alerts as log events, through the real SDK."""

from __future__ import annotations

import pytest
from opentelemetry import _logs as logs
from opentelemetry._logs import SeverityNumber
from opentelemetry._logs import _internal as logs_internal
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import INVALID_SPAN, Tracer
from opentelemetry.util._once import Once

import otel_hwmetrics
from alarms import AT, alert, on
from otel_hwmetrics.alerts.rule import Severity, State
from otel_hwmetrics.catalog import SCHEMA_URL
from otel_hwmetrics.sinks.base import Alert
from otel_hwmetrics.sinks.local_spans import local
from otel_hwmetrics.sinks.logs import LogSink
from otel_hwmetrics.sinks.notify.message import Entry, compose
from otel_hwmetrics.sinks.recorder_spans import recorded_alert
from otel_hwmetrics.sinks.spans import SpanSink
from otel_hwmetrics.sinks.tracker import SpanTracker


@pytest.fixture
def exporter() -> InMemoryLogRecordExporter:
    """Holds what is emitted."""
    return InMemoryLogRecordExporter()  # type: ignore[no-untyped-call] # it is not typed


@pytest.fixture
def provider(exporter: InMemoryLogRecordExporter) -> LoggerProvider:
    """An SDK provider that exports there."""
    made = LoggerProvider()
    made.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    return made


@pytest.fixture
def tracer() -> Tracer:
    """Of an SDK provider."""
    return TracerProvider().get_tracer("training")


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """No global provider is set yet, and the one that the test sets is gone after it."""
    monkeypatch.setattr(logs_internal, "_LOGGER_PROVIDER", None)
    monkeypatch.setattr(logs_internal, "_LOGGER_PROVIDER_SET_ONCE", Once())


def emitted(exporter: InMemoryLogRecordExporter) -> ReadableLogRecord:
    """The one record."""
    (record,) = exporter.get_finished_logs()
    return record


def test_an_alert_is_an_event_record(provider: LoggerProvider, exporter: InMemoryLogRecordExporter) -> None:
    """Name, time, severity number and no severity text, the message as body; from our scope."""
    LogSink(provider).on_alert(alert())
    readable = emitted(exporter)
    record = readable.log_record
    assert record.event_name == "hwmetrics.alert"
    assert record.timestamp == AT
    assert record.severity_number is SeverityNumber.WARN
    assert record.severity_text == "warning"
    assert record.body == alert().message == "GPU 0: 85 °C."
    assert dict(record.attributes or {}) == {
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
    scope = readable.instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.version, scope.schema_url) == ("otel_hwmetrics", otel_hwmetrics.__version__, SCHEMA_URL)


@pytest.mark.parametrize(
    ("severity", "firing"),
    [
        (Severity.INFO, SeverityNumber.INFO),
        (Severity.WARNING, SeverityNumber.WARN),
        (Severity.CRITICAL, SeverityNumber.ERROR),
    ],
)
def test_severity_is_the_rule_s_and_a_resolution_is_information(
    severity: Severity, firing: SeverityNumber, provider: LoggerProvider, exporter: InMemoryLogRecordExporter
) -> None:
    """So that a filter on severity hears of what begins, and nobody is paged by what ends."""
    sink = LogSink(provider)
    sink.on_alert(alert(severity=severity))
    sink.on_alert(alert(State.RESOLVED, severity=severity))
    numbers = [record.log_record.severity_number for record in exporter.get_finished_logs()]
    assert numbers == [firing, SeverityNumber.INFO]
    bodies = [record.log_record.body for record in exporter.get_finished_logs()]
    assert bodies[1] == "Resolved after 12.3 s, at worst 92 °C: GPU 0: gpu_hot is over."


@pytest.mark.parametrize(
    "told",
    [
        alert(),
        alert(State.RESOLVED),
        alert(device=""),
        alert(blind=True),
        alert(severity=Severity.CRITICAL),
    ],
)
def test_attributes_are_those_of_the_span_s_event(
    told: Alert,
    provider: LoggerProvider,
    exporter: InMemoryLogRecordExporter,
    tracer: Tracer,
) -> None:
    """One event told twice is told in the same words, so that one of them can be dropped."""
    with tracer.start_as_current_span("epoch") as span:
        SpanSink(SpanTracker()).on_alert(on(span, told))
        LogSink(provider).on_alert(on(span, told))
    (event,) = span.events  # type: ignore[attr-defined]
    record = emitted(exporter).log_record
    assert dict(record.attributes or {}) == dict(event.attributes) == told.attributes
    assert (record.event_name, record.timestamp) == (event.name, event.timestamp)


def test_the_record_is_in_the_span_s_context(
    provider: LoggerProvider, exporter: InMemoryLogRecordExporter, tracer: Tracer
) -> None:
    """Trace, span and flags are those of the span that it is told with, not of the one that is current here."""
    span = tracer.start_span("training")
    with tracer.start_as_current_span("of this thread"):
        LogSink(provider).on_alert(alert(span=span))
    span.end()
    record, context = emitted(exporter).log_record, span.get_span_context()
    assert (record.trace_id, record.span_id) == (context.trace_id, context.span_id)
    assert record.trace_flags == context.trace_flags


def test_without_a_span_the_record_is_in_no_context(
    provider: LoggerProvider, exporter: InMemoryLogRecordExporter, tracer: Tracer
) -> None:
    """Even where some span is current on the thread that tells: it is not the training's."""
    with tracer.start_as_current_span("of this thread"):
        LogSink(provider).on_alert(alert())
    record = emitted(exporter).log_record
    assert not record.trace_id
    assert not record.span_id


def test_without_a_provider_nothing_happens(unset: None, caplog: pytest.LogCaptureFixture) -> None:
    """No error, no record, no warning."""
    LogSink().on_alert(alert())
    assert caplog.records == []


def test_a_provider_set_late_is_told_from_then_on(
    unset: None, provider: LoggerProvider, exporter: InMemoryLogRecordExporter
) -> None:
    """`instrument()` may come before the SDK's set-up."""
    sink = LogSink()
    sink.on_alert(alert())
    logs.set_logger_provider(provider)
    sink.on_alert(alert(State.RESOLVED))
    assert (emitted(exporter).log_record.attributes or {})["hwmetrics.alert.state"] == "resolved"


def test_a_provider_that_was_given_is_told_and_the_global_one_is_not(
    unset: None, provider: LoggerProvider, exporter: InMemoryLogRecordExporter
) -> None:
    """Nothing goes out twice."""
    elsewhere = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call] # it is not typed
    other = LoggerProvider()
    other.add_log_record_processor(SimpleLogRecordProcessor(elsewhere))
    logs.set_logger_provider(provider)
    LogSink(other).on_alert(alert())
    assert len(elsewhere.get_finished_logs()) == 1
    assert exporter.get_finished_logs() == ()


def test_a_span_of_the_recording_alone_is_named_to_nobody(
    provider: LoggerProvider, exporter: InMemoryLogRecordExporter
) -> None:
    """No backend knows its ids: whoever followed them would find nothing. Neither by the log, a line, a notification."""
    span = local(INVALID_SPAN, "epoch", None, None, lambda _: None)
    told = alert(span=span)
    LogSink(provider).on_alert(told)
    record = emitted(exporter).log_record
    assert not record.trace_id
    assert not record.span_id
    assert told.span is span
    assert (told.trace_id, told.span_id) == ("", "")
    assert "trace" not in compose([Entry(told, 1, 0.0)], "here").body
    context = span.get_span_context()
    kept = recorded_alert(told)
    assert (kept.trace_id, kept.span_id) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
