# SPDX-License-Identifier: Apache-2.0
"""`otel-hwmetrics run` and signals: the command gets each once, and the launcher ends as the command has."""

from __future__ import annotations

import os
import pty
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from launched import PYTHON, alive, begin, environ, recorded, run, script, until, words
from otel_hwmetrics.recording import Run, find_runs, open_run
from otel_hwmetrics.recording.nouns import FAILED, LOST, SKIPPED

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it needs /proc")

COUNTS = """
import os, signal, sys, time
heard = []
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCONT", "SIGTSTP", "SIGWINCH")
def hear(number, frame):
    with open(sys.argv[1] + ".heard", "a") as file:
        file.write(signal.Signals(number).name + "\\n")
for name in NAMES:
    signal.signal(getattr(signal, name), hear)
with open(sys.argv[1], "w") as file:
    file.write(str(os.getpid()))
while not os.path.exists(sys.argv[1] + ".end"):
    time.sleep(0.02)
sys.exit(11)
"""


def _heard(folder: Path) -> list[str]:
    path = folder / "pid.heard"
    return path.read_text().split() if path.exists() else []


def _pid(folder: Path) -> int:
    path = folder / "pid"
    until(lambda: path.exists() and path.read_text(), "the job has not begun")
    return int(path.read_text())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_it_ends_by_the_signal_that_ended_the_command(tmp_path: Path, number: signal.Signals) -> None:
    """Whoever waits for it sees what became of the command: a shell 128 and the number, another program the signal."""
    watched = ["--no-resource-monitoring"] if number in (signal.SIGSEGV, signal.SIGKILL) else []
    done = run(*watched, "--", "sh", "-c", f"kill -{number.value} $$", folder=tmp_path)
    assert done.returncode == -number
    if not watched:
        with recorded(tmp_path) as written:
            assert [(job.state, job.exit_code) for job in written.jobs()] == [(FAILED, -number)]


def test_what_a_process_sends_is_passed_on_once(tmp_path: Path) -> None:
    """Each of those that jobs may know; and the exit code is the command's, which heard them and went on."""
    job = begin("--", PYTHON, script(tmp_path, COUNTS), str(tmp_path / "pid"), folder=tmp_path)
    _pid(tmp_path)
    sent = [
        signal.SIGUSR1,
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGUSR2,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGWINCH,
    ]
    for count, number in enumerate(sent, 1):
        os.kill(job.pid, number)
        until(lambda count=count: len(_heard(tmp_path)) >= count, f"{number.name} has not come")  # type: ignore[misc]
    os.kill(job.pid, signal.SIGTSTP)  # the launcher stops, too, as the shell that waits for it expects
    until(lambda: Path(f"/proc/{job.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "it has not stopped")
    os.kill(job.pid, signal.SIGCONT)
    until(lambda: "SIGCONT" in _heard(tmp_path), "SIGCONT has not come")
    (tmp_path / "pid.end").touch()
    job.communicate(timeout=60)
    assert job.returncode == 11
    assert _heard(tmp_path) == [*(number.name for number in sent), "SIGTSTP", "SIGCONT"]


def test_what_a_terminal_sends_comes_once(tmp_path: Path) -> None:
    """Ctrl-C reaches the command from the terminal itself; which is its own: it can ask for its size, and be stopped."""
    child, terminal = pty.fork()
    if child == 0:
        command = words("--quiet", "--", PYTHON, script(tmp_path, COUNTS), str(tmp_path / "pid"), folder=tmp_path)
        os.chdir(tmp_path)
        os.execve(command[0], command, environ(tmp_path))  # noqa: S606 - in a terminal of its own
    pid = _pid(tmp_path)
    try:
        assert os.readlink(f"/proc/{pid}/fd/0") == os.readlink(f"/proc/{child}/fd/0")
        os.write(terminal, b"\x03")
        until(lambda: _heard(tmp_path), "SIGINT has not come")
        os.write(terminal, b"\x1a")
        until(
            lambda: Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "T", "it has not stopped"
        )
        os.kill(child, signal.SIGCONT)
        until(lambda: len(_heard(tmp_path)) >= 3, "SIGCONT has not come")
        (tmp_path / "pid.end").touch()
        _, status = os.waitpid(child, 0)
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 11
    assert _heard(tmp_path) == ["SIGINT", "SIGTSTP", "SIGCONT"]


def test_what_was_ignored_stays_ignored(tmp_path: Path) -> None:
    """As under nohup(1): by SIGHUP neither the launcher nor a command ends, nor is a further job left out."""
    (tmp_path / "jobs.yaml").write_text(IGNORING)
    command = words("--quiet", "--file", "jobs.yaml", folder=tmp_path)
    ignoring = ["/bin/sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command]
    job = subprocess.Popen(ignoring, cwd=tmp_path, env=environ(tmp_path))
    os.kill(_pid(tmp_path), signal.SIGHUP)
    os.kill(job.pid, signal.SIGHUP)
    assert job.wait(timeout=60) == 0
    assert (tmp_path / "next").exists()


def test_the_end_of_the_launcher_is_not_the_command_s(tmp_path: Path) -> None:
    """Killed at whatever moment, ten times, it leaves the command alone, and every file opens and is whole."""
    random = Random(7)  # noqa: S311 - of moments
    folders = [tmp_path / str(number) for number in range(10)]
    launchers = []
    for folder in folders:
        folder.mkdir()
        text = "echo $$ >pid; while ! test -e end; do sleep 0.1; done; touch done"
        options = ("--interval", "0.2", "--", "sh", "-c", text)
        launchers.append(begin(*options, folder=folder, OTEL_PYTHON_HWMETRICS_RECORD_BATCH="0.5"))
    pids = [_pid(folder) for folder in folders]
    for launcher in launchers:
        time.sleep(random.uniform(0, 0.3))
        launcher.kill()
        launcher.wait(timeout=60)
    assert all(map(alive, pids))
    for folder, launcher in zip(folders, launchers, strict=True):
        (folder / "end").touch()
        launcher.communicate(timeout=60)  # until nobody has its output open any more
        assert (folder / "done").exists()
        for path in (folder / "runs").glob("*.run.db"):
            connection = sqlite3.connect(path)
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            connection.close()
            with open_run(str(path)) as written:
                assert [each.name for each in written.jobs()] in ([], ["sh"])
    hour = 3_600_000_000_000
    with Run(find_runs(str(folders[-1] / "runs"))[0].paths, now_ns=time.time_ns() + hour) as written:
        assert [(each.name, each.state) for each in written.jobs()] == [("sh", LOST)]


IGNORING = """
jobs:
  - {name: long, command: "echo $$ >pid; sleep 0.8"}
  - {name: next, command: touch next, blocked_by: long}
"""
JOBS = """
jobs:
  - {name: long, command: "echo $$ >pid; sleep 600; echo late"}
  - {name: next, command: touch next, blocked_by: long}
"""


def test_a_signal_ends_the_jobs_of_a_file(tmp_path: Path) -> None:
    """What a shell of ours runs gets it, too; no further job is begun, and the launcher ends by it."""
    (tmp_path / "jobs.yaml").write_text(JOBS)
    job = begin("--file", "jobs.yaml", folder=tmp_path)
    children = Path(f"/proc/{_pid(tmp_path)}/task/{_pid(tmp_path)}/children")
    until(children.read_text, "nothing sleeps")
    sleeper = int(children.read_text())
    began = time.monotonic()
    os.kill(job.pid, signal.SIGTERM)
    job.communicate(timeout=30)
    assert job.returncode == -signal.SIGTERM
    assert time.monotonic() - began < 30
    until(lambda: not alive(sleeper), "it sleeps on")
    assert not (tmp_path / "next").exists()
    with recorded(tmp_path) as written:
        assert {job.name: job.state for job in written.jobs()} == {"long": FAILED, "next": SKIPPED}
