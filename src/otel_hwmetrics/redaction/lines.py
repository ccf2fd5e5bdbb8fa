# SPDX-License-Identifier: Apache-2.0
"""Loggers of ours: no line of theirs has a secret in it."""

from __future__ import annotations

import logging
import traceback
from typing import Final

from otel_hwmetrics.output import Regardless, WouldWait
from otel_hwmetrics.redaction.texts import text

MESSAGE: Final = 1024
TRACEBACK: Final = 1536
"""Bytes of a line's two parts, of which the middle is left out beyond: less than `output.PAGE`, even if a formatter writes
the traceback twice, as one that writes JSON does with all attributes."""
_LEFT_OUT: Final = b" [...] "


def logger(name: str = "otel_hwmetrics") -> logging.Logger:
    """A logger of ours: no line has a secret in it, or waits for who reads it. Every module has its own from here."""
    made = logging.getLogger(name)
    for each in (_without_secrets, _would_wait):  # always the same objects, so they are there once
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
        with Regardless():
            said = text(record.getMessage())
        record.msg, record.args = _short(said, MESSAGE), ()
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            kind = record.exc_text = type(error).__qualname__
            with Regardless():
                record.exc_text = _short(text("".join(traceback.format_exception(error))).rstrip("\n"), TRACEBACK)
            record.exc_info = None
            record.__dict__ |= {"exception.type": kind, "exception.stacktrace": record.exc_text}
        return True


def _short(said: str, longest: int) -> str:
    """A text of at most so many bytes, without its middle if it is longer."""
    raw = said.encode("utf-8", "replace")
    if len(raw) <= longest:
        return said
    half = (longest - len(_LEFT_OUT)) // 2
    return (raw[:half] + _LEFT_OUT + raw[-half:]).decode("utf-8", "ignore")


_without_secrets: Final = _WithoutSecrets()
_would_wait: Final = WouldWait()
