# SPDX-License-Identifier: Apache-2.0
"""A recording as what the SDK would have exported: metrics, spans with their events, log records.

Made of the SDK's own data classes, so that its exporters send it, and the encoders of OTLP write it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv._incubating.attributes import host_attributes, process_attributes
from opentelemetry.semconv.attributes import service_attributes
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from otel_hwmetrics import __version__, ranks
from otel_hwmetrics.catalog import PER_PROCESS, SCHEMA_URL, own
from otel_hwmetrics.display.export.choice import Choice
from otel_hwmetrics.display.export.columns import OF_JOBS, Column
from otel_hwmetrics.display.export.looks import Looks, Part, job_looks_of, looks_of
from otel_hwmetrics.display.export.rows import number_of
from otel_hwmetrics.display.export.target import Heard, Refused
from otel_hwmetrics.display.words import counted
from otel_hwmetrics.model import Attribute, Kind
from otel_hwmetrics.recording.nouns import PARENT, About, RecordedAlert, RecordedSpan

POINTS: Final = 4000
"""Of one request, about: half a MiB, where a receiver of gRPC takes 4 MiB."""
RECORDS: Final = 500
"""Spans or log records of one request at most."""
UNFINISHED: Final = "hwmetrics.span.unfinished"
"""Attribute of a span whose end nobody has seen; it ends where the recording does."""

SCOPE: Final = InstrumentationScope("otel_hwmetrics", __version__, SCHEMA_URL)
_STATUS: Final = {"ok": StatusCode.OK, "error": StatusCode.ERROR}
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)


class Receiver(Protocol):
    """Takes what is exported."""

    def metrics(self, data: MetricsData) -> None:
        """Take points."""
        ...

    def spans(self, spans: Sequence[ReadableSpan]) -> None:
        """Take spans."""
        ...

    def alerts(self, resource: Resource, alerts: Sequence[RecordedAlert]) -> None:
        """Take alerts, as log records."""
        ...


class Manner(NamedTuple):
    """How it is told.

    Attributes:
        service: The service's name where no Resource has one.
        delta: Whether sums are told by their growth.
    """

    service: str = ""
    delta: bool = False


class Sent(NamedTuple):
    """How much has been taken."""

    points: int = 0
    spans: int = 0
    logs: int = 0


def replay(
    parts: Sequence[Part], choice: Choice, receiver: Receiver, told: Heard, manner: Manner | None = None
) -> Sent:
    """Give a run to a receiver, a file of it after the other; each of its processes has a Resource of its own.

    What is of the machine, and was recorded by several processes there at the same time, is given once, as it is exported
    once where they run.

    Args:
        parts: The files.
        choice: What is wanted; it does not choose among spans and alerts by metric.
        receiver: Takes it.
        told: Hears how far this has come.
        manner: How; as it comes if not given.

    Raises:
        Refused: The receiver has not taken something.
    """
    covered: dict[object, list[tuple[int, int]]] = {}
    manner, sent = manner or Manner(), Sent()
    try:
        for part in parts:
            resource = resource_of(part.recording.about, manner.service)
            for data, count, at_ns in _requests(part, choice, _Metrics(part, resource, covered, delta=manner.delta)):
                receiver.metrics(data)
                sent = sent._replace(points=sent.points + count)
                told(at_ns)
            alerts = [each for each in part.recording.alerts() if _is_within(each.at_ns, each.at_ns, choice)]
            for batch in _batches(_spans(part, resource, alerts, choice), RECORDS):
                receiver.spans(batch)
                sent = sent._replace(spans=sent.spans + len(batch))
            for of_alerts in _batches(iter(alerts), RECORDS):
                receiver.alerts(resource, of_alerts)
                sent = sent._replace(logs=sent.logs + len(of_alerts))
    except Refused as error:
        before = f"; before that it took {counted(sent.points, 'point')}" if sent.points else ""
        raise Refused(f"{error}{before}") from error
    return sent


def _requests(part: Part, choice: Choice, metrics: _Metrics) -> Iterator[tuple[MetricsData, int, int]]:
    for looks in _all_looks(part, choice):
        yield from metrics.requests(looks)
    metrics.close()


def resource_of(about: About, name: str = "") -> Resource:
    """The Resource of the process that wrote a recording, with what tells it from others where it was not told."""
    attributes: dict[str, Attribute] = {
        service_attributes.SERVICE_NAME: name or about.name,
        host_attributes.HOST_NAME: about.host,
        process_attributes.PROCESS_PID: about.pid,
    }
    if about.rank is not None:
        attributes[ranks.RANK] = about.rank
    if about.world_size is not None:
        attributes[ranks.WORLD_SIZE] = about.world_size
    return Resource({**{key: value for key, value in attributes.items() if value != ""}, **about.resource})


def _all_looks(part: Part, choice: Choice) -> Iterator[Looks]:
    yield from looks_of(part, choice)
    if part.recording.about.role == PARENT:  # a process that has recorded itself has told it by its metrics
        for stream in job_looks_of(part, choice):
            yield from stream


class _Metrics:
    """Points of one process, as requests of bounded size.

    Args:
        part: The file.
        resource: The process's.
        covered: When each series of each machine has been told, by the files before; it is added to.
        delta: Whether sums are told by their growth.
    """

    def __init__(
        self, part: Part, resource: Resource, covered: dict[object, list[tuple[int, int]]], *, delta: bool
    ) -> None:
        self._about = part.recording.about
        self._resource = resource
        self._covered = covered
        self._delta = delta
        self._here: dict[object, tuple[int, int]] = {}
        self._sums: dict[str, tuple[int, float, int]] = {}  # where it begins, the last total and when

    def close(self) -> None:
        """Nothing more comes of this file."""
        for key, stretch in self._here.items():
            self._covered.setdefault(key, []).append(stretch)

    def requests(self, looks: Looks) -> Iterator[tuple[MetricsData, int, int]]:
        """Looks as requests: each, how many points are in it, and when the last of them is of."""
        step = max(1, POINTS // max(1, len(looks.columns)))
        for begin in range(0, len(looks.times), step):
            times = looks.times[begin : begin + step]
            rows: dict[tuple[str, Kind], tuple[Column, list[NumberDataPoint]]] = {}
            for column, values in looks.columns:
                points = list(self._points(column, times, values[begin : begin + step]))
                if points:
                    rows.setdefault((column.metric, column.kind), (column, []))[1].extend(points)
            count = sum(len(points) for _, points in rows.values())
            if count:
                metrics = [self._metric(column, points) for column, points in rows.values()]
                scoped = ScopeMetrics(SCOPE, metrics, SCHEMA_URL)
                yield MetricsData([ResourceMetrics(self._resource, [scoped], "")]), count, times[-1]

    def _points(self, column: Column, times: Sequence[int], values: Sequence[float]) -> Iterator[NumberDataPoint]:
        before = self._stretches(column, times)
        for at_ns, value in zip(times, values, strict=True):
            number = number_of(column, value)
            if number is None or any(start <= at_ns <= end for start, end in before):
                continue
            start: int | None = None  # as the SDK has it of a gauge
            if column.kind is Kind.COUNTER:
                start, number = self._sum(column, at_ns, number)
            elif column.kind is Kind.UP_DOWN_COUNTER:
                start = min(self._about.started_ns, at_ns)
            yield NumberDataPoint(column.attributes, start, at_ns, number)  # type: ignore[arg-type] # as the SDK itself

    def _stretches(self, column: Column, times: Sequence[int]) -> Sequence[tuple[int, int]]:
        """When a series of the machine has been told by another file; notes that this one has it now."""
        if column.metric in PER_PROCESS or column.metric.startswith(OF_JOBS):
            return ()
        key = (self._about.host, column.metric, tuple(sorted(column.attributes.items())))
        self._here[key] = (self._here.get(key, (times[0], 0))[0], times[-1])
        return self._covered.get(key, ())

    def _sum(self, column: Column, at_ns: int, total: float) -> tuple[int, int | float]:
        """Where a sum begins, and what it is told as. One that falls begins anew, at the look before."""
        start, last, last_ns = self._sums.get(column.name, (min(self._about.started_ns, at_ns), 0, 0))
        if total < last:
            start, last = last_ns, 0
        self._sums[column.name] = (start, total, at_ns)
        return (last_ns or start, total - last) if self._delta else (start, total)

    def _metric(self, column: Column, points: list[NumberDataPoint]) -> Metric:
        data: Gauge | Sum
        if column.kind is Kind.GAUGE:
            data = Gauge(points)
        else:
            counter = column.kind is Kind.COUNTER
            told = AggregationTemporality.DELTA if self._delta and counter else AggregationTemporality.CUMULATIVE
            data = Sum(points, told, counter)
        return Metric(column.metric, column.description, column.unit, data)


def _spans(part: Part, resource: Resource, alerts: Iterable[RecordedAlert], choice: Choice) -> Iterator[ReadableSpan]:
    events: dict[str, list[Event]] = {}
    for alert in alerts:
        if alert.span_id:
            events.setdefault(alert.span_id, []).append(Event(own.ALERT_EVENT, event_attributes(alert), alert.at_ns))
    for span in part.recording.spans():
        end = span.ended_ns or max(part.recording.about.heard_ns, span.started_ns)
        if _is_within(span.started_ns, end, choice):
            yield _span(span, end, resource, events.get(span.span_id, ()))


def _span(span: RecordedSpan, end: int, resource: Resource, events: Sequence[Event]) -> ReadableSpan:
    trace = int(span.trace_id, 16)
    parent = SpanContext(trace, int(span.parent_id, 16), is_remote=False) if span.parent_id else None
    unfinished = {UNFINISHED: True} if span.ended_ns is None else {}
    return ReadableSpan(
        span.name,
        context=SpanContext(trace, int(span.span_id, 16), is_remote=False, trace_flags=_SAMPLED),
        parent=parent,
        resource=resource,
        attributes={**span.attributes, **unfinished},
        events=events,
        kind=SpanKind.INTERNAL,
        status=Status(_STATUS.get(span.status, StatusCode.UNSET)),
        start_time=span.started_ns,
        end_time=end,
        instrumentation_scope=SCOPE,
    )


def event_attributes(alert: RecordedAlert) -> Mapping[str, Attribute]:
    """The attributes of an alert's event, as far as they were recorded; at the least what is known of any alert."""
    known = {
        own.ALERT_RULE: alert.rule,
        own.ALERT_STATE: alert.state,
        own.ALERT_SEVERITY: alert.severity,
        own.ALERT_MESSAGE: alert.message,
    }
    return {**known, **alert.attributes}


def _is_within(start_ns: int, end_ns: int, choice: Choice) -> bool:
    return (choice.end_ns is None or start_ns <= choice.end_ns) and (
        choice.start_ns is None or end_ns >= choice.start_ns
    )


def _batches(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while batch := list(islice(items, size)):
        yield batch
