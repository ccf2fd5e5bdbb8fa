# SPDX-License-Identifier: Apache-2.0
"""What the SDK exports, as an independent OTLP receiver reads it."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from .rotel import Rotel, RotelUnavailable, running_rotel

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def rotel() -> Iterator[Rotel]:
    """Return a running rotel; without one the test is skipped with the reason, and in CI it fails."""
    with ExitStack() as stack:
        try:
            running = stack.enter_context(running_rotel())
        except RotelUnavailable as reason:
            if os.environ.get("CI", "").lower() == "true":
                pytest.fail(f"rotel must run in CI: {reason}", pytrace=False)
            pytest.skip(str(reason))
        yield running


def exporters(rotel: Rotel, protocol: str) -> tuple[Any, Any, Any]:
    """Return the SDK's exporters of metrics, spans and logs to rotel."""
    if protocol == "grpc":
        to: dict[str, Any] = {"endpoint": rotel.grpc_endpoint, "insecure": True}
        return GrpcMetrics(**to), GrpcSpans(**to), GrpcLogs(**to)
    base = rotel.http_endpoint
    return HttpMetrics(f"{base}/v1/metrics"), HttpSpans(f"{base}/v1/traces"), HttpLogs(f"{base}/v1/logs")


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_sdk_exports_are_read_by_rotel(rotel: Rotel, protocol: str) -> None:
    """A metric, a span event and a log event sent by the SDK are printed by rotel under their names."""
    metrics, spans, logs = exporters(rotel, protocol)
    meters = MeterProvider([PeriodicExportingMetricReader(metrics, 3_600_000)], shutdown_on_exit=False)
    tracers, loggers = TracerProvider(shutdown_on_exit=False), LoggerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    loggers.add_log_record_processor(SimpleLogRecordProcessor(logs))
    with ExitStack() as undo:
        for provider in (meters, tracers, loggers):
            undo.callback(provider.shutdown)
        meters.get_meter("hw").create_gauge(f"hw.temperature.{protocol}", "Cel").set(41.5, {"hw.id": "gpu-0"})
        with tracers.get_tracer("train").start_as_current_span("step") as span:
            span.add_event(f"hw.throttle.{protocol}")
            event = f"hw.error.{protocol}"
            loggers.get_logger("hw").emit(event_name=event, severity_number=SeverityNumber.WARN, body="hot")
    needles = (f"-> Name: hw.temperature.{protocol}\n", f"-> Name: hw.throttle.{protocol}\n", f"EventName: {event}\n")
    for needle in needles:
        assert rotel.wait_for_text(needle, timeout=10), rotel.text()
