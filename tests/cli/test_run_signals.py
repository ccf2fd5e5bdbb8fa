# SPDX-License-Identifier: Apache-2.0
"""`otel-hwmetrics run` and signals: the command gets each once, and the launcher ends as the command has."""

from __future__ import annotations

import fcntl
import os
import pty
import shlex
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


def _field(pid: int, at: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[at]


def _state(pid: int) -> str:
    return _field(pid, 0)


def _parent(pid: int) -> int:
    return int(_field(pid, 1))


def _pending(pid: int) -> bool:
    """Whether a signal waits to be taken."""
    found = [
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(("SigPnd", "ShdPnd"))
    ]
    return any(int(line.split()[1], 16) for line in found)


@contextmanager
def _terminal(folder: Path, *command: str) -> Iterator[tuple[int, int]]:
    """A command that leads the session of a terminal of its own; its process, and what is typed into."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.execve(command[0], command, environ(folder))  # noqa: S606 - in a terminal of its own
    try:
        yield child, terminal
    finally:
        for each in _below(child):  # where it should have ended, and has not
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        os.close(terminal)


def _below(pid: int) -> list[int]:
    """A process and all below it; nobody where it is gone."""
    own = [int(each) for path in Path(f"/proc/{pid}/task").glob("*/children") for each in path.read_text().split()]
    return [pid, *(each for child in own for each in _below(child))] if Path(f"/proc/{pid}").exists() else []


def _end(child: int) -> int:
    """How a child of ours ends."""
    until(lambda: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT), "it does not end")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


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
    command = words("--", PYTHON, script(tmp_path, COUNTS), str(tmp_path / "pid"), folder=tmp_path)
    job = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environ(tmp_path),
        preexec_fn=os.setpgrp,  # noqa: PLW1509 - as a shell does for each that it may stop
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
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
    command = words("--quiet", "--", PYTHON, script(tmp_path, COUNTS), str(tmp_path / "pid"), folder=tmp_path)
    # A shell that a user types into has each of its jobs in a process group, and is who lets one that was stopped go on.
    with _terminal(tmp_path, "/bin/bash", "-m", "-c", f"{shlex.join(command)}; fg >/dev/null; exit $?") as (
        shell,
        terminal,
    ):
        pid = _pid(tmp_path)
        launcher = _parent(pid)
        assert os.readlink(f"/proc/{pid}/fd/0") == os.readlink(f"/proc/{shell}/fd/0")
        os.write(terminal, b"\x03")
        until(lambda: _heard(tmp_path), "SIGINT has not come")
        os.write(terminal, b"\x1a")
        until(lambda: "SIGCONT" in _heard(tmp_path), "it was not stopped, and let go on")
        until(lambda: _state(launcher) != "T", "the launcher does not go on")
        (tmp_path / "pid.end").touch()
        assert _end(shell) == 11
    assert _heard(tmp_path)[:3] == ["SIGINT", "SIGTSTP", "SIGCONT"]  # the shell lets the whole group go on, as do we


@pytest.mark.parametrize("own_group", [False, True])
def test_nothing_stops_where_nobody_could_let_it_go_on(tmp_path: Path, own_group: bool) -> None:  # noqa: FBT001
    """Ctrl-Z in a terminal that has no shell, as of `tmux new COMMAND`, is nothing to what has no handler, nor to us."""
    waits = "import os, sys, time; %s; open(sys.argv[1], 'w').write(str(os.getpid()))\nwhile 1: time.sleep(0.02)"
    text = waits % ("os.setpgid(0, 0)" if own_group else "0")
    command = words("--quiet", "--", PYTHON, "-I", script(tmp_path, text), str(tmp_path / "pid"), folder=tmp_path)
    with _terminal(tmp_path, *command) as (launcher, terminal):
        pid = _pid(tmp_path)
        os.write(terminal, b"\x1a")
        assert os.read(terminal, 2) == b"^Z"  # shown once it has been sent
        until(lambda: not _pending(launcher), "it is not taken")
        os.write(terminal, b"\x03")  # where one of them has stopped, nothing ends
        assert _end(launcher) == -signal.SIGINT
        assert not alive(pid)


def test_a_command_with_a_process_group_of_its_own_has_what_the_terminal_sends(tmp_path: Path) -> None:
    """As timeout(1) makes one: Ctrl-C and the terminal's end come to all of that group, and not twice to any of it."""
    own = (
        "import os, subprocess, sys\nos.setpgid(0, 0)\nsys.exit(subprocess.call([sys.executable, '-I', *sys.argv[1:]]))"
    )
    text = own.replace("sys.exit(", "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); sys.exit(")
    command = words("--quiet", "--", PYTHON, "-I", script(tmp_path, text, "own.py"), folder=tmp_path)
    with _terminal(tmp_path, *command, script(tmp_path, COUNTS), str(tmp_path / "pid")) as (launcher, terminal):
        _pid(tmp_path)
        os.write(terminal, b"\x03")
        until(lambda: _heard(tmp_path), "SIGINT has not come")
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 7, 70, 0, 0))
        until(lambda: len(_heard(tmp_path)) >= 2, "SIGWINCH has not come")
        (tmp_path / "pid.end").touch()
        assert _end(launcher) == 11
    assert _heard(tmp_path) == ["SIGINT", "SIGWINCH"]


@pytest.mark.parametrize(("step", "heard"), [({}, ["SIGUSR1", "SIGUSR2"]), ({"SLURM_STEP_ID": "0"}, ["SIGUSR2"])])
def test_what_slurm_s_daemon_sends_comes_once(tmp_path: Path, step: dict[str, str], heard: list[str]) -> None:
    """Of a step it signals every process, of a batch job perhaps its script alone, which is us after ``exec``."""
    comm = Path("/proc/self/comm")
    ours = comm.read_text()
    job = begin("--", PYTHON, script(tmp_path, COUNTS), str(tmp_path / "pid"), folder=tmp_path, **step)
    _pid(tmp_path)
    try:
        comm.write_text("slurmstepd")
        os.kill(job.pid, signal.SIGUSR1)
        until(lambda: not _pending(job.pid), "it is not taken")
        os.kill(
            job.pid, signal.SIGWINCH
        )  # taken only once SIGUSR1 is done with: it is passed over, too, or comes after it
        until(lambda: not _pending(job.pid), "it is not taken")
    finally:
        comm.write_text(ours)
    os.kill(job.pid, signal.SIGUSR2)
    until(lambda: "SIGUSR2" in _heard(tmp_path), "SIGUSR2 has not come")
    (tmp_path / "pid.end").touch()
    job.communicate(timeout=60)
    assert [each for each in _heard(tmp_path) if each != "SIGWINCH"] == heard


def test_what_was_ignored_stays_ignored(tmp_path: Path) -> None:
    """As under nohup(1): by SIGHUP neither the launcher nor a command ends, nor is a further job left out."""
    (tmp_path / "jobs.yaml").write_text(IGNORING)
    command = words("--quiet", "--file", "jobs.yaml", folder=tmp_path)
    ignoring = ["/bin/sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command]
    job = subprocess.Popen(ignoring, cwd=tmp_path, env=environ(tmp_path))
    os.kill(_pid(tmp_path), signal.SIGHUP)
    os.kill(job.pid, signal.SIGHUP)
    (tmp_path / "end").touch()
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
  - {name: long, command: "echo $$ >pid; while ! test -e end; do sleep 0.05; done"}
  - {name: next, command: touch next, blocked_by: long}
"""
JOBS = """
jobs:
  - {name: script, command: exec ./job.sh}
  - {name: trapped, command: exec ./trapped.sh}
  - {name: next, command: touch next, blocked_by: script}
"""
SCRIPT = """#!/bin/bash
(sleep 1000; echo late) | cat
echo late
"""
TRAPPED = f"""#!/bin/bash
trap 'exit 5' TERM
{PYTHON} -I job.py "$PWD/pid" | cat
echo late
"""
CAREFUL = """
import os, signal, subprocess, sys
def hear(number, frame):
    with open(sys.argv[1] + ".heard", "a") as file:
        file.write(signal.Signals(number).name + "\\n")
    if number == signal.SIGTERM:
        held.stdin.close()
        with open(sys.argv[1] + ".heard", "a") as file:
            file.write(f"{held.wait()}\\n")
        sys.exit(0)
signal.signal(signal.SIGTERM, hear)
signal.signal(signal.SIGUSR1, hear)
held = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
while True:
    signal.pause()
"""


def test_a_signal_comes_to_what_the_jobs_of_a_file_run(tmp_path: Path) -> None:
    """SIGUSR1 to who knows it; SIGTERM ends all of a script, and leaves to a training what it has started itself.

    No further job is begun, and the launcher ends by it.
    """
    for name, text in {"jobs.yaml": JOBS, "job.sh": SCRIPT, "trapped.sh": TRAPPED, "job.py": CAREFUL}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    job = begin("--file", "jobs.yaml", "--max-parallel", "2", folder=tmp_path)
    _pid(tmp_path)
    # The launcher, two scripts, a subshell, its sleep, a training and what that has started, and two ends of pipes.
    until(lambda: len(_below(job.pid)) == 9, "not all have begun")
    everybody = _below(job.pid)[1:]
    os.kill(job.pid, signal.SIGUSR1)
    until(lambda: _heard(tmp_path), "SIGUSR1 has not come")
    os.kill(job.pid, signal.SIGTERM)
    job.communicate(timeout=60)
    assert job.returncode == -signal.SIGTERM
    until(lambda: not any(map(alive, everybody)), "somebody lives on")
    assert _heard(tmp_path) == ["SIGUSR1", "SIGTERM", "0"]
    assert not (tmp_path / "next").exists()
    assert not any("late" in path.read_text() for path in (tmp_path / "runs").glob("*.log"))
    with recorded(tmp_path) as written:
        assert {job.name: job.state for job in written.jobs()} == {"script": FAILED, "trapped": FAILED, "next": SKIPPED}


NAMESPACE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]
ADOPTS = """
for each in 1 2 3 4 5; do (sleep 0.05 & echo $! >>orphans); done
while for each in $(cat orphans); do test ! -e /proc/$each || break; done; test -e /proc/$each; do sleep 0.05; done
"""


def _has_namespaces() -> bool:
    if shutil.which(NAMESPACE[0]) is None:
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False, timeout=60).returncode == 0


def test_the_first_process_of_a_container_waits_for_whom_it_adopts(tmp_path: Path) -> None:
    """So none of them takes up a process id until the end."""
    if not _has_namespaces():
        pytest.skip("namespaces are not for us here")
    command = words("--quiet", "--", "/bin/sh", "-c", ADOPTS + "exit 9", folder=tmp_path)
    done = subprocess.run([*NAMESPACE, *command], cwd=tmp_path, env=environ(tmp_path), check=False, timeout=60)
    assert done.returncode == 9
    assert len((tmp_path / "orphans").read_text().split()) == 5


WAITS = """
import os, subprocess, threading, time
from otel_hwmetrics.jobs.orphans import let_go
held, job = subprocess.Popen(["false"]), subprocess.Popen(["false"])
others = []
thread = threading.Thread(target=lambda: (others.append(subprocess.Popen(["false"])), stay.wait()), daemon=True)
stay = threading.Event()
thread.start()
while not others:
    time.sleep(0.02)
for each in (held, job, *others):
    os.waitid(os.P_PID, each.pid, os.WEXITED | os.WNOWAIT)
let_go({held.pid, job.pid})
assert held.wait() == 1
let_go({job.pid})
assert job.wait() == 1
let_go(())
assert others[0].wait() == 1
"""


def test_nobody_else_s_child_is_waited_for() -> None:
    """Neither a job, nor what another thread has started and waits for itself."""
    done = subprocess.run([PYTHON, "-c", WAITS], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
