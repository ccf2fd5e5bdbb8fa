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
"""Seconds for all of them together."""

_CALLS: Final = 16  # of each thread, the innermost
_TO_END: Final = 0.5  # seconds, once it is told to
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
        self._refused = False
        self._last = 0

    def on_alert(self, alert: Alert) -> None:
        """Take them, if there are any and py-spy is there; once for alerts of one look."""
        if not alert.stacks or self._refused or alert.time_unix_nano == self._last:
            return
        self._last = alert.time_unix_nano
        workers = self._workers()[:MOST_WORKERS]
        program = find_program() if workers else None
        # A pipe would have the number of an output that is closed, and what is printed then would go there.
        if program is None or None in map(descriptors.identity, range(3)):
            return
        deadline = time.monotonic() + self._patience
        stacks: list[tuple[Sequence[str], Sequence[str]]] = []
        for worker in workers:
            output = _output_of([program, "dump", "--json", "--nonblocking", "--pid", str(worker.pid)], deadline)
            if output is None:
                break
            stacks += _stacks_of(worker, output)
        if stacks:
            self._tell(alert, told(stacks))
        else:
            self._refused = True
            _logger.info("No stacks of workers: %s may not look at them, or did not answer in time.", PROGRAM)


def workers_of_multiprocessing() -> list[Worker]:
    """The children of `multiprocessing` in this process that have not been waited for; nothing is imported for it.

    Not by `multiprocessing.active_children`, which waits for those that have ended: that is their owner's to do.
    """
    module = sys.modules.get("multiprocessing.process")
    found = []
    for child in tuple(getattr(module, "_children", ())):
        started = getattr(child, "_popen", None)
        pid = getattr(started, "pid", None)
        if isinstance(pid, int) and getattr(started, "returncode", None) is None:
            found.append(Worker(pid, clean(str(getattr(child, "_name", "")))))
    return sorted(found)


def find_program() -> str | None:
    """Where py-spy is: beside this Python, else where the shell finds it; None for nowhere."""
    beside = os.path.dirname(sys.executable) if sys.executable else ""
    for path in (beside, os.environ.get("PATH", "")):
        found = shutil.which(PROGRAM, path=path) if path else None
        if found is not None and os.path.isabs(found):
            return found
    return None


def _output_of(command: list[str], deadline: float) -> bytes | None:
    """What a program writes; empty where it fails, None where it is too late."""
    try:
        program = subprocess.Popen(  # noqa: S603 - of words of ours and a number
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError:
        return b""
    try:
        output, _ = program.communicate(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        if program.stdout is not None:
            program.stdout.close()
        program.terminate()  # and no SIGKILL: that would be told as a worker of the job that was killed
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(_TO_END)
        return None
    return output if program.returncode == 0 else b""


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
