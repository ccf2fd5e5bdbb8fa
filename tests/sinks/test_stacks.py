# SPDX-License-Identifier: Apache-2.0
"""Where threads stand when the job stalls: what is told of it, what is not, and how much."""

from __future__ import annotations

import functools
import gc
import logging
import os
import re
import subprocess
import sys
import threading
import time
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
from otel_hwmetrics.config import Config
from otel_hwmetrics.judging import Judging
from otel_hwmetrics.sinks import stacks as module
from otel_hwmetrics.sinks.base import Alert
from otel_hwmetrics.sinks.frames import without_collection
from otel_hwmetrics.sinks.lines import LOGGER, LineSink
from otel_hwmetrics.sinks.logs import LogSink
from otel_hwmetrics.sinks.spans import SpanSink
from otel_hwmetrics.sinks.stacks import AN_HOUR, MOST, ON_A_SPAN, RULES, SHARED, Stacks, shortened, told
from otel_hwmetrics.sinks.stacks import taken as taken_of
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

    def below(self, *calls: Callable[[Callable[[], object]], object]) -> threading.Thread:
        """A thread that hangs in Python's own library, below calls of these functions, the outermost first."""
        inner: Callable[[], object] = self._over.wait
        for call in reversed(calls):
            inner = functools.partial(call, inner)
        thread = threading.Thread(target=inner, name="trainer", daemon=True)
        self._threads.append(thread)
        thread.start()
        deadline = time.monotonic() + 20
        while " in wait\n" not in (text := taken(thread).replace("Condition.", "")) or "[training]" not in text:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return thread

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


def taken(training: threading.Thread) -> str:
    """The text alone."""
    return taken_of(training).text


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
    call = compiled("/data/ghp_0123456789abcdefABCDEF/a\nb.py")
    text = taken(crowd.add("fetch token=abcdef123", lambda: call(crowd.hang)))
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


@pytest.mark.parametrize("name", sorted(RULES))
@pytest.mark.parametrize("tells", [True, False])
def test_they_are_taken_a_few_times_an_hour(crowd: Crowd, name: str, *, tells: bool) -> None:
    """For each rule; and what another process tells of takes nothing from what is told of here."""
    clock, training = ManualClock(), crowd.add("trainer")
    stacks = Stacks(lambda: training, monotonic=clock.monotonic)

    def text(name: str, *, tells: bool) -> str:
        clock.advance(SHARED + 1)
        return stacks.attached(firing(name), tells=tells).stacks

    assert all(text(name, tells=tells) for _ in range(AN_HOUR))
    assert text(name, tells=tells) == ""
    assert stacks.now()
    for other in RULES:
        for told_here in (True, False):
            assert bool(text(other, tells=told_here)) is ((other, told_here) != (name, tells))
    clock.advance(3600)
    assert text(name, tells=tells)


def test_alerts_of_one_hang_have_the_same_ones_though_it_is_told_of_bit_by_bit(crowd: Crowd) -> None:
    """Eight GPUs begin to idle some seconds one after the other: that is one look, and the next hang has its own."""
    clock, training = ManualClock(), crowd.add("trainer")
    stacks = Stacks(lambda: training, monotonic=clock.monotonic)
    idle = []
    for number in range(8):
        idle.append(stacks.attached(firing("gpu_idle", AT + number * 10**9)))
        clock.advance(2)
    assert {id(each.stacks) for each in idle} == {id(idle[0].stacks)}
    assert {each.at for each in idle} == {idle[0].at}
    assert idle[0].stacks
    for _ in range(AN_HOUR - 1):
        clock.advance(1800 / AN_HOUR)
        assert stacks.attached(firing("gpu_idle")).stacks is not idle[0].stacks
    assert stacks.attached(firing("training_stalled")).stacks


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


def compiled(file: str, function: str = "f") -> Callable[[Callable[[], object]], object]:
    """A function of a file of that name, which calls what it is given."""
    scope: dict[str, Callable[[Callable[[], object]], object]] = {}
    exec(compile(f"def {function}(g): g()", file, "exec"), scope)  # noqa: S102 - a name for it
    return scope[function]


FAR = "/data/" + "deep/" * 60


@pytest.mark.parametrize(
    ("files", "at"),
    [
        pytest.param(["/me/a.py", "/me/b.py"], "/me/b.py", id="the innermost"),
        pytest.param(["/me/a.py", "/v/site-packages/torch/x.py"], "/me/a.py", id="a library"),
        pytest.param(["/me/a.py", f"{os.path.dirname(module.__file__)}/x.py"], "/me/a.py", id="ours"),
        pytest.param(["/me/a.py", f"{FAR}site-packages/torch/x.py"], "/me/a.py", id="a library far down"),
        pytest.param(["/me/a.py", f"/v/site-packages/{FAR}x.py"], "/me/a.py", id="far down in a library"),
        pytest.param(["/me/a.py", '/me/"b".py'], '/me/"b".py', id="quotes"),
        pytest.param(["/me/a.py", "/runs/lr=0.1,token=x1/b.py"], "/runs/lr=0.1,token=[redacted]", id="a secret"),
    ],
)
def test_the_place_is_the_innermost_call_of_the_job_s_own(crowd: Crowd, files: list[str], at: str) -> None:
    """By whole names: neither what is cut nor what is taken out makes it another call."""
    found = taken_of(crowd.below(*map(compiled, files)))
    assert found.at == f"{at}, line 1 in f"
    assert f'  File "{at}", line 1 in f' in blocks(found.text)[0]


def test_where_all_calls_are_of_libraries_the_innermost_is_the_place(crowd: Crowd) -> None:
    """Threads that only wait; and without stacks there is none."""
    hangs = crowd.below()
    found = taken_of(hangs)
    assert re.fullmatch(rf"{re.escape(threading.__file__)}, line \d+ in \S*wait", found.at)
    assert Stacks(lambda: hangs, on=False).attached(firing()).at == ""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(f"fetch token={PRIVATE * 40}", id="a value of 280 letters"),
        pytest.param(f"get https://me:{PRIVATE}@host/{'a' * 185}", id="an address"),
        pytest.param(f"pull --token {PRIVATE * 40}", id="an argument"),
        pytest.param(f"{'x' * 190} token={PRIVATE} {'x' * 180}", id="in the middle"),
    ],
)
def test_a_secret_in_a_long_name_is_found_before_it_is_cut(crowd: Crowd, name: str) -> None:
    """The end alone would not tell that it is one: of a thread, of a file, of a function of another process."""
    text = taken(crowd.add(name, lambda: compiled(f"/me/{name}/x.py")(crowd.hang)))
    assert PRIVATE not in text
    assert PRIVATE not in module.line(("/me/x.py", 1, name))
    assert all(len(each) < 2 * 200 + 40 for each in text.split("\n"))


def test_what_is_taken_out_of_a_name_takes_no_other_with_it(crowd: Crowd) -> None:
    """A thread that refreshes tokens keeps whose it is and that it is the training's."""
    training = crowd.add("token: refresh", lambda: crowd.dive(1))
    crowd.add("Authorization-refresher: 1")
    found = heads(taken(training))
    assert found[0] == "Thread token: [redacted] [training] (most recent call first):"
    assert any(each.startswith("Thread Auth") and each.endswith(" (most recent call first):") for each in found)


class Kept:
    """Notes on which thread it is destroyed."""

    def __init__(self, by: list[str]) -> None:
        self._by = by

    def __del__(self) -> None:
        self._by.append(threading.current_thread().name)


def test_variables_of_others_are_not_kept_while_the_text_is_made(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that goes on meanwhile destroys its variables itself: some are of a driver that is one thread's."""
    destroyed: list[str] = []
    over, hangs = threading.Event(), threading.Event()

    def train() -> None:
        kept = Kept(destroyed)
        hangs.set()
        over.wait()
        del kept

    def step() -> None:
        train()

    thread = threading.Thread(target=step, name="trainer")
    thread.start()
    assert hangs.wait(20)
    clean = module.clean

    def once_it_went_on(name: str) -> str:
        over.set()
        thread.join(20)
        return clean(name)

    monkeypatch.setattr(module, "clean", once_it_went_on)
    assert heads(taken(thread))[0].startswith("Thread trainer [training]")
    assert destroyed == ["trainer"]


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


COLLECTS = """
import faulthandler, gc, os, threading
from otel_hwmetrics.sinks.stacks import taken

class Session:  # garbage that holds what belongs to each thread, as pools of connections do
    def __init__(self):
        self.me, self.own = self, threading.local()
        self.own.x = 1

taken(threading.main_thread())  # patterns are compiled
over = threading.Event()
for _ in range(150):  # a frame that was made once is there the next time
    threading.Thread(target=over.wait, daemon=True).start()
gc.collect()
for _ in range(20):
    Session()
kept = []
while gc.get_count()[0] < gc.get_threshold()[0] - 100:
    kept.append([])
faulthandler.dump_traceback_later(20, exit=True)
print(len(taken(threading.main_thread()).text) > 0, gc.isenabled(), flush=True)
os._exit(0)
"""


def test_garbage_that_is_due_does_not_stop_the_process() -> None:
    """Python 3.11 makes frames under a lock that a `threading.local` needs to be destroyed."""
    ran = subprocess.run([sys.executable, "-c", COLLECTS], capture_output=True, text=True, timeout=120, check=False)
    assert (ran.stdout, ran.returncode) == ("True True\n", 0), ran.stderr[:500]


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_is_left_as_it_was(*, on: bool) -> None:
    """A job that switched it off for steps of even length finds it off, even where something fails; meanwhile it is off."""
    was = gc.isenabled()
    try:
        (gc.enable if on else gc.disable)()
        assert without_collection(gc.isenabled) is False
        assert gc.isenabled() is on
        with pytest.raises(ZeroDivisionError):
            without_collection(lambda: 1 // 0)
        assert gc.isenabled() is on
    finally:
        (gc.enable if was else gc.disable)()


def test_what_another_process_tells_of_takes_nothing(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through what judges: eight ranks see the GPUs of all, and one of them tells of each."""
    clock, training, here = ManualClock(), crowd.add("trainer"), [False]
    monkeypatch.setattr(SpanTracker, "training", lambda _: training)
    judging = Judging(Config(), {}, SpanTracker(), None, lambda _rule, _subject: here[0], clock=clock)
    told = Told()
    judging._sinks = judging._here = (told,)
    for here[0] in [False] * (AN_HOUR + 1) + [True]:
        clock.advance(SHARED + 1)
        judging._tell_of(firing("gpu_idle").transition, None)
    assert [bool(each.stacks) for each in told] == [True] * AN_HOUR + [False, True]


class Told(list[Alert]):
    """What was told."""

    def on_alert(self, alert: Alert) -> None:
        """Keep it."""
        self.append(alert)


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
        helper = threading.Thread(target=lambda: os._exit(0 if "training" in taken(threading.main_thread()).text else 3))
        helper.start()
        helper.join()
        os._exit(4)
    ends.append(os.waitpid(child, 0)[1])
over.set()
thread.join()
print(set(ends))
"""


def test_a_fork_at_any_moment_harms_nobody() -> None:
    """Whatever of the interpreter's own is held while they are taken, no child inherits it."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS], capture_output=True, text=True, timeout=120, check=True
    )
    assert (ran.stdout, ran.stderr) == ("{0}\n", "")
