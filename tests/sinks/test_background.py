# SPDX-License-Identifier: Apache-2.0
"""The thread between the sampler and sinks that may wait."""

from __future__ import annotations

import threading

import pytest

from alarms import alert
from otel_hwmetrics import _guard
from otel_hwmetrics._guard import faults
from otel_hwmetrics.sinks import background
from otel_hwmetrics.sinks.background import Background
from otel_hwmetrics.sinks.base import Alert, dropped


class Slow:
    """A sink that waits for its gate, and remembers what it was told."""

    def __init__(self) -> None:
        self.gate, self.entered = threading.Event(), threading.Event()
        self.told: list[int] = []

    def on_alert(self, alert: Alert) -> None:
        """Wait, then take it."""
        self.entered.set()
        assert self.gate.wait(20)
        self.told.append(alert.time_unix_nano)


class Failing:
    """A sink that always fails."""

    def on_alert(self, alert: Alert) -> None:
        """Fail."""
        raise OSError(alert.name)


def threads() -> list[str]:
    """The background threads that run."""
    return [thread.name for thread in threading.enumerate() if thread.name == "hwmetrics-slow ones"]


def test_alerts_arrive_in_order_and_stop_waits_for_them() -> None:
    """What was given before `stop` is told before it returns, and the thread is gone."""
    sink = Slow()
    sink.gate.set()
    given = Background("slow ones", sink)
    for at in range(50):
        given.on_alert(alert(at=at))
    given.stop(20)
    assert sink.told == list(range(50))
    assert threads() == []


def test_without_alerts_there_is_no_thread() -> None:
    """It starts with the first one; stopping before that is nothing."""
    Background("slow ones", Slow()).stop(0)
    assert threads() == []


def test_it_goes_on_after_it_was_stopped() -> None:
    """Callbacks outlive what called them."""
    sink = Slow()
    sink.gate.set()
    given = Background("slow ones", sink)
    for at in range(3):
        given.on_alert(alert(at=at))
        given.stop(20)
    assert sink.told == [0, 1, 2]


def test_memory_is_bounded_and_what_is_dropped_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink that hangs holds as many alerts as there is room for; neither telling nor stopping waits for it."""
    monkeypatch.setattr(background, "WAITING", 3)
    sink, before = Slow(), dropped["slow ones", "queue_full"]
    given = Background("slow ones", sink)
    given.on_alert(alert(at=0))
    (thread,) = (each for each in threading.enumerate() if each.name == "hwmetrics-slow ones")
    assert sink.entered.wait(20)
    for at in range(1, 10):
        given.on_alert(alert(at=at))
    given.stop(0.01)
    assert dropped["slow ones", "queue_full"] - before == 6
    sink.gate.set()
    thread.join(20)
    assert not thread.is_alive()
    assert sink.told == [0, 1, 2, 3]


def test_stopping_takes_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """One time for all of it, also where there is no room; to close it takes none."""
    monkeypatch.setattr(background, "WAITING", 3)
    waits: list[float | None] = []
    sink = Slow()
    given = Background("slow ones", sink)
    given.on_alert(alert(at=0))
    assert sink.entered.wait(20)
    for at in range(1, 5):
        given.on_alert(alert(at=at))
    (thread,) = (each for each in threading.enumerate() if each.name == "hwmetrics-slow ones")
    monkeypatch.setattr(thread, "join", waits.append)
    given.close()
    assert waits == []
    given.join(0.25)
    given.join(0.25)
    assert waits == [0.25]
    sink.gate.set()
    threading.Thread.join(thread, 20)
    assert sink.told == [0, 1, 2, 3]


class Leaving:
    """A sink that wants to end the program, once."""

    def __init__(self, end: BaseException) -> None:
        self.ends: list[BaseException] = [end]
        self.told: list[int] = []

    def on_alert(self, alert: Alert) -> None:
        """Leave, or take it."""
        if self.ends:
            raise self.ends.pop()
        self.told.append(alert.time_unix_nano)


@pytest.mark.parametrize("end", [SystemExit(1), KeyboardInterrupt()])
def test_one_that_calls_for_the_end_of_the_program_is_told_of_the_next_alert(
    end: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sys.exit` on a thread ends that alone, and nobody hears of it; here it is counted as any fault."""
    monkeypatch.setattr(_guard, "LOUD", False)
    sink, before = Leaving(end), faults["telling Leaving of an alert"]
    given = Background("slow ones", sink)
    for at in range(3):
        given.on_alert(alert(at=at))
    given.stop(20)
    assert sink.told == [1, 2]
    assert faults["telling Leaving of an alert"] - before == 1


def refuse(_: threading.Thread) -> None:
    """Start no thread, as in a cgroup that limits them."""
    raise RuntimeError("can't start new thread")


def test_what_came_while_a_thread_was_refused_is_told_once_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """In its order; what still waits at the stop is counted."""
    sink, before = Slow(), dropped["slow ones", "no_thread"]
    sink.gate.set()
    given = Background("slow ones", sink)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            given.on_alert(alert(at=0))
    given.on_alert(alert(at=1))
    given.stop(20)
    assert sink.told == [0, 1]
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            given.on_alert(alert(at=2))
    given.stop(20)
    assert dropped["slow ones", "no_thread"] - before == 1


def test_one_that_hangs_does_not_hold_up_the_next_ones_after_a_stop() -> None:
    """Alerts that come after it was left behind have a thread of their own."""
    sink = Slow()
    given = Background("slow ones", sink)
    given.on_alert(alert(at=0))
    assert sink.entered.wait(20)
    given.stop(0.01)
    other = Slow()
    other.gate.set()
    given._sinks = (other,)
    given.on_alert(alert(at=1))
    given.stop(20)
    assert other.told == [1]
    sink.gate.set()


def test_one_sink_that_fails_takes_nothing_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor from itself: the next alert is told to it again."""
    monkeypatch.setattr(_guard, "LOUD", False)
    sink, before = Slow(), faults["telling Failing of an alert"]
    sink.gate.set()
    given = Background("slow ones", Failing(), sink)
    for at in range(3):
        given.on_alert(alert(at=at))
    given.stop(20)
    assert sink.told == [0, 1, 2]
    assert faults["telling Failing of an alert"] - before == 3
