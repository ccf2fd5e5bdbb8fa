# SPDX-License-Identifier: Apache-2.0
"""The example receiver, through the exporters of the real SDK."""

from __future__ import annotations

import gzip
import http.client
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Status as SpanStatus
from opentelemetry.trace import StatusCode

import otlp_receiver
from otlp_receiver import PROTOBUF, Receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RESOURCE = Resource({"service.name": "train", "host.name": "node-1"})
GPU = {"hw.id": "gpu-0"}


class Sender:
    """The three providers of an SDK, exporting to a receiver with one protocol."""

    def __init__(self, receiver: Receiver, protocol: str, compression: str, undo: ExitStack) -> None:
        """Build the exporters; `undo` shuts the providers down."""
        metrics, spans, logs = self._exporters(receiver, protocol, compression)
        self.meters = MeterProvider(
            [PeriodicExportingMetricReader(metrics, 3_600_000)], RESOURCE, shutdown_on_exit=False
        )
        self.tracers = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(spans))
        self.loggers = LoggerProvider(RESOURCE, shutdown_on_exit=False)
        self.loggers.add_log_record_processor(SimpleLogRecordProcessor(logs))
        for provider in (self.meters, self.tracers, self.loggers):
            undo.callback(provider.shutdown)

    @staticmethod
    def _exporters(receiver: Receiver, protocol: str, compression: str) -> tuple[Any, Any, Any]:
        if protocol == "grpc":
            how = grpc.Compression.Gzip if compression == "gzip" else grpc.Compression.NoCompression
            to = {"endpoint": receiver.grpc_endpoint, "insecure": True, "compression": how}
            return GrpcMetrics(**to), GrpcSpans(**to), GrpcLogs(**to)
        base, method = receiver.http_endpoint, Compression(compression)
        return (
            HttpMetrics(f"{base}/v1/metrics", compression=method),
            HttpSpans(f"{base}/v1/traces", compression=method),
            HttpLogs(f"{base}/v1/logs", compression=method),
        )


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Return a started receiver."""
    with Receiver() as started:
        yield started


@pytest.fixture(params=["grpc", "grpc-gzip", "http", "http-gzip"])
def sender(receiver: Receiver, request: pytest.FixtureRequest) -> Iterator[Sender]:
    """Return an SDK that exports to the receiver, for each protocol and compression."""
    protocol, _, compression = request.param.partition("-")
    with ExitStack() as undo:
        yield Sender(receiver, protocol, compression or "none", undo)


@pytest.fixture
def http_sender(receiver: Receiver) -> Iterator[Sender]:
    """Return an SDK that exports to the receiver over HTTP."""
    with ExitStack() as undo:
        yield Sender(receiver, "http", "none", undo)


def post(receiver: Receiver, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, str, bytes]:
    """Post a body and return the status, content type and body of the answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", int(receiver.http_endpoint.rpartition(":")[2]))) as connection:
        connection.request("POST", path, body, headers)
        with connection.getresponse() as answer:
            return answer.status, answer.headers.get_content_type(), answer.read()


def test_metrics_arrive_with_identity_kind_and_value(receiver: Receiver, sender: Sender) -> None:
    """Every instrument kind arrives with its name, unit, kind, temporality, scope, resource and value."""
    meter = sender.meters.get_meter("hw", "1.2", schema_url="https://opentelemetry.io/schemas/1.38.0")
    meter.create_counter("hw.energy", "J", "Energy.").add(3, GPU)
    meter.create_up_down_counter("hw.status", "1", "Status.").add(-1, GPU)
    meter.create_gauge("hw.temperature", "Cel", "Heat.").set(41.5, GPU)
    meter.create_histogram("step.duration", "s", "Step.").record(0.5, GPU)
    assert sender.meters.force_flush()
    assert receiver.wait_for(lambda r: len(r.metrics()) == 4, timeout=10)
    expected = {
        "hw.energy": ("J", "counter", "cumulative", 3, True, None),
        "hw.status": ("1", "updowncounter", "cumulative", -1, True, None),
        "hw.temperature": ("Cel", "gauge", "", 41.5, False, None),
        "step.duration": ("s", "histogram", "cumulative", 0.5, False, 1),
    }
    for name, metric in receiver.metrics().items():
        (point,) = metric.points
        assert (metric.unit, metric.kind, metric.temporality, point.value, point.is_int, point.count) == expected[name]
        assert (metric.scope_name, metric.scope_version, metric.scopes) == ("hw", "1.2", {"hw"})
        assert metric.schema_url == "https://opentelemetry.io/schemas/1.38.0"
        assert metric.description
        assert point.attributes == GPU
        assert metric.resource == point.resource == dict(RESOURCE.attributes)
        assert point.time_unix_nano >= point.start_time_unix_nano
        assert (point.start_time_unix_nano > 0) == (metric.kind != "gauge")


def test_span_arrives_with_its_event_status_and_parent(receiver: Receiver, sender: Sender) -> None:
    """A span arrives with its ids, parent, attributes, events, times and status."""
    tracer = sender.tracers.get_tracer("train")
    with tracer.start_as_current_span("epoch") as parent, tracer.start_as_current_span("step", attributes=GPU) as span:
        span.add_event("hw.throttle", {"hw.reason": ["power", "heat"]}, timestamp=1_700_000_000_000_000_000)
        span.set_status(SpanStatus(StatusCode.ERROR, "too hot"))
    assert receiver.wait_for(lambda r: len(r.spans()) == 2, timeout=10)
    child, root = receiver.spans()
    assert (child.name, child.attributes, child.status, child.scope) == ("step", GPU, "ERROR", "train")
    assert child.events == [("hw.throttle", {"hw.reason": ["power", "heat"]}, 1_700_000_000_000_000_000)]
    assert child.trace_id == root.trace_id == f"{span.get_span_context().trace_id:032x}"
    assert child.parent_id == root.span_id == f"{parent.get_span_context().span_id:016x}"
    assert child.end > child.start > 0
    assert (root.parent_id, root.events, root.status) == ("", [], "UNSET")
    assert root.resource == dict(RESOURCE.attributes)


def test_log_arrives_as_an_event_of_its_span(receiver: Receiver, sender: Sender) -> None:
    """A log record arrives with its event name, severity, structured body, attributes and span."""
    with sender.tracers.get_tracer("train").start_as_current_span("step") as span:
        sender.loggers.get_logger("hw").emit(
            event_name="hw.error",
            timestamp=1_700_000_000_000_000_000,
            severity_number=SeverityNumber.WARN,
            severity_text="WARN",
            body={"message": "hot", "limits": [90, 95.5], "fatal": False, "raw": b"\0"},
            attributes=GPU,
        )
    assert receiver.wait_for(lambda r: bool(r.logs()), timeout=10)
    (log,) = receiver.logs()
    assert (log.event_name, log.severity_number, log.severity_text) == ("hw.error", 13, "WARN")
    assert log.body == {"message": "hot", "limits": [90, 95.5], "fatal": False, "raw": b"\0"}
    assert (log.attributes, log.scope, log.resource) == (GPU, "hw", dict(RESOURCE.attributes))
    assert log.trace_id == f"{span.get_span_context().trace_id:032x}"
    assert log.span_id == f"{span.get_span_context().span_id:016x}"
    assert log.time_unix_nano == 1_700_000_000_000_000_000


def test_latest_point_and_history(receiver: Receiver, http_sender: Sender) -> None:
    """The view of a metric has the latest point of each attribute set, and its history has every point in order."""
    temperature = http_sender.meters.get_meter("hw").create_gauge("hw.temperature")
    for heat in (40, 41, 42):
        temperature.set(heat, {"hw.id": "gpu-0"})
        temperature.set(-heat, {"hw.id": "gpu-1"})
        http_sender.meters.force_flush()
    assert receiver.wait_for(lambda r: len(r.history("hw.temperature")) >= 6, timeout=10)
    points = {p.attributes["hw.id"]: p.value for p in receiver.metrics()["hw.temperature"].points}
    assert points == {"gpu-0": 42, "gpu-1": -42}
    history = [p.value for p in receiver.history("hw.temperature") if p.attributes["hw.id"] == "gpu-0"]
    assert history == [40, 41, 42]
    assert receiver.history("no.such.metric") == []


def test_scopes_are_not_merged(receiver: Receiver, http_sender: Sender) -> None:
    """The same name and attributes from two scopes stay two points, and both scopes are named."""
    for scope, value in (("one", 1), ("two", 2)):
        http_sender.meters.get_meter(scope).create_gauge("hw.power").set(value, GPU)
    http_sender.meters.force_flush()
    assert receiver.wait_for(lambda r: "hw.power" in r.metrics(), timeout=10)
    metric = receiver.metrics()["hw.power"]
    assert metric.scopes == {"one", "two"}
    assert {p.scope: p.value for p in metric.points} == {"one": 1, "two": 2}


def test_attribute_types_are_not_merged(receiver: Receiver) -> None:
    """Attribute values that Python takes for equal, such as 1 and 1.0, still name different streams."""
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="hw.power")
    for value in ({"int_value": 1}, {"double_value": 1}, {"bool_value": True}, {"string_value": "1"}, {"int_value": 1}):
        attribute = KeyValue(key="rank", value=AnyValue(**value))
        metric.gauge.data_points.add(as_int=len(metric.gauge.data_points), attributes=[attribute])
    post(receiver, "/v1/metrics", request.SerializeToString(), {"Content-Type": PROTOBUF})
    assert [p.value for p in receiver.metrics()["hw.power"].points] == [4, 1, 2, 3]


def test_point_without_value_is_nan(receiver: Receiver) -> None:
    """A point that a sender marked as having no recorded value arrives as NaN."""
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="hw.power")
    metric.gauge.data_points.add(flags=1)
    assert post(receiver, "/v1/metrics", request.SerializeToString(), {"Content-Type": PROTOBUF})[0] == 200
    (point,) = receiver.history("hw.power")
    assert math.isnan(point.value)
    assert not point.is_int


def test_http_success_is_a_protobuf_response(receiver: Receiver) -> None:
    """An accepted HTTP export is answered with the export response as protobuf, and no partial failure."""
    status, content, body = post(receiver, "/v1/metrics", b"", {"Content-Type": f"{PROTOBUF}; charset=utf-8"})
    assert (status, content) == (200, PROTOBUF)
    assert ExportMetricsServiceResponse.FromString(body) == ExportMetricsServiceResponse()


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/v1/profiles", b"", {"Content-Type": PROTOBUF}, 404),
        ("/metrics", b"", {"Content-Type": PROTOBUF}, 404),
        ("/v1/metrics", b"{}", {"Content-Type": "application/json"}, 415),
        ("/v1/metrics", b"", {}, 415),
        ("/v1/metrics", b"", {"Content-Type": PROTOBUF, "Content-Encoding": "br"}, 415),
        ("/v1/metrics", b"\xff\xff garbage", {"Content-Type": PROTOBUF}, 400),
        ("/v1/traces", b"not gzip", {"Content-Type": PROTOBUF, "Content-Encoding": "gzip"}, 400),
        ("/v1/logs", gzip.compress(b"cut", mtime=0)[:-4], {"Content-Type": PROTOBUF, "Content-Encoding": "gzip"}, 400),
        ("/v1/logs", b"", {"Content-Type": PROTOBUF, "Content-Length": "many"}, 411),
        ("/v1/logs", b"", {"Content-Type": PROTOBUF, "Content-Length": str(2**40)}, 413),
    ],
)
def test_http_refusals(receiver: Receiver, path: str, body: bytes, headers: dict[str, str], status: int) -> None:
    """A wrong path, content type, encoding or body gets its status with a protobuf Status, and nothing is kept."""
    got, content, answer = post(receiver, path, body, headers)
    assert (got, content) == (status, PROTOBUF)
    assert Status.FromString(answer).message
    assert (receiver.metrics(), receiver.spans(), receiver.logs()) == ({}, [], [])


def test_wait_for_gives_up(receiver: Receiver) -> None:
    """Waiting for what never comes ends after the timeout and says so."""
    begin = time.monotonic()
    assert not receiver.wait_for(lambda r: bool(r.spans()), timeout=0.05)
    assert time.monotonic() - begin >= 0.05


def test_limit_bounds_what_is_kept() -> None:
    """With a limit only the latest items are kept."""
    with Receiver(limit=2) as receiver, ExitStack() as undo:
        tracer = Sender(receiver, "http", "none", undo).tracers.get_tracer("train")
        for name in ("a", "b", "c"):
            tracer.start_span(name).end()
        assert receiver.wait_for(lambda r: [s.name for s in r.spans()] == ["b", "c"], timeout=10)


def test_on_batch_names_signal_protocol_and_count() -> None:
    """Every batch is reported with one line."""
    lines: list[str] = []
    with Receiver(on_batch=lines.append) as receiver, ExitStack() as undo:
        for protocol in ("grpc", "http"):
            Sender(receiver, protocol, "none", undo).tracers.get_tracer("train").start_span("step").end()
    assert lines == ["traces over gRPC: 1 spans", "traces over HTTP: 1 spans"]


def test_stop_is_quick_and_leaves_nothing() -> None:
    """Stopping takes well under a second, ends every thread, frees both ports and keeps what arrived."""
    before = set(threading.enumerate())
    receiver = Receiver()
    with receiver, ExitStack() as undo:
        for protocol in ("grpc", "http"):
            Sender(receiver, protocol, "gzip", undo).tracers.get_tracer("train").start_span(protocol).end()
        undo.close()
        begin = time.monotonic()
        receiver.stop()
        assert time.monotonic() - begin < 0.5
    for thread in set(threading.enumerate()) - before:
        thread.join(1)  # The grpc server's own thread ends just after it says that it has stopped.
        assert not thread.is_alive(), thread
    assert [s.name for s in receiver.spans()] == ["grpc", "http"]
    for endpoint in (receiver.grpc_endpoint, receiver.http_endpoint):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(endpoint.rpartition(":")[2]))) != 0


def test_restart_listens_on_the_same_ports() -> None:
    """A stopped receiver can start again where it was, which is how an outage of the backend is played."""
    receiver = Receiver()
    with receiver:
        first = (receiver.grpc_endpoint, receiver.http_endpoint)
    with receiver, ExitStack() as undo:
        assert (receiver.grpc_endpoint, receiver.http_endpoint) == first
        for protocol in ("grpc", "http"):
            Sender(receiver, protocol, "none", undo).tracers.get_tracer("train").start_span(protocol).end()
        assert [s.name for s in receiver.spans()] == ["grpc", "http"]


@pytest.mark.parametrize("port", ["grpc_port", "http_port"])
def test_taken_port_is_an_error(receiver: Receiver, port: str) -> None:
    """A port in use makes start fail, and leaves no thread and no other port open."""
    endpoint = receiver.grpc_endpoint if port == "grpc_port" else receiver.http_endpoint
    before = threading.active_count()
    ports = {"grpc_port": 0, "http_port": 0, port: int(endpoint.rpartition(":")[2])}
    second = Receiver(ports["grpc_port"], ports["http_port"])
    with pytest.raises((OSError, RuntimeError)):
        second.start()
    second.stop()
    assert threading.active_count() == before


def test_http_works_without_grpc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without grpcio the HTTP side works and the gRPC endpoint says what is missing."""
    monkeypatch.setattr(otlp_receiver, "grpc", None)
    with Receiver() as receiver:
        assert post(receiver, "/v1/traces", b"", {"Content-Type": PROTOBUF})[0] == 200
        with pytest.raises(RuntimeError, match="grpcio"):
            _ = receiver.grpc_endpoint


def run(use: Callable[[subprocess.Popen[str], dict[str, str]], None]) -> int:
    """Run the receiver as a program on free ports, use it, and return its exit status."""
    command = [sys.executable, str(Path(otlp_receiver.__file__)), "--grpc-port", "0", "--http-port", "0"]
    environment = {**os.environ, "PYTHONWARNINGS": ""}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            where = [process.stdout.readline().split() for _ in range(2)]
            use(process, {words[2]: words[-1] for words in where})
            return process.wait(10)
        finally:
            process.kill()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_program_prints_batches_until_stopped(how: signal.Signals) -> None:
    """As a program it prints one line per batch and exits with 0 on Ctrl-C or SIGTERM."""

    def use(process: subprocess.Popen[str], where: dict[str, str]) -> None:
        exporter = GrpcSpans(where["gRPC"], insecure=True)
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(exporter))
        tracers.get_tracer("train").start_span("step").end()
        tracers.shutdown()
        assert process.stdout is not None
        assert process.stdout.readline() == "traces over gRPC: 1 spans\n"
        process.send_signal(how)

    assert run(use) == 0
