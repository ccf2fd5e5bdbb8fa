# SPDX-License-Identifier: Apache-2.0
r"""Signals that are the jobs' and come to the launcher.

What a terminal sends (Ctrl-C, Ctrl-Z, Ctrl-\, a new size of the window) goes to all of its foreground processes, so the jobs
have it already; what a process sends to us, as a batch system or ``kill``, is passed on. The kernel tells which it was
(sigaction(2), ``si_code``). SLURM's own daemon signals every process of a step, so nothing of its is passed on, either
(https://slurm.schedmd.com/scancel.html).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from typing import Final

PASSED_ON: Final = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGCONT, signal.SIGTSTP, signal.SIGWINCH),
)
ENDING: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})
"""After one of these no further job is begun."""

_FROM_PROCESSES: Final = 0  # SI_USER, SI_QUEUE, SI_TKILL are not above it; SI_KERNEL is: asm-generic/siginfo.h
_SHELLS: Final = (b"sh", b"dash", b"bash")
_STEP_DAEMON: Final = b"slurmstepd"


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


def pass_on(told: signal.struct_siginfo, pids: Iterable[int]) -> None:
    """Pass a signal on to some processes that have not got it yet; and stop with them where it stops them."""
    number = signal.Signals(told.si_signo)
    if told.si_code <= _FROM_PROCESSES and not _is_step_daemon(told.si_pid):
        for pid in pids:
            try:
                os.kill(pid, number)
            except OSError:  # it has become another user's, or is gone
                continue
    if number is signal.SIGTSTP:
        os.kill(os.getpid(), signal.SIGSTOP)


def hearers(pid: int) -> list[int]:
    """Who is to get a signal that is a job's: its first process; of a shell's, what that runs, too, which would outlive it."""
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            if file.read().strip() not in _SHELLS:
                return [pid]
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            return [pid, *map(int, file.read().split())]
    except (OSError, ValueError):
        return [pid]


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


def _is_step_daemon(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read().strip() == _STEP_DAEMON
    except OSError:
        return False
