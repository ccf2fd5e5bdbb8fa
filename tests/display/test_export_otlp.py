# SPDX-License-Identifier: Apache-2.0
"""A recording that is replayed is what a live export would have been: times, kinds, units, Resource, spans, log records."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

import recorded
from otel_hwmetrics.catalog import gpu, own, training, tree
from otel_hwmetrics.display.export import otlp
from otel_hwmetrics.display.export.choice import LIVE, Choice
from otel_hwmetrics.display.export.looks import parts_of
from otel_hwmetrics.display.export.otlp import Manner, Sent, replay
from otel_hwmetrics.display.export.otlp_json import of_metrics
from otel_hwmetrics.display.export.otlp_receivers import GRPC, HTTP, Backend, File
from otel_hwmetrics.display.export.target import Refused
from otel_hwmetrics.model import Series
from otel_hwmetrics.recording import open_run
from otel_hwmetrics.recording.nouns import DONE, PARENT, Job, JobSample, RecordedAlert, RecordedSpan
from otlp_receiver import Receiver
from recorded import SECOND, START
from recorded_looks import process, write

HOT = Series(gpu.TEMPERATURE, {"hw.id": "GPU-1", "hwmetrics.gpu.index": 1, "hw.sensor_location": "gpu"})
USED = Series(gpu.MEMORY_USAGE, {"hw.id": "GPU-1", "hwmetrics.gpu.index": 1})
ENERGY = Series(gpu.ENERGY, {"hw.id": "GPU-1", "hw.type": "gpu"})
STEPS = Series(training.STEPS)
COMPLETED = Series(training.STEP_TIME_COMPLETED)  # a detail
TREE = Series(tree.MEMORY_USAGE)

FIT = RecordedSpan("0a" * 16, "0b" * 8, "", "fit", START, START + 60 * SECOND, "error", {"lr": 0.1, "n": 3})
EPOCH = RecordedSpan("0a" * 16, "0c" * 8, "0b" * 8, "epoch", START + SECOND, None)
FIRING = RecordedAlert(
    START + 2 * SECOND, "gpu_hot", "firing", "critical", "GPU 1", "GPU 1 is at 90 °C.", "0a" * 16, "0c" * 8,
    {own.ALERT_RULE: "gpu_hot", own.ALERT_VALUE: 90.0, "hw.id": "GPU-1"},
)  # fmt: skip
RESOLVED = RecordedAlert(START + 3 * SECOND, "gpu_hot", "resolved", "critical", "GPU 1", "Over.", attributes={"x": 1})


def silent(_: int) -> None:
    """Hears how far an export has come."""


def a_run(folder: Path, **changes: Any) -> None:
    """A run of five seconds."""
    looks = [
        (
            START + n * SECOND,
            {HOT: 40.5 + n, USED: float(2**40 + n), ENERGY: 10.5 * n, STEPS: float(n), COMPLETED: 1.0 * n},
        )
        for n in range(1, 6)
    ]
    resource = {"service.name": "llm", "deployment.environment.name": "test", "process.pid": 4242}
    who = recorded.about(resource=resource, started_ns=START, **changes)
    write(folder / "a.run.db", looks, who=who, spans=[FIT, EPOCH], alerts=[FIRING, RESOLVED])


@pytest.mark.parametrize("protocol", [HTTP, GRPC])
def test_a_backend_gets_what_a_job_would_have_sent(protocol: str, tmp_path: Path) -> None:
    """To the project's own receiver, over HTTP and gRPC."""
    a_run(tmp_path)
    with Receiver() as receiver, open_run(str(tmp_path)) as run:
        backend = Backend(
            receiver.grpc_endpoint if protocol == GRPC else receiver.http_endpoint, {"x-key": "v"}, protocol
        )
        choice = Choice(LIVE)
        sent = replay(parts_of(run, choice), choice, backend, silent)
        backend.close()
    assert sent == Sent(20, 2, 2)
    _check_metrics(receiver)
    _check_spans(receiver)
    _check_logs(receiver)


def _check_metrics(receiver: Receiver) -> None:
    metrics = receiver.metrics()
    assert metrics.keys() == {metric.metric.name for metric in (HOT, USED, ENERGY, STEPS)}, "no detail"
    for series, kind, temporality in (
        (HOT, "gauge", ""),
        (USED, "updowncounter", "cumulative"),
        (ENERGY, "counter", "cumulative"),
        (STEPS, "counter", "cumulative"),
    ):
        row, told = series.metric, metrics[series.metric.name]
        assert (told.unit, told.description) == (row.unit.value, row.description)
        assert (told.kind, told.temporality, told.scope_name) == (kind, temporality, "otel_hwmetrics")
        points = receiver.history(row.name)
        assert [point.time_unix_nano for point in points] == [START + n * SECOND for n in range(1, 6)]
        assert {point.start_time_unix_nano for point in points} == {0 if kind == "gauge" else START}
        assert all(point.attributes == dict(series.attributes) for point in points)
        assert all(point.is_int == row.integer for point in points)
        assert points[0].resource["service.name"] == "llm"
        assert points[0].resource["deployment.environment.name"] == "test"
        assert points[0].resource["host.name"] == "node7"
    assert [point.value for point in receiver.history(HOT.metric.name)] == [41.5, 42.5, 43.5, 44.5, 45.5]
    assert [point.value for point in receiver.history(USED.metric.name)] == [2**40 + n for n in range(1, 6)]


def _check_spans(receiver: Receiver) -> None:
    spans = {span.name: span for span in receiver.spans()}
    fit, epoch = spans["fit"], spans["epoch"]
    assert (fit.trace_id, fit.span_id, fit.parent_id) == (FIT.trace_id, FIT.span_id, "")
    assert (fit.start, fit.end, fit.status) == (FIT.started_ns, FIT.ended_ns, "ERROR")
    assert fit.attributes == FIT.attributes
    assert (epoch.trace_id, epoch.span_id, epoch.parent_id) == (EPOCH.trace_id, EPOCH.span_id, FIT.span_id)
    assert (epoch.start, epoch.end) == (EPOCH.started_ns, START + 5 * SECOND), "to where the recording ends"
    assert epoch.attributes == {otlp.UNFINISHED: True}
    ((name, attributes, at),) = epoch.events
    assert (name, at) == (own.ALERT_EVENT, FIRING.at_ns)
    assert attributes == {
        own.ALERT_RULE: "gpu_hot",
        own.ALERT_STATE: "firing",
        own.ALERT_SEVERITY: "critical",
        own.ALERT_MESSAGE: FIRING.message,
        own.ALERT_VALUE: 90.0,
        "hw.id": "GPU-1",
    }


def _check_logs(receiver: Receiver) -> None:
    firing, resolved = receiver.logs()
    assert (firing.event_name, firing.severity_number, firing.severity_text) == (own.ALERT_EVENT, 17, "critical")
    assert (firing.trace_id, firing.span_id, firing.time_unix_nano) == (EPOCH.trace_id, EPOCH.span_id, FIRING.at_ns)
    assert (firing.body, firing.attributes["hw.id"]) == (FIRING.message, "GPU-1")
    assert (resolved.severity_number, resolved.severity_text, resolved.trace_id) == (9, "critical", "")
    assert firing.resource == receiver.spans()[0].resource


class Kept:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.data: list[MetricsData] = []

    def metrics(self, data: MetricsData) -> None:
        """Keep points."""
        self.data.append(data)

    def spans(self, spans: list[ReadableSpan]) -> None:
        """Keep nothing."""

    def alerts(self, resource: Resource, alerts: list[RecordedAlert]) -> None:
        """Keep nothing."""

    def points(self) -> Iterator[tuple[str, Any, Resource]]:
        """Each point with its metric's name."""
        for data in self.data:
            for resource in data.resource_metrics:
                for metric in resource.scope_metrics[0].metrics:
                    yield from ((metric.name, point, resource.resource) for point in metric.data.data_points)


def replayed(folder: Path, choice: Choice | None = None, manner: Manner | None = None) -> Kept:
    """A run, replayed."""
    kept, choice = Kept(), choice or Choice()
    with open_run(str(folder)) as run:
        replay(parts_of(run, choice), choice, kept, silent, manner)  # type: ignore[arg-type] # lists are sequences
    return kept


def test_what_is_of_the_machine_is_told_once(tmp_path: Path) -> None:
    """Several processes of a host have recorded its GPU: it is told while the first lasts by that, then by the next."""
    for rank, (begin, end) in enumerate(((0, 10), (5, 20))):
        looks = [(START + n * SECOND, {HOT: 40.0 + rank, STEPS: float(n), TREE: 1.0 + rank}) for n in range(begin, end)]
        write(tmp_path / f"{rank}.run.db", looks, who=process(rank, started_ns=START + begin * SECOND))
    write(tmp_path / "9.run.db", [(START, {HOT: 99.0})], who=process(9, host="another"))
    kept = replayed(tmp_path)
    hot = [(point.time_unix_nano - START, point.value) for name, point, _ in kept.points() if name == HOT.metric.name]
    wanted = [(n * SECOND, 40.0 if n < 10 else 41.0) for n in range(20)]
    assert sorted(hot) == sorted([*wanted, (0, 99.0)])
    own_ranks = Counter(
        resource.attributes["hwmetrics.rank"] for name, _, resource in kept.points() if name == STEPS.metric.name
    )
    assert own_ranks == {0: 10, 1: 15}


def test_a_sum_that_falls_begins_anew(tmp_path: Path) -> None:
    """At the look before; else a backend would take it for one long fall."""
    write(
        tmp_path / "a.run.db", [(START + n * SECOND, {ENERGY: value}) for n, value in enumerate((5.0, 8.0, 2.0, 3.0))]
    )
    points = [point for _, point, _ in replayed(tmp_path).points()]
    assert [(point.start_time_unix_nano - START) // SECOND for point in points] == [0, 0, 1, 1]
    growth = [point for _, point, _ in replayed(tmp_path, manner=Manner(delta=True)).points()]
    assert [point.value for point in growth] == [5.0, 3.0, 2.0, 1.0]
    assert [(point.start_time_unix_nano - START) // SECOND for point in growth] == [0, 0, 1, 2]


def test_a_launcher_s_jobs_are_metrics(tmp_path: Path) -> None:
    """What ran under it may be no Python: it is told by the figures of the job; a process that tells itself has none."""
    for role, number in ((PARENT, 2), ("process", 0)):
        folder = tmp_path / role
        folder.mkdir()
        job = Job(1, "sim", state=DONE, started_ns=START)
        write(folder / "a.run.db", who=recorded.about(role=role), jobs=[(job, [JobSample(START, cpu=1.5, memory=7.0)])])
        points = {name: point for name, point, _ in replayed(folder).points()}
        assert len(points) == number
    points = {name: point for name, point, _ in replayed(tmp_path / PARENT).points()}
    assert points["hwmetrics.job.cpu"].value == 1.5
    assert points["hwmetrics.job.memory"].attributes == {"hwmetrics.job.name": "sim", "hwmetrics.job.number": 1}


def test_requests_are_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And none of the points is lost between them."""
    monkeypatch.setattr(otlp, "POINTS", 50)
    recorded.run(tmp_path, 150)
    kept = replayed(tmp_path)
    sizes = [
        sum(len(metric.data.data_points) for metric in data.resource_metrics[0].scope_metrics[0].metrics)
        for data in kept.data
    ]
    assert max(sizes) <= 50
    assert sum(sizes) == 151 * len(recorded.SERIES)


def test_the_service_s_name(tmp_path: Path) -> None:
    """That of the Resource, else what the replay is told, else the run's name."""
    write(tmp_path / "a.run.db", [(START, {HOT: 1.0})])
    assert {resource.attributes["service.name"] for _, _, resource in replayed(tmp_path).points()} == {"train"}
    named = replayed(tmp_path, manner=Manner("llm")).points()
    assert {resource.attributes["service.name"] for _, _, resource in named} == {"llm"}
    (tmp_path / "other").mkdir()
    a_run(tmp_path / "other")
    mine = replayed(tmp_path / "other", manner=Manner("not this"))
    assert {resource.attributes["service.name"] for _, _, resource in mine.points()} == {"llm"}


def test_a_file_of_otlp_s_json(tmp_path: Path) -> None:
    """Lines that protobuf's own reader takes, with hexadecimal identifiers; its points are those of the encoder."""
    a_run(tmp_path)
    path = tmp_path / "x.otlp.jsonl"
    with open_run(str(tmp_path)) as run, path.open("wb") as file:
        replay(parts_of(run, Choice()), Choice(), File(file), silent)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [next(iter(line)) for line in lines] == ["resourceMetrics", "resourceSpans", "resourceLogs"]
    span = lines[1]["resourceSpans"][0]["scopeSpans"][0]["spans"][1]
    assert (span["traceId"], span["spanId"], span["parentSpanId"]) == (EPOCH.trace_id, EPOCH.span_id, FIT.span_id)
    assert isinstance(span["kind"], int)
    log = lines[2]["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    assert (log["traceId"], log["severityNumber"], log["eventName"]) == (EPOCH.trace_id, 17, own.ALERT_EVENT)
    for data in replayed(tmp_path).data:
        written = ParseDict(json.loads(of_metrics(data, encode_metrics)), ExportMetricsServiceRequest())
        assert written == encode_metrics(data)


class _Refusing(BaseHTTPRequestHandler):
    """Takes some requests, and no more."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        server: Any = self.server
        server.left -= 1
        self.send_response(200 if server.left >= 0 else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as in the base class
        """Say nothing."""


def test_a_backend_that_refuses_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """Why, where, and how much it had taken; in one sentence, and not in the log, too."""
    monkeypatch.setattr(otlp, "POINTS", 500)
    recorded.run(tmp_path, 150)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        server.left = 1  # type: ignore[attr-defined] # the handler's
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            backend = Backend(f"http://user:secret@127.0.0.1:{server.server_address[1]}", None, HTTP)
            with open_run(str(tmp_path)) as run, pytest.raises(Refused) as refused:
                replay(parts_of(run, Choice()), Choice(), backend, silent)
            backend.close()
        finally:
            server.shutdown()
            thread.join()
    text = str(refused.value)
    assert "has not taken metrics: " in text
    assert "401" in text
    assert text.endswith("; before that it took 420 points")
    assert "secret" not in text
    assert not caplog.records
