# SPDX-License-Identifier: Apache-2.0
"""Where workers stand: by a scripted py-spy, and that its absence, its failures and its delays harm nobody."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alarms import AT, alert
from otel_hwmetrics import descriptors
from otel_hwmetrics.sinks.base import Alert
from otel_hwmetrics.sinks.stacks import MOST
from otel_hwmetrics.sinks.workers import MOST_WORKERS, Worker, WorkerStacks, find_program, workers_of_multiprocessing

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


@pytest.mark.parametrize(
    "does",
    [
        pytest.param("echo 'Permission Denied' >&2; exit 1", id="not permitted"),
        pytest.param("echo '[{'", id="no JSON"),
        pytest.param("echo '{\"a\": 1}'", id="no list"),
        pytest.param('echo \'[1, {"frames": 3}, {"frames": [1, {}]}, null]\'', id="odd"),
        pytest.param(says(), id="no threads"),
        pytest.param("true", id="nothing"),
        pytest.param("printf '\\377\\376'", id="no text"),
    ],
)
def test_a_program_that_tells_nothing_is_not_asked_again(script: Script, does: str) -> None:
    """Nothing is told, nothing is raised."""
    calls = script(does)
    told = Told()
    sink = WorkerStacks(told, lambda: WORKERS[:1])
    sink.on_alert(STALL)
    sink.on_alert(replace(STALL, transition=replace(STALL.transition, time_unix_nano=AT + 1)))
    assert told == []
    assert len(calls.read_text().splitlines()) == 1


def test_one_that_is_late_is_ended_and_not_killed(script: Script, tmp_path: Path) -> None:
    """A child that is killed would be told of as a worker that died; what came in time is told."""
    calls = script(
        f"""
if [ "$5" = 4000 ]; then
{says(thread("MainThread", frame()))}
exit
fi
trap 'echo ended > {tmp_path / "end"}; kill $!; exit 1' TERM
sleep 60 &
wait"""
    )
    told = Told()
    WorkerStacks(told, lambda: WORKERS, patience=1.5).on_alert(STALL)
    assert len(calls.read_text().splitlines()) == 2
    assert len(told) == 1
    deadline = time.monotonic() + 20
    while not (tmp_path / "end").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_only_alerts_with_stacks_are_asked_for_and_those_of_one_look_once(script: Script) -> None:
    """Eight GPUs that idle are one hang."""
    calls = script(says(thread("MainThread", frame())))
    told = Told()
    sink = WorkerStacks(told, lambda: WORKERS[:1])
    sink.on_alert(replace(STALL, stacks=""))
    for _ in range(8):
        sink.on_alert(STALL)
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
    lives = context.Process(target=time.sleep, args=(60,), name="Loader-1")
    ended.start()
    lives.start()
    try:
        ended.join(60)
        assert [worker for worker in workers_of_multiprocessing() if worker.name in ("Ended", "Loader-1")] == [
            Worker(lives.pid or 0, "Loader-1")
        ]
    finally:
        lives.kill()
        lives.join()
