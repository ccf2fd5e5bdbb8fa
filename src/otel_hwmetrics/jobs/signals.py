# SPDX-License-Identifier: Apache-2.0
r"""Signals that are the jobs' and come to the launcher.

What a terminal sends (Ctrl-C, Ctrl-Z, Ctrl-\, a new size of the window) goes to all of its foreground process group, which
is ours, so the jobs have it already, but for one that has made itself a group of its own, as timeout(1) does; what a process
sends to us, as a batch system or ``kill``, is passed on. The kernel tells which it was (sigaction(2), ``si_code``).

SLURM's own daemon signals every process of a step, so nothing of its is passed on, either; but of the batch step it may
signal the batch script's process alone (https://slurm.schedmd.com/scancel.html, ``--batch``;
https://slurm.schedmd.com/sbatch.html, ``--signal=B:``), and that is us where the script ends with ``exec``.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final

PASSED_ON: Final = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGCONT, signal.SIGTSTP, signal.SIGWINCH),
)
ENDING: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})
"""After one of these no further job is begun."""

_FROM_PROCESSES: Final = 0  # SI_USER, SI_QUEUE, SI_TKILL are not above it; SI_KERNEL is: asm-generic/siginfo.h
_SHELLS: Final = frozenset(
    {"sh", "dash", "bash", "rbash", "ash", "busybox", "zsh", "ksh", "ksh93", "mksh", "fish", "tcsh", "csh"}
)
_STEP_DAEMON: Final = b"slurmstepd"
_BATCH_STEPS: Final = frozenset(
    {"", "batch", str(0xFFFFFFFB), str(0xFFFFFFFE)}
)  # SLURM_BATCH_SCRIPT, now and before 20.11
_HANDLED: Final = frozenset({signal.SIGUSR1, signal.SIGUSR2})  # they end who has no handler, as a shell between


class Signals:
    """Takes what comes, one after the other, instead of handlers; a context manager, entered before any thread is started.

    Threads that are started within have these signals blocked, too. What was ignored as we began, as by nohup(1), stays so.

    Attributes:
        before: Those that were blocked before.
    """

    def __init__(self) -> None:
        self.before: set[signal.Signals] = set()
        self._taken: set[signal.Signals] = set()
        self._of_children: object = signal.SIG_DFL

    def __enter__(self) -> Signals:  # noqa: PYI034 - nobody derives from it
        """Begin to take them."""
        self._of_children = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, children would be gone unseen
        self._taken = {each for each in PASSED_ON if signal.getsignal(each) is not signal.SIG_IGN} | {signal.SIGCHLD}
        self.before = {
            signal.Signals(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, self._taken) if each in _KNOWN
        }
        return self

    def __exit__(self, *_: object) -> None:
        """Leave them to whoever had them before; what waits to be taken is let go of."""
        while signal.sigtimedwait(self._taken, 0) is not None:
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, self.before)
        if self._of_children is not None:
            signal.signal(signal.SIGCHLD, self._of_children)  # type: ignore[arg-type] # as it was given

    def wait(self, timeout: float | None) -> signal.struct_siginfo | None:
        """The next one; None where none comes in so many seconds."""
        if timeout is None:
            return signal.sigwaitinfo(self._taken)
        return signal.sigtimedwait(self._taken, max(0.0, timeout))


_KNOWN: Final = frozenset(signal.Signals)


def pass_on(told: signal.struct_siginfo, pids: Iterable[int], environ: Mapping[str, str]) -> None:
    """Pass a signal on to those of a job's processes that have not got it yet.

    Args:
        told: What has come.
        pids: Whose it is.
        environ: The launcher's environment.
    """
    if is_of_terminal(told):
        as_terminal(told.si_signo, pids)
    elif not _all_have_it(told.si_pid, environ):
        for pid in pids:
            with suppress(OSError):  # it has become another user's, or is gone
                os.kill(pid, told.si_signo)


def is_of_terminal(told: signal.struct_siginfo) -> bool:
    """Whether the kernel has sent it, to the terminal's foreground process group."""
    return told.si_code > _FROM_PROCESSES


def as_terminal(number: int, pids: Iterable[int]) -> None:
    """Signal the process groups of some processes as the terminal has signalled ours, which is left out.

    Its end (SIGHUP) is not for who has left it by a session of its own, as by setsid(1).
    """
    done = {os.getpgrp()}
    for pid in pids:
        with suppress(OSError):
            group = os.getpgid(pid)
            if group not in done and (number != signal.SIGHUP or os.getsid(pid) == os.getsid(0)):
                done.add(group)
                os.killpg(group, number)


def stop() -> bool:
    """Stop as we would by SIGTSTP if we did not take it: not in an orphaned process group, where nobody could have us go on.

    Called on the main thread; every other has the signal blocked.

    Returns:
        Whether it has stopped; SIGCONT is to be taken then.
    """
    handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    signal.pthread_kill(threading.get_ident(), signal.SIGTSTP)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTSTP})
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTSTP})
    if handler is not None:
        signal.signal(signal.SIGTSTP, handler)
    return signal.SIGCONT in signal.sigpending()


def hearers(pid: int, number: int) -> Iterator[int]:
    """Who is to get a signal that is a job's, for a job that a shell of ours runs: parents before their children.

    It is its first process, and those below, which would outlive it: a shell passes nothing on to what it runs. Who has a
    handler does, or ends what it has started in its own way, as torchrun ends its workers and a training those that load its
    data; so what is below is left to it, unless it is a shell, whose trap waits until what it runs has ended.

    SIGUSR1 and SIGUSR2 are for those who know them: they go to who has a handler, and to all where nobody has.

    Each is told as soon as it is found: signal it before going on, so that a shell begins nothing else meanwhile.
    """
    if number not in _HANDLED:
        leaves_it = number not in (signal.SIGCONT, signal.SIGWINCH)  # SIGCONT: who is stopped tells nobody
        yield from _family(pid, lambda each: leaves_it and _catches(each, number) and not _is_shell(each))
        return
    everybody = list(_family(pid, lambda each: _catches(each, number)))
    yield from [each for each in everybody if _catches(each, number)] or everybody


def _family(pid: int, is_end: Callable[[int], bool]) -> Iterator[int]:
    """A process and those below it, but none that is below one that is an end."""
    waiting, seen = [pid], {pid}
    while waiting:
        parent = waiting.pop(0)
        if is_end(parent):
            yield parent
            continue
        below = _children(parent)
        yield parent
        below += _children(parent)  # it may have begun one before it was signalled
        waiting += dict.fromkeys(each for each in below if each not in seen)
        seen.update(below)


def _children(pid: int) -> list[int]:
    """The processes that one has started, on any thread; none where that cannot be told."""
    found: list[int] = []
    with suppress(OSError, ValueError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


def _catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal: proc_pid_status(5), ``SigCgt``."""
    with suppress(OSError, ValueError), open(f"/proc/{pid}/status", "rb") as file:
        for line in file:
            if line.startswith(b"SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def _is_shell(pid: int) -> bool:
    """Whether a process is a shell, by its program: a script has a name of its own."""
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")) in _SHELLS
    except OSError:
        return False


def end_by(number: int) -> None:
    """End this process by a signal, as its job was ended: so whoever waits for us sees what was. Returns where that cannot be.

    Without a core dump: there is nothing of us to be seen in it.
    """
    import resource

    if number in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
        return
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)  # the first process of a container does not end by it
    except (OSError, ValueError):
        return


def _all_have_it(sender: int, environ: Mapping[str, str]) -> bool:
    """Whether a process that has signalled us has signalled every process of the job, too."""
    is_batch_script = sender == os.getppid() and environ.get("SLURM_STEP_ID", "") in _BATCH_STEPS
    return _is_step_daemon(sender) and not is_batch_script  # there, rather twice than never


def _is_step_daemon(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read().strip() == _STEP_DAEMON
    except OSError:
        return False
