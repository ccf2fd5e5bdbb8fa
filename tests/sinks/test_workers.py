# SPDX-License-Identifier: Apache-2.0
"""Where workers stand: by a scripted py-spy, and that its absence, its failures and its delays harm nobody."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.process
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alarms import AT, alert
from otel_hwmetrics import descriptors
from otel_hwmetrics.sinks.base import Alert
from otel_hwmetrics.sinks.stacks import MOST
from otel_hwmetrics.sinks.workers import (
    LOOKS,
    MOST_WORKERS,
    Worker,
    WorkerStacks,
    find_program,
    workers_of_multiprocessing,
)

WORKERS = [Worker(4000 + number, f"Loader-{number}") for number in range(6)]

STALL = replace(alert(name="training_stalled"), stacks="Thread MainThread [training] (most recent call first):")


def frame(name: str = "collate", file: str = "/me/train.py", number: object = 12) -> dict[str, Any]:
    """One call, as py-spy 0.4 writes it."""
    return {"name": name, "filename": file, "module": None, "short_filename": file, "line": number, "locals": None}


def thread(name: str, *frames: object, number: int = 1) -> dict[str, Any]:
    """One thread, likewise."""
    return {"pid": 4000, "thread_id": 7, "thread_name": name, "os_thread_id": number, "active": False, "frames": frames}


class Told(list[str]):
    """What was told."""

    def __call__(self, _: Alert, text: str) -> None:
        """Keep it."""
        self.append(text)


Script = Callable[[str], Path]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Puts a py-spy on the PATH that notes its arguments, and then does what it is told to."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.chdir(tmp_path)

    def write(does: str) -> Path:
        calls = tmp_path / "calls"
        path = tmp_path / "py-spy"
        path.write_text(f'#!/bin/sh\necho "$*" >> {calls}\n{does}\n')
        path.chmod(0o700)
        return calls

    return write


def says(*threads: object) -> str:
    """Shell code that writes what py-spy would."""
    return f"cat <<'END'\n{json.dumps(threads)}\nEND"


def test_each_worker_is_asked_once_and_never_for_its_variables(script: Script) -> None:
    """Four at most; it does not stop them."""
    calls = script(says(thread("MainThread", frame())))
    told = Told()
    WorkerStacks(told, lambda: WORKERS).on_alert(STALL)
    assert calls.read_text().splitlines() == [
        f"dump --json --nonblocking --pid {worker.pid}" for worker in WORKERS[:MOST_WORKERS]
    ]
    (text,) = told
    assert text == (
        "Thread MainThread of process 4000 (Loader-0); MainThread of process 4001 (Loader-1); "
        "MainThread of process 4002 (Loader-2) and 1 more (most recent call first):\n"
        '  File "/me/train.py", line 12 in collate'
    )


def test_the_main_thread_is_first_and_deep_ones_are_cut(script: Script) -> None:
    """And what every thread begins with is left out, and names are redacted."""
    beginning = frame("Thread._bootstrap_inner", "/lib/python3.13/threading.py", 1045)
    script(
        says(
            thread("pin token=abcdef123", frame("pin"), beginning),
            thread("hwmetrics-nvidia", frame()),
            thread("MainThread", *(frame(f"f{depth}", number=0) for depth in range(500)), number=4000),
        )
    )
    told = Told()
    WorkerStacks(told, lambda: WORKERS[:1]).on_alert(STALL)
    (text,) = told
    first, second = text.split("\n\n")
    assert first.split("\n")[:2] == [
        "Thread MainThread of process 4000 (Loader-0) (most recent call first):",
        '  File "/me/train.py", line ? in f0',
    ]
    assert first.split("\n")[-1] == "  ... 484 calls ..."
    assert second == (
        "Thread pin token=[redacted] of process 4000 (Loader-0) (most recent call first):\n"
        '  File "/me/train.py", line 12 in pin'
    )
    assert len(text.encode()) <= MOST


REFUSAL = "echo 'Permission Denied: Try running again with elevated permissions' >&2; exit 1"


def another(number: int) -> Alert:
    """A later stall, with stacks of its own."""
    return replace(STALL, stacks=f"{STALL.stacks} {number}")


@pytest.mark.parametrize(
    ("does", "looks"),
    [
        pytest.param(REFUSAL, 1, id="not permitted"),
        pytest.param("echo 'Error: Operation not permitted (os error 1)' >&2; exit 1", 1, id="not permitted to root"),
        pytest.param("echo 'Error: Failed to get process executable name.' >&2; exit 1", LOOKS, id="has just ended"),
        pytest.param("echo '[{'", LOOKS, id="no JSON"),
        pytest.param("echo '{\"a\": 1}'", LOOKS, id="no list"),
        pytest.param('echo \'[1, {"frames": 3}, {"frames": [1, {}]}, null]\'', LOOKS, id="odd"),
        pytest.param(says(), LOOKS, id="no threads"),
        pytest.param("true", LOOKS, id="nothing"),
        pytest.param("printf '\\377\\376'", LOOKS, id="no text"),
    ],
)
def test_a_program_that_tells_nothing_is_soon_not_asked_again(script: Script, does: str, looks: int) -> None:
    """At once where it may not, else after some looks. Nothing is told, nothing is raised."""
    calls = script(does)
    told = Told()
    sink = WorkerStacks(told, lambda: WORKERS[:1])
    for number in range(LOOKS + 2):
        sink.on_alert(another(number))
    assert told == []
    assert len(calls.read_text().splitlines()) == looks


def test_a_refusal_ends_the_look(script: Script) -> None:
    """What may not look at one worker may not look at the next."""
    calls = script(REFUSAL)
    WorkerStacks(Told(), lambda: WORKERS).on_alert(STALL)
    assert len(calls.read_text().splitlines()) == 1


def test_looks_in_vain_between_good_ones_do_not_count(script: Script) -> None:
    """A worker may end while it is looked at, now and then: that says nothing about the next stall."""
    calls = script(f'[ "$5" = 4001 ] && exit 1\n{says(thread("MainThread", frame()))}')
    told = Told()
    asked = [WORKERS[1:2]] * (LOOKS - 1) + [WORKERS[:2]]
    looks = iter(asked * 3)
    sink = WorkerStacks(told, lambda: next(looks))
    for number in range(3 * len(asked)):
        sink.on_alert(another(number))
    assert len(told) == 3
    assert len(calls.read_text().splitlines()) == 3 * (LOOKS + 1)


def patiently(script: Script, does: str, happened: Callable[[Told], bool]) -> tuple[Told, Path]:
    """Have two workers looked at, with more patience until something has happened: a machine may be slow."""
    for patience in (1.0, 4.0, 16.0):
        calls, told = script(does), Told()
        calls.unlink(missing_ok=True)
        WorkerStacks(told, lambda: WORKERS[:2], patience=patience).on_alert(STALL)
        if happened(told):
            return told, calls
    raise AssertionError(patience)


def gone(pid: int) -> bool:
    """Whether there is no such process, not even one that nobody has waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def until(happened: Callable[[], bool]) -> None:
    """Wait for something, with patience."""
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_that_is_late_is_ended_and_not_killed(script: Script, tmp_path: Path) -> None:
    """A child that is killed would be told of as a worker that died; what the others told in time is told."""
    ready, end = tmp_path / "ready", tmp_path / "end"
    told, calls = patiently(
        script,
        f"""
if [ "$5" = 4001 ]; then
{says(thread("MainThread", frame()))}
exit
fi
trap 'echo ended > {end}; kill $!; exit 1' TERM
echo > {ready}
sleep 60 &
wait""",
        lambda told: bool(told) and ready.exists(),
    )
    (text,) = told
    assert text.startswith("Thread MainThread of process 4001")
    assert len(calls.read_text().splitlines()) == 2
    until(end.exists)


@contextmanager
def ignored(*signals: signal.Signals) -> Iterator[None]:
    """As a job may have it, and what it starts inherits it."""
    before = {each: signal.signal(each, signal.SIG_IGN) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_one_that_ignores_sigterm_is_ended_all_the_same(script: Script, tmp_path: Path) -> None:
    """And has been waited for."""
    pid = tmp_path / "pid"
    with ignored(signal.SIGTERM):
        patiently(script, f"echo $$ > {pid}\nexec sleep 60", lambda _: pid.exists() and bool(pid.read_text()))
    assert gone(int(pid.read_text()))


def test_one_that_nobody_can_end_is_the_last_until_it_ends(script: Script, tmp_path: Path) -> None:
    """Then it is waited for at the next look, which is as any other."""
    pid = tmp_path / "pid"
    calls = script(f"echo $$ > {pid}\nexec sleep 60")
    told = Told()
    sink = WorkerStacks(told, lambda: WORKERS, patience=0.2)
    with ignored(signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        sink.on_alert(another(1))
    until(lambda: pid.exists() and bool(pid.read_text()))
    left = int(pid.read_text())
    try:
        sink.on_alert(another(2))
        assert len(calls.read_text().splitlines()) == 1
    finally:
        os.kill(left, signal.SIGKILL)
    script(says(thread("MainThread", frame())))
    number = 3
    while not gone(left):
        sink.on_alert(another(number))
        number += 1
        assert number < 10**5
    assert len(calls.read_text().splitlines()) > 1


def test_only_alerts_with_stacks_are_asked_for_and_those_that_have_the_same_once(script: Script) -> None:
    """Eight GPUs that idle are one hang, though one begins after the other."""
    calls = script(says(thread("MainThread", frame())))
    told = Told()
    sink = WorkerStacks(told, lambda: WORKERS[:1])
    sink.on_alert(replace(STALL, stacks=""))
    for number in range(8):
        sink.on_alert(replace(STALL, transition=replace(STALL.transition, time_unix_nano=AT + number)))
    assert len(told) == len(calls.read_text().splitlines()) == 1


def test_without_the_program_or_workers_nothing_is_started(
    script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Absent is absent."""
    told = Told()
    WorkerStacks(told, lambda: WORKERS).on_alert(STALL)
    calls = script(says(thread("MainThread", frame())))
    WorkerStacks(told, list).on_alert(STALL)
    monkeypatch.setattr(descriptors, "identity", lambda number: None if number == 1 else (0, number))
    WorkerStacks(told, lambda: WORKERS).on_alert(STALL)
    assert told == []
    assert not calls.exists()


def test_the_program_beside_python_comes_first(script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment that is not activated is not on the PATH. What is found by a relative path is not run."""
    script("true")
    assert find_program() == str(tmp_path / "py-spy")
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_program() == str(tmp_path / "py-spy")
    monkeypatch.setattr(sys, "executable", "")
    monkeypatch.setenv("PATH", ".")
    assert find_program() is None


def test_workers_are_those_of_multiprocessing_that_live() -> None:
    """By their names; those that have ended are not waited for here, since that is their owner's."""
    context = multiprocessing.get_context("spawn")
    ended = context.Process(target=int, name="Ended")
    zombie = context.Process(target=time.sleep, args=(60,), name="Killed")
    lives = context.Process(target=time.sleep, args=(60,), name="Loader-1")
    for each in (ended, zombie, lives):
        each.start()
    try:
        ended.join(60)
        zombie.kill()
        until(lambda: "Killed" not in [worker.name for worker in workers_of_multiprocessing()])
        assert not gone(zombie.pid or 0)
        assert [worker for worker in workers_of_multiprocessing() if worker.name in ("Ended", "Loader-1")] == [
            Worker(lives.pid or 0, "Loader-1")
        ]
    finally:
        for each in (zombie, lives):
            each.kill()
            each.join()


class Child:
    """What `multiprocessing` keeps of a child; of a number that no process has."""

    def __init__(self, number: int, name: str, *, daemon: bool = False, parent: int = os.getpid()) -> None:
        self._popen = SimpleNamespace(pid=2**30 + number, returncode=None)
        self._name, self.daemon, self._parent_pid = name, daemon, parent


def test_workers_of_loaders_come_first_and_none_are_another_process_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four are looked at, and the server of a manager is none to take the place of a loader's worker.

    A child by `os.fork` still has its parent's list.
    """
    children = [
        Child(1, "SyncManager-1"),
        Child(2, "Process-2"),
        Child(3, "Process-3", daemon=True),
        Child(4, "pull --token " + "hunter2" * 40, daemon=True),
        Child(5, "Process-1", parent=1),
    ]
    monkeypatch.setattr(multiprocessing.process, "_children", children)
    found = workers_of_multiprocessing()
    assert [worker.pid - 2**30 for worker in found] == [3, 4, 2, 1]
    assert "hunter2" not in found[1].name


@pytest.mark.skipif(find_program() is None, reason="py-spy is not installed")
def test_the_real_one_is_understood() -> None:
    """Its words are still what is written here of it, where the system lets it look."""
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,), name="Loader-1", daemon=True)
    child.start()
    try:
        asked = [find_program() or "", "dump", "--json", "--nonblocking", "--pid", str(child.pid)]
        deadline = time.monotonic() + 20
        while 'run",' not in (ran := subprocess.run(asked, capture_output=True, text=True, check=False)).stdout:
            if "ermi" in ran.stderr:
                pytest.skip(ran.stderr[:200])
            if time.monotonic() > deadline:
                pytest.skip(f"it does not know this Python: {ran.stderr[:200]}")
        told = Told()
        WorkerStacks(told, lambda: [Worker(child.pid or 0, "Loader-1")]).on_alert(STALL)
    finally:
        child.kill()
        child.join()
    (text,) = told
    lines = text.split("\n")
    assert lines[0] == f"Thread MainThread of process {child.pid} (Loader-1) (most recent call first):"
    assert any(re.fullmatch(r'  File ".*/multiprocessing/process.py", line \d+ in \S*run', each) for each in lines)
