# SPDX-License-Identifier: Apache-2.0
"""A training job whose result tells whether anybody disturbed it, in a process of its own.

It trains a small network in plain Python, so its weights are the same to the last bit wherever it runs. A fault is a
function of a module of this folder, a context manager that is entered before anything is instrumented and left when the
training is done, and is the same with us and without.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import math
import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

import otel_hwmetrics


class Told:
    """The job's only backend: lines of JSON in a file, one a write, so that what left the process stays told."""

    def __init__(self, path: str) -> None:
        self._file = os.open(
            path, os.O_WRONLY | os.O_APPEND
        )  # no lock, which a child might inherit from another thread

    def line(self, **what: Any) -> None:
        """Write one."""
        os.write(self._file, (json.dumps(what) + "\n").encode())


class Points(MetricExporter):
    """Metrics, to lines: every point of one export."""

    def __init__(self, told: Told) -> None:
        super().__init__()
        self._told = told

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:
        """Write what one collection gave."""
        del timeout_millis
        points = [
            (metric.name, dict(point.attributes or {}), point.value)
            for resource in metrics_data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
            if hasattr(point, "value")
        ]
        self._told.line(points=points, at=time.monotonic(), by=os.getpid())
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing waits."""
        del timeout_millis
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Nothing to close."""


class Spans(SpanExporter):
    """Spans, to lines."""

    def __init__(self, told: Told) -> None:
        self._told = told

    def export(self, spans: Any) -> SpanExportResult:
        """Write finished spans."""
        span: ReadableSpan
        for span in spans:
            events = [(event.name, dict(event.attributes or {})) for event in span.events]
            self._told.line(span=span.name, attributes=dict(span.attributes or {}), events=events)
        return SpanExportResult.SUCCESS


class Records(LogRecordExporter):
    """Log records, to lines."""

    def __init__(self, told: Told) -> None:
        self._told = told

    def export(self, batch: Any) -> LogRecordExportResult:
        """Write records."""
        for each in batch:
            record = each.log_record
            self._told.line(record=record.event_name, attributes=dict(record.attributes or {}))
        return LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing to close."""

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing waits."""
        del timeout_millis
        return True


class Job:
    """What a fault may touch.

    Attributes:
        instrumented: Whether otel_hwmetrics takes part.
        options: Of `instrument()`; a fault may add some.
        argument: What the case gives its fault.
        on_step: Called with each step's number, on the training's thread.
        ending: Called when the training is done and its result is told; it may raise, exit, kill.
        handle: Of our instrumentation; None before and without.
        providers: Of OpenTelemetry; a fault that is about their order may take them.
        told: The backend.
    """

    def __init__(self, plan: dict[str, Any]) -> None:
        self.instrumented: bool = plan["instrumented"]
        self.options: dict[str, Any] = plan["options"]
        self.argument: Any = plan["argument"]
        self.steps: int = plan["steps"]
        self.on_step: list[Callable[[int], object]] = []
        self.ending: Callable[[], object] = lambda: None
        self.handle: otel_hwmetrics.Instrumentation | None = None
        self.told = Told(plan["told"])
        self.providers: list[Any] = []

    def provide(self) -> None:
        """Set up the real SDK, as a user would."""
        reader = PeriodicExportingMetricReader(Points(self.told), export_interval_millis=250)
        meters, tracers, loggers = MeterProvider([reader]), TracerProvider(), LoggerProvider()
        tracers.add_span_processor(BatchSpanProcessor(Spans(self.told), schedule_delay_millis=200))
        loggers.add_log_record_processor(BatchLogRecordProcessor(Records(self.told), schedule_delay_millis=200))
        metrics.set_meter_provider(meters)
        trace.set_tracer_provider(tracers)
        self.providers = [meters, tracers, loggers]
        if self.instrumented:
            self.handle = otel_hwmetrics.instrument(
                meter_provider=meters, tracer_provider=tracers, logger_provider=loggers, **self.options
            )

    def end_us(self) -> None:
        """Call `uninstrument()`, if there is something to end, and tell how long that took."""
        if self.instrumented:
            began = time.monotonic()
            otel_hwmetrics.uninstrument()
            self.told.line(stopped_within=time.monotonic() - began)


class Network:
    """Two layers of eight, trained by gradient descent on points whose sign of the product is to be learnt."""

    def __init__(self) -> None:
        self.chance = random.Random(7)  # noqa: S311 - the same each time
        self.hidden = [[self.chance.uniform(-1, 1) for _ in range(3)] for _ in range(8)]
        self.out = [self.chance.uniform(-1, 1) for _ in range(8)]

    def step(self) -> None:
        """Learn from thirty-two points."""
        for _ in range(32):
            x, y = self.chance.uniform(-1, 1), self.chance.uniform(-1, 1)
            wanted = 1.0 if x * y > 0 else -1.0
            inner = [math.tanh(row[0] * x + row[1] * y + row[2]) for row in self.hidden]
            error = sum(weight * value for weight, value in zip(self.out, inner, strict=True)) - wanted
            for unit, value in enumerate(inner):
                back = error * self.out[unit] * (1 - value * value)
                self.out[unit] -= 0.01 * error * value
                for number, given in enumerate((x, y, 1.0)):
                    self.hidden[unit][number] -= 0.01 * back * given

    @property
    def digest(self) -> str:
        """The weights, to the last bit."""
        return hashlib.sha256(repr((self.hidden, self.out)).encode()).hexdigest()


def train(job: Job) -> None:
    """Train, and tell the result."""
    network, began = Network(), time.thread_time()
    with trace.get_tracer("job").start_as_current_span("train"):
        for number in otel_hwmetrics.steps(range(job.steps)):
            network.step()
            time.sleep(0.002)
            for each in job.on_step:
                each(number)
    job.told.line(result=network.digest, cpu=time.thread_time() - began)


def main() -> None:
    """Run by the plan on the command line."""
    plan = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
    module, _, name = plan["fault"].partition(":")
    fault: Callable[[Job], AbstractContextManager[None]] = getattr(importlib.import_module(module), name)
    job = Job(plan)
    job.told.line(began=time.monotonic())
    with fault(job):
        job.provide()
        train(job)
    job.told.line(done=time.monotonic())
    job.ending()


if __name__ == "__main__":
    main()
