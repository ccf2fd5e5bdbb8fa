# SPDX-License-Identifier: Apache-2.0
"""Where threads stand when the job stalls: what is told of it, what is not, and how much."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider

import otel_hwmetrics as hw
from alarms import AT, alert
from otel_hwmetrics.alerts.builtin import RULES as BUILTIN
from otel_hwmetrics.alerts.rule import State
from otel_hwmetrics.sinks import stacks as module
from otel_hwmetrics.sinks.base import Alert
from otel_hwmetrics.sinks.lines import LOGGER, LineSink
from otel_hwmetrics.sinks.logs import LogSink
from otel_hwmetrics.sinks.spans import SpanSink
from otel_hwmetrics.sinks.stacks import AN_HOUR, MOST, ON_A_SPAN, RULES, Stacks, place_in, shortened, taken, told
from otel_hwmetrics.sinks.tracker import SpanTracker
from otel_hwmetrics.testing import FakeGpu, ManualClock
from worlds import World

PRIVATE = "hunter2"


class Crowd:
    """Threads that hang until the test is over."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._hanging = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []

    def hang(self, password: str = PRIVATE) -> None:
        """Stand here, with a secret in a variable."""
        kept = f"password {password}"
        self._hanging.release()
        self._over.wait()
        del kept

    def dive(self, depth: int) -> None:
        """Hang so many calls further in."""
        if depth:
            self.dive(depth - 1)
        else:
            self.hang()

    def add(self, name: str, target: Callable[[], object] | None = None) -> threading.Thread:
        """One more, which hangs already."""
        thread = threading.Thread(target=target or self.hang, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
        assert self._hanging.acquire(timeout=20)
        return thread

    def end(self) -> None:
        """Let them go."""
        self._over.set()
        for thread in self._threads:
            thread.join(20)


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    """Threads of a test."""
    made = Crowd()
    yield made
    made.end()


def blocks(text: str) -> list[list[str]]:
    """The lines of each stack; the first is whose it is."""
    return [block.split("\n") for block in text.split("\n\n")]


def heads(text: str) -> list[str]:
    """Whose stacks there are."""
    return [lines[0] for lines in blocks(text)]


def test_the_training_s_thread_comes_first_and_says_where_it_hangs(crowd: Crowd) -> None:
    """File, line and function of each open call, the innermost first, with what every thread begins with left out."""
    crowd.add("loader", lambda: crowd.dive(1))
    training = crowd.add("trainer")
    first = blocks(taken(training))[0]
    assert first[0] == "Thread trainer [training] (most recent call first):"
    inner = next(number for number, each in enumerate(first) if each.endswith(f"in {named('Crowd.hang')}"))
    assert re.fullmatch(rf'  File "{re.escape(__file__)}", line \d+ in \S+', first[inner])
    assert all(module.__name__ not in each and "threading.py" in each for each in first[1:inner])
    assert first[-1].endswith(f"in {named('Thread.run')}")


def named(function: str) -> str:
    """What a method is called: before 3.11 Python does not know of its class."""
    return function if sys.version_info >= (3, 11) else function.rpartition(".")[2]


def test_without_a_thread_of_the_training_s_the_main_one_is_first(crowd: Crowd) -> None:
    """And is not this one, which looks and is left out: so somebody else looks here."""
    crowd.add("other")
    found: list[str] = []
    looking = threading.Thread(target=lambda: found.append(taken(threading.main_thread())), name="looks")
    looking.start()
    looking.join()
    assert heads(found[0])[:2] == [
        "Thread MainThread [training] (most recent call first):",
        "Thread other (most recent call first):",
    ]
    assert "looks" not in found[0]


def test_neither_variables_nor_source_are_told(crowd: Crowd) -> None:
    """A secret in a variable or an argument stays where it is, and so does the line that has it."""
    text = taken(crowd.add("trainer"))
    assert PRIVATE not in text
    assert "kept" not in text


def test_names_are_redacted(crowd: Crowd) -> None:
    """A thread may be called anything, and a file may have been compiled under any name."""
    scope: dict[str, Callable[[Callable[[], object]], object]] = {}
    exec(compile("def f(g): g()", "/data/ghp_0123456789abcdefABCDEF/a\nb.py", "exec"), scope)  # noqa: S102 - a name for it
    text = taken(crowd.add("fetch token=abcdef123", lambda: scope["f"](crowd.hang)))
    assert heads(text)[0] == "Thread fetch token=[redacted] [training] (most recent call first):"
    assert '  File "/data/[redacted]/a?b.py", line 1 in f' in blocks(text)[0]


def test_threads_of_ours_are_left_out(crowd: Crowd) -> None:
    """They stand where they always do."""
    training = crowd.add("trainer")
    crowd.add("hwmetrics-nvidia")
    assert "hwmetrics-nvidia" not in taken(training)


def test_threads_that_stand_at_the_same_place_are_told_of_once(crowd: Crowd) -> None:
    """Pools have hundreds."""
    training = crowd.add("trainer", lambda: crowd.dive(2))
    for number in range(5):
        crowd.add(f"pool-{number}")
    assert "Thread pool-0; pool-1; pool-2 and 2 more (most recent call first):" in heads(taken(training))


def test_of_a_recursion_both_ends_are_told(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    """And how many calls are between; of one that is endless how many at least."""
    training = crowd.add("trainer", lambda: crowd.dive(500))
    first = blocks(taken(training))[0]
    assert sum(each.endswith(f"in {named('Crowd.dive')}") for each in first) < 45
    (between,) = (each for each in first if each.startswith("  ..."))
    calls = sum(each.startswith("  File") for each in first)
    assert 500 < int(between.split()[1]) + calls < 520
    assert first[-1].endswith(f"in {named('Thread.run')}")
    monkeypatch.setattr(module, "WALKED", 100)
    assert blocks(taken(training))[0][-1] == "  ... 70 calls, and more ..."


def test_of_many_threads_the_first_are_told(crowd: Crowd) -> None:
    """However many there are, and however deep: never more than so many bytes, and what is left out is said."""
    training = crowd.add("trainer", lambda: crowd.dive(500))
    for number in range(200):
        crowd.add(f"thread-{number}", lambda depth=number: crowd.dive(depth))  # type: ignore[misc]
    text = taken(training)
    assert len(text.encode()) <= MOST
    assert heads(text)[0].startswith("Thread trainer [training]")
    assert heads(text)[-1] == "(more is left out)"


@pytest.mark.parametrize("most", [30, 200, 1000, 5000])
def test_a_text_is_shortened_by_whole_stacks(most: int) -> None:
    """Of the first one alone by lines; and never is it longer."""
    stacks = [
        ([f"thread-{number}ö"], [f'  File "/ä/{number}.py", line {each} in f' for each in range(9)])
        for number in range(9)
    ]
    text = told(stacks)
    short = shortened(text, most)
    assert len(short.encode()) <= most
    if len(text.encode()) <= most:
        assert short == text
    else:
        assert short.endswith("\n\n(more is left out)")
        kept = short.removesuffix("\n\n(more is left out)")
        assert text.startswith(kept)
        assert text[len(kept) :].startswith("\n\n" if most == 1000 else ("\n", "\n\n")) or most == 30


def test_a_build_without_the_interpreter_s_lock_has_none(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    """There a thread that runs takes its calls away while they are gone through."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert taken(crowd.add("trainer")) == ""


def firing(name: str = "training_stalled", at: int = AT, **more: object) -> Alert:
    """An alert that begins to fire."""
    return replace(alert(name=name, at=at), **more)  # type: ignore[arg-type]


def test_which_alerts_are_told_with_them(crowd: Crowd) -> None:
    """Those of a job that may hang, when they begin to fire; not when they end, or nothing is read any more."""
    rules = {rule.name for rule in BUILTIN}
    assert rules >= RULES
    training = crowd.add("trainer")
    assert {name for name in rules if Stacks(lambda: training).attached(firing(name)).stacks} == RULES
    stacks = Stacks(lambda: training)
    for other in (alert(State.RESOLVED, name="gpu_idle"), alert(blind=True, name="gpu_idle")):
        assert stacks.attached(other) is other


def test_the_option_switches_them_off(crowd: Crowd) -> None:
    """All of them."""
    training = crowd.add("trainer")
    off = Stacks(lambda: training, on=False)
    assert off.attached(firing()).stacks == off.now() == ""


def test_they_are_taken_a_few_times_an_hour(crowd: Crowd) -> None:
    """Once for all alerts of one look: eight GPUs that idle are one hang."""
    clock, training = ManualClock(), crowd.add("trainer")
    stacks = Stacks(lambda: training, monotonic=clock.monotonic)
    for number in range(AN_HOUR):
        clock.advance(60)
        idle = [stacks.attached(firing("gpu_idle", number + 1)).stacks for _ in range(8)]
        assert idle == [idle[0]] * 8
        assert idle[0]
    assert stacks.attached(firing(at=98)).stacks == ""
    assert stacks.now()
    clock.advance(3600)
    assert stacks.attached(firing(at=99)).stacks


@contextmanager
def kept_lines() -> Iterator[list[logging.LogRecord]]:
    """What is logged of alerts."""
    records: list[logging.LogRecord] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler = Kept()
    logging.getLogger(LOGGER).addHandler(handler)
    yield records
    logging.getLogger(LOGGER).removeHandler(handler)


def test_the_log_has_all_and_a_span_what_it_can_keep(crowd: Crowd) -> None:
    """By the convention's attribute. A line of Python's logging says the innermost call of the job's own."""
    training = crowd.add("trainer", lambda: crowd.dive(500))
    for number in range(50):
        crowd.add(f"thread-{number}", lambda depth=number: crowd.dive(depth))  # type: ignore[misc]
    exporter, provider = InMemoryLogRecordExporter(), LoggerProvider()  # type: ignore[no-untyped-call]
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    span = TracerProvider().get_tracer("t").start_span("epoch")
    attached = Stacks(lambda: training).attached(firing(span=span))
    LogSink(provider).on_alert(attached)
    SpanSink(SpanTracker()).on_alert(attached)
    with kept_lines() as lines:
        LineSink().on_alert(attached)
    (record,) = exporter.get_finished_logs()
    whole = (record.log_record.attributes or {})["code.stacktrace"]
    (event,) = span.events  # type: ignore[attr-defined]
    assert whole == attached.stacks
    assert event.attributes["code.stacktrace"] == shortened(attached.stacks, ON_A_SPAN) != whole
    (line,) = lines
    assert re.search(rf'at="{re.escape(__file__)}, line \d+ in {named("Crowd.hang")}"$', line.getMessage())
    assert "code.stacktrace" not in line.__dict__["hwmetrics"]


def test_where_all_calls_are_of_libraries_the_innermost_is_told() -> None:
    """And of a text that is none, nothing."""
    path = threading.__file__
    assert place_in(told([(["t"], [f'  File "{path}", line 3 in wait', f'  File "{path}", line 9 in join'])])) == (
        f"{path}, line 3 in wait"
    )
    mine = [
        "  ... 3 calls ...",
        f'  File "{module.__file__}", line 1 in f',
        '  File "/v/site-packages/torch/x.py", line 2 in f',
        '  File "/me/train.py", line ? in g',
    ]
    assert place_in(told([(["t"], mine), (["u"], [])])) == "/me/train.py, line ? in g"
    assert place_in("") == place_in("Thread t (most recent call first):") == ""


@pytest.mark.parametrize("on", [True, False])
def test_gpus_that_idle_are_told_with_where_the_training_is(crowd: Crowd, tmp_path: Path, *, on: bool) -> None:
    """Through the whole pipeline, on the thread that opened the training span; and not with the option off."""
    idle = FakeGpu(utilization=[(0, 0.9), (5, 0.9), (5.5, 0.0)], temperature=[(0, 60.0), (5, 60.0), (6, 95.0)])
    world = World([idle], stall_stacks=on, alert_gpu_idle_for=3, directory=str(tmp_path))

    def train() -> None:
        with hw.training_span("epoch", tracer_provider=world.tracer_provider):
            crowd.hang()

    try:
        crowd.add("trainer", train)
        world.advance(20)
        crowd.end()
    finally:
        world.close()
    (span,) = world.spans.get_finished_spans()
    by_rule = {str((event.attributes or {})["hwmetrics.alert.rule"]): event.attributes or {} for event in span.events}
    assert {"gpu_idle", "gpu_very_hot"} <= by_rule.keys()
    assert [rule for rule, attributes in by_rule.items() if "code.stacktrace" in attributes] == ["gpu_idle"] * on
    if on:
        stacks = str(by_rule["gpu_idle"]["code.stacktrace"])
        assert heads(stacks)[0] == "Thread trainer [training] (most recent call first):"
        assert f" in {named('Crowd.hang')}" in blocks(stacks)[0][3]


FORKS = """
import os, sys, threading
from otel_hwmetrics.sinks.stacks import taken

over = threading.Event()
def look():
    while not over.is_set():
        taken(threading.main_thread())
thread = threading.Thread(target=look)
thread.start()
ends = []
for _ in range(30):
    child = os.fork()
    if not child:
        helper = threading.Thread(target=lambda: os._exit(0 if "training" in taken(threading.main_thread()) else 3))
        helper.start()
        helper.join()
        os._exit(4)
    ends.append(os.waitpid(child, 0)[1])
over.set()
thread.join()
print(set(ends))
"""


def test_a_fork_at_any_moment_harms_nobody() -> None:
    """Nothing that a child would inherit is held while they are taken."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS], capture_output=True, text=True, timeout=120, check=True
    )
    assert (ran.stdout, ran.stderr) == ("{0}\n", "")
