# SPDX-License-Identifier: Apache-2.0
"""From a scripted GPU to the span, the log record and the metric of one alert, in one process; forks; late providers."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator

import pytest
from opentelemetry import trace

import otel_hwmetrics as hw
from otel_hwmetrics.model import Series
from otel_hwmetrics.sinks.logs import LogSink
from otel_hwmetrics.testing import FakeGpu
from otel_hwmetrics.windows import Point
from worlds import World


@pytest.fixture
def world() -> Iterator[World]:
    """One GPU that is hot from second 20 to 40; alerts on heat after 5 s."""
    heat = [(0.0, 60.0), (19.5, 60.0), (20.0, 84.0), (40.0, 84.0), (40.5, 60.0)]
    made = World([FakeGpu(temperature=heat, utilization=0.9)])
    yield made
    made.close()


def test_an_alert_fires_and_resolves_on_the_spans_that_were_open(world: World) -> None:
    """The event comes at the sample that completes `for`, on the span of that moment; likewise its end."""
    for epoch in range(3):
        with hw.training_span(f"epoch {epoch}", tracer_provider=world.tracer_provider):
            world.advance(20)
    assert world.events() == [("epoch 1", 25, "gpu_hot", "firing"), ("epoch 2", 41, "gpu_hot", "resolved")]


def test_the_log_says_the_same_in_the_same_span(world: World) -> None:
    """Each transition is one record with the ids of the span, and one without a span when none is open."""
    world.advance(20)
    with hw.training_span("epoch", tracer_provider=world.tracer_provider) as span:
        world.advance(10)
    world.advance(20)
    fired, resolved = (record.log_record for record in world.records.get_finished_logs())
    assert (fired.span_id, fired.event_name) == (span.get_span_context().span_id, "hwmetrics.alert")
    assert not resolved.span_id
    assert "Resolved after 16 s, at worst 84 °C" in str(resolved.body)


def test_the_metric_follows_the_alert(world: World) -> None:
    """`hwmetrics.alert.active` is pending, firing, neither; transitions are counted."""
    seen: list[tuple[int, dict[str, float]]] = []
    for second in range(1, 46):
        world.advance(1)
        states = {
            str(series.attributes["hwmetrics.alert.state"]): point.value
            for series, point in latest(world).items()
            if series.metric.name == "hwmetrics.alert.active" and "gpu_hot" in series.attributes.values()
        }
        if not seen or seen[-1][1] != states:
            seen.append((second, states))
    assert seen == [
        (1, {}),
        (20, {"pending": 1, "firing": 0}),
        (25, {"pending": 0, "firing": 1}),
        (41, {"pending": 0, "firing": 0}),
    ]


def latest(world: World) -> dict[Series, Point]:
    """The points of the newest sample."""
    assert world.pipeline.sampler.latest is not None
    return world.pipeline.sampler.latest.points


def test_a_span_event_comes_with_the_sample_that_makes_it_fire(world: World) -> None:
    """No later sample, no export, no end of the span is waited for."""
    with hw.training_span("epoch", tracer_provider=world.tracer_provider) as span:
        world.advance(24)
        assert not span.events  # type: ignore[attr-defined]
        world.advance(1)
        assert len(span.events) == 1  # type: ignore[attr-defined]


def test_a_sink_that_fails_harms_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A span that refuses events costs the span event alone; the log record is out."""
    monkeypatch.setattr("otel_hwmetrics._guard.LOUD", False)
    with hw.training_span("epoch", tracer_provider=world.tracer_provider) as span:
        monkeypatch.setattr(span, "add_event", lambda *_: 1 / 0)
        world.advance(30)
    assert len(world.records.get_finished_logs()) == 1


def test_a_backend_that_blocks_holds_no_sample_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log processor that waits for its exporter has a thread of ours to itself; the span event is there at once."""
    blocked, entered = threading.Event(), threading.Event()

    def wait(*_: object) -> None:
        entered.set()
        assert blocked.wait(20)

    monkeypatch.setattr(LogSink, "on_alert", wait)
    with hw.training_span("epoch", tracer_provider=world.tracer_provider) as span:
        for _ in range(30):
            world.clock.advance(1)
            world.pipeline.sampler.sample()
            world.pipeline.tell()
        assert entered.wait(20)
        assert len(span.events) == 1  # type: ignore[attr-defined]
    blocked.set()


def test_alerts_can_be_switched_off() -> None:
    """`alerts=False`: nothing is judged, nothing told, no alert metric exists."""
    world = World([FakeGpu(temperature=99.0)], alerts=False)
    with hw.training_span("epoch", tracer_provider=world.tracer_provider):
        world.advance(60)
    assert world.events() == []
    assert not [series for series in latest(world) if series.metric.name.startswith("hwmetrics.alert")]
    world.close()


def run(script: str) -> str:
    """Run a script in a fresh interpreter; gives what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


LATE = """
    import time
    from opentelemetry import _logs, metrics, trace
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    import otel_hwmetrics as hw
    from otel_hwmetrics.testing import FakeGpu, FakeNvml

    FakeNvml([FakeGpu(temperature=95.0)]).install()
    hw.instrument(sample_interval=0.2, alert_gpu_hot_for=0.5, snapshot_timeout=20.0)
    reader, records = InMemoryMetricReader(), InMemoryLogRecordExporter()
    logger_provider = LoggerProvider()
    logger_provider.add_log_record_processor(SimpleLogRecordProcessor(records))
    metrics.set_meter_provider(MeterProvider([reader]))
    trace.set_tracer_provider(TracerProvider())
    _logs.set_logger_provider(logger_provider)

    def points():
        data = reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == "system.memory.limit"
            for point in metric.data.data_points
        ]
"""


def test_providers_may_be_set_after_instrument() -> None:
    """Metrics, the span event and the log record all find providers that came later."""
    assert (
        run(
            LATE
            + """
    with trace.get_tracer("user").start_as_current_span("mine") as span:
        deadline = time.monotonic() + 20
        while not records.get_finished_logs() and time.monotonic() < deadline:
            time.sleep(0.05)
    print(len(points()), [event.name for event in span.events], len(records.get_finished_logs()))
    """
        )
        == "1 ['hwmetrics.alert'] 1"
    )


def test_instrumenting_again_after_a_late_provider_gives_one_set() -> None:
    """What was made on the API's proxy and what is made on the real provider are the same instruments to the SDK."""
    assert (
        run(
            LATE
            + """
    counts = [len(points())]
    hw.uninstrument()
    counts.append(len(points()))
    hw.instrument()
    counts.append(len(points()))
    hw.instrument(meter_provider=metrics.get_meter_provider())
    counts.append(len(points()))
    print(counts)
    """
        )
        == "[1, 0, 1, 1]"
    )


def test_a_forked_child_is_silent_and_the_parent_goes_on() -> None:
    """The child shows nothing, notes no span, exits; it can instrument itself anew; the parent is as before."""
    assert (
        run(
            LATE
            + """
    import os, threading
    assert len(points()) == 1
    def in_child(act):
        pid = os.fork()
        if pid == 0:
            try:
                os._exit(act())
            except BaseException:
                os._exit(99)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    def silent():
        with trace.get_tracer("user").start_as_current_span("in child"):
            threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("hwmetrics")]
            return 10 * len(points()) + len(threads) + (hw.snapshot() is not None)
    def anew():
        hw.uninstrument()
        hw.instrument(sources=["process"])
        time.sleep(0.2)
        child = cpu_time()
        hw.uninstrument()
        return 0 if child >= parent > 0 else 1
    def cpu_time():
        data = reader.get_metrics_data()
        metrics = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        return sum(p.value for m in metrics if m.name == "process.cpu.time" for p in m.data.data_points)
    parent = cpu_time()
    codes = [in_child(silent) for _ in range(20)] + [in_child(anew)]
    print(set(codes), len(points()))
    """
        )
        == "{0} 1"
    )


def test_every_exit_is_clean() -> None:
    """Normal end, exception and sys.exit: the exit code is the script's, and nothing is said on the way."""
    for ending, code in (("", 0), ("raise SystemExit(3)", 3), ("raise ValueError('mine')", 1)):
        done = subprocess.run(
            [sys.executable, "-c", f"import otel_hwmetrics as hw\nhw.instrument(sample_interval=0.2)\n{ending}"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == code
        assert ("mine" in done.stderr) == (code == 1)
        assert code == 1 or not done.stderr


def test_without_an_sdk_everything_runs_and_nothing_is_said() -> None:
    """With the API alone, alerts are judged all the same: `on` needs no backend."""
    script = """
    import time
    import otel_hwmetrics as hw
    with hw.instrument(sample_interval=0.2) as handle, hw.training_span("epoch") as span:
        deadline = time.monotonic() + 20
        while handle.snapshot() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        print(type(span).__name__, len(handle.snapshot()) > 10)
    """
    assert run(script) == "NonRecordingSpan True"


def test_trace_is_untouched_by_default() -> None:
    """Instrumenting sets no global provider."""
    before = trace.get_tracer_provider()
    with hw.instrument():
        assert trace.get_tracer_provider() is before
