# SPDX-License-Identifier: Apache-2.0
"""Spans and alerts, as OpenTelemetry and the engine have them, to what a recording keeps of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from opentelemetry.trace import format_span_id, format_trace_id

from otel_hwmetrics.catalog import own
from otel_hwmetrics.recording.nouns import RecordedAlert, RecordedSpan
from otel_hwmetrics.sinks.base import Alert
from otel_hwmetrics.sinks.recorder_about import plain

_FILES = {own.ALERT_FLIGHT: "flight", own.ALERT_PROFILE: "profile"}


def recorded_span(span: Any, now_ns: int) -> RecordedSpan:
    """A span that has begun, or has ended; what a foreign one does not tell is not known.

    Args:
        span: The SDK's, or one that is called as the SDK's.
        now_ns: When it began, where it does not say so.
    """
    context = span.get_span_context()
    parent = getattr(getattr(span, "parent", None), "span_id", None)
    code = getattr(getattr(getattr(span, "status", None), "status_code", None), "name", "UNSET")
    return RecordedSpan(
        trace_id=format_trace_id(context.trace_id),
        span_id=format_span_id(context.span_id),
        parent_id=format_span_id(parent) if isinstance(parent, int) else "",
        name=str(getattr(span, "name", "")),
        started_ns=getattr(span, "start_time", None) or now_ns,
        ended_ns=getattr(span, "end_time", None),
        status=str(code).lower(),
        attributes=plain(getattr(span, "attributes", None)),
    )


def ended_span(span: Any, begun: RecordedSpan | None, now_ns: int) -> RecordedSpan:
    """A span that has ended, also one that does not say when it began or ended.

    Args:
        span: The SDK's, or one that is called as the SDK's.
        begun: What was known of it at its start, if anything was.
        now_ns: When it ended, where it does not say so.
    """
    told = recorded_span(span, begun.started_ns if begun is not None else now_ns)
    return told if told.ended_ns is not None else replace(told, ended_ns=now_ns)


def recorded_alert(alert: Alert) -> RecordedAlert:
    """An alert that was told of; within a span of the recording alone, too, of whose ids nobody else is told."""
    context = alert.span.get_span_context() if alert.span is not None else None
    return RecordedAlert(
        at_ns=alert.time_unix_nano,
        rule=alert.name,
        state=alert.state.value,
        severity=alert.severity.value,
        device=alert.device,
        message=alert.message,
        trace_id=format_trace_id(context.trace_id) if context is not None else "",
        span_id=format_span_id(context.span_id) if context is not None else "",
        attributes=plain(alert.attributes),
    )


def files_of(alert: Alert) -> list[tuple[str, str]]:
    """The files that an alert's event names, each with its kind."""
    named = ((kind, alert.attributes.get(key)) for key, kind in _FILES.items())
    return [(kind, str(path)) for kind, path in named if path]
