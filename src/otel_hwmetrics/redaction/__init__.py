# SPDX-License-Identifier: Apache-2.0
"""Keeping secrets out of what we write: log lines, alerts, files, notifications.

Command lines, environments, addresses, headers and free text that has any of these in it. What is secret is told by the
name it stands behind (a table of words, as Sentry's ``EventScrubber`` and Datadog's process agent have one), by its place
(behind ``user:`` in an address, in the path of a webhook), or by its own form (``ghp_…``, ``AKIA…``, a PEM block).

When in doubt it is hidden in a text: a word too many costs a reader a moment, a word too few costs a key. In the name of a
place it is left, since two of them must not become one. And a job is full of tokens that are none: ``max_tokens=512``,
``eos_token``. Whoever hides a secret below an innocent name, as the argument of a program that takes it bare, or in
pieces, is not helped here. What is the user's own telemetry is never touched.

No function here raises or waits. Each takes time in proportion to its input, since every pattern begins at the edge of a
word and no stretch of text is walked through twice; and of a long text the middle is left out first.

Sources: https://github.com/getsentry/sentry-python/blob/master/sentry_sdk/scrubber.py,
https://docs.datadoghq.com/infrastructure/process/?tab=linuxwindows#process-arguments-scrubbing,
https://github.com/gitleaks/gitleaks/blob/master/config/gitleaks.toml (forms of keys), pip's ``redact_auth_from_url``.
"""

from otel_hwmetrics.redaction.addresses import url
from otel_hwmetrics.redaction.lines import logger
from otel_hwmetrics.redaction.names import REDACTED, is_secret
from otel_hwmetrics.redaction.texts import data, place, text

__all__ = ["REDACTED", "data", "is_secret", "logger", "place", "text", "url"]
