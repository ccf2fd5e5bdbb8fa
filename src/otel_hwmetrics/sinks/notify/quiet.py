# SPDX-License-Identifier: Apache-2.0
"""Keeping addresses out of logs and traces while they are used.

An address holds tokens and passwords, and what sends to it tells of them: Apprise logs the URL that it posts to,
urllib3 logs ``"POST /services/T000/B000/XXXX HTTP/1.1" 200``, both at DEBUG; instrumentations of HTTP clients put the
URL onto a span. So nothing is heard of them from a thread of ours that sends, and all from any other.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

LIBRARIES = frozenset(
    {
        *("apprise", "asyncio", "certifi", "charset_normalizer", "chardet", "click", "concurrent", "cryptography"),
        *("dbus", "gi", "gntp", "hid", "idna", "markdown", "MARKDOWN", "nacl", "oauthlib", "paho", "pgpy", "pika"),
        *("proton", "requests", "requests_oauthlib", "slixmpp", "smpplib", "urllib3"),
        *("win32api", "win32con", "win32gui", "yaml"),
    }
)
"""Top names of the loggers of what Apprise and its plugins are made of; a test holds them against their imports."""

OWN_THREADS = "apprise-"
"""How the threads are called that Apprise's plugin for XMPP starts: what is set for ours does not reach them."""

_sending: ContextVar[bool] = ContextVar("otel_hwmetrics_sending", default=False)


class _NotWhileSending(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not (_sending.get() or (record.threadName or "").startswith(OWN_THREADS))


_not_while_sending = _NotWhileSending()


@contextmanager
def quietly() -> Iterator[None]:
    """Send within this block, and nobody logs or traces it; other threads, and this one later, are not concerned."""
    from opentelemetry.instrumentation.utils import suppress_instrumentation

    # A filter is asked by its own logger alone, not by those below it: each one needs it. It stays there, since taking
    # it away while another thread walks the list of filters could make it skip one of the user's.
    for name, logger in logging.root.manager.loggerDict.copy().items():
        if isinstance(logger, logging.Logger) and name.partition(".")[0] in LIBRARIES:
            logger.addFilter(_not_while_sending)
    token = _sending.set(True)
    try:
        with suppress_instrumentation():
            yield
    finally:
        _sending.reset(token)
