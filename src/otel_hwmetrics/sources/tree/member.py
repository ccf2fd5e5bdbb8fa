# SPDX-License-Identifier: Apache-2.0
"""One process of a tree, as Linux shows it."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import Final

from otel_hwmetrics.sources.linux.files import KernelFile, own_reads
from otel_hwmetrics.sources.linux.proc_pid import (
    HIDDEN,
    Io,
    Rollup,
    Stat,
    parse_context_switches,
    parse_exit_code,
    parse_io,
    parse_smaps_rollup,
    parse_start_code,
    parse_stat,
    parse_statm,
)
from otel_hwmetrics.sources.tree.ends import UNTOLD, cause_of
from otel_hwmetrics.sources.tree.waits import Switches, Wait

DESCRIPTORS: Final = 256
"""How many files are kept open, at most; and never more than an eighth of what the process may have, since a training
that shares tensors between its workers needs many (https://pytorch.org/docs/stable/multiprocessing.html)."""

_FILES: Final = 3
_PATIENCE: Final = 100
OUR_OWN: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}
"""Errors that say nothing of the process that is read: it is as if this look at it had not been."""

Figures = tuple[int, ...]

NOTHING: Final[Figures] = (0, 0, 0, 0)


class Budget:
    """How many descriptors members may hold, together."""

    def __init__(self, most: int = DESCRIPTORS) -> None:
        try:
            import resource

            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        except (ImportError, OSError, ValueError):
            soft = 0
        else:
            soft = most * 8 if soft == resource.RLIM_INFINITY else soft
        self._left = min(most, soft // 8)

    def take(self, count: int) -> bool:
        """Take that many if there are as many."""
        if count > self._left:
            return False
        self._left -= count
        return True

    def give(self, count: int) -> None:
        """Give them back."""
        self._left += count


class Member:
    """A process: who it is, where it comes from, and what it has used.

    Attributes:
        pid: Its number.
        parent: The member whose child it was when it was last read; None for a stranger's.
        stat: As last read.
        waited: What the children that it has waited for had used: ticks of CPU time (user, system), faults (minor,
            major).
        waited_before: The same at the end of the look before this one.
        used: The same kinds, of itself and of those children.
        io: What read, write and storage gave and took, of itself and those children; None if that may not be read.
        io_before: The same at the end of the look before this one.
        tells_io: Whether that could be read last time.
        resident: Pages of physical memory; None if that could not be read.
        switches: Voluntary and involuntary context switches of its main thread; None if they were never read.
        end: Why it ended, of one that was seen dead: a cause, or `UNTOLD`; None if it lives, ended well or was not seen.
        wait: The uninterruptible sleep that its main thread is in; None if it is in none.

    Args:
        proc: Where /proc is.
        pid: Its number.
        budget: Gives descriptors to keep; without any each file is opened anew at each look.
        ourselves: Whether it is this very process: then what we read of the kernel's files is left out of its io.
    """

    __slots__ = (
        "_budget",
        "_directory",
        "_io",
        "_kept",
        "_living",
        "_ourselves",
        "_stat",
        "_statm",
        "end",
        "io",
        "io_before",
        "parent",
        "pid",
        "resident",
        "stat",
        "switches",
        "tells_io",
        "used",
        "wait",
        "waited",
        "waited_before",
    )

    def __init__(self, proc: str, pid: int, budget: Budget, *, ourselves: bool = False) -> None:
        self.pid = pid
        self.parent: Member | None = None
        self.stat: Stat | None = None
        self.waited = self.waited_before = self.used = NOTHING
        self.io: Io | None = None
        self.io_before: Io | None = None
        self.tells_io = False
        self.resident: int | None = None
        self.switches: Switches | None = None
        self.end: str | None = None
        self.wait: Wait | None = None
        self._living = b""  # its stat, as of the last time that it was seen alive
        self._directory = f"{proc}/{pid}"
        self._stat = KernelFile(f"{self._directory}/stat")
        self._statm = KernelFile(f"{self._directory}/statm")
        self._io = KernelFile(f"{self._directory}/io")
        self._ourselves = ourselves
        self._budget = budget
        self._kept = budget.take(_FILES)

    @property
    def tells_ends(self) -> bool:
        """Whether the kernel would tell us how it ended, and keeps such a thing at all; as last seen alive."""
        with suppress(ValueError):
            return parse_start_code(self._living) > HIDDEN
        return False

    def turn(self) -> None:
        """A look is over: what is known now was before."""
        self.waited_before = self.waited
        self.io_before = self.io

    def read(self) -> bool:
        """Read it once; False when it is gone, and its number perhaps another's.

        What cannot be read but should be there stays as it was last.

        Raises:
            OSError: Its stat cannot be read, though it is there, or we have no descriptor left.
            ValueError: Its stat makes no sense.
        """
        # Before stat: a child that this io has is then in stat's figures of children, too, by which it is noticed that it
        # was waited for.
        io, resident = self._read_io(), self._read_resident()
        try:
            content, stat = self._read_stat()
        except (FileNotFoundError, ProcessLookupError):
            return False
        if stat is None or (self.stat is not None and stat.started != self.stat.started):
            return False
        self.stat = stat
        self.waited = (stat.user_waited, stat.system_waited, stat.minor_waited, stat.major_waited)
        self.used = (
            stat.user + stat.user_waited,
            stat.system + stat.system_waited,
            stat.minor + stat.minor_waited,
            stat.major + stat.major_waited,
        )
        self.resident = resident
        self.tells_io = io is not None
        self.io = io or self.io
        if stat.state != "Z":
            self._living = content
        elif stat.threads <= 1:  # else its main thread alone has ended
            self._see_end(content)
        self.wait = (self.wait or Wait(self.count_switches)) if stat.state == "D" else None
        return True

    def _read_stat(self) -> tuple[bytes, Stat | None]:
        # X: its parent is about to have its figures, and then it is gone (wait_task_zombie in kernel/exit.c).
        for _ in range(_PATIENCE):
            content = self._content(self._stat)
            stat = parse_stat(content)
            if stat.state not in "Xx":
                return content, stat
        return b"", None

    def _see_end(self, content: bytes) -> None:
        if self.end not in (None, UNTOLD):
            return
        with suppress(ValueError):
            self.end = cause_of(parse_exit_code(content))
        # A 0 is also what is shown to whoever may not trace it, and of a dead one nothing tells the two apart. Its io takes
        # the same permission (do_io_accounting in fs/proc/base.c), but cannot be opened any more: it is root's by now
        # (task_dump_owner).
        if self.end is None and not self.tells_io and self._hides_end():
            self.end = UNTOLD

    def _hides_end(self) -> bool:
        with suppress(ValueError):
            return parse_start_code(self._living) == HIDDEN
        return False

    def _read_resident(self) -> int | None:
        try:
            return parse_statm(self._content(self._statm)).resident
        except (OSError, ValueError):
            return None

    def _read_io(self) -> Io | None:
        try:
            content = self._content(self._io)
            io = parse_io(content)
            return self._without_our_reads(io, len(content)) if self._ourselves else io
        except ValueError:
            return None
        except OSError as error:
            if error.errno in OUR_OWN:
                raise
            return None  # another user's, or gone

    def _without_our_reads(self, io: Io, size: int) -> Io:
        """What it has read for the job: an idle one would else read ten kilobytes a second, in the smallest of requests.

        Both figures rise together or not at all: those that other threads of ours read at this very moment may be in our
        count before they are in the kernel's, and are in both at the next look.
        """
        own = own_reads()
        # But for the call that gave this, which the kernel counts when it is over.
        read, reads = max(0, io.read - own.bytes + size), max(0, io.reads - own.calls + 1)
        if self.io is not None and (read < self.io.read or reads < self.io.reads):
            read, reads = self.io.read, self.io.reads
        return io._replace(read=read, reads=reads)

    def shared_memory(self) -> Rollup:
        """Its physical memory, counted page by page.

        Raises:
            OSError: It is gone, another user's, or the kernel does not tell.
            ValueError: What the kernel tells makes no sense.
        """
        return parse_smaps_rollup(self._once("smaps_rollup"))

    def count_switches(self) -> Switches:
        """Count its main thread's context switches.

        Raises:
            OSError: They cannot be read.
            ValueError: What the kernel tells makes no sense.
        """
        self.switches = parse_context_switches(self._once("status"))
        return self.switches

    def close(self) -> None:
        """Close its files."""
        self.wait = None
        for file in (self._stat, self._statm, self._io):
            file.close()
        if self._kept:
            self._kept = False
            self._budget.give(_FILES)

    def _content(self, file: KernelFile) -> bytes:
        try:
            return file.read()
        finally:
            if not self._kept:
                file.close()

    def _once(self, name: str) -> bytes:
        return read_once(os.path.join(self._directory, name))


def read_once(path: str, *, records: bool = False) -> bytes:
    """A kernel file's whole content, by a descriptor that is not kept.

    Raises:
        OSError: It cannot be read.
    """
    file = KernelFile(path, records=records)
    try:
        return file.read()
    finally:
        file.close()
