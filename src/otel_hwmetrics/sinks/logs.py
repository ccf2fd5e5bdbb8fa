# SPDX-License-Identifier: Apache-2.0
"""Alerts as OpenTelemetry log events.

A span event leaves the process when its span ends, which for a training span may be tomorrow, or never if the kernel
kills the job; a log record leaves within a second. And span events are to be replaced by log events
(https://github.com/open-telemetry/oteps/blob/main/text/4430-span-event-api-deprecation-plan.md): the record carries
the live span in its context, as the bridge between the two will want.
"""

from __future__ import annotations

from collections.abc import Mapping

# The logs API is stable in all but its underscore: https://github.com/open-telemetry/community/issues/1751
from opentelemetry._logs import LoggerProvider, SeverityNumber, get_logger_provider
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, set_span_in_context

from otel_hwmetrics import __version__, forks
from otel_hwmetrics.alerts.rule import Severity, State
from otel_hwmetrics.catalog import SCHEMA_URL, own
from otel_hwmetrics.model import Attribute
from otel_hwmetrics.sinks.base import Alert, OfWorkers

_SEVERITY_NUMBER = {
    Severity.INFO: SeverityNumber.INFO,
    Severity.WARNING: SeverityNumber.WARN,
    Severity.CRITICAL: SeverityNumber.ERROR,
}


class LogSink:
    """Emits each alert to the logger provider; costs nothing where there is none."""

    def __init__(self, logger_provider: LoggerProvider | None = None) -> None:
        """Args: logger_provider: The global one at the time of each alert if not given, so it may be set late."""
        self._provider = logger_provider
        self._emitting = forks.Section()  # a provider has locks, and so may each of its processors

    def on_alert(self, alert: Alert) -> None:
        """Emit one log record, in the context of the span if there is one."""
        if isinstance(alert, OfWorkers):
            attributes: Mapping[str, Attribute] = {own.ALERT_RULE: alert.name, **alert.transition.subject.attributes}
            event, number, body = own.ALERT_STACKS_EVENT, SeverityNumber.INFO, f"Where workers stood at {alert.name}."
        else:
            attributes, resolved = alert.attributes, alert.state is State.RESOLVED
            number = SeverityNumber.INFO if resolved else _SEVERITY_NUMBER[alert.severity]
            event, body = own.ALERT_EVENT, alert.message
        if alert.stacks:
            attributes = {**attributes, own.CODE_STACKTRACE: alert.stacks}
        with self._emitting:
            self._emit(alert, event, number, body, attributes)

    def _emit(
        self, alert: Alert, event: str, number: SeverityNumber, body: str, attributes: Mapping[str, Attribute]
    ) -> None:
        provider = self._provider or get_logger_provider()
        logger = provider.get_logger("otel_hwmetrics", __version__, SCHEMA_URL)
        logger.emit(
            timestamp=alert.time_unix_nano,
            # Never an empty context: the SDK would take whatever is current on this thread of ours for it.
            context=set_span_in_context(INVALID_SPAN if alert.known_span is None else alert.known_span, Context()),
            severity_number=number,
            severity_text=(Severity.INFO if event == own.ALERT_STACKS_EVENT else alert.severity).value,
            body=body,
            attributes=attributes,
            event_name=event,
        )
