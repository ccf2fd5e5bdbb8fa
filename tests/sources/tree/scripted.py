# SPDX-License-Identifier: Apache-2.0
"""A kernel's books of its processes, kept as the kernel keeps them, and shown as a /proc of real files.

And what may happen to those processes, by chance.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from otel_hwmetrics.sources.tree.forest import Forest, Tree

INIT = 1
KINDS = 10
"""Figures of a process: CPU time (user, system), faults (minor, major), and the six of io."""


@dataclass
class Process:
    """One process."""

    pid: int
    parent: int
    started: int
    own: list[int] = field(default_factory=lambda: [0] * KINDS)
    waited: list[int] = field(default_factory=lambda: [0] * KINDS)
    state: str = "S"
    name: str = "python3"
    threads: int = 1
    pages: int = 100
    reaps: bool = True
    """Whether it has not set SIGCHLD to be ignored."""
    reaper: bool = False
    """Whether it adopts (PR_SET_CHILD_SUBREAPER)."""
    exit_code: int = 0
    """How it has ended, in the form of waitpid(2)."""
    traceable: bool = True
    """Whether we may trace it."""
    others: int = 0
    """CPU time of other threads than the main one, in ticks."""


class Kernel:
    """Processes that fork, burn, exit and wait; `show` writes what a /proc would show of them now.

    Args:
        root: An empty folder.
        children: Whether the kernel lists each thread's children.
        loadavg: Whether it tells the newest number.
    """

    def __init__(self, root: Path, *, children: bool = True, loadavg: bool = True) -> None:
        self.root = root
        self.processes = {INIT: Process(INIT, 0, 0)}
        self.ours: set[int] = set()
        """The job's process and its descendants, wherever they went since."""
        self.spent = [0] * KINDS
        """What all of those have used, ever."""
        self._children = children
        self._loadavg = loadavg
        self._newest = 99
        self._age = 1000
        self._shown: set[int] = set()
        self.job = self.fork(INIT, ours=True)
        if loadavg:
            # The numbers count as ours do, as in a /proc of one's own.
            (root / "self").symlink_to(str(os.getpid()))

    def fork(self, parent: int, *, ours: bool = False) -> int:
        """A child; every process has page faults as soon as it is there."""
        self._newest += 1
        while self._newest in self.processes:
            self._newest += 1
        pid = self._newest
        self._age += 1
        self.processes[pid] = Process(pid, parent, self._age)
        if ours or parent in self.ours:
            self.ours.add(pid)
        self.burn(pid, 2, 3)
        return pid

    def thread(self, count: int = 1) -> None:
        """Threads take numbers, too."""
        self._newest += count

    def give_next(self, pid: int) -> None:
        """The next number given is this one, as after a round of all of them."""
        self._newest = pid - 1

    def burn(self, pid: int, kind: int, amount: int) -> None:
        """It uses something."""
        self.processes[pid].own[kind] += amount
        if pid in self.ours:
            self.spent[kind] += amount

    def exit(self, pid: int, exit_code: int = 0) -> None:
        """It ends: somebody adopts its children, and its parent is told, or does not want to be."""
        process = self.processes[pid]
        process.state, process.pages, process.exit_code = "Z", 0, exit_code
        heir = self._reaper_above(pid)
        for child in list(self.processes.values()):
            if child.parent == pid:
                child.parent = heir
                if child.state == "Z" and heir == INIT:
                    self.wait(child.pid)
        if not self.processes[process.parent].reaps:
            self._forget(pid)
        elif process.parent == INIT:
            self.wait(pid)

    def wait(self, pid: int) -> None:
        """Its parent waits for it, and has its figures from now on."""
        dead = self._forget(pid)
        assert dead.state == "Z"
        parent = self.processes[dead.parent]
        parent.waited = [sum(parts) for parts in zip(parent.waited, dead.own, dead.waited, strict=True)]

    def _forget(self, pid: int) -> Process:
        self.ours.discard(pid)
        return self.processes.pop(pid)

    def _reaper_above(self, pid: int) -> int:
        above = self.processes[pid].parent
        while above != INIT and (not self.processes[above].reaper or self.processes[above].state == "Z"):
            above = self.processes[above].parent
        return above

    # What it looks like.

    def show(self) -> None:
        """Write every file."""
        for pid in self._shown - self.processes.keys():
            shutil.rmtree(self.root / str(pid))
        for process in self.processes.values():
            self._show(process)
        self._shown = set(self.processes)
        if self._loadavg:
            (self.root / "loadavg").write_text(f"0.00 0.02 0.00 1/95 {self._newest}\n")

    def _show(self, process: Process) -> None:
        there = self.root / str(process.pid)
        task = there / "task" / str(process.pid)
        task.mkdir(parents=True, exist_ok=True)
        own, waited = process.own, process.waited
        start_code = 0 if process.state == "Z" else 4096 if process.traceable else 1
        (there / "stat").write_text(
            f"{process.pid} ({process.name}) {process.state} {process.parent} 1 1 0 -1 0 {own[2]} {waited[2]} {own[3]} "
            f"{waited[3]} {own[0] + process.others} {own[1]} {waited[0]} {waited[1]} 20 0 {process.threads} 0 "
            f"{process.started} 1 1 1 {start_code} {start_code} 0 0 0 0 0 0 0 1 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 "
            f"{process.exit_code if process.traceable else 0}\n"
        )
        (there / "statm").write_text(f"1000 {process.pages} 50 1 0 100 0\n")
        names = ("rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes")
        io = "".join(f"{name}: {one + more}\n" for name, one, more in zip(names, own[4:], waited[4:], strict=True))
        if process.traceable:
            (there / "io").write_text(f"{io}cancelled_write_bytes: 0\n")
        (there / "status").write_text(
            f"Name:\t{process.name}\nState:\t{process.state}\nTgid:\t{process.pid}\nPPid:\t{process.parent}\n"
            f"voluntary_ctxt_switches:\t{own[1]}\nnonvoluntary_ctxt_switches:\t{own[0]}\n"
        )
        (there / "smaps_rollup").write_text(
            f"0-1 ---p 00000000 00:00 0 [rollup]\nRss: {process.pages * 4} kB\nPss: {process.pages * 2} kB\n"
            "Private_Clean: 0 kB\nPrivate_Dirty: 0 kB\nPrivate_Hugetlb: 0 kB\n"
        )
        if self._children:
            children = [child.pid for child in self.processes.values() if child.parent == process.pid]
            (task / "children").write_text("".join(f"{child} " for child in children))


def planted(kernel: Kernel, root: int | None = None, clock: Callable[[], float] = lambda: 0.0) -> tuple[Forest, Tree]:
    """A forest with one tree; no file is kept open, for a real file does not say that its process has ended."""
    kernel.show()
    forest = Forest(str(kernel.root), clock, descriptors=0)
    return forest, forest.plant(kernel.job if root is None else root)


EXIT_CODES = (0, 0, 3 << 8, 255 << 8, 6 | 0x80, 9, 11, 15)
"""Of processes that end by chance."""


class Story:
    """What the processes of a job do next, by chance.

    Args:
        kernel: Whose processes.
        chance: Decides.
        tidy: Whether every child is waited for before its parent ends.
        reuse: How likely it is that a child is given a number that another one had.
    """

    def __init__(self, kernel: Kernel, chance: Random, *, tidy: bool, reuse: float = 0.0) -> None:
        self.kernel = kernel
        self.ended: dict[int, Process] = {}
        """Everybody who has ended, by when they began."""
        self._chance = chance
        self._tidy = tidy
        self._reuse = reuse

    def go_on(self) -> None:
        """One thing happens."""
        kernel = self.kernel
        living = [pid for pid in sorted(kernel.ours) if kernel.processes[pid].state != "Z"]
        dead = [pid for pid in sorted(kernel.ours) if kernel.processes[pid].state == "Z"]
        others = [pid for pid in living if pid != kernel.job]
        if self._tidy:
            # Whoever ends has waited for all of its children.
            parents = {process.parent for process in kernel.processes.values()}
            others = [pid for pid in others if pid not in parents]
        deeds = {"fork": living, "burn": living, "exit": others, "wait": dead, "thread": living}
        deed = self._chance.choice([deed for deed, whom in deeds.items() if whom])
        pid = self._chance.choice(deeds[deed])
        if deed == "fork":
            free = [process.pid for process in self.ended.values() if process.pid not in kernel.processes]
            if free and self._chance.random() < self._reuse:
                kernel.give_next(self._chance.choice(free))
            kernel.fork(pid)
            kernel.processes[pid].reaps = self._tidy or self._chance.random() < 0.7
        elif deed == "burn":
            for kind in range(10):
                kernel.burn(pid, kind, self._chance.randrange(1000))
        elif deed == "exit":
            self.ended[kernel.processes[pid].started] = kernel.processes[pid]
            kernel.exit(pid, self._chance.choice(EXIT_CODES))
        elif deed == "wait":
            kernel.wait(pid)
        else:
            kernel.thread(self._chance.choice([1, 100]))

    def some(self, most: int = 12) -> None:
        """A few things happen, and can be seen."""
        for _ in range(self._chance.randrange(most)):
            self.go_on()
        self.kernel.show()


KERNELS = st.fixed_dictionaries({"children": st.booleans(), "loadavg": st.booleans()})
CHANCES = st.builds(Random, st.integers(0, 2**32))
THOROUGH = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
