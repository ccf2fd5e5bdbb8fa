# SPDX-License-Identifier: Apache-2.0
"""Alerts as lines of Python's logging: for who watches the job's own output, and for who has no backend."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator

from otel_hwmetrics import redaction
from otel_hwmetrics.alerts.rule import Severity, State
from otel_hwmetrics.catalog import own
from otel_hwmetrics.sinks.base import Alert, OfWorkers

LOGGER = "otel_hwmetrics.alerts"
"""The logger's name, to route or to silence."""

_PLAIN = re.compile(r"[!#-<>-~]+")  # no space, no quote, no equals sign

_LEVELS = {Severity.INFO: logging.INFO, Severity.WARNING: logging.WARNING, Severity.CRITICAL: logging.CRITICAL}


class LineSink:
    """Logs each alert as one line: the message, then what tells it from others as ``key=value`` (logfmt).

    The record carries the same as attributes for handlers that write JSON: ``hwmetrics``, a dictionary of the event's
    attributes, and ``otelTraceID`` and ``otelSpanID``, the names under which opentelemetry-instrumentation-logging puts
    them on every record.
    """

    def __init__(self) -> None:
        self._logger = redaction.logger(LOGGER)

    def on_alert(self, alert: Alert) -> None:
        """Log one line. Called on a thread of its own, since a handler may wait."""
        level = logging.INFO if alert.state is State.RESOLVED else _LEVELS[alert.severity]
        if isinstance(alert, OfWorkers) or not self._logger.isEnabledFor(level):
            return
        text = f"{alert.message} {' '.join(_pairs(alert))}"
        record = self._logger.makeRecord(LOGGER, level, __file__, 0, text, (), None, "on_alert")
        # Not as `extra`: a record factory that has set the latter two already makes that an error.
        record.__dict__ |= {
            # Stacks are larger than what a pipe takes at once, which a line of ours never is.
            "hwmetrics": {key: each for key, each in alert.attributes.items() if key != own.CODE_STACKTRACE},
            "otelTraceID": alert.trace_id or "0",
            "otelSpanID": alert.span_id or "0",
        }
        _handle(self._logger, record)


def _pairs(alert: Alert) -> Iterator[str]:
    """What tells this alert from others."""
    told = {
        "alert": alert.name,
        "state": "blind" if alert.blind else alert.state.value,
        "severity": alert.severity.value,
        "device": alert.device,
        "value": None if alert.value is None else f"{alert.value:g}",
        "threshold": f"{alert.threshold:g}",
        "trace_id": alert.trace_id,
        "span_id": alert.span_id,
        "at": alert.at,
    }
    for key, value in told.items():
        if value:
            yield f"{key}={value if _PLAIN.fullmatch(value) else json.dumps(value)}"


def _handle(logger: logging.Logger, record: logging.LogRecord) -> None:
    """Give a record to the handlers that the logger's own ``handle`` would give it to, but for OpenTelemetry's.

    The alert is a log event already (`otel_hwmetrics.sinks.logs`); OpenTelemetry's handler would send it a second time,
    as a line without an event's name.
    """
    if not logger.filter(record):
        return
    handlers = list(_handlers(logger)) or [logging.lastResort]
    for handler in handlers:
        if handler is None or record.levelno < handler.level or type(handler).__module__.startswith("opentelemetry"):
            continue
        handler.handle(record)


def _handlers(logger: logging.Logger | None) -> Iterator[logging.Handler | None]:
    """Those of a logger and the ones above it, as `logging.Logger.callHandlers` finds them."""
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None
