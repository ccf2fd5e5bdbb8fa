# SPDX-License-Identifier: Apache-2.0
"""Alerts to tell of, for tests of those who are told."""

from __future__ import annotations

from dataclasses import replace

from opentelemetry.trace import Span

from otel_hwmetrics.alerts.conditions import Finding, Level
from otel_hwmetrics.alerts.rule import Rule, Severity, Side, State
from otel_hwmetrics.alerts.subjects import HOST, Subject
from otel_hwmetrics.alerts.transition import Transition
from otel_hwmetrics.catalog import gpu
from otel_hwmetrics.sinks.base import Alert, event_attributes

AT = 1_700_000_000_123_456_789

_BEFORE = {State.FIRING: State.PENDING, State.RESOLVED: State.FIRING}


def alert(
    state: State = State.FIRING,
    value: float | None = 85.0,
    at: int = AT,
    *,
    severity: Severity = Severity.WARNING,
    name: str = "gpu_hot",
    device: str = "GPU-a",
    span: Span | None = None,
    blind: bool = False,
) -> Alert:
    """A GPU, or the host where there is no device, became hot or cool."""
    rule = Rule(name, severity, Level(gpu.TEMPERATURE), Side.ABOVE, 80.0, 2.0, 5.0, "{device}: {value}.")
    subject = Subject(device, {gpu.HW_ID: device, gpu.HW_NAME: "GPU 0", gpu.GPU_INDEX: 0}) if device else HOST
    finding = None if blind else Finding(value)
    before = state if blind else _BEFORE[state]
    transition = Transition(rule, subject, before, state, finding, at, 12.3456, peak=92.0)
    return Alert(transition, span, event_attributes(transition))


def on(span: Span | None, told: Alert) -> Alert:
    """The same alert with a span that was open."""
    return replace(told, span=span)
