# SPDX-License-Identifier: Apache-2.0
"""What is said before a job ends: on SIGTERM, by which launchers and schedulers end it, and on an exception.

The job ends as it would without us: by the same handlers, with the same exit status, at most `PATIENCE` later, or
`RECORDING` where the run is recorded and SIGTERM does what is the default. Nothing is said on Ctrl-C and `sys.exit`, by which
people end a job that is well, nor where another library catches what would have ended it or calls `os._exit`.

There is one exception. Where SIGTERM did what is the default, a handler that is installed later finds ours, which can be
called, and not the default, which cannot. When it calls, it has to end the process on its own: what calls us may as well
want to go on. PyTorch Lightning's calls whatever it finds and lets the job save its state, or be queued again, and ended
by us each of its jobs would lose that. A handler that ends the process only if it found nothing to call
(``prev(*it) if callable(prev) else …``) lets it live with us; it is to be installed first, and is called then.

A signal interrupts the main thread anywhere: in the middle of our own code, in logging, with any lock held. So nothing
is done there that could wait for a lock. The words are said on a thread made for them, by `_thread` and not by
`threading`, which has locks; the interrupted one looks every few milliseconds whether they are said, for a bounded
time. Should they need what it holds, they are not said, and the job ends all the same.
"""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from otel_hwmetrics._guard import guard
from otel_hwmetrics.sinks.wakeup import Wakeup, end_by

PATIENCE = 0.2
"""Seconds that the end is held up at most; what takes longer is left."""
RECORDING = 1.0
"""Seconds likewise where a run is recorded and nobody else has a handler that SIGTERM's grace is meant for: a disk is slow."""
QUIET = 60.0
"""Seconds without further words: a handler of SIGTERM may raise the exception that then ends the job."""
ANSWER_WITHIN = 0.1
"""Seconds after which a main thread that does not answer SIGTERM is taken to hang, and the process ended without it."""
_LOOK_EVERY = 0.002
_JUST_NOW = 1.0

SIGTERM = "sigterm"
EXCEPTION = "exception"
"""The reasons that are given."""


class LastWords:
    """Says something before the job ends.

    Args:
        flush: Called with the reason, and the type of the exception or nothing. On any thread.
        patience: Seconds that it may take.
    """

    def __init__(self, flush: Callable[[str, str], object], patience: float = PATIENCE) -> None:
        self._flush = flush
        self._patience = self._patience_by_default = patience
        self._on = False
        self._pid = 0
        self._turn = _thread.allocate_lock()  # never waited for: whoever finds it taken lets the other one speak
        self._quiet_until = self._deadline = self._answered = float("-inf")
        self._hook: Callable[[type[BaseException], BaseException, TracebackType | None], Any] = sys.excepthook
        self._handler: Any = signal.SIG_DFL
        self._wakeup = Wakeup(signal.SIGTERM, self._on_sigterm, self._on_unanswered)

    def install(self) -> None:
        """Be ready. SIGTERM is left alone on another thread than the main one, and where it is ignored or handled in C.

        So it is where it does what is the default and nobody could hear it while the main thread hangs: off Linux, and
        where no thread can be started. As the job ends, before functions of `atexit` from earlier on, it all is undone.
        """
        self._pid = os.getpid()
        self._on = True
        if not self._is_ours(sys.excepthook):
            self._hook, _ = _past_the_gone(sys.excepthook)
            sys.excepthook = self._on_exception
        atexit.unregister(self.uninstall)
        atexit.register(self.uninstall)
        if os.name == "posix" and threading.current_thread() is threading.main_thread():
            self._take_sigterm()

    def uninstall(self) -> None:
        """Say nothing, and undo what nobody has built upon; what somebody has passes things on from now on.

        On another thread than the main one the handler of SIGTERM stays as well, and ends the process still.
        """
        self._on = False
        if self._is_ours(sys.excepthook):
            sys.excepthook = self._hook
        if threading.current_thread() is threading.main_thread():
            atexit.unregister(self.uninstall)
            self._wakeup.stop()
            # Else it stays, and does what is the default, or calls the one that was there.
            if self._is_ours(signal.getsignal(signal.SIGTERM)) and not self._wakeup.followed:
                signal.signal(signal.SIGTERM, self._handler)

    def wait_for_a_recording(self) -> None:
        """Hold up a SIGTERM that does what is the default for `RECORDING`: what it leads to can be told of nowhere else."""
        self._patience_by_default = max(self._patience, RECORDING)

    @property
    def on(self) -> bool:
        """Whether it is ready."""
        return self._on

    def found_for(self, handler: object) -> Any:
        """What was there before a handler of its own, or before its hook of exceptions."""
        return self._hook if handler == self._on_exception else self._handler

    def give_way(self) -> None:
        """Hear SIGTERM no more, now that another one takes it over. On the main thread."""
        self._wakeup.stop()

    def _ends_by_default(self) -> bool:
        return not callable(self._handler) and self._is_ours(signal.getsignal(signal.SIGTERM))

    def _is_ours(self, handler: object) -> bool:
        return getattr(handler, "__self__", None) is self

    def _take_sigterm(self) -> None:
        found = signal.getsignal(signal.SIGTERM)
        handler, gone = _past_the_gone(found)
        by_default = handler is signal.SIG_DFL and (found is not handler or not _handled_in_c(signal.SIGTERM))
        if self._is_ours(handler) or not (by_default or callable(handler)):
            return
        for each in gone:
            each.give_way()
        self._handler = handler
        try:
            signal.signal(signal.SIGTERM, self._on_sigterm)
        except ValueError:  # the main thread of another interpreter than the main one
            return
        if by_default:
            hears = False
            try:
                hears = self._wakeup.start()
            finally:
                if not hears:  # with our handler a job that hangs would be deaf to it
                    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _on_sigterm(self, signum: int, frame: FrameType | None) -> None:
        self._answered = time.monotonic()
        self._say(SIGTERM)
        if callable(self._handler):
            self._handler(signum, frame)
        elif self._ends_by_default():
            # Else it was a later handler that called, and may let the job live: see above.
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)

    def _on_unanswered(self) -> None:
        """SIGTERM came; end the process if the main thread does not. Called on the thread that hears signals."""
        now = time.monotonic()
        while self._answered < now - _JUST_NOW:
            if time.monotonic() > now + ANSWER_WITHIN:
                if self._is_ours(signal.getsignal(signal.SIGTERM)):
                    self._say(SIGTERM)
                    end_by(signal.SIGTERM)
                return
            time.sleep(_LOOK_EVERY)

    def _on_exception(self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        try:
            if not issubclass(kind, KeyboardInterrupt | SystemExit) and not _interactive():
                name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
                self._say(EXCEPTION, name)
        finally:
            self._hook(kind, error, traceback)

    def _say(self, reason: str, exception: str = "") -> None:
        """Speak, or let the one speak who does already; either way for a bounded time."""
        if not self._on or os.getpid() != self._pid:
            return
        now = time.monotonic()
        if now >= self._quiet_until and self._turn.acquire(blocking=False):
            patience = self._patience_by_default if reason == SIGTERM and self._ends_by_default() else self._patience
            self._deadline, self._quiet_until = now + patience, now + QUIET
            try:
                _thread.start_new_thread(self._speak, (reason, exception))
            except RuntimeError:  # a cgroup limits threads, or the interpreter is about to end
                self._speak(reason, exception)
        while self._turn.locked() and time.monotonic() < self._deadline:
            time.sleep(_LOOK_EVERY)

    def _speak(self, reason: str, exception: str) -> None:
        try:
            with guard("saying last words"):
                self._flush(reason, exception)
        finally:
            self._turn.release()


def _past_the_gone(handler: Any) -> tuple[Any, list[LastWords]]:
    """What was there before those of ours that are off but could not be taken away; and these.

    Args:
        handler: What is there: of a signal, or the hook of exceptions.
    """
    gone: list[LastWords] = []
    while isinstance(it := getattr(handler, "__self__", None), LastWords) and not it.on:
        gone.append(it)
        handler = it.found_for(handler)
    return handler, gone


def _interactive() -> bool:
    """Whether somebody types at this interpreter: then an exception ends nothing."""
    return bool(sys.flags.interactive) or hasattr(sys, "ps1")


def _handled_in_c(signum: int) -> bool:
    """Whether a library has put a handler of its own where Python believes the default; the kernel knows.

    https://man7.org/linux/man-pages/man5/proc_pid_status.5.html (SigIgn, SigCgt).
    """
    try:
        with open("/proc/self/status", "rb") as file:
            masks = [line.split()[1] for line in file if line.startswith((b"SigIgn:", b"SigCgt:"))]
    except OSError:  # no Linux
        return False
    return any(int(mask, 16) >> (signum - 1) & 1 for mask in masks)
