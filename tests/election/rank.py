# SPDX-License-Identifier: Apache-2.0
"""One rank of a job, in a process of its own: it exports what it has to a file of lines, until it is told to end."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

import otel_hwmetrics
from otel_hwmetrics.testing import FakeGpu, FakeNvml

OPTIONS: dict[str, Any] = json.loads(sys.argv[2])
WATCHED = ("system.cpu.time", "hw.energy", "process.cpu.time", "hwmetrics.emitter", "container.memory.usage")


_file = open(sys.argv[1], "a", buffering=1, encoding="utf-8")  # noqa: SIM115 - as long as the rank


def tell(**what: Any) -> None:
    """Write one line: when, who, what."""
    _file.write(json.dumps({"at": time.monotonic(), "pid": os.getpid(), **what}) + "\n")


class Lines(MetricExporter):
    """One line an export: when, who, and where the series stand."""

    def __init__(self) -> None:
        delta = OPTIONS.pop("delta", False)
        super().__init__(preferred_temporality={ObservableCounter: AggregationTemporality.DELTA} if delta else None)

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:
        """Write it."""
        del timeout_millis
        points = [
            (metric.name, sorted(dict(point.attributes or {}).items()), point.value)
            for resource in metrics_data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name in WATCHED
            for point in metric.data.data_points
            if hasattr(point, "value")
        ]
        tell(points=points)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing waits."""
        del timeout_millis
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Nothing to close."""


class Told(logging.Handler):
    """The lines of the log that tell of alerts; what carries records and messages is told of the same ones."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write it."""
        if "very_hot" in record.getMessage() or "°C" in record.getMessage():
            tell(alert=record.getMessage())


class SinceBoot:
    """A driver counts for the whole machine, so every rank has to see the same count: that since the machine's boot."""

    ticks = False

    def monotonic(self) -> float:
        """0 until the fake is installed, then the machine's own."""
        return time.monotonic() if self.ticks else 0.0

    def time_ns(self) -> int:
        """The wall clock's."""
        return time.time_ns()


def main() -> None:
    """Run until SIGINT."""
    told = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: told.set())
    logging.getLogger("otel_hwmetrics").addHandler(Told())
    clock, temperature = SinceBoot(), OPTIONS.pop("temperature", 50.0)
    gpus = [FakeGpu(power=300.0, utilization=0.9, temperature=temperature) for _ in range(2)]
    FakeNvml(gpus, clock=clock).install()
    clock.ticks = True
    reader = PeriodicExportingMetricReader(Lines(), export_interval_millis=OPTIONS.pop("export", 250))
    provider = MeterProvider([reader], resource=Resource({}))
    workers = OPTIONS.pop("workers", 0)
    otel_hwmetrics.instrument(meter_provider=provider, flight_recorder=0, **OPTIONS)
    time.sleep(1 if workers else 0)
    for _ in range(workers):
        if os.fork() == 0:  # as a data loader's, that ends some seconds after its parent
            time.sleep(30)
            os._exit(0)
    tracers = TracerProvider()
    trace.set_tracer_provider(tracers)
    with tracers.get_tracer("rank").start_as_current_span("train") as span:
        while not told.wait(0.2):
            pass
    tell(events=[event.name for event in getattr(span, "events", ())])
    provider.shutdown()


if __name__ == "__main__":
    main()
