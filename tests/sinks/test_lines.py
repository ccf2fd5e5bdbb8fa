# SPDX-License-Identifier: Apache-2.0
"""Alerts as lines of Python's logging."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from alarms import alert
from otel_hwmetrics.alerts.rule import Severity, State
from otel_hwmetrics.alerts.subjects import Subject
from otel_hwmetrics.catalog import system
from otel_hwmetrics.sinks.lines import LOGGER, LineSink


class Kept(logging.Handler):
    """Keeps the records that it is given."""

    def __init__(self, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.records.append(record)


class OfOpenTelemetry(Kept):
    """Looks as OpenTelemetry's own handler does from outside."""


OfOpenTelemetry.__module__ = "opentelemetry.sdk._logs._internal"


@pytest.fixture
def kept() -> Iterator[Kept]:
    """A handler of the root logger, as applications have them."""
    handler, root, logger = Kept(), logging.getLogger(), logging.getLogger(LOGGER)
    root.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    root.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_an_alert_is_one_line_that_people_and_programs_can_read(kept: Kept) -> None:
    """The message, then key=value; trace and span by their ids."""
    span = TracerProvider().get_tracer("t").start_span("epoch")
    told = alert(span=span)
    LineSink().on_alert(told)
    (record,) = kept.records
    assert record.getMessage() == (
        'GPU 0: 85 °C. alert=gpu_hot state=firing severity=warning device="GPU 0" value=85 threshold=80 '
        f"trace_id={told.trace_id} span_id={told.span_id}"
    )
    assert (record.name, record.levelno) == ("otel_hwmetrics.alerts", logging.WARNING)
    assert record.otelTraceID == f"{span.get_span_context().trace_id:032x}"  # type: ignore[attr-defined]
    assert record.otelSpanID == f"{span.get_span_context().span_id:016x}"  # type: ignore[attr-defined]
    assert record.hwmetrics == dict(told.attributes)  # type: ignore[attr-defined]


def test_without_a_span_there_are_no_ids_and_of_the_host_no_device(kept: Kept) -> None:
    """What is absent is not in the line."""
    LineSink().on_alert(alert(device="", value=None))
    (record,) = kept.records
    assert record.getMessage() == "the host: ?. alert=gpu_hot state=firing severity=warning threshold=80"
    assert (record.otelTraceID, record.otelSpanID) == ("0", "0")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("severity", "level"),
    [(Severity.INFO, logging.INFO), (Severity.WARNING, logging.WARNING), (Severity.CRITICAL, logging.CRITICAL)],
)
def test_the_level_is_the_rule_s_and_a_resolution_is_information(kept: Kept, severity: Severity, level: int) -> None:
    """As in OpenTelemetry's logs."""
    for state in (State.FIRING, State.RESOLVED):
        LineSink().on_alert(alert(state, severity=severity))
    assert [record.levelno for record in kept.records] == [level, logging.INFO]


def test_a_blind_alert_is_no_second_firing(kept: Kept) -> None:
    """Who counts lines must not count it twice."""
    LineSink().on_alert(alert(blind=True))
    assert "state=blind" in kept.records[0].getMessage()


def test_opentelemetry_s_own_handler_is_passed_over(kept: Kept) -> None:
    """The alert is a log event already; it must not arrive a second time, as a line."""
    other = OfOpenTelemetry()
    logging.getLogger().addHandler(other)
    try:
        LineSink().on_alert(alert())
    finally:
        logging.getLogger().removeHandler(other)
    assert (len(kept.records), other.records) == (1, [])


def test_levels_filters_and_propagation_are_those_of_logging(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user routes and silences it as any logger."""
    logger, high, sink = logging.getLogger(LOGGER), Kept(logging.ERROR), LineSink()
    monkeypatch.setattr(logger, "handlers", [high])
    sink.on_alert(alert())
    assert (len(kept.records), len(high.records)) == (1, 0)
    monkeypatch.setattr(logger, "propagate", False)
    sink.on_alert(alert(severity=Severity.CRITICAL))
    assert (len(kept.records), len(high.records)) == (1, 1)
    monkeypatch.setattr(logger, "filters", [lambda record: "gpu_hot" not in record.getMessage()])
    sink.on_alert(alert(severity=Severity.CRITICAL))
    monkeypatch.setattr(logger, "filters", [])
    monkeypatch.setattr(logger, "disabled", True)
    sink.on_alert(alert(severity=Severity.CRITICAL))
    assert (len(kept.records), len(high.records)) == (1, 1)


def test_where_nobody_set_logging_up_warnings_are_on_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with any warning of Python's logging; information is not."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    screen = io.StringIO()
    monkeypatch.setattr(logging, "lastResort", logging.StreamHandler(screen))
    monkeypatch.setattr(logging.lastResort, "level", logging.WARNING)
    for severity in (Severity.INFO, Severity.CRITICAL):
        LineSink().on_alert(alert(severity=severity))
    assert screen.getvalue().count("alert=gpu_hot") == 1


def test_a_record_factory_that_puts_the_span_on_every_record_is_no_hindrance(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As opentelemetry-instrumentation-logging does it; the alert's own span counts."""

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = logging.LogRecord(*args, **kwargs)
        record.otelTraceID = record.otelSpanID = "0"
        return record

    monkeypatch.setattr(logging, "_logRecordFactory", factory)
    span = TracerProvider().get_tracer("t").start_span("epoch")
    LineSink().on_alert(alert(span=span))
    (record,) = kept.records
    assert record.otelTraceID == f"{span.get_span_context().trace_id:032x}"  # type: ignore[attr-defined]


@pytest.mark.parametrize("device", ['a "b"', "x=1", "two\nlines", "plain"])
def test_whatever_a_device_is_called_the_line_stays_one_that_programs_can_read(kept: Kept, device: str) -> None:
    """Mount points have any name; what is not plain is quoted as JSON."""
    told = alert()
    subject = Subject(device, {system.FILESYSTEM_MOUNTPOINT: device})
    LineSink().on_alert(replace(told, transition=replace(told.transition, subject=subject)))
    (record,) = kept.records
    line = record.getMessage()
    shown = line[line.index("device=") + 7 : line.index(" value=")]
    assert shown == (device if device == "plain" else json.dumps(device))
