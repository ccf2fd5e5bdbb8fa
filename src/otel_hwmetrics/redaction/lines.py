# SPDX-License-Identifier: Apache-2.0
"""Loggers of ours: no line of theirs has a secret in it."""

from __future__ import annotations

import logging
import traceback
from typing import Final

from otel_hwmetrics.output import WouldWait
from otel_hwmetrics.redaction.texts import text


def logger(name: str = "otel_hwmetrics") -> logging.Logger:
    """A logger of ours: no line has a secret in it, or waits for who reads it. Every module has its own from here."""
    made = logging.getLogger(name)
    for each in (_would_wait, _without_secrets):  # always the same objects, so they are there once
        made.addFilter(each)
    return made


class _WithoutSecrets(logging.Filter):
    """Takes secrets out of a record before any handler sees it.

    Its exception becomes text, too: what handles a record may keep an exception's frames, with all their variables, or
    write its words. The text is where logging's formatters look for it, and in the attributes that OpenTelemetry has for it
    (https://opentelemetry.io/docs/specs/semconv/exceptions/exceptions-logs/).
    """

    def filter(self, record: logging.LogRecord) -> bool:
        said = f"what was to be said at {record.module}:{record.lineno} cannot be made text"
        with _Regardless():
            said = text(record.getMessage())
        record.msg, record.args = said, ()
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            kind = record.exc_text = type(error).__qualname__
            with _Regardless():
                record.exc_text = text("".join(traceback.format_exception(error))).rstrip("\n")
            record.exc_info = None
            record.__dict__ |= {"exception.type": kind, "exception.stacktrace": record.exc_text}
        return True


class _Regardless:
    """Passes over any exception while somebody's objects are made text, which may fail in their own ways.

    Logging catches what a handler raises, and nothing around filters; `_guard.guard` says by this filter what it caught.
    """

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        return isinstance(error, Exception)


_would_wait: Final = WouldWait()
_without_secrets: Final = _WithoutSecrets()
