# SPDX-License-Identifier: Apache-2.0
"""What the demo's receiver has at the end: ours of the metrics, the spans, the alerts on them; and what is missing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from otlp_receiver import Point, ReceivedLog, ReceivedMetric, ReceivedSpan, Receiver

SCOPE = "otel_hwmetrics"
ALERT = "hwmetrics.alert"
SECTIONS = ("Host", "Container", "Process and its tree", "Data set", "GPU", "Alerts", "The plugin itself")


def section_of(name: str) -> int:
    """Return which of `SECTIONS` a metric belongs to."""
    first = name.removeprefix("hwmetrics.").split(".")[0]
    return {
        "system": 0,
        "pressure": 0,
        "container": 1,
        "process": 2,
        "tree": 2,
        "training": 2,
        "dataset": 3,
        "hw": 4,
        "gpu": 4,
        "temperature": 4,
        "torch": 4,
        "jax": 4,
        "alert": 5,
    }.get(first, 6)


@dataclass(frozen=True)
class Alert:
    """One alert event on a span."""

    seconds: float  # since the first span began
    attributes: dict[str, Any]
    span: ReceivedSpan

    def get(self, key: str) -> Any:
        """Return an attribute by the last part of its name."""
        return self.attributes.get(f"{ALERT}.{key}")

    @property
    def device(self) -> str:
        """Which device, in words."""
        return str(self.attributes.get("hw.name", "host"))


@dataclass(frozen=True)
class Arrived:
    """What the receiver has at the end, and what the training's exit code was."""

    metrics: list[ReceivedMetric]
    history: dict[str, list[Point]]
    spans: list[ReceivedSpan]
    logs: list[ReceivedLog]
    exit_code: int

    @property
    def start(self) -> int:
        """When the first span began, in Unix nanoseconds."""
        return min((span.start for span in self.spans), default=0)

    @property
    def alerts(self) -> list[Alert]:
        """Every alert event, in order of time."""
        found = [
            Alert((moment - self.start) / 1e9, attributes, span)
            for span in self.spans
            for name, attributes, moment in span.events
            if name == ALERT
        ]
        return sorted(found, key=lambda alert: alert.seconds)

    @property
    def log_events(self) -> list[ReceivedLog]:
        """Every log record that tells of an alert, in order of time."""
        return sorted((log for log in self.logs if log.event_name == ALERT), key=lambda log: log.time_unix_nano)

    def span_of(self, log: ReceivedLog) -> ReceivedSpan | None:
        """Return the span in whose context a log record was written."""
        return next((s for s in self.spans if (s.trace_id, s.span_id) == (log.trace_id, log.span_id)), None)

    def highest(self, metric: ReceivedMetric, point: Point) -> float:
        """Return the highest value that one series of a metric had in this run."""
        return max(p.value for p in self.history[metric.name] if p.attributes == point.attributes)


def collect(receiver: Receiver, exit_code: int) -> Arrived:
    """Take what arrived; of the metrics ours alone, since another instrumentation may share the environment."""
    metrics = [metric for metric in receiver.metrics().values() if SCOPE in metric.scopes]
    history = {metric.name: [p for p in receiver.history(metric.name) if p.scope == SCOPE] for metric in metrics}
    return Arrived(
        sorted(metrics, key=lambda metric: (section_of(metric.name), re.sub(r"^(hwmetrics|hw)\.", "", metric.name))),
        history,
        sorted(receiver.spans(), key=lambda span: span.start),
        receiver.logs(),
        exit_code,
    )


def own_points(metric: ReceivedMetric) -> list[Point]:
    """Return the latest point of each of our series."""
    return [point for point in metric.points if point.scope == SCOPE]


def missing(arrived: Arrived, *, scripted: bool) -> list[str]:
    """Say what should have arrived and did not, one sentence each."""
    problems = []
    if arrived.exit_code:
        problems.append(f"train.py ended with exit code {arrived.exit_code}")
    names = {metric.name for metric in arrived.metrics}
    wanted = ("system.cpu.utilization", "system.memory.usage", "process.cpu.utilization", "hw.gpu.utilization")
    problems += [f"the metric {name} did not arrive" for name in wanted if name not in names]
    if not any(span.name == "epoch" for span in arrived.spans):
        problems.append("no epoch span arrived")
    if scripted:
        told = {(alert.get("rule"), alert.device, alert.get("state")) for alert in arrived.alerts}
        for rule, device in (("gpu_hot", "GPU 1"), ("gpu_memory_pressure", "GPU 0")):
            problems += [
                f"no event that {rule} is {state} on {device}"
                for state in ("firing", "resolved")
                if (rule, device, state) not in told
            ]
    if len(arrived.log_events) != len(arrived.alerts):
        problems.append(f"{len(arrived.alerts)} alert events on spans, but {len(arrived.log_events)} in logs")
    return problems


def severity(number: int) -> str:
    """Name a severity number (https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber)."""
    return ("?", "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")[min((number + 3) // 4, 6)]


def summary(arrived: Arrived, problems: list[str], *, scripted: bool) -> dict[str, Any]:
    """Return what is shown as plain values, for ``--json``."""
    return {
        "gpus": "scripted" if scripted else "real",
        "exit_code": arrived.exit_code,
        "metrics": [
            {
                "name": metric.name,
                "unit": metric.unit,
                "kind": metric.kind,
                "description": metric.description,
                "points": [
                    {"attributes": p.attributes, "value": p.value, "highest": arrived.highest(metric, p)}
                    for p in own_points(metric)
                ],
            }
            for metric in arrived.metrics
        ],
        "spans": [as_json(span) for span in arrived.spans],
        "alerts": [
            {"seconds": a.seconds, "device": a.device, "attributes": a.attributes, "span": as_json(a.span)}
            for a in arrived.alerts
        ],
        "logs": [
            {
                "event_name": log.event_name,
                "seconds": (log.time_unix_nano - arrived.start) / 1e9,
                "severity": severity(log.severity_number),
                "body": log.body,
                "attributes": log.attributes,
                "trace_id": log.trace_id,
                "span_id": log.span_id,
            }
            for log in arrived.log_events
        ],
        "ok": not problems,
        "problems": problems,
    }


def as_json(span: ReceivedSpan) -> dict[str, Any]:
    """Return a span as plain values, its times in Unix nanoseconds."""
    wanted = ("name", "trace_id", "span_id", "parent_id", "start", "end", "attributes")
    return {key: getattr(span, key) for key in wanted}
