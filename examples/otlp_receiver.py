# SPDX-License-Identifier: Apache-2.0
"""A real OTLP receiver in one small file, for examples and tests.

It accepts OTLP over gRPC and OTLP over HTTP with protobuf bodies, on loopback only, and keeps what arrived as plain
Python values. It is no collector: it forwards nothing and knows no TLS.

    with Receiver() as receiver:
        ...  # export to receiver.grpc_endpoint or receiver.http_endpoint
        receiver.wait_for(lambda r: "hw.temperature" in r.metrics(), timeout=10)

As a program it prints one line per batch until Ctrl-C: ``python examples/otlp_receiver.py``.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import zlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import nan
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs_pb
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb

try:
    import grpc
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import add_LogsServiceServicer_to_server
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import add_MetricsServiceServicer_to_server
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import add_TraceServiceServicer_to_server
except ImportError:  # OTLP over HTTP works without it.
    grpc = None

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Self

HOST = "127.0.0.1"
MAX_BODY = 64 * 1024 * 1024
PROTOBUF = "application/x-protobuf"


@dataclass(frozen=True)
class Point:
    """One data point; a histogram's value is its sum, and a point without a recorded value has NaN."""

    value: int | float
    is_int: bool
    attributes: dict[str, Any]
    start_time_unix_nano: int
    time_unix_nano: int
    scope: str
    resource: dict[str, Any]
    count: int | None  # Of a histogram or summary.


@dataclass(frozen=True)
class ReceivedMetric:
    """What was last said about a metric name, every scope that used it, and the latest point of each stream.

    A stream is a resource, a scope and an attribute set, so two scopes or two processes never overwrite each other.
    """

    name: str
    unit: str
    description: str
    kind: str  # counter, updowncounter, gauge, histogram or summary
    temporality: str  # cumulative, delta, or empty where the kind has none
    scope_name: str
    scope_version: str
    schema_url: str
    resource: dict[str, Any]
    scopes: set[str] = field(default_factory=set)
    points: list[Point] = field(default_factory=list)


@dataclass(frozen=True)
class ReceivedSpan:
    """One finished span; each event is its name, attributes and time."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any], int]]
    status: str  # UNSET, OK or ERROR
    scope: str
    resource: dict[str, Any]


@dataclass(frozen=True)
class ReceivedLog:
    """One log record, which is an event where `event_name` is not empty."""

    event_name: str
    severity_number: int
    severity_text: str
    body: Any
    attributes: dict[str, Any]
    trace_id: str
    span_id: str
    time_unix_nano: int
    scope: str
    resource: dict[str, Any]


def _value(value: Any) -> Any:
    which = value.WhichOneof("value")
    if which == "array_value":
        return [_value(item) for item in value.array_value.values]
    if which == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return None if which is None else getattr(value, which)


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _scoped(groups: Iterable[Any], signal_name: str) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield each scope's part of a request with the resource that it belongs to."""
    for group in groups:
        resource = _attributes(group.resource.attributes)
        for scoped in getattr(group, f"scope_{signal_name}"):
            yield resource, scoped


def _points(request: metrics_pb.ExportMetricsServiceRequest) -> Iterator[tuple[ReceivedMetric, Point]]:
    for resource, scoped in _scoped(request.resource_metrics, "metrics"):
        scope = scoped.scope
        for m in scoped.metrics:
            which = m.WhichOneof("data") or "gauge"  # A metric without data has no points.
            data = getattr(m, which)
            kind = which.removeprefix("exponential_")
            if kind == "sum":
                kind = "counter" if data.is_monotonic else "updowncounter"
            temporality = {1: "delta", 2: "cumulative"}.get(getattr(data, "aggregation_temporality", 0), "")
            about = (m.name, m.unit, m.description, kind, temporality, scope.name, scope.version, scoped.schema_url)
            metric = ReceivedMetric(*about, resource, {scope.name})
            for p in data.data_points:
                number = "value" in p.DESCRIPTOR.oneofs_by_name
                value = (p.WhichOneof("value") or "") if number else "sum"
                base = (_attributes(p.attributes), p.start_time_unix_nano, p.time_unix_nano, scope.name, resource)
                count = None if number else p.count
                yield metric, Point(getattr(p, value) if value else nan, value == "as_int", *base, count)


def _spans(request: trace_pb.ExportTraceServiceRequest) -> Iterator[ReceivedSpan]:
    for resource, scoped in _scoped(request.resource_spans, "spans"):
        for span in scoped.spans:
            ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
            times = (span.start_time_unix_nano, span.end_time_unix_nano)
            events = [(event.name, _attributes(event.attributes), event.time_unix_nano) for event in span.events]
            attributes, status = _attributes(span.attributes), {1: "OK", 2: "ERROR"}.get(span.status.code, "UNSET")
            yield ReceivedSpan(span.name, *ids, *times, attributes, events, status, scoped.scope.name, resource)


def _logs(request: logs_pb.ExportLogsServiceRequest) -> Iterator[ReceivedLog]:
    for resource, scoped in _scoped(request.resource_logs, "logs"):
        for log in scoped.log_records:
            body, attributes = _value(log.body), _attributes(log.attributes)
            what = (log.event_name, log.severity_number, log.severity_text, body, attributes)
            ids = (log.trace_id.hex(), log.span_id.hex())
            yield ReceivedLog(*what, *ids, log.time_unix_nano, scoped.scope.name, resource)


SIGNALS: dict[str, tuple[Any, Any, Callable[[Any], Iterator[Any]]]] = {
    "metrics": (metrics_pb.ExportMetricsServiceRequest, metrics_pb.ExportMetricsServiceResponse, _points),
    "traces": (trace_pb.ExportTraceServiceRequest, trace_pb.ExportTraceServiceResponse, _spans),
    "logs": (logs_pb.ExportLogsServiceRequest, logs_pb.ExportLogsServiceResponse, _logs),
}


class Receiver:
    """An OTLP receiver on loopback, with port 0 for any free port.

    Of each signal it keeps the last `limit` items (points, spans, log records), by default all; `on_batch` is called
    with one line of text for every batch.
    """

    def __init__(
        self,
        grpc_port: int = 0,
        http_port: int = 0,
        *,
        limit: int | None = None,
        on_batch: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """Open nothing yet: `start` does."""
        self._grpc_port, self._http_port, self._on_batch = grpc_port, http_port, on_batch
        self._kept: dict[str, deque[Any]] = {name: deque(maxlen=limit) for name in SIGNALS}
        self._changed = threading.Condition()  # Its lock is re-entrant, so a predicate may call the views.
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        """Start, and return the receiver."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def start(self) -> None:
        """Open both ports and serve, or only HTTP where grpc is not installed."""
        with ExitStack() as undo:
            http = undo.enter_context(ThreadingHTTPServer((HOST, self._http_port), partial(_Handler, self)))
            http.daemon_threads = False  # So that closing it joins the threads of its requests.
            if grpc is not None:
                self._grpc_port = self._start_grpc(undo)
            thread = threading.Thread(target=http.serve_forever, args=(0.02,), name="otlp-receiver-http")
            thread.start()
            undo.callback(thread.join)
            undo.callback(http.shutdown)
            self._http_port = http.server_address[1]
            self._undo = undo.pop_all()

    def _start_grpc(self, undo: ExitStack) -> int:
        pool = undo.enter_context(ThreadPoolExecutor(4, "otlp-receiver-grpc"))
        # Without SO_REUSEPORT a port that is taken is an error, not silently shared.
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        services: dict[str, Callable[[Any, Any], None]] = {
            "metrics": add_MetricsServiceServicer_to_server,
            "traces": add_TraceServiceServicer_to_server,
            "logs": add_LogsServiceServicer_to_server,
        }
        for name, add_to in services.items():
            add_to(_Servicer(self, name), server)
        port: int = server.add_insecure_port(f"{HOST}:{self._grpc_port}")
        server.start()
        undo.callback(lambda: server.stop(grace=0.5).wait())
        return port

    def stop(self) -> None:
        """Close both ports and end their threads; what arrived stays readable, and a second call does nothing."""
        self._undo.close()

    @property
    def grpc_endpoint(self) -> str:
        """Where OTLP over gRPC is accepted."""
        if grpc is None:
            msg = "OTLP over gRPC needs the grpcio package; http_endpoint works without it"
            raise RuntimeError(msg)
        return f"http://{HOST}:{self._grpc_port}"

    @property
    def http_endpoint(self) -> str:
        """The base of the OTLP over HTTP addresses, to which /v1/metrics, /v1/traces and /v1/logs are added."""
        return f"http://{HOST}:{self._http_port}"

    def metrics(self) -> dict[str, ReceivedMetric]:
        """Return the metrics that arrived, by name."""
        found: dict[str, ReceivedMetric] = {}
        latest: dict[str, dict[tuple[str, ...], Point]] = {}
        for metric, point in self._copy("metrics"):
            before = found.get(metric.name, metric)
            found[metric.name] = replace(metric, scopes=before.scopes | metric.scopes)
            # As text, because a dict takes 1, 1.0 and True for one key.
            owner, attributes = (repr(sorted(d.items())) for d in (point.resource, point.attributes))
            latest.setdefault(metric.name, {})[owner, point.scope, metric.scope_version, attributes] = point
        return {name: replace(metric, points=list(latest[name].values())) for name, metric in found.items()}

    def history(self, name: str) -> list[Point]:
        """Return all points of a metric in order of arrival."""
        return [point for metric, point in self._copy("metrics") if metric.name == name]

    def spans(self) -> list[ReceivedSpan]:
        """Return the spans in order of arrival."""
        return self._copy("traces")

    def logs(self) -> list[ReceivedLog]:
        """Return the log records in order of arrival."""
        return self._copy("logs")

    def _copy(self, signal_name: str) -> list[Any]:
        with self._changed:
            return list(self._kept[signal_name])

    def wait_for(self, predicate: Callable[[Receiver], bool], timeout: float) -> bool:
        """Wait until the predicate holds, trying it after every batch, and return whether it does."""
        with self._changed:
            return self._changed.wait_for(lambda: predicate(self), timeout)

    def accept(self, signal_name: str, protocol: str, request: Any) -> Any:
        """Keep what a request holds and return the response: full success."""
        _, response, decode = SIGNALS[signal_name]
        items = list(decode(request))
        with self._changed:
            self._kept[signal_name].extend(items)
            self._changed.notify_all()
        noun = {"metrics": "points", "traces": "spans", "logs": "log records"}[signal_name]
        self._on_batch(f"{signal_name} over {protocol}: {len(items)} {noun}")
        return response()


class _Servicer:
    """The one method that each of the three OTLP services over gRPC has."""

    def __init__(self, receiver: Receiver, signal_name: str) -> None:
        self._receiver, self._signal = receiver, signal_name

    def Export(self, request: Any, _context: Any) -> Any:  # noqa: N802 - as in the generated code
        return self._receiver.accept(self._signal, "gRPC", request)


class _Handler(BaseHTTPRequestHandler):
    """POST /v1/metrics, /v1/traces and /v1/logs, one request per connection so that stopping never waits for one."""

    protocol_version = "HTTP/1.1"
    timeout = 2  # Seconds without a byte from the client, which also bounds `Receiver.stop`.

    def __init__(self, receiver: Receiver, *args: Any) -> None:
        self._receiver = receiver
        super().__init__(*args)

    def do_POST(self) -> None:
        try:
            status, reply = 200, self._accept()
        except _RefusedError as error:
            status, reply = error.args[0], Status(code=error.args[1], message=error.args[2])
        body = reply.SerializeToString()
        with suppress(ConnectionError):  # A client that went away needs no answer.
            self.send_response(status)
            self.send_header("Content-Type", PROTOBUF)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

    def _accept(self) -> Any:
        body = self._body()  # Also where it is refused: closing a connection with unread bytes loses the answer.
        signal_name = self.path.removeprefix("/v1/")
        if f"/v1/{signal_name}" != self.path or signal_name not in SIGNALS:
            raise _RefusedError(404, 5, f"no such path: {self.path}")
        if (content := self.headers.get_content_type()) != PROTOBUF:
            raise _RefusedError(415, 3, f"content type {content} is not supported; send {PROTOBUF}")
        encoding = self.headers.get("Content-Encoding", "identity").lower()
        if encoding not in ("identity", "gzip"):
            raise _RefusedError(415, 3, f"content encoding {encoding} is not supported; send gzip or identity")
        try:
            request = SIGNALS[signal_name][0].FromString(_gunzip(body) if encoding == "gzip" else body)
        except (DecodeError, zlib.error) as error:
            raise _RefusedError(400, 3, f"not an export request: {error}") from error
        return self._receiver.accept(signal_name, "HTTP", request)

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise _RefusedError(411, 3, "a Content-Length is required")
        if int(length) > MAX_BODY:
            raise _RefusedError(413, 8, f"a body may have {MAX_BODY} bytes")
        return self.rfile.read(int(length))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as in the base class
        """Say nothing: `on_batch` reports."""


class _RefusedError(Exception):
    """A refused request: an HTTP status, and the gRPC code and message that the answer's Status carries."""


def _gunzip(body: bytes) -> bytes:
    stream = zlib.decompressobj(wbits=31)
    plain = stream.decompress(body, MAX_BODY)
    if stream.eof and not stream.unused_data:
        return plain
    msg = "the gzip body is cut short, too large, or followed by something else"
    raise zlib.error(msg)


def main() -> int:
    """Receive in the foreground until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Receive OTLP on loopback and print one line per batch.")
    parser.add_argument("--grpc-port", type=int, default=4317, help="0 for any free port (default: %(default)s)")
    parser.add_argument("--http-port", type=int, default=4318, help="0 for any free port (default: %(default)s)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    say = partial(print, flush=True)
    try:
        with Receiver(options.grpc_port, options.http_port, limit=1000, on_batch=say) as receiver:
            say("OTLP over HTTP at", receiver.http_endpoint)
            say("OTLP over gRPC at", receiver.grpc_endpoint if grpc else "no port: grpcio is not installed")
            threading.Event().wait()
    except KeyboardInterrupt:
        return 0
    except (OSError, RuntimeError) as error:
        say(f"cannot receive: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
