# SPDX-License-Identifier: Apache-2.0
"""Where the workers of the data loader stand when the job stalls, where py-spy is installed.

A process cannot see into another one by itself. py-spy reads its memory (https://github.com/benfred/py-spy), if the
system lets it, which in containers takes SYS_PTRACE. It is called without its look at variables, and so that it does not
stop what it looks at (``--nonblocking``); of its two formats the one that has not the command line in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from otel_hwmetrics import descriptors, redaction
from otel_hwmetrics.sinks.base import Alert
from otel_hwmetrics.sinks.stacks import Call, clean, is_beginning, line, told
from otel_hwmetrics.threads import PREFIX

_logger = redaction.logger()

PROGRAM: Final = "py-spy"
MOST_WORKERS: Final = 4
PATIENCE: Final = 4.0
"""Seconds for all of them together; each has its share of what the others have left."""
LOOKS: Final = 3
"""After so many in a row that told nothing there are no more. After one, where py-spy says that it may not."""

_CALLS: Final = 16  # of each thread, the innermost
_TO_END: Final = 0.5  # seconds, once it is told to
# SIGTERM is ignored by what a job starts that ignores it, and so may others be. No SIGKILL: that would be told of as a
# worker of the job that was killed.
_ENDS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_REFUSALS: Final = (b"permission denied", b"operation not permitted")  # what py-spy 0.4 says, or the system by it
_LARGEST: Final = 2**22  # bytes of what it writes


class Worker(NamedTuple):
    """A process that `multiprocessing` has started, as the loaders of PyTorch do.

    Attributes:
        pid: Its number.
        name: As `multiprocessing` calls it.
    """

    pid: int
    name: str


class WorkerStacks:
    """Takes the stacks of workers for alerts that have this process's own.

    A sink on a thread that may wait. Should the program not be let, it is not called again.

    Args:
        tell: Called with the alert and the text, on that thread.
        workers: Gives the workers.
        patience: Seconds for all of them together.
    """

    def __init__(
        self,
        tell: Callable[[Alert, str], object],
        workers: Callable[[], Sequence[Worker]] | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._tell = tell
        self._workers = workers or workers_of_multiprocessing
        self._patience = patience
        self._looks = LOOKS  # that may still be in vain
        self._last = ""
        self._late: subprocess.Popen[bytes] | None = None  # one that would not end

    def on_alert(self, alert: Alert) -> None:
        """Take them, if there are any and py-spy is there; once for alerts that have the same stacks."""
        if not alert.stacks or not self._looks or alert.stacks is self._last:
            return
        self._last = alert.stacks
        if self._late is not None and self._late.poll() is None:
            return  # one at a time that nobody can end
        self._late = None
        workers = self._workers()[:MOST_WORKERS]
        program = find_program() if workers else None
        # A pipe would have the number of an output that is closed, and what is printed then would go there.
        if program is None or None in map(descriptors.identity, range(3)):
            return
        stacks = self._look(program, workers)
        if stacks:
            self._looks = LOOKS
            self._tell(alert, told(stacks))
        elif not self._looks:
            _logger.info("No stacks of workers: %s may not look at them, or did not answer in time.", PROGRAM)

    def _look(self, program: str, workers: Sequence[Worker]) -> list[tuple[Sequence[str], Sequence[str]]]:
        """The stacks of all that can be looked at."""
        self._looks -= 1
        deadline = time.monotonic() + self._patience
        stacks: list[tuple[Sequence[str], Sequence[str]]] = []
        for number, worker in enumerate(workers):
            share = max(0.0, deadline - time.monotonic()) / (len(workers) - number)
            ran = _ran([program, "dump", "--json", "--nonblocking", "--pid", str(worker.pid)], share)
            stacks += _stacks_of(worker, ran.output)
            if ran.refused:
                self._looks = 0
            if ran.refused or ran.left is not None:
                self._late = ran.left
                break
        return stacks


def workers_of_multiprocessing() -> list[Worker]:
    """The children of `multiprocessing` in this process that live; nothing is imported for it. Loaders of data first.

    Not by `multiprocessing.active_children`, which waits for those that have ended: that is their owner's to do. What a
    forked child has inherited are its parent's. Workers of PyTorch's loaders are daemons
    (https://github.com/pytorch/pytorch/blob/main/torch/utils/data/dataloader.py), the server of a manager is not.
    """
    module = sys.modules.get("multiprocessing.process")
    found = []
    for child in tuple(getattr(module, "_children", ())):
        started = getattr(child, "_popen", None)
        pid = getattr(started, "pid", None)
        if not isinstance(pid, int) or getattr(child, "_parent_pid", None) != os.getpid():
            continue
        if getattr(started, "returncode", None) is None and not _has_ended(pid):
            name = str(getattr(child, "_name", ""))
            found.append((not getattr(child, "daemon", False), "Manager-" in name, Worker(pid, clean(name))))
    return [worker for _, _, worker in sorted(found)]


def _has_ended(pid: int) -> bool:
    """Whether a child has ended that nobody has waited for, where Linux tells it."""
    try:
        with open(f"/proc/{pid}/stat", "rb", opener=descriptors.opened) as file:
            # The name may hold anything, a closing parenthesis, too: what follows the last one is the state.
            return file.read().rpartition(b")")[2].split()[:1] in ([b"Z"], [b"X"])
    except OSError:
        return False


def find_program() -> str | None:
    """Where py-spy is: beside this Python, else where the shell finds it; None for nowhere."""
    beside = os.path.dirname(sys.executable) if sys.executable else ""
    for path in (beside, os.environ.get("PATH", "")):
        found = shutil.which(PROGRAM, path=path) if path else None
        if found is not None and os.path.isabs(found):
            return found
    return None


class _Ran(NamedTuple):
    """What came of a program.

    Attributes:
        output: What it wrote; empty where it failed or was late.
        refused: Whether the system did not let it.
        left: The program, if it could not be ended.
    """

    output: bytes = b""
    refused: bool = False
    left: subprocess.Popen[bytes] | None = None


def _ran(command: list[str], seconds: float) -> _Ran:
    """Run a program for so many seconds at most."""
    try:
        program = subprocess.Popen(  # noqa: S603 - of words of ours and a number
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except OSError:
        return _Ran()
    try:
        output, errors = program.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return _Ran(left=None if _ended(program) else program)
    if program.returncode == 0:
        return _Ran(output)
    return _Ran(refused=any(refusal in errors.lower() for refusal in _REFUSALS))


def _ended(program: subprocess.Popen[bytes]) -> bool:
    """End one that is late; whether it has."""
    for pipe in (program.stdout, program.stderr):
        if pipe is not None:
            pipe.close()
    for each in _ENDS:
        program.send_signal(each)
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(_TO_END)
            return True
    return False


def _stacks_of(worker: Worker, output: bytes) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """Of each thread of a worker its name and its calls, the main one first; nothing of what cannot be read."""
    try:
        threads = json.loads(output) if 0 < len(output) <= _LARGEST else []
    except ValueError:
        return
    threads = [each for each in threads if isinstance(each, dict)] if isinstance(threads, list) else []
    for thread in sorted(threads, key=lambda each: each.get("os_thread_id") != worker.pid):
        name = clean(str(thread.get("thread_name") or thread.get("thread_id")))
        calls = [line(call) for call in _calls_of(thread.get("frames"))]
        if calls and not name.startswith(PREFIX):
            more = [f"  ... {len(calls) - _CALLS} calls ..."] if len(calls) > _CALLS else []
            yield [f"{name} of process {worker.pid} ({worker.name})"], [*calls[:_CALLS], *more]


def _calls_of(frames: Any) -> Iterator[Call]:
    for frame in frames if isinstance(frames, list) else ():
        told_of = frame if isinstance(frame, dict) else {}
        file, number, function = (told_of.get(key) for key in ("filename", "line", "name"))
        if isinstance(file, str) and isinstance(function, str) and not is_beginning(file, function):
            yield file, number if isinstance(number, int) and number > 0 else None, function
