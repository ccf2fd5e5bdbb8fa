# SPDX-License-Identifier: Apache-2.0
"""Who was born into a tree since the last look, at the cost of the births and not of the machine.

The kernel tells the number that it gave last (/proc/loadavg). When that has not changed, nobody was born anywhere, and
that one read was all. When it has changed by little, those few numbers are asked for their parents. Only else, and every
half a minute to be sure, the tree is walked by what the kernel lists of each thread's children; and only where it does
not (CONFIG_PROC_CHILDREN), all processes are listed, of which those met before are not read again.

Few calls matter more than cheap ones: each lets go of the interpreter, and a busy training gives it back 5 ms later.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from otel_hwmetrics.sources.base import Clock
from otel_hwmetrics.sources.linux.files import KernelFile
from otel_hwmetrics.sources.linux.proc_pid import parse_children, parse_identity, parse_newest, parse_stat
from otel_hwmetrics.sources.tree.member import OUR_OWN, read_once

FEW: Final = 64
"""Up to so many new numbers are asked one by one."""
WALK_EVERY: Final = 30.0
"""Seconds between two walks that trust nothing. They meet those who were adopted, by a first process or a subreaper."""
_CROWD: Final = 10_000
_SHARE: Final = 0.01
_LONGEST: Final = 10.0
"""Among more processes than that, the share of the time that listing them may take, and the most seconds between two listings
for which that is kept to: nobody waits longer for who was born. Of 30,000 a listing takes 10 ms, so births go unseen for 1 s,
of 100,000 35 ms; the first one, which reads them all, takes twenty times as much and may exceed the share."""
_AGAIN: Final = 16
"""How many of the strangers a listing reads again each time, in turn: their number may be a child's of ours by now."""


class Birth(NamedTuple):
    """Somebody new, and whose child it is."""

    pid: int
    parent: int


class Births:
    """Finds new descendants. One for all trees that one thread watches.

    Args:
        proc: Where /proc is.
        clock: Seconds of the monotonic clock.
    """

    def __init__(self, proc: str, clock: Clock) -> None:
        self._proc = proc
        self._clock = clock
        self._loadavg = KernelFile(f"{proc}/loadavg")
        self._trusted: bool | None = None
        self._newest: int | None = None
        self._missed: list[int] = []
        self._walk_due = float("-inf")
        self._has_children: bool | None = None
        self._strangers: set[int] = set()
        self._again: list[int] = []
        self._list_again_at = float("-inf")

    def forget(self) -> None:
        """Walk at the next look: there is a new tree, and its members are not new to the machine."""
        self._newest = None
        self._strangers.clear()
        self._list_again_at = float("-inf")

    def look(self, members: Collection[int]) -> list[Birth]:
        """Who was born to the members since the last look, and to those; parents before their children.

        Raises nothing that is to be expected: who cannot be read, or ended meanwhile, is not met.
        """
        before, self._newest = self._newest, self._read_newest()
        now = self._clock()
        if not members:
            return []
        newest = self._newest
        if before is not None and newest is not None and now < self._walk_due and 0 <= newest - before <= FEW:
            births, missed = self._ask([*self._missed, *range(before + 1, newest + 1)], members)
            # A number is given a moment before its process is to be seen (copy_process in kernel/fork.c): those that
            # were missed are asked once more.
            self._missed = [number for number in missed if number > before]
            return births
        self._walk_due = now + WALK_EVERY
        self._missed = []
        if self._lists_children(members):
            return list(self._by_children(members))
        if now < self._list_again_at:
            self._newest = before
            return []
        births = self._by_listing(members, before)
        if len(self._strangers) > _CROWD:
            ended = self._clock()
            self._list_again_at = ended + min((ended - now) / _SHARE, _LONGEST)
        return births

    def close(self) -> None:
        """Close its file."""
        self._loadavg.close()

    def _read_newest(self) -> int | None:
        if self._trusted is None:
            self._trusted = self._is_ours()
        if not self._trusted:
            return None
        try:
            return parse_newest(self._loadavg.read()) or None
        except (OSError, ValueError):
            return None

    def _is_ours(self) -> bool:
        """Whether loadavg is the kernel's (LXCFS puts its own there), and counts as this /proc does."""
        try:
            device = os.stat(f"{self._proc}/loadavg").st_dev
            return device == os.stat(self._proc).st_dev and os.readlink(f"{self._proc}/self") == str(os.getpid())
        except OSError:
            return False

    def _ask(self, numbers: Iterable[int], members: Collection[int]) -> tuple[list[Birth], list[int]]:
        """Which of the numbers are our children's, and which are nobody's."""
        births: dict[int, Birth] = {}
        missed = []
        for number in numbers:
            if number in members:
                continue
            try:
                identity = parse_identity(read_once(f"{self._proc}/{number}/status"))
            except OSError as error:
                missed.append(number)
                self._note(error)
                continue
            except ValueError:
                continue
            if identity.process == number and (identity.parent in members or identity.parent in births):
                births[number] = Birth(number, identity.parent)
        return list(births.values()), missed

    def _note(self, error: OSError) -> None:
        """Walk at the next look if it was we who could not read."""
        if error.errno in OUR_OWN:
            self._newest = None

    def _lists_children(self, members: Collection[int]) -> bool:
        """Whether this kernel lists the children of a thread."""
        if self._has_children is None:
            for pid in members:
                task = f"{self._proc}/{pid}/task/{pid}"
                if os.path.isdir(task):
                    self._has_children = os.path.exists(f"{task}/children")
                    break
        return bool(self._has_children)

    def _by_children(self, members: Collection[int]) -> Iterator[Birth]:
        queue = list(members)
        met = set(queue)
        for pid in queue:  # grows
            for child in self._children(pid):
                if child not in met:
                    met.add(child)
                    queue.append(child)
                    yield Birth(child, pid)

    def _children(self, pid: int) -> Iterator[int]:
        """The children of all threads of a process: each thread has a list of its own."""
        task = f"{self._proc}/{pid}/task"
        try:
            threads = os.listdir(task)
        except OSError as error:
            self._note(error)
            return
        for thread in threads:
            try:
                yield from parse_children(read_once(f"{task}/{thread}/children", records=True))
            except OSError as error:
                self._note(error)
            except ValueError:
                continue

    def _by_listing(self, members: Collection[int], before: int | None) -> list[Birth]:
        try:
            there = {int(name) for name in os.listdir(self._proc) if name.isdigit()}
        except OSError as error:
            self._note(error)
            return []
        self._strangers &= there
        known = self._strangers - self._suspects(before)
        parents: dict[int, int] = {}
        for pid in sorted(there - known - set(members)):
            try:
                parents[pid] = parse_stat(read_once(f"{self._proc}/{pid}/stat")).parent
            except OSError as error:
                self._note(error)
            except ValueError:
                continue
        births = _descendants(parents, members)
        self._strangers |= parents.keys()
        self._strangers -= {birth.pid for birth in births}
        return births

    def _suspects(self, before: int | None) -> set[int]:
        """The strangers whose number may have been given anew: since the last look, if that can be told; a few anyway."""
        if not self._again:
            self._again = list(self._strangers)
        suspects, self._again = set(self._again[-_AGAIN:]), self._again[:-_AGAIN]
        newest = self._newest
        if before is not None and newest is not None:
            risen = before <= newest
            suspects |= {
                pid for pid in self._strangers if (before < pid <= newest if risen else pid > before or pid <= newest)
            }
        return suspects


def _descendants(parents: Mapping[int, int], members: Collection[int]) -> list[Birth]:
    """Those whose parents lead to a member, parents before their children."""
    births: dict[int, Birth] = {}
    for pid in parents:
        line: list[int] = []
        while pid in parents and pid not in births and pid not in line:
            line.append(pid)
            pid = parents[pid]  # noqa: PLW2901 - climbs
        if pid in members or pid in births:
            births.update((below, Birth(below, parents[below])) for below in reversed(line))
    return list(births.values())
