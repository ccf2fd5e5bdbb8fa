# SPDX-License-Identifier: Apache-2.0
"""What is dropped is counted, and shown."""

from __future__ import annotations

from otel_hwmetrics.catalog import own
from otel_hwmetrics.config import Config
from otel_hwmetrics.judging import Judging
from otel_hwmetrics.sinks.base import dropped
from otel_hwmetrics.sinks.tracker import TRACKER


def test_alerts_that_were_dropped_are_shown_by_whom_they_would_have_reached() -> None:
    """And by the reason; nothing where none was."""
    judging = Judging(Config(), {}, TRACKER, None)
    assert own.ALERT_DROPPED not in {reading.metric for reading in judging.readings(0.0)}
    dropped["logs", "queue_full"] += 3
    dropped["notify", "undelivered"] += 1
    told = {
        (reading.attributes["hwmetrics.alert.sink"], reading.attributes["error.type"]): reading.value
        for reading in judging.readings(0.0)
        if reading.metric is own.ALERT_DROPPED
    }
    assert told == {("logs", "queue_full"): 3, ("notify", "undelivered"): 1}
