# SPDX-License-Identifier: Apache-2.0
"""What is said before a job ends, in real processes: it ends as it would without us, and its recording is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from otel_hwmetrics.sinks import last_words
from otel_hwmetrics.sinks.flight_file import SUFFIX, Flight, read_flight
from otel_hwmetrics.sinks.last_words import LastWords

LINUX = sys.platform == "linux"
HEARD = ["sigterm"] if LINUX else []
"""What is recorded where SIGTERM does what is the default: elsewhere nobody tells who has sent it, and it is left alone."""

BEGIN = """
import ctypes, hashlib, os, signal, subprocess, sys, threading, time
from otel_hwmetrics.catalog import process
from otel_hwmetrics.folders import Folder
from otel_hwmetrics.model import Series
from otel_hwmetrics.sinks import wakeup
from otel_hwmetrics.sinks.flight import FlightRecorder
from otel_hwmetrics.sinks.last_words import LastWords
from otel_hwmetrics.windows.samples import Point, Sample

wakeup.LOOK_EVERY = 0.05
recorder = FlightRecorder(60.0, Folder(sys.argv[1]))
last = LastWords(recorder.flush, patience=float(sys.argv[2]))
if float(sys.argv[2]) < 0:
    last.install = last.uninstall = lambda: None

def sample(number):
    at = time.monotonic()
    recorder.on_sample(Sample(number, at, time.time_ns(), {Series(process.MEMORY_USAGE): Point(number, at)}))

def ready():
    print("ready", flush=True)

def say(text):
    os.write(1, text.encode() + b"\\n")

def one_listens():
    "Those that were told to end may take a moment on a loaded machine."
    deadline = time.monotonic() + 20
    while [each.name for each in threading.enumerate()].count("hwmetrics-sigterm") > 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)

def hang():
    "No instruction of Python's is run on the main thread for many minutes; other threads are free to."
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)

for number in range(3):
    sample(number)
"""
"""Before each job: a recorder that remembers three samples, and last words that are not installed yet."""

WITHOUT = -1.0
"""The patience of a job whose last words are never installed."""
UNHURRIED = 20.0
"""Seconds of patience, where the test is not about the time: this machine may be busy with anything else."""


class Job:
    """A process of its own.

    Args:
        code: What it does after `BEGIN`; it calls ``ready()`` before it waits for its end.
        folder: For its recordings.
    """

    def __init__(self, code: str, folder: Path, patience: float = UNHURRIED) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", BEGIN + textwrap.dedent(code), str(folder), str(patience)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, signum: int | None = None) -> tuple[int, str, str]:
        """Send it a signal once it is ready, if one is told; its exit status and what it printed."""
        if signum is not None:
            assert self.process.stdout is not None
            assert self.process.stdout.readline() == "ready\n"
            self.process.send_signal(signum)
        try:
            out, err = self.process.communicate(timeout=60)
        finally:
            self.process.kill()
        return self.process.returncode, out, err

    @property
    def flights(self) -> list[Flight]:
        """Its recordings, each of which is whole."""
        flights = [read_flight(str(path)) for path in sorted(self.folder.glob(f"*{SUFFIX}"))]
        assert all(flight.complete for flight in flights)
        return flights

    def recorded(self, last: float = 2.0) -> list[str]:
        """Why its recordings were written; each holds the newest sample."""
        assert [flight.samples[-1]["values"] for flight in self.flights] == [[last]] * len(self.flights)
        return [flight.header["reason"] for flight in self.flights]


SLEEP = "time.sleep(60)"


@pytest.mark.parametrize(
    ("code", "status", "printed", "recorded"),
    [
        pytest.param(f"last.install(); ready(); {SLEEP}", -15, [], HEARD, id="by default"),
        pytest.param(
            f"signal.signal(15, lambda *_: (say('theirs'), sys.exit(7))); last.install(); ready(); {SLEEP}",
            *(7, ["theirs"], ["sigterm"]),
            id="a handler from before is called",
        ),
        pytest.param(
            "signal.signal(15, lambda *it: say(repr(it[0]))); last.install(); ready(); time.sleep(2); say('lives')",
            *(0, [repr(signal.SIGTERM.value), "lives"], ["sigterm"]),
            id="a handler from before lets the job live",
        ),
        pytest.param(
            f"last.install(); signal.signal(15, lambda *_: (say('theirs'), sys.exit(7))); ready(); {SLEEP}",
            *(7, ["theirs"], []),
            id="a later handler replaces ours",
        ),
        pytest.param(
            """
            last.install()
            before = signal.getsignal(15)
            def both(signum, frame):
                if callable(before):
                    before(signum, frame)  # as those do that put together whatever they find
                say("theirs")
            signal.signal(15, both)
            ready()
            time.sleep(2)
            say("lives")
            """,
            *(0, ["theirs", "lives"], HEARD),
            id="a later handler that calls ours decides on the end",
        ),
        pytest.param(
            f"""
            before = signal.getsignal(15)
            def first(signum, frame):
                say("theirs")
                if callable(before):
                    before(signum, frame)
                else:
                    signal.signal(signum, signal.SIG_DFL)
                    os.kill(os.getpid(), signum)
            signal.signal(15, first)
            last.install()
            ready()
            {SLEEP}
            """,
            *(-15, ["theirs"], ["sigterm"]),
            id="a handler from before that ends what it found by default",
        ),
        pytest.param(
            "signal.signal(15, signal.SIG_IGN); last.install(); assert signal.getsignal(15) is signal.SIG_IGN; ready();"
            "time.sleep(2); say('lives')",
            *(0, ["lives"], []),
            id="ignored it stays",
        ),
        pytest.param(
            f"last.install(); last.uninstall(); assert signal.getsignal(15) is signal.SIG_DFL; ready(); {SLEEP}",
            *(-15, [], []),
            id="uninstalled",
        ),
        pytest.param(
            f"last.install(); last.uninstall(); last.install(); last.install(); ready(); {SLEEP}",
            *(-15, [], HEARD),
            id="installed again",
        ),
        pytest.param(
            f"""
            theirs = lambda *_: (say("theirs"), sys.exit(7))
            last.install()
            signal.signal(15, theirs)
            last.uninstall()
            assert signal.getsignal(15) is theirs
            ready()
            {SLEEP}
            """,
            *(7, ["theirs"], []),
            id="a later handler stays when ours goes",
        ),
        pytest.param(
            f"""
            last.install()
            thread = threading.Thread(target=last.uninstall)
            thread.start()
            thread.join()
            ready()
            {SLEEP}
            """,
            *(-15, [], []),
            id="uninstalled on another thread",
        ),
        pytest.param(
            f"""
            for _ in range(3):
                last.install()
                sys.excepthook = last._on_exception  # put back by whoever had replaced it for a while
                thread = threading.Thread(target=last.uninstall)
                thread.start()
                thread.join()
                sys.excepthook = last._on_exception
                last = LastWords(recorder.flush, patience=20)
            last.install()
            assert (last._handler, last._hook) == (signal.SIG_DFL, sys.__excepthook__)
            one_listens()
            ready()
            {SLEEP}
            """,
            *(-15, [], HEARD),
            id="uninstalled on another thread, and another one installed",
            marks=pytest.mark.skipif(not LINUX, reason="elsewhere it is left alone"),
        ),
        pytest.param(
            f"""
            signal.signal(15, lambda *_: (say("theirs"), sys.exit(7)))
            last.install()
            thread = threading.Thread(target=last.uninstall)
            thread.start()
            thread.join()
            last = LastWords(recorder.flush, patience=20)
            last.install()
            one_listens()
            ready()
            {SLEEP}
            """,
            *(7, ["theirs"], ["sigterm"]),
            id="uninstalled on another thread above a handler, and another one installed",
        ),
        pytest.param(
            f"""
            thread = threading.Thread(target=last.install)
            thread.start()
            thread.join()
            assert signal.getsignal(15) is signal.SIG_DFL
            ready()
            {SLEEP}
            """,
            *(-15, [], []),
            id="installed on another thread",
        ),
    ],
)
def test_sigterm_ends_the_job_as_it_would_without_us(
    tmp_path: Path, code: str, status: int, printed: Sequence[str], recorded: Sequence[str]
) -> None:
    """By the handler that there is, with the same exit status; and the recording is there, with the newest sample."""
    job = Job(code, tmp_path / "ours")
    assert job.end(signal.SIGTERM) == (status, "".join(f"{line}\n" for line in printed), "")
    assert job.recorded() == recorded


@pytest.mark.skipif(not LINUX, reason="elsewhere nobody tells who has sent a signal, or what is handled in C")
@pytest.mark.parametrize(
    ("code", "status", "recorded"),
    [
        pytest.param("last.install(); ready(); hang()", -15, ["sigterm"], id="hangs in C"),
        pytest.param(
            "last.install(); threading.Thread(target=last.uninstall).start(); time.sleep(0.5); ready(); hang()",
            *(-15, []),
            id="hangs in C, when we are gone but for the handler",
        ),
        pytest.param(
            """
            def on_c_level(signum):
                os._exit(9)
            callback = ctypes.CFUNCTYPE(None, ctypes.c_int)(on_c_level)
            ctypes.CDLL(None).signal(15, callback)
            last.install()
            assert signal.getsignal(15) is signal.SIG_DFL
            ready()
            time.sleep(60)
            """,
            *(9, []),
            id="a handler in C stays",
        ),
        pytest.param(
            """
            import asyncio
            last.install()
            async def run():
                loop = asyncio.get_running_loop()
                loop.add_signal_handler(signal.SIGUSR1, print)
                loop.add_signal_handler(15, print)
                loop.remove_signal_handler(15)
                signal.signal(15, last._on_sigterm)
            asyncio.run(run())
            while wakeup.handler_in_c(15) != last._wakeup._armed:
                time.sleep(0.01)
            ready()
            hang()
            """,
            *(-15, ["sigterm"]),
            id="hangs in C, after others have had the signal for a while",
        ),
        pytest.param(
            """
            import asyncio
            last.install()
            async def run():
                asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)
            asyncio.run(run())
            ready()
            hang()
            """,
            *(-15, ["sigterm"]),
            id="hangs in C, after an event loop has waited for signals",
        ),
        pytest.param(
            """
            last.install()
            thread = threading.Thread(target=last.uninstall)
            thread.start()
            thread.join()
            last = LastWords(recorder.flush, patience=20)
            last.install()
            one_listens()
            ready()
            hang()
            """,
            *(-15, ["sigterm"]),
            id="hangs in C, with another one installed",
        ),
        pytest.param(
            """
            def refuse(*_):
                raise RuntimeError("can't start new thread")
            threading.Thread.start = refuse
            last.install()
            assert signal.getsignal(15) is signal.SIG_DFL
            ready()
            hang()
            """,
            *(-15, []),
            id="hangs in C, where nobody could hear it",
        ),
        pytest.param(
            """
            libc = ctypes.CDLL(None)
            libc.__cxa_atexit(libc.pause, None, None)  # as in a driver
            text = ctypes.c_char_p(b"echo ready")
            libc.__cxa_atexit(libc.system, text, None)
            last.install()
            """,
            *(-15, []),
            id="hangs in C, after Python's end",
        ),
        pytest.param(
            """
            import asyncio
            async def run():
                asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)
                last.install()
                ready()
                await asyncio.sleep(60)
            asyncio.run(run())
            """,
            *(-15, ["sigterm"]),
            id="an event loop waits for signals",
        ),
    ],
)
def test_sigterm_ends_a_job_though_no_instruction_of_it_is_run(
    tmp_path: Path, code: str, status: int, recorded: Sequence[str]
) -> None:
    """A hang in the driver or in a collective operation: it dies as it would without us, and its recording is there."""
    job = Job(code, tmp_path / "ours")
    assert job.end(signal.SIGTERM) == (status, "", "")
    assert job.recorded() == recorded


@pytest.mark.skipif(not LINUX, reason="elsewhere nobody tells who has sent a signal")
@pytest.mark.parametrize("uninstalls", [True, False])
def test_a_signal_to_a_forked_child_is_not_its_parents(tmp_path: Path, uninstalls: bool) -> None:  # noqa: FBT001 - a table
    """The child dies of it and writes nothing, whether it has let go of our handlers or not; the parent lives on."""
    code = f"""
    import warnings
    warnings.simplefilter("ignore")  # that a process with threads forks
    last.install()
    child = os.fork()
    if not child:
        if {uninstalls}:
            last.uninstall()
        time.sleep(60)
    time.sleep(0.5)
    os.kill(child, 15)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -15
    time.sleep(1)
    assert os.listdir(os.path.dirname(sys.argv[1])) == []
    ready()
    hang()
    """
    job = Job(code, tmp_path / "ours")
    assert job.end(signal.SIGTERM) == (-15, "", "")
    assert job.recorded() == ["sigterm"]


@pytest.mark.skipif(not LINUX, reason="elsewhere it is left alone")
def test_two_sigterms_in_quick_succession_write_one_recording(tmp_path: Path) -> None:
    """The second waits for the words of the first, and no longer."""
    code = """
    flush = recorder.flush
    def slowly(reason, exception):
        say("speaks")
        time.sleep(1)
        flush(reason, exception)
    last = LastWords(slowly, patience=20)
    last.install()
    threading.Timer(0.5, lambda: [(os.kill(os.getpid(), 15), time.sleep(0.2)) for _ in range(3)]).start()
    time.sleep(60)
    """
    job = Job(code, tmp_path / "ours")
    assert job.end() == (-15, "speaks\n", "")
    assert job.recorded() == ["sigterm"]


@pytest.mark.parametrize(
    ("code", "status", "recorded"),
    [
        pytest.param("last.install(); raise RuntimeError('over')", 1, ["exception"], id="an exception"),
        pytest.param(
            "sys.excepthook = lambda *it: sys.stderr.write(f'{it[1]}!\\n'); last.install(); raise RuntimeError('over')",
            *(1, ["exception"]),
            id="a hook from before is called",
        ),
        pytest.param(
            "sys.excepthook = lambda *_: os._exit(3); last.install(); raise RuntimeError('over')",
            *(3, ["exception"]),
            id="a hook from before ends it all",
        ),
        pytest.param(
            "last.install(); sys.excepthook = sys.__excepthook__; raise RuntimeError('over')",
            *(1, []),
            id="a later hook replaces ours",
        ),
        pytest.param(
            "last.install(); last.uninstall(); assert sys.excepthook is sys.__excepthook__; raise RuntimeError('over')",
            *(1, []),
            id="uninstalled",
        ),
        pytest.param(
            "last.install(); ours = sys.excepthook; sys.excepthook = lambda *it: ours(*it); last.uninstall();"
            "assert sys.excepthook is not ours; raise RuntimeError('over')",
            *(1, []),
            id="uninstalled below a later hook",
        ),
        pytest.param("last.install(); sys.exit(5)", 5, [], id="sys.exit"),
        pytest.param("last.install(); sys.exit('over')", 1, [], id="sys.exit with words"),
        pytest.param("last.install(); os._exit(6)", 6, [], id="os._exit"),
        pytest.param("last.install(); raise KeyboardInterrupt", -2, [], id="as on Ctrl-C"),
        pytest.param("last.install()", 0, [], id="a good end"),
        pytest.param("last.install(); sys.ps1 = '>>> '; raise RuntimeError('over')", 1, [], id="somebody types"),
    ],
)
def test_an_exception_that_ends_the_job_is_told_as_without_us(
    tmp_path: Path, code: str, status: int, recorded: Sequence[str]
) -> None:
    """The same words on stderr, the same exit status; what ends a job that is well, or no job, writes nothing."""
    job = Job(code, tmp_path / "ours")
    ended = job.end()
    assert ended == Job(code, tmp_path / "without", WITHOUT).end()
    assert ended[0] == status
    assert job.recorded() == recorded


def test_the_recording_names_the_type_of_the_exception(tmp_path: Path) -> None:
    """And nothing of its words, which may hold anything."""
    code = "class Full(Exception): __module__ = 'torch'\nlast.install(); raise Full('hunter2')"
    job = Job(code, tmp_path / "ours")
    assert job.end()[0] == 1
    (flight,) = job.flights
    assert flight.header["exception"] == "torch.Full"
    assert "hunter2" not in str(flight)


def test_an_exception_of_a_thread_ends_no_job(tmp_path: Path) -> None:
    """It is the thread's own; the job goes on."""
    code = """
    last.install()
    thread = threading.Thread(target=int, args=("x",))
    thread.start()
    thread.join()
    say("lives")
    """
    job = Job(code, tmp_path / "ours")
    status, out, err = job.end()
    assert (status, out) == (0, "lives\n")
    assert "ValueError" in err
    assert job.recorded() == []


def test_ctrl_c_writes_nothing(tmp_path: Path) -> None:
    """The job that somebody ends by hand is well; its traceback and status stay."""
    job = Job(f"last.install(); ready(); {SLEEP}", tmp_path / "ours")
    status, out, err = job.end(signal.SIGINT)
    assert (status, out) == (-2, "")
    assert err.endswith("KeyboardInterrupt\n")
    assert job.recorded() == []


def test_a_handler_that_raises_makes_one_recording(tmp_path: Path) -> None:
    """The exception that then ends the job is the same end."""
    code = f"""
    def stop(signum, frame):
        raise RuntimeError("over")
    signal.signal(15, stop)
    last.install()
    ready()
    {SLEEP}
    """
    job = Job(code, tmp_path / "ours")
    status, _, err = job.end(signal.SIGTERM)
    assert status == 1
    assert err.endswith("RuntimeError: over\n")
    assert job.recorded() == ["sigterm"]


@pytest.mark.parametrize(
    "held",
    [
        pytest.param("threading._active_limbo_lock", id="threading's"),
        pytest.param("logging._lock", id="logging's"),
        pytest.param("logging.getLogger().handlers[0].lock", id="a handler's"),
        pytest.param("lock", id="one that the words need"),
    ],
)
def test_whatever_lock_the_job_holds_sigterm_ends_it(tmp_path: Path, held: str) -> None:
    """The signal interrupts the main thread while it holds a lock: at worst the words are not said."""
    code = f"""
    import logging
    logging.basicConfig()
    lock = threading.Lock()
    flush = recorder.flush
    def words(reason, exception):
        logging.getLogger("otel_hwmetrics").warning("saying last words")
        with lock:
            flush(reason, exception)
    last = LastWords(words, patience=0.5)
    last.install()
    with {held}:
        ready()
        time.sleep(60)
    """
    job = Job(code, tmp_path / "ours")
    assert job.end(signal.SIGTERM)[0] == -15
    assert job.recorded() in ([], ["sigterm"])


def test_a_disk_that_hangs_holds_up_the_end_for_a_bounded_time(tmp_path: Path) -> None:
    """The job ends without its recording; on SIGTERM and on an exception."""
    code = """
    last = LastWords(lambda reason, exception: time.sleep(60), patience=0.2)
    last.install()
    began = time.monotonic()
    try:
        os.kill(os.getpid(), 15) if {0} else sys.excepthook(RuntimeError, RuntimeError(), None)
    finally:
        say(str(time.monotonic() - began))
    """
    job = Job(code.format(False), tmp_path / "ours")
    status, out, _ = job.end()
    assert status == 0
    assert 0.2 <= float(out) < 5
    assert Job(code.format(True), tmp_path / "ours").end()[0] == -15


def test_a_process_that_may_start_no_thread_speaks_on_its_own(tmp_path: Path) -> None:
    """A cgroup that limits threads may be the very reason why a job fails."""
    code = """
    import _thread
    def refuse(*_):
        raise RuntimeError("can't start new thread")
    last.install()
    _thread.start_new_thread = refuse
    raise RuntimeError("over")
    """
    job = Job(code, tmp_path / "ours")
    assert job.end()[0] == 1
    assert job.recorded() == ["exception"]


@pytest.mark.skipif(not LINUX, reason="elsewhere it is left alone")
def test_where_hearing_fails_a_job_that_hangs_is_no_less_ended(tmp_path: Path) -> None:
    """A process that may open no more files has the signal's default, and not a handler that nobody runs."""
    code = f"""
    import contextlib, errno, socket
    def refuse(*_):
        raise OSError(errno.EMFILE, "Too many open files")
    socket.socketpair = refuse
    with contextlib.suppress(OSError):
        last.install()
    ready()
    {SLEEP}
    """
    job = Job(code, tmp_path / "ours")
    assert job.process.stdout is not None
    assert job.process.stdout.readline() == "ready\n"
    job.process.send_signal(signal.SIGTERM)
    assert job.process.wait(60) == -signal.SIGTERM
    job.process.communicate()
    assert job.recorded() == []


def test_a_fault_of_ours_costs_the_words_alone(tmp_path: Path) -> None:
    """The job's own traceback and exit status are as ever."""
    code = "last._flush = lambda *_: 1 / 0; last.install(); raise RuntimeError('over')"
    status, _, err = Job(code, tmp_path / "ours").end()
    assert status == 1
    assert "ZeroDivisionError" in err  # the guard is loud in tests
    without = Job(code, tmp_path / "without", WITHOUT).end()[2]
    assert all(line in err for line in without.splitlines())  # the guard's words may come in between


@pytest.mark.skipif(not LINUX, reason="elsewhere it is left alone")
def test_installed_before_the_script_it_is_as_good(tmp_path: Path) -> None:
    """As auto-instrumentation does, while the interpreter starts: the handlers chain in the same way."""
    (tmp_path / "sitecustomize.py").write_text(BEGIN + "last.install()\n")
    (tmp_path / "script.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    job = Job("", tmp_path / "ours")
    job.end()
    job.process = subprocess.Popen(
        [sys.executable, "script.py", str(tmp_path / "ours"), "20"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert job.end(signal.SIGTERM) == (-15, "", "")
    assert job.recorded() == ["sigterm"]
    assert job.flights[0].header["resource"]["process.command"] == "script.py"


def test_what_was_there_is_there_again() -> None:
    """Handlers and hook, once we are gone; in between they are passed on to."""
    heard: list[object] = []
    words: list[tuple[str, str]] = []
    before = signal.signal(signal.SIGTERM, lambda signum, _: heard.append(signum))
    try:
        theirs, hook = signal.getsignal(signal.SIGTERM), sys.excepthook
        last = LastWords(lambda reason, exception: words.append((reason, exception)), patience=UNHURRIED)
        last.install()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM] * 2
        assert words == [("sigterm", "")]
        last.uninstall()
        assert signal.getsignal(signal.SIGTERM) is theirs
        assert sys.excepthook is hook
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_handler_of_somebodys_waits_for_no_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """The grace after SIGTERM is for what it does; a disk may be slow beside it."""
    monkeypatch.setattr(last_words, "RECORDING", 120.0)
    over, heard = threading.Event(), []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(over.is_set()))
    last = LastWords(lambda *_: over.wait(120), patience=0.05)
    last.wait_for_a_recording()
    try:
        last.install()
        began = time.monotonic()
        signal.raise_signal(signal.SIGTERM)
        assert heard == [False]
        assert time.monotonic() - began < last_words.RECORDING / 2
    finally:
        over.set()
        last.uninstall()
        signal.signal(signal.SIGTERM, before)


@pytest.mark.skipif(not LINUX, reason="elsewhere it is left alone")
def test_the_end_comes_no_later_than_patience_allows(tmp_path: Path) -> None:
    """A SIGTERM ends the job within the budget; the quickest of five, since other programs run here, too."""
    budget = last_words.PATIENCE
    seconds = []
    for number in range(5):
        job = Job(f"last.install(); ready(); {SLEEP}", tmp_path / str(number), patience=budget)
        assert job.process.stdout is not None
        assert job.process.stdout.readline() == "ready\n"
        began = time.monotonic()
        job.process.send_signal(signal.SIGTERM)
        job.process.wait(60)
        seconds.append(time.monotonic() - began)
        job.process.communicate()
    assert min(seconds) < budget
