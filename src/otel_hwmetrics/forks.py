# SPDX-License-Identifier: Apache-2.0
"""Forks: what none of them may interrupt, and what a child begins with.

A child has a copy of every lock and only the thread that forked, so that a lock which another one held is taken for
ever. Loaders and pools fork at any moment. A collection of the SDK holds a lock for as long as our callbacks take, and
a child that inherits it taken can make no instrument and never ends, since its reader waits for it, too
(https://github.com/open-telemetry/opentelemetry-python/pull/4767); where it is in the middle, the child exports what was
observed in its parent. The same goes for the lock of a span that gets an event of ours.

So a fork waits for what is under way, takes these locks itself, and lets go of them on either side. It waits `PATIENCE`
at most, all in all; what takes longer is interrupted, and mended in the child.

Children are made so by `os.fork` and by `multiprocessing`; `subprocess` runs another program at once, and none of this.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from otel_hwmetrics._guard import guard

PATIENCE = 0.05
"""Seconds that a fork waits for us at most, all in all, where something may hang."""


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
        _sections.add(self)

    def __enter__(self) -> None:
        """Begin, once a fork that is under way is over."""
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        """End."""
        self.lock.release()


class _Fork:
    """What a fork that is under way on one thread has taken, and what it could not get."""

    def __init__(self) -> None:
        self._deadline = time.monotonic() + PATIENCE
        self._taken: list[Any] = []
        self._missed: list[Awaited] = []

    def take(self, awaited: Awaited) -> None:
        if awaited.lock is not None and not self.took(awaited.lock, max(0.0, self._deadline - time.monotonic())):
            self._missed.append(awaited)

    def took(self, lock: Any, timeout: float = 0.0) -> bool:
        took: bool = lock.acquire(timeout=timeout)
        if took:
            self._taken.append(lock)
        return took

    def enter(self, section: Section) -> None:
        deadline = self._deadline - PATIENCE + section.patience
        self.took(section.lock, max(0.0, deadline - time.monotonic()))  # else: no child has a use for it

    def try_again(self) -> None:
        """Take what has become free meanwhile."""
        self._missed = [awaited for awaited in self._missed if not self.took(awaited.lock)]

    def mend(self) -> None:
        """In the child: go on without those who held what could not be had."""
        for awaited in self._missed:
            with guard("mending what a fork has interrupted"):
                awaited.mend()
            free(awaited.lock)

    def let_go(self) -> None:
        while self._taken:
            self._taken.pop().release()


_sections: weakref.WeakSet[Section] = weakref.WeakSet()
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
        act: What to do. It takes no lock.
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
        except (
            RuntimeError
        ):  # not locked: by one of the child's it was, until now; or the other one did not get to say so
            if not lock.acquire(blocking=False):
                lock._at_fork_reinit()  # noqa: SLF001 - as the standard library does: logging, concurrent.futures
                return
        else:
            return
    lock.release()


def _before() -> None:
    fork = _under_way[threading.get_ident()] = _Fork()
    with guard("getting ready for a fork"):
        for each in _awaited:
            for awaited in each():
                fork.take(awaited)
        for section in tuple(_sections):
            fork.enter(section)
        fork.try_again()


def _in_parent() -> None:
    fork = _under_way.pop(threading.get_ident(), None)
    if fork is not None:
        fork.let_go()


def _in_child() -> None:
    fork = _under_way.pop(threading.get_ident(), None)
    _under_way.clear()  # other threads' forks are not this process's
    for act in _acts:
        with guard("beginning anew in a forked child"):
            act()
    if fork is not None:
        fork.mend()
        fork.let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
