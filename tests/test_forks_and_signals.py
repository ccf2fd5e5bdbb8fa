# SPDX-License-Identifier: Apache-2.0
"""A signal in the midst of a fork: what its handler raises arrives, and no lock stays taken."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

BEGIN = """
import os, random, signal, sys, threading, time, warnings
warnings.simplefilter("ignore")
from otel_hwmetrics import _guard, forks
_guard.LOUD = False
forks.PATIENCE = float(sys.argv[1])
lock = threading.Lock()
forks.wait_for(lambda: [forks.Awaited(lock)])

def fork():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return os.waitpid(pid, 0)

def held(lock):
    "Held by a thread from now on."
    has = threading.Event()
    def hold():
        with lock:
            has.set()
            time.sleep(60)
    threading.Thread(target=hold, daemon=True).start()
    assert has.wait(20)

class Told(Exception):
    "What a user's handler raises."
"""


def run(script: str, patience: float = 0.05) -> subprocess.CompletedProcess[str]:
    """A script after `BEGIN`, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", BEGIN + textwrap.dedent(script) + "\nsys.stdout.flush()\nos._exit(0)", str(patience)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("handler", "caught"),
    [
        ("signal.default_int_handler", "KeyboardInterrupt()"),
        ("lambda *_: sys.exit(5)", "SystemExit(5)"),
        ("raises", "Told('so')"),
    ],
)
def test_what_a_handler_raises_while_a_fork_waits_arrives(handler: str, caught: str) -> None:
    """The very exception, once, by its type, after the fork; it is no fault of ours, and Python drops nothing."""
    done = run(
        f"""
        def raises(*_):
            raise Told("so")
        dropped = []
        sys.unraisablehook = dropped.append
        held(lock)
        signal.signal(signal.SIGINT, {handler})
        threading.Timer(0.2, signal.pthread_kill, (threading.get_ident(), signal.SIGINT)).start()
        try:
            fork()
            for _ in range(2000):
                time.sleep(0.01)
        except (KeyboardInterrupt, SystemExit, Told) as error:
            print(repr(error))
        time.sleep(0.1)
        print(dropped, dict(_guard.faults))
        """,
        patience=1.0,
    )
    assert (done.stdout.splitlines(), done.returncode) == ([caught, "[] {}"], 0), done.stderr


def test_the_job_ends_with_the_status_that_its_handler_gave() -> None:
    """Nobody catches it: the interpreter ends, as it would have without us."""
    done = run(
        """
        held(lock)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
        threading.Timer(0.2, signal.pthread_kill, (threading.get_ident(), signal.SIGTERM)).start()
        fork()
        for _ in range(2000):
            time.sleep(0.01)
        """,
        patience=1.0,
    )
    assert done.returncode == 5, done.stderr


def test_a_child_does_not_get_what_its_parent_got() -> None:
    """The signal was sent to the parent."""
    done = run(
        """
        held(lock)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
        threading.Timer(0.2, signal.pthread_kill, (threading.get_ident(), signal.SIGTERM)).start()
        pid = os.fork()
        if pid == 0:
            time.sleep(0.2)
            os._exit(3)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            for _ in range(2000):
                time.sleep(0.01)
        except SystemExit:
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """,
        patience=1.0,
    )
    assert done.stdout == "3\n", done.stderr


def test_no_lock_stays_taken_wherever_a_signal_comes() -> None:
    """Thousands of forks with a timer that goes off in the midst of each."""
    done = run(
        """
        def raises(*_):
            raise Told
        sys.unraisablehook = lambda _: None  # it came before any of ours: what comes then is lost with each hook
        signal.signal(signal.SIGALRM, raises)
        section = forks.Section()
        until, leaks, count = time.monotonic() + 3, 0, 0
        while time.monotonic() < until:
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00002, 0.002))
                fork()
                time.sleep(0.003)
            except Told:
                pass
            while True:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    time.sleep(0.02)  # and what is raised again
                    break
                except Told:
                    pass
            count += 1
            leaks += lock.locked() or section.lock._is_owned()
        print(leaks, count > 20, dict(_guard.faults))
        """
    )
    assert done.stdout == "0 True {}\n", done.stderr


def test_a_signal_leaves_nothing_of_a_child_undone() -> None:
    """What is done in each child is done again where it was interrupted."""
    done = run(
        """
        signal.signal(signal.SIGUSR1, lambda *_: sys.exit(5))
        began = []
        @forks.in_child
        def act():
            began.append(1)
            if len(began) == 1:
                signal.raise_signal(signal.SIGUSR1)
            began.append(2)
        held(lock)
        pid = os.fork()
        if pid == 0:
            free = lock.acquire(timeout=20)
            try:
                for _ in range(2000):
                    time.sleep(0.01)
            except SystemExit as end:
                os._exit(end.code if free and began == [1, 1, 2] else 1)
            os._exit(2)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """
    )
    assert done.stdout == "5\n", done.stderr
