# SPDX-License-Identifier: Apache-2.0
"""`otel-hwmetrics run` as a user types it, in a folder of its own, and what it has recorded."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from otel_hwmetrics.recording import Run, open_run

COMMAND = os.path.join(os.path.dirname(sys.executable), "otel-hwmetrics")
PYTHON = sys.executable
DEADLINE = 60.0


def environ(folder: Path, **more: str) -> dict[str, str]:
    """An environment without anybody's options, with files below a folder."""
    others = ("OTEL_", "SLURM_", "COV", "LC_", "LANG")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    own = {"XDG_STATE_HOME": str(folder / "state"), "OTEL_PYTHON_HWMETRICS_LOUD": "1"}
    return clean | own | more


def words(*arguments: str, folder: Path) -> list[str]:
    """The command line, with recordings in a folder below."""
    return [COMMAND, "run", "--directory", str(folder / "runs"), *arguments]


BY_A_SMALL_PROCESS = ("/bin/sh", "-c", '"$@"; exit $?', "sh")
"""In front of a command: the most memory of a process counts from what started it had (getrusage(2)), and tests are large."""


def run(*arguments: str, folder: Path, given: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return _run(words(*arguments, folder=folder), folder, given, more)


def run_by_a_small_process(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Likewise, where the most memory of processes counts."""
    return _run([*BY_A_SMALL_PROCESS, *words(*arguments, folder=folder)], folder, "", {})


def _run(command: list[str], folder: Path, given: str, more: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environ(folder, **more),
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )


def begin(*arguments: str, folder: Path, **more: str) -> subprocess.Popen[str]:
    """Begin to run it."""
    return subprocess.Popen(
        words(*arguments, folder=folder),
        cwd=folder,
        env=environ(folder, **more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def recorded(folder: Path) -> Run:
    """The run that was recorded last."""
    return open_run(str(folder / "runs"))


def until(holds: Callable[[], object], what: str) -> None:
    """Wait for something."""
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def script(folder: Path, text: str, name: str = "job.py") -> str:
    """A file with a program."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def alive(pid: int) -> bool:
    """Whether a process runs, and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def lines(text: str, *parts: str) -> Sequence[str]:
    """The lines that have all of some parts."""
    return [line for line in text.splitlines() if all(part in line for part in parts)]
