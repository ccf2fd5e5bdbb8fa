# SPDX-License-Identifier: Apache-2.0
"""Where a replayed run goes: a backend over OTLP, through the SDK's exporters, or a file of OTLP's JSON."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

from opentelemetry._logs import SeverityNumber
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from otel_hwmetrics import __version__, redaction
from otel_hwmetrics.alerts.rule import State
from otel_hwmetrics.catalog import SCHEMA_URL, own
from otel_hwmetrics.display.export.otlp import event_attributes
from otel_hwmetrics.display.export.otlp_json import of_message, of_metrics
from otel_hwmetrics.display.export.target import Refused
from otel_hwmetrics.recording.nouns import RecordedAlert

HTTP: Final = "http/protobuf"
GRPC: Final = "grpc"
_NUMBERS: Final = {
    "info": SeverityNumber.INFO,
    "warning": SeverityNumber.WARN,
    "critical": SeverityNumber.ERROR,
}


class File:
    """Writes each request as a line.

    Args:
        file: To write to.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def metrics(self, data: MetricsData) -> None:
        """Write points."""
        self._file.write(of_metrics(data, encode_metrics))

    def spans(self, spans: Sequence[ReadableSpan]) -> None:
        """Write spans."""
        self._file.write(of_message(encode_spans(spans)))

    def alerts(self, resource: Resource, alerts: Sequence[RecordedAlert]) -> None:
        """Write log records."""
        self._file.write(of_message(encode_logs(_records(resource, alerts))))


class Backend:
    """Sends each request, and waits until it is taken. The exporters try again what may go well, within their timeout.

    What is not said here they take from the environment, as in a job (``OTEL_EXPORTER_OTLP_*``).

    Args:
        endpoint: Its base, as ``OTEL_EXPORTER_OTLP_ENDPOINT`` has it; None for that of the environment.
        headers: Sent with each request; None for those of the environment.
        protocol: `HTTP` or `GRPC`.

    Raises:
        ImportError: The exporter is not installed.
        ValueError: The exporter does not take something of the environment.
    """

    def __init__(self, endpoint: str | None, headers: Mapping[str, str] | None, protocol: str) -> None:
        self._where = endpoint or "the endpoint of OTEL_EXPORTER_OTLP_ENDPOINT"
        self._heard = _Listening()
        with self._heard.on():
            self._metrics, self._spans, self._logs = _exporters(endpoint, headers, protocol)

    def metrics(self, data: MetricsData) -> None:
        """Send points.

        Raises:
            Refused: They were not taken.
        """
        self._send("metrics", lambda: self._metrics.export(data))

    def spans(self, spans: Sequence[ReadableSpan]) -> None:
        """Send spans.

        Raises:
            Refused: They were not taken.
        """
        self._send("spans", lambda: self._spans.export(spans))

    def alerts(self, resource: Resource, alerts: Sequence[RecordedAlert]) -> None:
        """Send log records.

        Raises:
            Refused: They were not taken.
        """
        self._send("log records", lambda: self._logs.export(_records(resource, alerts)))

    def close(self) -> None:
        """Let go of the connections."""
        with self._heard.on():
            for exporter in (self._metrics, self._spans, self._logs):
                exporter.shutdown()

    def _send(self, what: str, export: Callable[[], Any]) -> None:
        try:
            with self._heard.on():
                result = export()
            if getattr(result, "name", "") == "SUCCESS":
                return
            why = self._heard.last or "it did not say why"
        except OSError as error:  # older exporters raise what `requests` does
            why = f"{error}"
        raise Refused(f"{redaction.url(self._where)} has not taken {what}: {redaction.text(why)}")


def _exporters(endpoint: str | None, headers: Mapping[str, str] | None, protocol: str) -> tuple[Any, Any, Any]:
    if protocol == GRPC:
        from opentelemetry.exporter.otlp.proto.grpc import _log_exporter, metric_exporter, trace_exporter

        given: dict[str, Any] = {"endpoint": endpoint, "headers": None if headers is None else tuple(headers.items())}
        return (
            metric_exporter.OTLPMetricExporter(**given),
            trace_exporter.OTLPSpanExporter(**given),
            _log_exporter.OTLPLogExporter(**given),
        )
    from opentelemetry.exporter.otlp.proto.http import _log_exporter as http_logs
    from opentelemetry.exporter.otlp.proto.http import metric_exporter as http_metrics
    from opentelemetry.exporter.otlp.proto.http import trace_exporter as http_spans

    base = None if endpoint is None else endpoint.rstrip("/")
    paths = [None if base is None else f"{base}/v1/{signal}" for signal in ("metrics", "traces", "logs")]
    sent = None if headers is None else dict(headers)
    return (
        http_metrics.OTLPMetricExporter(endpoint=paths[0], headers=sent),
        http_spans.OTLPSpanExporter(endpoint=paths[1], headers=sent),
        http_logs.OTLPLogExporter(endpoint=paths[2], headers=sent),
    )


_AGAIN: Final = re.compile(r"Transient error (.*) encountered while exporting", re.DOTALL)
"""What an exporter says before it tries again."""


class _Listening(logging.Handler):
    """Hears why an exporter failed, which it only logs; nobody else does meanwhile.

    Attributes:
        last: What it said last; where it gave up, why it had to try again.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage()
        again = _AGAIN.match(said)
        if again is not None:
            self.last = f"it was tried again, in vain: {again[1]}"
        elif "max retries" not in said:
            self.last = said
        elif not self.last:
            self.last = "it cannot be reached, or did not answer in time (OTEL_EXPORTER_OTLP_TIMEOUT)"

    @contextmanager
    def on(self) -> Iterator[None]:
        logger = redaction.logger("opentelemetry.exporter")
        propagated, self.last = logger.propagate, ""
        logger.addHandler(self)
        logger.propagate = False
        try:
            yield
        finally:
            logger.propagate = propagated
            logger.removeHandler(self)


class _Kept:
    """An exporter of log records that keeps them, as the installed version of the SDK has made them."""

    def __init__(self) -> None:
        self.records: list[Any] = []

    def export(self, batch: Sequence[Any]) -> None:
        self.records += batch

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 0) -> bool:
        del timeout_millis
        return True


def _records(resource: Resource, alerts: Sequence[RecordedAlert]) -> list[Any]:
    """Alerts as log records, as `otel_hwmetrics.sinks.logs.LogSink` emits them."""
    kept = _Kept()
    provider = LoggerProvider(resource, shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(kept))  # type: ignore[arg-type] # by its methods
    logger = provider.get_logger("otel_hwmetrics", __version__, SCHEMA_URL)
    for alert in alerts:
        resolved = alert.state == State.RESOLVED.value
        logger.emit(
            timestamp=alert.at_ns,
            observed_timestamp=alert.at_ns,
            context=_context(alert),
            severity_number=SeverityNumber.INFO if resolved else _NUMBERS.get(alert.severity, SeverityNumber.INFO),
            severity_text=alert.severity,
            body=alert.message,
            attributes=event_attributes(alert),
            event_name=own.ALERT_EVENT,
        )
    return kept.records


def _context(alert: RecordedAlert) -> Context:
    span = INVALID_SPAN
    if alert.span_id and alert.trace_id:
        ids = SpanContext(int(alert.trace_id, 16), int(alert.span_id, 16), False, TraceFlags(TraceFlags.SAMPLED))
        span = NonRecordingSpan(ids)
    return set_span_in_context(span, Context())
