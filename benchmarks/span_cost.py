# SPDX-License-Identifier: Apache-2.0
"""What knowing the open spans costs the application at the start and the end of each of its spans.

Ours against a span processor that does nothing, called in turn with the same spans of the real SDK, while 10,000 spans
are open and 100 alerts fire. The promise is 5 µs at the median over doing nothing, at either end.

    python benchmarks/span_cost.py [--spans N] [--open N] [--alerts N] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import Span
from rich.console import Console
from rich.table import Table

from otel_hwmetrics.alerts.builtin import RULES
from otel_hwmetrics.sinks.matching import Matcher
from otel_hwmetrics.sinks.spans import SpanSink
from otel_hwmetrics.sinks.tracker import SpanTracker

PROMISED = 5.0
"""Microseconds."""


def tracker_with(open_spans: int, alerts: int, patterns: tuple[str, ...]) -> tuple[SpanTracker, list[Span]]:
    """A tracker that knows so many open spans while so many alerts fire; and the spans, to keep them alive."""
    tracker = SpanTracker()
    tracker.on = True
    tracker.watches = Matcher(patterns)
    sink = SpanSink(tracker)
    sink.fires(replace(RULES[0], name=f"rule_{number}") for number in range(alerts))
    tracer = TracerProvider().get_tracer("application")
    spans = [tracer.start_span(f"request {number}") for number in range(open_spans)]
    for span in spans:
        tracker.on_start(span)
    return tracker, spans


def measure(spans: int, open_spans: int, alerts: int) -> list[dict[str, Any]]:
    """Each kind of span: medians of both processors' calls, in microseconds."""
    rows = []
    nothing = SpanProcessor()
    tracer = TracerProvider().get_tracer("application")
    for kind, name, patterns in (
        ("a training span, which gets the alerts' names", "epoch", ("train", "epoch", "step")),
        ("any other span", "GET /items", ("train", "epoch", "step")),
    ):
        tracker, kept = tracker_with(open_spans, alerts, patterns)
        starts: dict[str, list[float]] = {"ours": [], "nothing": []}
        ends: dict[str, list[float]] = {"ours": [], "nothing": []}
        for number in range(spans):
            span = tracer.start_span(name)
            # In turn, and each of both first as often, so that neither has the warmer cache.
            arms: list[tuple[str, Any]] = [("ours", tracker), ("nothing", nothing)]
            for arm, processor in arms if number % 2 else arms[::-1]:
                starts[arm].append(timed(partial(processor.on_start, span, None)))
            for arm, processor in arms if number % 2 else arms[::-1]:
                ends[arm].append(timed(partial(processor.on_end, span)))
            span.end()
        del kept
        for call, taken in (("on_start", starts), ("on_end", ends)):
            ours, floor = (statistics.median(taken[arm]) for arm in ("ours", "nothing"))
            rows.append({"span": kind, "call": call, "nothing_us": floor, "ours_us": ours, "over_us": ours - floor})
    return rows


def timed(call: Callable[[], object]) -> float:
    """How long one call takes, in microseconds."""
    started = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - started) / 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=20_000, help="spans of each kind (default 20000)")
    parser.add_argument("--open", type=int, default=10_000, help="other spans that are open (default 10000)")
    parser.add_argument("--alerts", type=int, default=100, help="alerts that fire (default 100)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    rows = measure(arguments.spans, arguments.open, arguments.alerts)
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    title = (
        f"Medians in µs; {arguments.open:,} open spans, {arguments.alerts} alerts; promised: {PROMISED:g} over nothing"
    )
    table = Table("span", "call", "does nothing", "ours", "over", title=title)
    for row in rows:
        table.add_row(row["span"], row["call"], *(f"{row[key]:.2f}" for key in ("nothing_us", "ours_us", "over_us")))
    Console().print(table)


if __name__ == "__main__":
    main()
