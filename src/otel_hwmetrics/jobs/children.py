# SPDX-License-Identifier: Apache-2.0
"""Starting commands, and seeing how they end. A command's input, output and errors are ours: a terminal stays one.

It stays in our process group, so that Ctrl-C and job control of a shell reach it as if it had been typed by itself; nothing
ties its life to ours, so it outlives us where we are killed.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
"""Exit codes of what cannot be run, as shells have them (POSIX, 2.8.2 Exit Status for Commands)."""

_KIBIBYTE: Final = 1024  # ru_maxrss, getrusage(2)
_UNCOUNTED: Final = 2**20
# What the kernel's counters of pages may be behind on several CPUs: https://docs.kernel.org/core-api/percpu_counter.html.
_IGNORED_BY_PYTHON: Final = ("SIGPIPE", "SIGXFSZ")
_SHELL: Final = "/bin/sh"


class CannotRun(Exception):
    """A command cannot be started; the message says why.

    Attributes:
        code: The exit code that a shell has for it.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Child(NamedTuple):
    """A command that runs.

    Attributes:
        pid: The process.
        started_ns: When, by the wall clock.
        our_rss: The most memory that we had by the time that it was itself, in bytes: the kernel counts it as the child's.
    """

    pid: int
    started_ns: int
    our_rss: int


class Ending(NamedTuple):
    """How a command has ended.

    Attributes:
        code: As subprocess has it: negative for the signal that ended it.
        at_ns: When that was seen, by the wall clock.
        cpu_seconds: CPU time of it and those of its descendants that were waited for.
        max_rss: Bytes: the most that one of these had; None where it was no more than we had ourselves as it began, which the
            kernel counts as the child's, too: https://github.com/torvalds/linux/blob/v6.12/fs/exec.c (``exec_mmap``).
    """

    code: int
    at_ns: int
    cpu_seconds: float
    max_rss: int | None


def spawn(
    argv: Sequence[str], environ: Mapping[str, str], *, mask: set[signal.Signals], output: int | None = None
) -> Child:
    """Start a command.

    Args:
        argv: Its words; the first is looked for on its own PATH.
        environ: Its environment.
        mask: The signals that it begins with as blocked: those that we began with.
        output: A descriptor for its output and errors, and then nothing is its input; ours by default.

    Raises:
        CannotRun: It is not there, or no program.
    """
    path = shutil.which(argv[0], path=environ.get("PATH", os.defpath))
    if path is None:
        there = "/" in argv[0] and os.path.exists(argv[0])
        why = "it is no program that may be run" if there else "there is no such program"
        raise CannotRun(f"{argv[0]!r} cannot be run: {why}.", NOT_EXECUTABLE if there else NOT_FOUND)
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
    if output is not None:
        actions = [  # the input last: where ours is closed, the output may be number 0
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        ]
    defaults = [getattr(signal, name) for name in _IGNORED_BY_PYTHON if hasattr(signal, name)]
    started_ns = time.time_ns()

    def start(program: str, words: list[str]) -> int:
        return os.posix_spawn(program, words, environ, file_actions=actions, setsigmask=mask, setsigdef=defaults)

    try:
        try:
            pid = start(path, [*argv])
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            pid = start(_SHELL, ["sh", path, *argv[1:]])  # a script without a first line that says whose, as shells do
    except OSError as error:
        raise CannotRun(f"{argv[0]!r} cannot be run: {error.strerror}.", NOT_EXECUTABLE) from error
    except ValueError as error:  # a null character
        raise CannotRun(f"{argv[0]!r} cannot be run: {error}.", NOT_EXECUTABLE) from error
    # Not before: other threads of ours take memory meanwhile. It is the program that was asked for by now (posix_spawn(3)).
    our_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIBIBYTE
    return Child(pid, started_ns, our_rss)


def has_ended(child: Child) -> bool:
    """Whether it has ended; it stays as it is, to be looked at for the last time. Never waits."""
    try:
        return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    except ChildProcessError:
        return True


def reap(child: Child) -> Ending:
    """Let go of one that has ended."""
    at_ns = time.time_ns()
    _, status, used = os.wait4(child.pid, 0)
    max_rss = used.ru_maxrss * _KIBIBYTE
    return Ending(
        os.waitstatus_to_exitcode(status),
        at_ns,
        used.ru_utime + used.ru_stime,
        max_rss if max_rss > child.our_rss + _UNCOUNTED else None,
    )
