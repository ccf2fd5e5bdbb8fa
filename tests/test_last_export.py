# SPDX-License-Identifier: Apache-2.0
"""What an export waits for, above all the last one: for a look of its own time, and not for what hangs."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import otel_hwmetrics as hw
from otel_hwmetrics.pipeline import Pipeline
from otel_hwmetrics.sources.process import ProcessSource

T = TypeVar("T")
LONG = 20.0


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    """One that looks only when asked, and for which all that is asked within an hour is asked together."""
    monkeypatch.setattr("otel_hwmetrics.pipeline.SHARED_FOR", 3600.0)
    provider = MeterProvider([InMemoryMetricReader()])
    with hw.instrument(
        sources=["process"], sample_interval=60, snapshot_timeout=LONG, meter_provider=provider
    ) as handle:
        assert isinstance(handle._pipeline, Pipeline)
        deadline = time.monotonic() + LONG
        while handle.snapshot() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        yield handle._pipeline


def as_a_reader(act: Callable[[], T]) -> T:
    """What a function gives on a daemon thread, as that of a periodic reader is."""
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(act()), daemon=True)
    thread.start()
    thread.join()
    return found[0]


def test_a_regular_look_is_not_an_exports(pipeline: Pipeline) -> None:
    """However recent: what the training did since then is to be told."""
    regular = pipeline.sampler.latest
    assert as_a_reader(lambda: pipeline._fresh(LONG)) is not regular


def test_a_reader_never_has_the_same_look_twice(pipeline: Pipeline) -> None:
    """Its last collection may follow upon the one before, when the SDK is shut down."""
    first, second = as_a_reader(lambda: (pipeline._fresh(LONG), pipeline._fresh(LONG)))
    assert first is not None
    assert second is not None
    assert first.at < second.at


def test_readers_that_collect_together_share_a_look(pipeline: Pipeline) -> None:
    """Those with threads of their own, and those that one thread of the application flushes one after the other."""
    look = as_a_reader(lambda: pipeline._fresh(LONG))
    assert as_a_reader(lambda: pipeline._fresh(LONG)) is look
    assert [pipeline._fresh(LONG), pipeline._fresh(LONG)] == [look, look]


def test_nobody_waits_twice_for_what_hangs(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first export waits; the next ones go without at once, until it is back."""
    monkeypatch.setattr("otel_hwmetrics.pipeline.SHARED_FOR", 0.0)
    released, read = threading.Event(), ProcessSource.read
    monkeypatch.setattr(ProcessSource, "read", lambda source: released.wait(LONG) and read(source))
    before = pipeline.sampler.latest
    began = time.monotonic()
    assert as_a_reader(lambda: pipeline._fresh(0.05)) is before
    assert time.monotonic() - began >= 0.05
    took = []
    for _ in range(3):
        began = time.monotonic()
        assert as_a_reader(lambda: pipeline._fresh(LONG)) is before
        took.append(time.monotonic() - began)
    assert min(took) < LONG / 4
    released.set()
    deadline = time.monotonic() + LONG
    while pipeline.sampler.latest is before and time.monotonic() < deadline:
        time.sleep(0.005)
    assert as_a_reader(lambda: pipeline._fresh(LONG)) is not before


def test_an_export_that_has_little_time_is_not_lost_to_what_hangs() -> None:
    """The SDK drops all of a collection that takes longer than it may, as the last one of a short interval may not."""
    script = """
    import threading, time
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    import otel_hwmetrics as hw
    from otel_hwmetrics.sources.process import ProcessSource

    reader = InMemoryMetricReader()
    meters = MeterProvider([reader])
    handle = hw.instrument(sources=["process"], sample_interval=60, snapshot_timeout=20, meter_provider=meters)
    while handle.snapshot() is None:
        time.sleep(0.005)
    ProcessSource.read = lambda source: threading.Event().wait()
    reader.collect(timeout_millis=2000)
    scopes = [s.scope.name for r in reader._metrics_data.resource_metrics for s in r.scope_metrics]
    print(scopes)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "['otel_hwmetrics']\n"), done.stderr
