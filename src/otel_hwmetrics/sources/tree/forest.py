# SPDX-License-Identifier: Apache-2.0
"""Trees of processes on Linux, several at once, each process read once a look.

What a tree has used is the sum over its living members of what each has used itself and what the children that it has
waited for had used: when a child is waited for, the kernel moves its figures to its parent, and the sum stays. Four
things would break it, and are seen to here:

* A child is waited for between two reads of one look. Parents are read before their children, so it is in neither, never
  in both; then the parent is read again, and with it whoever else may have moved.
* A child's figures go nowhere, since its parent ignores SIGCHLD, or to a stranger who adopted it. What it had when it was
  last seen is kept, as far as the figures of its parent's children did not grow by as much.
* A process is adopted by a stranger and lives on. It stays a member.
* A member cannot be read for once. Then the look changes nothing.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final

from otel_hwmetrics.catalog.tree import EXIT_CAUSES, UNINTERRUPTIBLE
from otel_hwmetrics.sources.base import Clock, Unsupported
from otel_hwmetrics.sources.tree.births import Birth, Births
from otel_hwmetrics.sources.tree.census import (
    DEFUNCT,
    RUNNING,
    SLEEPING,
    STATES,
    STOPPED,
    Census,
    SharedMemory,
    Traffic,
    Watched,
)
from otel_hwmetrics.sources.tree.ends import UNTOLD
from otel_hwmetrics.sources.tree.estates import NO_IO, Estate, added, most, unclaimed
from otel_hwmetrics.sources.tree.member import DESCRIPTORS, NOTHING, Budget, Figures, Member
from otel_hwmetrics.sources.tree.waits import longest

_STATES: Final = {"R": RUNNING, "D": UNINTERRUPTIBLE, "Z": DEFUNCT, "T": STOPPED, "t": STOPPED}


class Tree(Watched):
    """A root and its descendants. Made by `Forest.plant`.

    Args:
        root: The root's number.
        proc: Where /proc is.
        tells_ends: Whether the kernel tells how processes have ended.
    """

    def __init__(self, root: int, proc: str, *, tells_ends: bool) -> None:
        self.root = root
        self.members: dict[int, Member] = {}
        self.census = Census()
        self._directory = f"{proc}/{root}"
        self._tick = 1 / os.sysconf("SC_CLK_TCK")
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._lost = NOTHING
        self._lost_io = NO_IO
        self._used = NOTHING
        self._io: Figures | None = None
        self._switches = (0, 0)
        self._started = -1  # the root did not start as a descendant
        self._ended = 0
        self._tells_ends = tells_ends
        self._ends: Counter[str] = Counter()  # of those who are gone

    @property
    def over(self) -> bool:
        """Whether it had members and has none any more."""
        return self._started >= 0 and not self.members

    def join(self, member: Member) -> None:
        """Take a process in."""
        self.members[member.pid] = member
        self._started += 1

    def part(self, gone: Iterable[Member]) -> None:
        """Let go of members that have ended, and keep what the kernel did not move to one that lives.

        Args:
            gone: Everybody who has ended since the last look, whether in this tree or not.
        """
        dead = {member for member in gone if self._has(member)}
        ours = [member for member in self.members.values() if member in dead]
        self._ends.update(self._ends_of(ours))
        for member in ours:
            del self.members[member.pid]
            self._ended += member.pid != self.root
            if member.switches is not None:
                self._switches = _pair(self._switches, member.switches)
        estates: dict[Member | None, list[Estate]] = {None: []}
        for member in reversed(ours):  # children before their parents
            used, io = unclaimed(member, estates.pop(member, []))
            heir = next((above for above in _line(member) if above in dead or self._has(above)), None)
            # What its children had that it did not get when it was last read, it may have got before it ended itself.
            estates.setdefault(heir, []).append((added((member.used, used)), added((member.io or NO_IO, io))))
        kept = [estates.pop(None), *([unclaimed(heir, left)] for heir, left in estates.items() if heir is not None)]
        for used, io in itertools.chain.from_iterable(kept):
            self._lost, self._lost_io = added((self._lost, used)), added((self._lost_io, io))

    def _has(self, member: Member) -> bool:
        return self.members.get(member.pid) is member

    def miss(self, at: float) -> None:
        """Take no census, but for who was met, and who of them has ended how."""
        self.census = Census(at, started=self._started, ended=self._ended)
        if self._tells_ends:
            # Those who are dead and not waited for yet, and those who are gone.
            ends = Counter(self._ends_of(self.members.values()))
            self.census.failed = {cause: ends[cause] + self._ends[cause] for cause in EXIT_CAUSES}
            self.census.untold = ends[UNTOLD] + self._ends[UNTOLD]

    def _ends_of(self, members: Iterable[Member]) -> list[str]:
        """How some have ended; the root's end is no descendant's."""
        return [member.end for member in members if member.end is not None and member.pid != self.root]

    def count(self, at: float) -> None:
        """Take the census.

        Args:
            at: When the look began, in seconds of the monotonic clock.
        """
        members = self.members.values()
        root = self.members.get(self.root)
        self.miss(at)
        # Never less than before, whatever was read: a fall would be taken for a reset and counted twice.
        self._used = most(self._used, added((self._lost, *[member.used for member in members])))
        if root is None or root.io is not None:
            totals = added((self._lost_io, *[member.io for member in members if member.io is not None]))
            self._io = totals if self._io is None else most(self._io, totals)
        user, system, self.census.minor, self.census.major = self._used
        self.census.user, self.census.system = user * self._tick, system * self._tick
        if self._io is not None and (root is None or root.tells_io):
            self.census.traffic = Traffic(*self._io)
        pages = [member.resident for member in members if member.resident is not None]
        self.census.resident = self._page * sum(pages) if len(pages) == len(members) else None
        stats = [member.stat for member in members if member.stat is not None]
        self.census.threads = sum(stat.threads for stat in stats)
        self.census.states = dict.fromkeys(STATES, 0)
        for stat in stats:
            self.census.states[_STATES.get(stat.state, SLEEPING)] += 1

    def shared_memory(self) -> SharedMemory | None:
        """See `Watched`. A member that waits for a disk may hold its own memory map, and we would wait with it."""
        if self.members.get(self.root) and not os.path.exists(f"{self._directory}/smaps_rollup"):
            raise Unsupported
        states = [member.stat.state for member in self.members.values() if member.stat is not None]
        if "D" in states or not states:
            return None
        total, of_root = 0, None
        for member in self.members.values():  # the root first
            if member.stat is None or member.stat.state == "Z":
                continue
            try:
                memory = member.shared_memory()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended
            except (OSError, ValueError) as error:
                if of_root is None:
                    raise
                return SharedMemory(None, of_root, error)  # another user's, as sudo's
            total += memory.proportional
            if member.pid == self.root:
                of_root = memory
        return SharedMemory(total, of_root)

    def context_switches(self) -> tuple[int, int]:
        """See `Watched`."""
        total = self._switches
        for member in self.members.values():
            with suppress(OSError, ValueError):  # it stays as last seen
                member.count_switches()
            if member.switches is not None:
                total = _pair(total, member.switches)
        return total

    def uninterruptible(self) -> float | None:
        """See `Watched`."""
        if not self.census.states:
            return None
        waits = (member.wait for member in self.members.values())
        return longest((wait for wait in waits if wait is not None), self.census.at)


class Forest:
    """Trees that one thread watches together: a process is read once a look, however many of them it belongs to.

    Args:
        proc: Where /proc is.
        clock: Seconds of the monotonic clock.
        descriptors: How many files are kept open, at most.
    """

    def __init__(self, proc: str = "/proc", clock: Clock = time.monotonic, *, descriptors: int = DESCRIPTORS) -> None:
        self.trees: list[Tree] = []
        self.unreadable: Counter[str] = Counter()
        """How many processes could not be read at the last look though they were there, by type of error."""
        self._proc = proc
        self._clock = clock
        self._budget = Budget(descriptors)
        self._births = Births(proc, clock)
        self._members: dict[int, Member] = {}  # parents before their children
        self._skipped: set[Member] = set()  # could not be read at this look
        self._held: list[Member] = []  # gone, but not yet let go of

    def plant(self, root: int, *, ourselves: bool = False) -> Tree:
        """Watch a process and its descendants from now on.

        Args:
            root: Its number in this /proc.
            ourselves: Whether it is this very process, whose own looks at the kernel's files are no reading of the job.

        Raises:
            OSError: It is not there, or may not be read.
            ValueError: What the kernel says of it makes no sense.
        """
        member = self._members.get(root)
        if member is None:
            member = Member(self._proc, root, self._budget, ourselves=ourselves)
            try:
                if not member.read():
                    raise ProcessLookupError(f"there is no process {root}")
            except (OSError, ValueError):
                member.close()
                raise
            self._members[root] = member
        tree = Tree(root, self._proc, tells_ends=member.tells_ends)
        tree.join(member)
        self.trees.append(tree)
        self._arrange()
        self._births.forget()
        return tree

    def uproot(self, tree: Tree) -> None:
        """Watch a tree no longer."""
        self.trees.remove(tree)
        for pid, member in tuple(self._members.items()):
            if not any(pid in other.members for other in self.trees):
                self._members.pop(pid)
                member.close()

    def look(self) -> None:
        """Read every member once, meet those who were born, and take each tree's census. Called by one thread."""
        at = self._clock()
        self.unreadable.clear()
        self._skipped.clear()
        gone = [*self._held, *self._bury(self._members.values())]
        for birth in self._births.look(self._members):
            self._adopt(birth)
        self._settle(gone)
        # Of one that could not be read it is not known what it got and what others got of it. So this look changes
        # nothing, and the next one goes on from the last.
        self._held = gone if self._skipped else []
        for tree in self.trees:
            if self._skipped:
                tree.miss(at)
            else:
                tree.part(gone)
                tree.count(at)
        if not self._skipped:
            for member in self._members.values():
                member.turn()

    def close(self) -> None:
        """Close every file."""
        self._births.close()
        for member in self._members.values():
            member.close()

    def _bury(self, members: Iterable[Member]) -> list[Member]:
        """Read some; those who are gone are let go of, and given."""
        gone = [member for member in tuple(members) if not self._read(member)]
        for member in gone:
            self._members.pop(member.pid, None)
            member.close()
        return gone

    def _read(self, member: Member) -> bool:
        """Read one; False when it is gone."""
        try:
            alive = member.read()
        except (OSError, ValueError) as error:
            if member not in self._skipped:  # also when it was read twice
                self.unreadable[type(error).__name__] += 1
                self._skipped.add(member)
            return True
        if alive:
            self._link(member)
        return alive

    def _link(self, member: Member) -> None:
        """See whose child it is now."""
        if member.stat is None or (member.parent is not None and member.parent.pid == member.stat.parent):
            return
        parent = self._members.get(member.stat.parent)
        # No parent is younger than its child: that one had the number before, and its end was not noticed yet.
        older = parent is not None and parent.stat is not None and parent.stat.started <= member.stat.started
        member.parent = parent if older and parent is not member else None

    def _adopt(self, birth: Birth) -> None:
        """Take in somebody new, if still there; else its figures are its parent's by now."""
        if any(birth.pid in tree.members for tree in self.trees):
            self._births.forget()  # who had the number before is gone, but not let go of: to be met at the next look
            return
        parent = self._members.get(birth.parent)
        member = Member(self._proc, birth.pid, self._budget)
        if parent is None or not self._read(member) or member.stat is None:
            if member in self._skipped:
                self._skipped.remove(member)
                self._births.forget()  # it is there, and is to be met again
            member.close()
            return
        # Its parent may have ended since it was met: then whoever waits for it now is a stranger.
        self._members[member.pid] = member
        for tree in self.trees:
            if tree.members.get(parent.pid) is parent:
                tree.join(member)

    def _settle(self, gone: list[Member]) -> None:
        """Read again whoever got the figures of those who are gone, until nobody else is gone meanwhile.

        Their children were read after them, and may have been waited for since: then both have the child's figures.
        """
        more = list(gone)
        while more:  # ends, for each round takes a member
            more = []
            for heir in dict.fromkeys(_heir(member, self._members) for member in gone):
                if heir is None or not self._has(heir):
                    continue
                waited = heir.waited
                more += self._bury([heir])
                if heir.waited != waited:
                    more += self._bury(self._below(heir))
            gone += more

    def _has(self, member: Member) -> bool:
        return self._members.get(member.pid) is member

    def _below(self, root: Member) -> list[Member]:
        """The members whose line leads to one, through the dead as well, who may have handed on what they got."""
        return [member for member in self._members.values() if root in _line(member)]

    def _arrange(self) -> None:
        """Put parents before their children, and everybody into each tree that is above."""
        for member in self._members.values():
            self._link(member)
        arranged = sorted(self._members.values(), key=lambda member: len(list(_line(member))))
        self._members = {member.pid: member for member in arranged}
        for member in arranged:
            for tree in self.trees:
                if member.parent in tree.members.values() and member.pid not in tree.members:
                    tree.join(member)


def _line(member: Member) -> Iterator[Member]:
    """Those above a member, the nearest first, the dead among them until somebody else has adopted the one below."""
    above = member.parent
    while above is not None:
        yield above
        above = above.parent


def _heir(member: Member, living: Mapping[int, Member]) -> Member | None:
    """The nearest of the living above a member; None for one whom a stranger has adopted."""
    return next((above for above in _line(member) if living.get(above.pid) is above), None)


def _pair(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]
