# SPDX-License-Identifier: Apache-2.0
"""Forks at the worst moments, with the real SDK: no child hangs or speaks for its parent, and the parent goes on."""

from __future__ import annotations

import importlib
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from otel_hwmetrics import forks
from otel_hwmetrics.forks import Awaited, Section

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

BENCHMARK = Path(__file__).resolve().parents[1] / "benchmarks" / "forks.py"
TRIES = 5


@pytest.fixture(autouse=True)
def only_ours(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is waited for but what a test names; forking with threads is what all this is about."""
    monkeypatch.setattr(forks, "_awaited", [])
    monkeypatch.setattr(forks, "_acts", [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def code_of_child(act: Callable[[], bool]) -> int:
    """Fork; 0 where the child finds what it should, 1 where it does not, 2 where it fails."""
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            code = 0 if act() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Busy:
    """A thread that holds a lock until it is let go of."""

    def __init__(self, lock: threading.Lock | Section, seconds: float = 20.0) -> None:
        self._held, self._done = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold, args=(lock, seconds))
        self._thread.start()
        assert self._held.wait(20)

    def _hold(self, lock: threading.Lock | Section, seconds: float) -> None:
        with lock:
            self._held.set()
            self._done.wait(seconds)

    def end(self) -> None:
        """Have it let go."""
        self._done.set()
        self._thread.join()


# ----------------------------------------------------------------------------------------------------------------------
# What is waited for


def test_a_fork_waits_for_the_end_of_a_section() -> None:
    """What is short is whole in the child, however slow the machine is, for as long as it may take."""
    section = Section(patience=20.0)
    whole: list[bool] = []
    for _ in range(TRIES):
        whole.clear()
        begun = threading.Event()

        def change(begun: threading.Event = begun) -> None:
            with section:
                begun.set()
                time.sleep(0.01)
                whole.append(True)

        thread = threading.Thread(target=change)
        thread.start()
        assert begun.wait(20)
        assert code_of_child(lambda: whole == [True] and section.lock.acquire(blocking=False)) == 0
        thread.join()


def test_a_child_can_enter_a_section_that_takes_longer() -> None:
    """At once, and so can its own children, who wait for nobody; in the parent it goes on."""
    section = Section()
    busy = Busy(section)

    def enter() -> bool:
        before = time.monotonic()
        with section:
            pass
        entered = time.monotonic() - before
        return entered < forks.PATIENCE and code_of_child(lambda: section.lock.acquire(blocking=False)) == 0

    codes = {code_of_child(enter) for _ in range(TRIES)}
    assert 0 in codes  # at once, that is the best of them
    assert 2 not in codes
    assert not section.lock.acquire(blocking=False)
    busy.end()


def test_what_is_free_again_at_the_end_of_the_waiting_is_taken() -> None:
    """Nothing is mended that came to its end while something else was waited for."""
    first, second, mended = threading.Lock(), threading.Lock(), threading.Event()
    forks.wait_for(lambda: [Awaited(first, mended.set), Awaited(second)])
    busy = Busy(first)

    class Late:
        """Free once somebody waits for it, when the other one is, too."""

        def acquire(self, timeout: float = 0.0) -> bool:
            busy.end()
            return second.acquire(timeout=timeout)

        def release(self) -> None:
            second.release()

    forks.wait_for(lambda: [Awaited(Late())])
    assert code_of_child(lambda: not mended.is_set() and not first.locked()) == 0
    assert not first.locked()


def test_sections_come_and_go_while_others_fork() -> None:
    """No fork leaves out any for that."""
    ended = threading.Event()
    known = len(forks._all_sections())

    def come_and_go() -> None:
        while not ended.is_set():
            assert len([Section() for _ in range(20)]) == 20

    threads = [threading.Thread(target=come_and_go) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(2000):
        assert len(forks._all_sections()) >= known
    ended.set()
    for thread in threads:
        thread.join()
    assert len(forks._all_sections()) == known


def test_no_fork_waits_for_logging_with_a_lock_in_its_hands() -> None:
    """The hook of `logging` waits without limit, maybe for somebody who waits for us in turn."""
    lock, mended = threading.Lock(), threading.Event()
    forks.wait_for(lambda: [Awaited(lock, mended.set)])
    begun = threading.Event()

    def configure() -> None:
        with logging._lock:  # type: ignore[attr-defined] # as `logging.config.dictConfig` does while it makes handlers
            begun.set()
            time.sleep(2 * forks.PATIENCE)
            assert lock.acquire(timeout=20)
            lock.release()

    thread = threading.Thread(target=configure)
    thread.start()
    assert begun.wait(20)
    assert code_of_child(lambda: lock.acquire(timeout=20)) == 0
    thread.join(20)
    assert not thread.is_alive()
    assert not lock.locked()


def test_what_hangs_holds_a_fork_up_for_a_bounded_time() -> None:
    """The child goes on without who holds the lock, the parent as if nothing had been."""
    lock, mended = threading.Lock(), threading.Event()
    forks.wait_for(lambda: [Awaited(None), Awaited(lock, mended.set)])
    busy = Busy(lock)
    took = []
    for _ in range(TRIES):
        before = time.monotonic()
        assert code_of_child(lambda: mended.is_set() and lock.acquire(blocking=False)) == 0
        took.append(time.monotonic() - before)
    assert min(took) < 6 * forks.PATIENCE  # once before the fork and once in the child, on a slow machine
    assert lock.locked()
    assert not mended.is_set()
    busy.end()


def test_what_is_free_is_taken_over_a_fork_and_free_after_it() -> None:
    """In the parent and in the child, of which neither mends anything."""
    lock, mended = threading.Lock(), threading.Event()
    forks.wait_for(lambda: [Awaited(lock, mended.set)])
    held: list[bool] = []
    forks.in_child(lambda: held.append(lock.locked()))
    assert code_of_child(lambda: held == [True] and not lock.locked() and not mended.is_set()) == 0
    assert not lock.locked()


def test_a_thread_may_fork_within_its_own_section() -> None:
    """It is in it still, on both sides, and nobody waits."""
    section = Section()
    with section:
        assert code_of_child(lambda: section.__exit__() or not section.lock._is_owned()) == 0  # type: ignore[attr-defined,func-returns-value]
    assert not section.lock._is_owned()  # type: ignore[attr-defined] # RLock.locked is of 3.14


def test_several_threads_may_fork_at_once() -> None:
    """Each waits for the others at the most for as long as for anything else, and each child can go on."""
    lock, section = threading.Lock(), Section()
    forks.wait_for(lambda: [Awaited(lock)])
    codes: list[int] = []

    def fork_often() -> None:
        for _ in range(TRIES):
            code = code_of_child(lambda: lock.acquire(timeout=20) and section.lock.acquire(timeout=20))
            codes.append(code)

    threads = [threading.Thread(target=fork_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 4 * TRIES
    assert not lock.locked()


def test_a_child_can_import_what_a_thread_of_ours_was_about_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The import system's own lock of a module would be taken for ever."""
    (tmp_path / "takes_its_time.py").write_text("import time\ntime.sleep(0.02)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    begun = threading.Event()

    def begin() -> None:
        with forks.importing:
            begun.set()
            importlib.import_module("takes_its_time")

    thread = threading.Thread(target=begin)
    thread.start()
    assert begun.wait(20)
    assert code_of_child(lambda: importlib.import_module("takes_its_time") is not None) == 0
    thread.join()


def test_a_fault_of_ours_leaves_the_fork_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """On either side of it the locks that were taken are free."""
    monkeypatch.setattr("otel_hwmetrics._guard.LOUD", False)
    lock = threading.Lock()
    forks.wait_for(lambda: [Awaited(lock)])
    forks.wait_for(lambda: [Awaited(1 / 0)])
    forks.in_child(lambda: 1 / 0)
    assert code_of_child(lambda: not lock.locked()) == 0
    assert not lock.locked()


# ----------------------------------------------------------------------------------------------------------------------
# With the real SDK

BEGIN = """
import os, select, signal, sys, threading, time, warnings
warnings.simplefilter("ignore")
from opentelemetry import metrics, trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.metrics import Observation
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
import otel_hwmetrics as hw
from otel_hwmetrics.testing import FakeGpu, FakeNvml

PARENT = os.getpid()
entered, released = threading.Event(), threading.Event()

class Exporter(MetricExporter):
    "Keeps the scopes of what is exported, by process; may be made to block in the parent."
    def __init__(self):
        super().__init__()
        self.told, self.blocks = [], False
    def export(self, data, timeout_millis=0, **_):
        self.told.append((os.getpid(), {s.scope.name for r in data.resource_metrics for s in r.scope_metrics}))
        if self.blocks and os.getpid() == PARENT:
            entered.set()
            released.wait(60)
        return MetricExportResult.SUCCESS
    def force_flush(self, timeout_millis=0):
        return True
    def shutdown(self, timeout_millis=0, **_):
        pass
    def scopes(self):
        "What this process has exported."
        return set().union(*(scopes for pid, scopes in self.told if pid == os.getpid()))

exporter = Exporter()
meters = MeterProvider([PeriodicExportingMetricReader(exporter, export_interval_millis=50)])
tracers, loggers = TracerProvider(), LoggerProvider()
metrics.set_meter_provider(meters)
trace.set_tracer_provider(tracers)
hot = FakeGpu(temperature=95.0, utilization=0.9)
options = dict(meter_provider=meters, tracer_provider=tracers, logger_provider=loggers, sample_interval=0.2,
               alert_gpu_hot_for=0, alert_gpu_very_hot_for=0)

def until(true, patience=20):
    deadline = time.monotonic() + patience
    while not true() and time.monotonic() < deadline:
        time.sleep(0.005)
    return true()

def child(act, patience=20):
    "What a function gives in a child, or that it hangs."
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = repr(act())
        except BaseException as error:
            said = repr(error)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    said = os.read(reader, 1000).decode() if select.select([reader], [], [], patience)[0] else "it hangs"
    os.close(reader)
    if said == "it hangs":
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return said

def own_metrics():
    "The child's own: they are exported, nothing of ours is, and the end waits for nothing."
    metrics.get_meter("mine").create_observable_counter("mine", [lambda _: [Observation(1)]])
    assert until(lambda: "mine" in exporter.scopes()), exporter.told
    began = time.monotonic()
    meters.shutdown()
    return exporter.scopes() - {"mine"}, time.monotonic() - began < 10

def goes_on():
    "Whether the parent exports ours still."
    known = len(exporter.told)
    return until(lambda: any("otel_hwmetrics" in scopes for _, scopes in exporter.told[known:]))
"""


def run(script: str) -> list[str]:
    """The lines that a script prints after `BEGIN`, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + textwrap.dedent(script) + "\nsys.stdout.flush()\nos._exit(0)"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_in_the_middle_of_a_collection_that_takes_its_time() -> None:
    """A callback of somebody else's holds the SDK's lock: the child makes instruments, exports, ends; ours not seen."""
    assert run(
        """
        hw.instrument(**options)
        def slow(_):
            if os.getpid() == PARENT and not released.is_set():
                entered.set()
                released.wait(60)
            return []
        metrics.get_meter("theirs").create_observable_counter("slow", [slow])
        assert entered.wait(20)
        print(child(own_metrics))
        released.set()
        print(goes_on())
        """
    ) == ["(set(), True)", "True"]


def test_in_the_middle_of_an_export() -> None:
    """The backend takes its time: the child exports what is its own, and its end does not wait for the parent's."""
    assert run(
        """
        hw.instrument(**options)
        exporter.blocks = True
        assert entered.wait(20)
        print(child(own_metrics))
        exporter.blocks = False
        released.set()
        print(goes_on())
        """
    ) == ["(set(), True)", "True"]


def test_in_the_middle_of_a_sample_that_hangs_in_the_driver() -> None:
    """An export waits for it, too. No call of the driver comes from the child, which can measure itself anew."""
    assert run(
        """
        with FakeNvml([hot]) as nvml:
            hw.instrument(**options, source_timeout=0.5)
            assert goes_on()
            hang = nvml.hang("nvmlDeviceGetFieldValues")
            assert hang.entered.wait(20)
            known = nvml.calls.total()
            print(child(lambda: (own_metrics(), nvml.calls.total() - known)))
            def anew():
                with hw.instrument(sources=["process"], sample_interval=0.2) as handle:
                    assert until(lambda: handle.snapshot() is not None)
                return nvml.calls.total() - known
            print(child(anew))
            hang.release()
            print(goes_on())
        """
    ) == ["((set(), True), 0)", "0", "True"]


SLOW = """
class Slow:
    "A lock that our threads hold for a while."
    def __init__(self):
        self.lock = threading.Lock()
    def __enter__(self):
        self.lock.acquire()
        if threading.current_thread().name.startswith("hwmetrics"):
            entered.set()
            time.sleep(0.01)
    def __exit__(self, *_):
        self.lock.release()

class Processor:
    "Of log records."
    slow = Slow()
    def on_emit(self, record):
        with self.slow:
            pass
    def enabled(self, **_):
        return True
    def shutdown(self):
        pass
    def force_flush(self, timeout_millis=0):
        return True
"""


def test_in_the_middle_of_an_event_of_ours_on_a_span_or_a_record() -> None:
    """The child ends the very span, and emits by the very processor."""
    assert run(
        SLOW
        + """
loggers.add_log_record_processor(Processor())
def tried(channel):
    with FakeNvml([hot]), hw.training_span("epoch") as span:
        if channel == "span":
            span._lock = Slow()
        entered.clear()
        with hw.instrument(**options, alert_channels=channel):
            assert entered.wait(20)
            def end():
                span.end()
                loggers.get_logger("child").emit(body="at work", severity_number=SeverityNumber.INFO)
                return span.is_recording()
            return child(end)
print(tried("span"))
print(any(tried("log") == "False" for _ in range(3)))  # a processor is not waited for on a machine that is too slow
"""
    ) == ["False", "True"]


def test_while_a_thread_of_ours_is_where_no_fork_comes_for_longer_than_one_waits() -> None:
    """It opens a file on a mount that does not answer, or imports: the child instruments itself all the same."""
    assert run(
        """
        from otel_hwmetrics import forks
        from otel_hwmetrics.election import files
        holds = [threading.Semaphore(0), threading.Semaphore(0)]
        def hold(section, holds):
            with section:
                holds.release()
                time.sleep(60)
        for section, each in zip((files._changing, forks.importing), holds):
            threading.Thread(target=hold, args=(section, each), daemon=True).start()
            assert each.acquire(timeout=20)
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_WORLD_SIZE="1", MASTER_ADDR="localhost",
                          MASTER_PORT="1234")
        def anew():
            with FakeNvml([hot]), hw.instrument(**options) as handle:
                return until(lambda: handle.snapshot() is not None)
        print(child(anew))
        """
    ) == ["True"]


def test_while_another_thread_instruments_or_ends_that() -> None:
    """Neither locks nor a part of it are left: the child instruments itself, and its parent goes on with what it did."""
    assert run(
        """
        def anew():
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
            with hw.instrument(sources=["process"], sample_interval=0.2) as handle:
                assert until(lambda: handle.snapshot() is not None)
                return len({reading.metric.name.partition(".")[0] for reading in handle.snapshot()})
        with FakeNvml([hot]) as nvml:
            hang = nvml.hang("nvmlInitWithFlags")
            starts = threading.Thread(target=lambda: hw.instrument(**options, sources=["nvidia"]))
            starts.start()
            assert hang.entered.wait(20)
            print(child(anew) in ("1", "2"), child(own_metrics))
            hang.release()
            starts.join()
            print(goes_on())
            hang = nvml.hang("*")
            assert hang.entered.wait(20)
            ends = threading.Thread(target=hw.uninstrument)
            ends.start()
            assert until(lambda: hw.snapshot() is None)
            print(child(anew) in ("1", "2"), child(own_metrics))
            ends.join()
            hang.release()
        """
    ) == ["True (set(), True)", "True", "True (set(), True)"]


KINDS = """
import multiprocessing, concurrent.futures, subprocess
def ours():
    "Descriptors that are not the script's own."
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            pass
    return {path for path in found if path.startswith(("/proc/", "/sys/", "socket:")) and not path.endswith("/fd")}
known = ours()
def silent():
    "Nothing of ours is there, nor comes; a span may come and go."
    with hw.training_span("work"):
        time.sleep(0.12)
    threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("hwmetrics")]
    return hw.snapshot(), threads, exporter.scopes(), signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, ours() - known
def silently(_=0):
    assert silent() == (None, [], set(), True, set()), silent()
    return 7
"""


def test_whatever_forks() -> None:
    """Pools, daemons, threads: each child is silent, holds none of our descriptors, and ends by itself."""
    assert run(
        KINDS
        + """
with FakeNvml([hot]):
    hw.instrument(**options)
    assert goes_on()
    print(len(ours() - known) > 3)
    print("fork", child(silent))
    def of_a_thread():
        print("thread", child(silently))
    thread = threading.Thread(target=of_a_thread)
    thread.start()
    thread.join()
    fork = multiprocessing.get_context("fork")
    for daemon in (False, True):
        process = fork.Process(target=silently, daemon=daemon)
        process.start()
        process.join(20)
        print("process", process.exitcode)
    with fork.Pool(2) as pool:
        print("pool", pool.map(silently, range(4)))
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=fork) as pool:
        print("executor", list(pool.map(silently, range(4), timeout=20)))
    def twice():
        os.setsid()
        return child(silently)
    print("daemon", child(twice))
    print("parent", goes_on())
"""
    ) == [
        "True",
        "fork (None, [], set(), True, set())",
        "thread 7",
        "process 0",
        "process 0",
        "pool [7, 7, 7, 7]",
        "executor [7, 7, 7, 7]",
        "daemon '7'",
        "parent True",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what is open")
def test_another_program_gets_none_of_our_descriptors() -> None:
    """Also where its starter leaves all open that may be."""
    assert run(
        KINDS
        + """
look = "import os; print(sorted(os.listdir('/proc/self/fd')))"
def opened(**more):
    return subprocess.run([sys.executable, "-c", look], close_fds=False, capture_output=True, timeout=60, **more).stdout
without = opened()
with FakeNvml([hot]):
    hw.instrument(**options)
    assert goes_on()
    print(len(ours() - known) > 3, opened() == without, opened(preexec_fn=os.getpid) == without)
"""
    ) == ["True True True"]


def test_a_child_that_ends_as_a_program_does_not_hang() -> None:
    """By `sys.exit`, with the providers' own ends; its exit status is its own, and its parent's end is as ever."""
    assert run(
        """
        with FakeNvml([hot]):
            hw.instrument(**options)
            codes = set()
            for _ in range(5):
                time.sleep(0.02)
                pid = os.fork()
                if pid == 0:
                    sys.exit(3)
                codes.add(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            print(codes, goes_on())
        """
    ) == ["{3} True"]


def test_hundreds_of_forks_under_load() -> None:
    """None hangs, and none tells what its parent has seen; `make forks` has 10,000."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--forks", "300", "--json"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["hung"], found["codes"]) == (0, {"0": 300})
