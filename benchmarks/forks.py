# SPDX-License-Identifier: Apache-2.0
"""Forks under load: whether any child hangs, and how long a fork holds up its parent.

The parent samples two scripted GPUs five times a second, exports every 10 ms, opens and closes training spans on a
second thread and has alerts that come and go; children are forked all the while, as loaders and pools do. Each makes an
instrument, counts, ends its parent's span, logs, asks for a lock of each provider, and exits: most by `os._exit`, every
tenth as a program does, with the shutdown of the providers. The promise is that none hangs, which is none takes longer
than `--patience`.

    python benchmarks/forks.py [--forks N] [--at-once N] [--patience SECONDS] [--without] [--json]
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
import warnings
from typing import IO, Any

from opentelemetry import metrics, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExportResult
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

import otel_hwmetrics
from otel_hwmetrics.testing import FakeGpu, FakeNvml

PATIENCE = 20.0
"""Seconds after which a child hangs."""
LIKE_A_PROGRAM = 10
"""Every such child exits as a program does."""
FLAP = [point for second in range(1800) for point in ((second, 60.0), (second + 0.45, 60.0), (second + 0.5, 90.0))]
"""The temperature: hot for half of each second."""
MOST_EVENTS = 100
"""On one span, before the next one is opened: each is to be one that takes further events."""


class Nowhere:
    """A backend that takes whatever comes."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def export(self, batch: Any, timeout_millis: float = 0, **_: Any) -> Any:
        """Take it."""
        del batch, timeout_millis
        return self.result

    def shutdown(self, timeout_millis: float = 0, **_: Any) -> None:
        """Nothing to close."""

    def force_flush(self, timeout_millis: float = 0) -> bool:
        """Nothing waits."""
        del timeout_millis
        return True


class Metrics(MetricExporter):
    """Metrics; in a child it is an error if any of ours comes."""

    def __init__(self) -> None:
        super().__init__()
        self.pid = os.getpid()
        self.exports = 0

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:
        """Take them."""
        del timeout_millis
        scopes = {scope.scope.name for each in metrics_data.resource_metrics for scope in each.scope_metrics}
        self.exports += "otel_hwmetrics" in scopes
        time.sleep(0.002)  # as if there were a network
        if os.getpid() != self.pid and "otel_hwmetrics" in scopes:
            os._exit(3)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing waits."""
        del timeout_millis
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Nothing to close."""


class Application:
    """What the parent is busy with."""

    def __init__(self, *, instrumented: bool) -> None:
        self.exporter = Metrics()
        reader = PeriodicExportingMetricReader(self.exporter, export_interval_millis=10)
        self.meters, tracers, loggers = MeterProvider([reader]), TracerProvider(), LoggerProvider()
        tracers.add_span_processor(BatchSpanProcessor(Nowhere(SpanExportResult.SUCCESS)))  # type: ignore[arg-type]
        loggers.add_log_record_processor(BatchLogRecordProcessor(Nowhere(LogRecordExportResult.SUCCESS)))  # type: ignore[arg-type]
        metrics.set_meter_provider(self.meters)
        trace.set_tracer_provider(tracers)
        set_logger_provider(loggers)
        self.handle: otel_hwmetrics.Instrumentation | None = None
        if instrumented:
            FakeNvml([FakeGpu(temperature=FLAP, utilization=0.9), FakeGpu(temperature=95.0, utilization=0.9)]).install()
            self.handle = otel_hwmetrics.instrument(sample_interval=0.2, alert_gpu_hot_for=0, alert_span_events=128)
        self.span = trace.get_tracer("parent").start_span("train")
        otel_hwmetrics.watch(self.span)
        self._ended = threading.Event()
        self._busy = threading.Thread(target=self._open_and_close, daemon=True)
        self._busy.start()

    def _open_and_close(self) -> None:
        while not self._ended.wait(0.001):
            with otel_hwmetrics.training_span("epoch"):
                pass
            if not self.span.is_recording() or len(self.span.events) > MOST_EVENTS:  # type: ignore[attr-defined]
                self.span = otel_hwmetrics.watch(trace.get_tracer("parent").start_span("train"))

    def end(self) -> None:
        """Be busy no more."""
        self._ended.set()
        self._busy.join()


def in_child(application: Application) -> None:
    """What a child does."""
    application.span.end()
    meter = metrics.get_meter("child")
    meter.create_observable_counter("child.observed", [lambda _: [metrics.Observation(1)]])
    meter.create_counter("child.counted").add(1)
    with trace.get_tracer("child").start_as_current_span("work"):
        logging.getLogger("child").warning("at work")
    if otel_hwmetrics.snapshot() is not None:
        os._exit(4)
    time.sleep(0.012)  # so that the reader of the child has collected
    meter.create_observable_counter("child.observed.again", [lambda _: [metrics.Observation(1)]])


def storm(forks: int, at_once: int, patience: float, *, instrumented: bool) -> dict[str, Any]:
    """Fork so often, so many children at once."""
    application = Application(instrumented=instrumented)
    held_up: list[float] = []
    hung: list[str] = []
    codes: dict[int, int] = {}
    running: dict[int, tuple[float, IO[str]]] = {}
    began = time.monotonic()
    for number in range(forks):
        while len(running) >= at_once:
            _reap(running, patience, codes, hung)
        said = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - until the child has ended
        before = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            faulthandler.dump_traceback_later(patience * 0.8, file=said)  # who hangs says where
            in_child(application)
            if number % LIKE_A_PROGRAM:
                os._exit(0)
            raise SystemExit(0)
        held_up.append(time.perf_counter() - before)
        running[pid] = time.monotonic(), said
    while running:
        _reap(running, patience, codes, hung)
    seconds = time.monotonic() - began
    exports = application.exporter.exports
    time.sleep(0.5)
    application.end()
    return {
        "forks": forks,
        "hung": len(hung),
        "codes": {str(code): count for code, count in sorted(codes.items())},
        "seconds": seconds,
        "fork_ms": {
            "median": statistics.median(held_up) * 1e3,
            "p99": sorted(held_up)[int(len(held_up) * 0.99)] * 1e3,
            "longest": max(held_up) * 1e3,
        },
        "exports": exports,
        "parent_goes_on": not instrumented or application.exporter.exports > exports,
        "where": hung[:5],
    }


def _reap(running: dict[int, tuple[float, IO[str]]], patience: float, codes: dict[int, int], hung: list[str]) -> None:
    """See who has ended, and end who hangs."""
    for pid, (since, said) in tuple(running.items()):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            codes[code] = codes.get(code, 0) + 1
        elif time.monotonic() - since > patience:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            said.seek(0)
            hung.append(said.read())
        else:
            continue
        said.close()
        del running[pid]
    time.sleep(0.0005)


def main() -> int:
    """Fork and tell; 1 where a child hung or failed, or the parent was harmed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--forks", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=4, help="children that live at once (default: 4)")
    parser.add_argument(
        "--patience", type=float, default=PATIENCE, help="seconds after which a child hangs (default: 20)"
    )
    parser.add_argument("--without", action="store_true", help="do not instrument, to compare with")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # that a process with threads forks is what this is about
    logging.basicConfig(level=logging.CRITICAL)
    found = storm(arguments.forks, arguments.at_once, arguments.patience, instrumented=not arguments.without)
    if arguments.json:
        print(json.dumps(found))
    else:
        fork = found["fork_ms"]
        print(f"{found['forks']} forks in {found['seconds']:.1f} s: {found['hung']} hung; exit codes {found['codes']}.")
        print(
            f"A fork took {fork['median']:.2f} ms (median), {fork['p99']:.2f} (99 %), {fork['longest']:.2f} (longest)."
        )
        print(*found["where"], sep="\n")
    well = not found["hung"] and set(found["codes"]) <= {"0"} and found["parent_goes_on"]
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
