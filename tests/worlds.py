# SPDX-License-Identifier: Apache-2.0
"""A pipeline whose time is the test's: scripted GPUs, the real SDK, everything kept that is exported."""

from __future__ import annotations

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_hwmetrics.config import resolve
from otel_hwmetrics.pipeline import Pipeline
from otel_hwmetrics.runners import ThreadRunner
from otel_hwmetrics.testing import FakeGpu, FakeNvml, ManualClock


class World:
    """A pipeline whose time is ours: nothing happens but by `advance`."""

    def __init__(self, gpus: list[FakeGpu], **options: object) -> None:
        self.clock = ManualClock(start=1000.0)
        self.nvml = FakeNvml(gpus, clock=self.clock)
        self.spans, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.records = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
        self.tracer_provider, logger_provider = TracerProvider(), LoggerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.spans))
        logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self.records))
        self.nvml.install()
        self.pipeline = Pipeline(
            resolve({"sample_interval": 0, "source_timeout": 10.0, "snapshot_timeout": 12.5, **options}, {}).config,
            meter_provider=MeterProvider([self.reader]),
            tracer_provider=self.tracer_provider,
            logger_provider=logger_provider,
            clock=self.clock,
        )
        self.pipeline.start()
        for runner in self.pipeline.sampler.runners:  # by this clock the time that they have for it is soon over
            assert not isinstance(runner, ThreadRunner) or runner.wait_opened(20)
        assert self.pipeline.sampler.fresh(20) is not None  # its own first look is over; from here on only `advance`

    def advance(self, seconds: int) -> None:
        """Let time pass, with a sample every second, judged and told."""
        sampler = self.pipeline.sampler
        for _ in range(seconds):
            # The end of a training span asks the sampler's own thread for a look, which may come to it later; two at once
            # there never are.
            with sampler._condition:
                assert sampler._condition.wait_for(lambda: sampler._answered == sampler._asked, 20)
            self.clock.advance(1)
            sampler.sample()
            self.pipeline.tell()
        for waiting in self.pipeline._judging._waiting:
            waiting.close()
            waiting.join(20)

    def events(self) -> list[tuple[str, int, str, str]]:
        """Every alert event that was exported: span, seconds since the start, rule, state."""
        return [
            (
                span.name,
                round((event.timestamp - self.clock.time_ns()) / 1e9 + self.clock.monotonic() - 1000),
                str((event.attributes or {})["hwmetrics.alert.rule"]),
                str((event.attributes or {})["hwmetrics.alert.state"]),
            )
            for span in self.spans.get_finished_spans()
            for event in span.events
        ]

    def close(self) -> None:
        """End it."""
        self.pipeline.stop()
        self.nvml.uninstall()
