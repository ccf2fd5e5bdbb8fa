# SPDX-License-Identifier: Apache-2.0
"""The thread between the sampler and a sink that may wait."""

from __future__ import annotations

import threading

import pytest
from opentelemetry.trace import Span

from otel_hwmetrics._guard import faults
from otel_hwmetrics.alerts.conditions import HOST, Level, Rule, Severity, Side, State
from otel_hwmetrics.alerts.engine import Transition
from otel_hwmetrics.catalog import system
from otel_hwmetrics.sinks import background
from otel_hwmetrics.sinks.background import Background

RULE = Rule("full", Severity.WARNING, Level(system.MEMORY_UTILIZATION), Side.ABOVE, 0.9, 0, 0, "{value}.")


def transition(at: int) -> Transition:
    """A transition by its number."""
    return Transition(RULE, HOST, State.PENDING, State.FIRING, 1.0, at, 0.0)


class Slow:
    """A sink that waits for its gate, and remembers what it was told."""

    def __init__(self) -> None:
        self.gate, self.entered = threading.Event(), threading.Event()
        self.told: list[int] = []

    def on_transition(self, transition: Transition, span: Span | None) -> None:
        """Wait, then take it."""
        assert span is None
        self.entered.set()
        assert self.gate.wait(20)
        self.told.append(transition.time_unix_nano)


def test_transitions_arrive_in_order_and_stop_waits_for_them() -> None:
    """What was given before `stop` is told before it returns, and the thread is gone."""
    sink = Slow()
    sink.gate.set()
    given = Background(sink)
    for at in range(50):
        given.on_transition(transition(at), None)
    given.stop(20)
    assert sink.told == list(range(50))
    assert not [thread for thread in threading.enumerate() if thread.name == "hwmetrics-alerts"]


def test_without_alerts_there_is_no_thread() -> None:
    """It starts with the first transition; stopping before that is nothing."""
    Background(Slow()).stop(0)
    assert not [thread for thread in threading.enumerate() if thread.name == "hwmetrics-alerts"]


def test_memory_is_bounded_and_what_is_dropped_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink that hangs holds as many transitions as there is room for; neither telling nor stopping waits for it."""
    monkeypatch.setattr(background, "WAITING", 3)
    sink = Slow()
    given = Background(sink)
    given.on_transition(transition(0), None)
    assert sink.entered.wait(20)
    for at in range(1, 10):
        given.on_transition(transition(at), None)
    given.stop(0.01)
    assert faults["Slow is behind"] == 7
    sink.gate.set()
    assert given._thread is not None
    given._thread.join(20)
    assert not given._thread.is_alive()
    assert sink.told == [0, 2, 3]
