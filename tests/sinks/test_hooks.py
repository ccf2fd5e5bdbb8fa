# SPDX-License-Identifier: Apache-2.0
"""Callbacks on alerts: on threads of their own, so that they harm nobody."""

from __future__ import annotations

import os
import threading

import pytest

import otel_hwmetrics as hw
from alarms import AT, alert
from otel_hwmetrics import _guard
from otel_hwmetrics._guard import faults
from otel_hwmetrics.alerts.rule import State
from otel_hwmetrics.sinks import hooks
from otel_hwmetrics.sinks.hooks import Hooks
from otel_hwmetrics.testing import ManualClock


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Hooks:
    """Callbacks of this test alone."""
    made = Hooks()
    monkeypatch.setattr(hooks, "HOOKS", made)
    return made


def test_a_callback_gets_each_alert_on_a_thread_of_its_own(own: Hooks) -> None:
    """With all that there is to say; as a decorator it stays what it was."""
    told: list[tuple[hw.Alert, str]] = []

    @hw.on_alert
    def called(alert: hw.Alert) -> None:
        told.append((alert, threading.current_thread().name))

    own.on_alert(alert())
    own.stop(20)
    ((got, thread),) = told
    assert thread == "hwmetrics-callbacks"
    assert (got.name, got.severity, got.state, got.device) == ("gpu_hot", "warning", "firing", "GPU 0")
    assert (got.value, got.threshold, got.unit, got.peak, got.duration) == (85.0, 80.0, "Cel", 92.0, 12.3456)
    assert (got.time_unix_nano, got.message, got.blind) == (AT, "GPU 0: 85 °C.", False)
    assert (got.trace_id, got.span_id) == ("", "")
    assert called.__name__ == "called"


def test_it_is_known_what_fires(own: Hooks) -> None:
    """As it was last told of, until it is resolved, or another pipeline begins; for who comes later than the alert."""
    first, second, blind = alert(), alert(name="gpu_very_hot"), alert(value=None, blind=True)
    for each in (first, second, blind):
        own.on_alert(each)
    assert list(own.firing) == [blind, second]
    own.on_alert(alert(State.RESOLVED))
    assert list(own.firing) == [second]
    own.close()
    assert own.firing
    own.begin()
    assert not own.firing
    own.on_alert(first)
    own.forget_threads()
    assert not own.firing


def test_a_slow_or_failing_callback_holds_up_no_other(own: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its thread; who tells never waits; the faults are counted."""
    monkeypatch.setattr(_guard, "LOUD", False)
    before, gate, told = faults["telling _Hook of an alert"], threading.Event(), threading.Event()

    def fails(_: hw.Alert) -> None:
        raise RuntimeError

    for callback in (lambda _: gate.wait(20), fails, lambda _: told.set()):
        own.add(callback)
    own.on_alert(alert())
    assert told.wait(20)
    gate.set()
    own.stop(20)
    assert faults["telling _Hook of an alert"] - before == 1


def test_a_callback_is_called_once_however_often_it_is_added_and_not_after_it_is_removed(own: Hooks) -> None:
    """Cells of a notebook are run again and again."""
    told: list[hw.Alert] = []
    for _ in range(3):
        own.add(told.append)
    own.on_alert(alert())
    own.remove(told.append)
    own.remove(told.append)
    own.on_alert(alert())
    own.stop(20)
    assert len(told) == 1


def test_callbacks_are_called_again_after_a_stop(own: Hooks) -> None:
    """They are there before `instrument()`, and stay through the next one."""
    told: list[hw.Alert] = []
    own.add(told.append)
    for _ in range(2):
        own.on_alert(alert())
        own.stop(20)
    assert len(told) == 2


def test_a_callback_may_take_itself_away(own: Hooks) -> None:
    """In its first call, say: it does not wait for itself."""
    told: list[hw.Alert] = []

    def once(alert: hw.Alert) -> None:
        told.append(alert)
        hw.off_alert(once)

    own.add(once)
    own.on_alert(alert())
    (thread,) = (each for each in threading.enumerate() if each.name == "hwmetrics-callbacks")
    thread.join(20)
    assert not thread.is_alive()
    own.on_alert(alert())
    assert len(told) == 1
    assert faults == {}


def test_stopping_waits_for_all_callbacks_together_as_long_as_it_may(
    own: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for each as long; all are told to end before the first is waited for."""
    time, gate = ManualClock(), threading.Event()
    waits: list[float] = []
    monkeypatch.setattr(hooks, "time", time)
    for _ in range(3):
        own.add(lambda _: gate.wait(20))
    own.on_alert(alert())
    threads = [each for each in threading.enumerate() if each.name == "hwmetrics-callbacks"]
    assert len(threads) == 3

    def join(timeout: float) -> None:
        waits.append(timeout)
        time.advance(0.15)

    for thread in threads:
        monkeypatch.setattr(thread, "join", join)
    own.close()
    assert waits == []
    own.join(0.2)
    assert waits == pytest.approx([0.2, 0.05, 0.0])
    gate.set()
    for thread in threads:
        threading.Thread.join(thread, 20)
        assert not thread.is_alive()


def test_a_callback_whose_thread_is_refused_keeps_the_alert_from_no_other(
    own: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted, and told with the next alert."""
    monkeypatch.setattr(_guard, "LOUD", False)
    first: list[int] = []
    second: list[int] = []
    own.add(lambda alert: first.append(alert.time_unix_nano))
    own.add(lambda alert: second.append(alert.time_unix_nano))
    start, asked = threading.Thread.start, []

    def refuse_the_first(thread: threading.Thread) -> None:
        asked.append(thread)
        if len(asked) == 1:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_the_first)
    for at in (1, 2):
        own.on_alert(alert(at=at))
    own.stop(20)
    assert (first, second) == ([1, 2], [1, 2])
    assert faults == {"passing an alert on to a callback": 1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_can_call_them_anew(own: Hooks) -> None:
    """It has none of its parent's threads."""
    told: list[hw.Alert] = []
    own.add(told.append)
    own.on_alert(alert())
    own.stop(20)
    own.on_alert(alert())  # its thread runs now
    pid = os.fork()
    if pid == 0:
        own.forget_threads()
        before = len(told)
        own.on_alert(alert())
        own.stop(20)
        os._exit(0 if len(told) == before + 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    own.stop(20)
