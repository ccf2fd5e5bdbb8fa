# SPDX-License-Identifier: Apache-2.0
"""Forks: what none of them may interrupt, and what a child begins with.

A child has a copy of every lock and only the thread that forked, so that a lock which another one held is taken for
ever. Loaders and pools fork at any moment. A collection of the SDK holds a lock for as long as our callbacks take, and
a child that inherits it taken can make no instrument and never ends, since its reader waits for it, too
(https://github.com/open-telemetry/opentelemetry-python/pull/4767); where it is in the middle, the child exports what was
observed in its parent. The same goes for the lock of a span that gets an event of ours.

So a fork waits for what is under way, takes these locks itself, and lets go of them on either side. It waits `PATIENCE`
at most, all in all, where something may hang, and for a section as long as that one says; what takes longer is
interrupted, and mended in the child.

Children are made so by `os.fork` and by `multiprocessing`; `subprocess` runs another program at once, and none of this
but where it is given a `preexec_fn`.

Python drops what is raised in here, be it by the handler of a signal that comes meanwhile: Ctrl-C, or the end of a job
that has got SIGTERM. Since we wait, that is kept, and raised in the parent soon after the fork. Of a signal that comes
just as Python begins with one of us it is not known; so it is with everybody's hooks, of which `logging` has some.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import methodcaller
from typing import Any, Final, NamedTuple

from otel_hwmetrics._guard import guard

PATIENCE = 0.05
"""Seconds that a fork waits for us at most, all in all, where something may hang."""
TRIES = 3
"""Times that a step is begun, should signals interrupt it."""
AFTERWARDS = 0.01
"""Seconds after the fork when what a signal's handler has raised is raised again: its caller has the child's number."""


class Awaited(NamedTuple):
    """Something that a fork waits for.

    Attributes:
        lock: Held by who is at it; None where there is none, as in another version of the library that owns it.
        mend: Called in a child that was forked in the middle, before it is let go of the lock.
    """

    lock: Any
    mend: Callable[[], object] = bool


class Section:
    """What one of our threads does with locks of others, which no fork interrupts. Short; not for two threads at once.

    A context manager that may be entered again within itself, and whose thread may fork there.

    Args:
        patience: Seconds that a fork waits for its end at most. More where nothing in it can hang: then it takes long only
            on a machine that has no time for its thread.
    """

    __slots__ = ("__weakref__", "lock", "patience")

    def __init__(self, patience: float = PATIENCE) -> None:
        self.lock = threading.RLock()
        self.patience = patience
        _sections.append(weakref.ref(self, _sections.remove))

    def __enter__(self) -> None:
        """Begin, once a fork that is under way is over."""
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        """End."""
        self.lock.release()


class _Fork:
    """A fork that is under way on one thread: what it has taken, and what it could not get.

    Attributes:
        raised: By the handler of a signal, in the midst of us.
    """

    def __init__(self) -> None:
        self.raised: BaseException | None = None
        self._deadline = time.monotonic() + PATIENCE
        self._prepared = False
        self._hold_nothing()

    def _hold_nothing(self) -> None:
        self._taken: list[Any] = []
        self._missed: list[Awaited] = []
        self._releases: Iterator[object] = map(methodcaller("release"), self._taken)

    def through(self, step: Callable[[], object], place: str = "getting a fork done") -> None:
        """Do something, once more where a signal interrupts it; a fault of ours is one of that place."""
        for _ in range(TRIES):
            try:
                step()
            except BaseException as error:  # Python would drop it; it is raised again
                if isinstance(error, Exception) and not _of_a_signal(error):
                    with guard(place):
                        raise
                    return
                self.raised = error
            else:
                return

    def prepare(self) -> None:
        """Take what there is to take. Once; again only where it was interrupted."""
        if self._prepared:
            return
        awaited: list[Awaited] = []
        for each in _awaited:
            self.through(partial(_ask, each, awaited), "getting ready for a fork")
        missed = [one for one in awaited if one.lock not in self._taken and not self._took(one.lock, self._left())]
        sections = [section for section in _all_sections() if not self._took(section.lock, self._left(section))]
        # What has become free meanwhile.
        self._missed = [one for one in missed if not self._took(one.lock)]
        for section in sections:
            self._took(section.lock)
        self._take_that_of_logging(awaited)
        self._prepared = True

    def _take_that_of_logging(self, awaited: list[Awaited]) -> None:
        """Take the lock that the hook of `logging` waits for next, without limit; or none at all.

        Who holds it may be making a handler, of somebody's class, which waits for one of those that we have taken.
        """
        lock = getattr(logging, "_lock", None)
        if lock is not None and not self._took(lock, self._left()):
            self.let_go()
            self._hold_nothing()
            self._missed = awaited

    def _left(self, section: Section | None = None) -> float:
        more = 0.0 if section is None else section.patience - PATIENCE
        return max(0.0, self._deadline + more - time.monotonic())

    def _took(self, lock: Any, timeout: float = 0.0) -> bool:
        """Whether a lock could be had; then it is on record.

        Both in one call into C: the handler of a signal runs before it or after it, or ends the waiting, and whatever it
        raises, no lock is taken that nobody knows of. So it is with letting go.
        """
        before = len(self._taken)
        self._taken.extend(filter(methodcaller("acquire", timeout=timeout), (lock,)))
        return len(self._taken) > before

    def mend(self) -> None:
        """In the child: go on without those who held what could not be had."""
        while self._missed:
            awaited = self._missed[-1]
            if not self._took(awaited.lock):
                with guard("mending what a fork has interrupted"):
                    awaited.mend()
                free(awaited.lock)
            self._missed.pop()
        for section in _all_sections():
            if not self._took(section.lock):
                section.lock = threading.RLock()  # nobody of this process waits for the one that it had

    def let_go(self) -> None:
        """Release what was taken. What was released stays so, should this be interrupted and begun again."""
        while True:
            try:
                deque(self._releases, maxlen=0)
            except RuntimeError:  # not held any more: somebody has made it anew in the child
                continue
            return


def _ask(each: Callable[[], Iterable[Awaited]], awaited: list[Awaited]) -> None:
    awaited += [one for one in each() if one.lock is not None]


def _of_a_signal(error: Exception) -> bool:
    """Whether the handler of a signal has raised it, and not we: it has a part in the traceback."""
    handlers = [signal.getsignal(signum) for signum in signal.valid_signals()]
    codes = {getattr(each, "__code__", getattr(type(each).__call__, "__code__", None)) for each in handlers}
    return any(frame.f_code in codes for frame, _ in traceback.walk_tb(error.__traceback__))


class _Again:
    """Raises something when it is asked whether it is true."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __bool__(self) -> bool:
        _again.remove(self)
        raise self._error


_again: list[_Again] = []  # until it is raised, since C has no part in them


def _raise_again(error: BaseException) -> None:
    """Raise on the main thread what was raised there in the midst of a fork. Called on another one.

    By what Python has for it, which it asks between two instructions: https://docs.python.org/3/c-api/init.html#c.Py_AddPendingCall.
    Where that thread waits for the system, it is raised when that has answered; but Ctrl-C interrupts it, as it does.
    """
    import ctypes

    time.sleep(AFTERWARDS)
    with guard("raising again what a signal has raised"):
        if type(error) is KeyboardInterrupt and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            return
        again = _Again(error)
        _again.append(again)
        api = ctypes.pythonapi
        ask = ctypes.cast(api.PyObject_IsTrue, ctypes.c_void_p)  # -1 and the exception, which is what is asked for
        api.Py_AddPendingCall(ask, ctypes.py_object(again))


# Changed and copied each in one call into C, so that no thread is in between.
_sections: list[weakref.ref[Section]] = []


def _all_sections() -> list[Section]:
    return [section for each in tuple(_sections) if (section := each()) is not None]


importing: Final = Section(patience=0.5)
"""What a thread of ours imports for the first time: a child that was forked meanwhile would wait for ever to import it.
The import system makes anew but one of its locks there, and not that of each module."""

_awaited: list[Callable[[], Iterable[Awaited]]] = []
_acts: list[Callable[[], object]] = []
_under_way: dict[int, _Fork] = {}  # by thread: several may fork at once


def wait_for(awaited: Callable[[], Iterable[Awaited]]) -> None:
    """Have each fork wait.

    Args:
        awaited: Gives what for, in the order in which the locks are nested; called before each fork, on its thread. Who is
            in a `Section` waits for none of them.
    """
    _awaited.append(awaited)


def in_child(act: Callable[[], object]) -> Callable[[], object]:
    """Have something done in each child, before anything else of ours is there; a decorator, too.

    Args:
        act: What to do. It takes no lock of ours, and may be done twice.
    """
    _acts.append(act)
    return act


def free(lock: Any) -> None:
    """In a child, let go of a lock for a thread that is not there. May wait for a moment, for one that is.

    A new lock would not do: the SDK starts its thread in the child, which may be waiting for this one by now. Nor is it
    clear that it is held by none of the child's, should it have become free just before the fork.
    """
    if not lock.acquire(timeout=PATIENCE):
        try:
            lock.release()
        except RuntimeError:
            # Not locked: by one of the child's it was, until now; or the other one did not get to say so.
            if not lock.acquire(blocking=False):
                lock._at_fork_reinit()  # noqa: SLF001 - as the standard library does: logging, concurrent.futures
                return
        else:
            return
    lock.release()


def _before() -> None:
    fork = _under_way.setdefault(threading.get_ident(), _Fork())
    fork.through(fork.prepare)


def _in_parent() -> None:
    fork = _under_way.get(threading.get_ident())
    if fork is not None:
        fork.through(fork.let_go)
        _over(fork)


def _in_child() -> None:
    fork = _under_way.get(threading.get_ident()) or _Fork()
    fork.raised = None  # its parent's
    fork.through(fork.prepare)
    for act in _acts:
        fork.through(act, "beginning anew in a forked child")
    fork.through(fork.mend)
    fork.through(fork.let_go)
    _under_way.clear()  # other threads' forks are not this process's
    _over(fork)


def _over(fork: _Fork) -> None:
    _under_way.pop(threading.get_ident(), None)
    if fork.raised is not None and threading.current_thread() is threading.main_thread():  # no other one has signals
        with guard("raising again what a signal has raised"):
            threading.Thread(target=_raise_again, args=(fork.raised,), name="hwmetrics-fork", daemon=True).start()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
    # Once more, should a signal have come as the first one was about to begin.
    os.register_at_fork(after_in_parent=_in_parent)
