# SPDX-License-Identifier: Apache-2.0
"""Rules of the instrumentation itself: what it cannot see, and what it costs."""

from __future__ import annotations

from otel_hwmetrics.alerts.conditions import Level
from otel_hwmetrics.alerts.over import Aggregate, Over
from otel_hwmetrics.alerts.rule import Rule, Severity, Side
from otel_hwmetrics.catalog import own

RULES: tuple[Rule, ...] = (
    Rule(
        "source_failing",
        Severity.WARNING,
        Level(own.SOURCE_UP),
        Side.BELOW,
        threshold=0.5,
        slack=0.0,
        for_seconds=60.0,
        message="The source {device} gives no readings.",
        advice=f"Alerts on them are blind meanwhile; {own.READINGS_LOST.name} counts why.",
        keep_firing_seconds=10.0,
    ),
    Rule(
        "monitor_over_budget",
        Severity.INFO,
        Over(own.SAMPLING_TIME, Aggregate.RATE, 60.0),
        Side.ABOVE,
        threshold=0.05,
        slack=0.02,
        for_seconds=300.0,
        message="This instrumentation itself takes {value} of a CPU ({beyond}).",
        advice="A longer sample_interval, or fewer sources, costs less.",
        keep_firing_seconds=60.0,
    ),
)
