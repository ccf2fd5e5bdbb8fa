# SPDX-License-Identifier: Apache-2.0
"""A kernel's books of its processes, kept as the kernel keeps them, and shown as a /proc of real files."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

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
        pid = self._newest
        assert pid not in self.processes
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

    def exit(self, pid: int) -> None:
        """It ends: somebody adopts its children, and its parent is told, or does not want to be."""
        process = self.processes[pid]
        process.state, process.pages = "Z", 0
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
        (there / "stat").write_text(
            f"{process.pid} ({process.name}) {process.state} {process.parent} 1 1 0 -1 0 {own[2]} {waited[2]} {own[3]} "
            f"{waited[3]} {own[0]} {own[1]} {waited[0]} {waited[1]} 20 0 {process.threads} 0 {process.started} 1 1 1 1\n"
        )
        (there / "statm").write_text(f"1000 {process.pages} 50 1 0 100 0\n")
        names = ("rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes")
        io = "".join(f"{name}: {one + more}\n" for name, one, more in zip(names, own[4:], waited[4:], strict=True))
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
