# SPDX-License-Identifier: Apache-2.0
"""What the kernel writes of one process, parsed: the files of /proc/<pid> (https://man7.org/linux/man-pages/man5/proc.5.html).

Each parser takes a file's whole content and raises `ValueError` for one that the kernel would not write: a file cut
short gives nothing rather than half. Units are the kernel's (ticks, pages, kibibytes made bytes); readers convert.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

_LONGEST: Final = 20
"""Digits of the largest number that 64 bits hold; what is longer is garbage, and would not fit into a float."""


class Stat(NamedTuple):
    """/proc/<pid>/stat: who a process is, and what it and the children that it has waited for have used.

    Attributes:
        state: One letter, of the main thread: R, S, D, Z, T, t, X, I.
        parent: Its number; 1, or the nearest reaper's, when the parent has ended.
        minor: Page faults without a read from storage, of all its threads.
        minor_waited: The same of its children that it has waited for, and of those that they had waited for.
        major: Page faults with a read from storage.
        major_waited: The same of those children.
        user: CPU time in user mode, in ticks.
        system: CPU time in the kernel, in ticks.
        user_waited: CPU time in user mode of those children.
        system_waited: CPU time in the kernel of those children.
        threads: How many it has.
        started: When it began, in ticks since the machine did. Together with its number it names it for ever.
    """

    state: str
    parent: int
    minor: int
    minor_waited: int
    major: int
    major_waited: int
    user: int
    system: int
    user_waited: int
    system_waited: int
    threads: int
    started: int


class Statm(NamedTuple):
    """/proc/<pid>/statm, in pages.

    Attributes:
        size: Virtual memory.
        resident: Physical memory.
        shared: The part of it that files and shared memory are.
    """

    size: int
    resident: int
    shared: int


class Io(NamedTuple):
    """/proc/<pid>/io, of the process and of the children that it has waited for.

    The kernel adds a child's figures to its parent's when the parent waits for it (wait_task_zombie in kernel/exit.c).

    Attributes:
        read: Bytes that read(2) and the like gave it, from wherever.
        written: Bytes that write(2) and the like took.
        reads: Calls of read(2) and the like.
        writes: Calls of write(2) and the like.
        disk_read: Bytes that storage gave for it.
        disk_written: Bytes that storage was, or will be, given for it.
    """

    read: int
    written: int
    reads: int
    writes: int
    disk_read: int
    disk_written: int


class Rollup(NamedTuple):
    """/proc/<pid>/smaps_rollup, in bytes.

    Attributes:
        proportional: Resident memory, of each shared page its part (PSS).
        unique: Resident memory that nobody else maps (USS).
    """

    proportional: int
    unique: int


def numbers(fields: Sequence[bytes]) -> list[int]:
    """Fields that are numbers as the kernel prints them: digits only, at most 64 bits.

    Raises:
        ValueError: One is not.
    """
    # Python takes more for a number than the kernel writes: signs, underscores. Checked all at once, for speed.
    if fields and (not b"".join(fields).isdigit() or max(map(len, fields)) > _LONGEST):
        raise ValueError(f"no numbers of the kernel's: {fields!r:.60}")
    return list(map(int, fields))


def parse_stat(content: bytes) -> Stat:
    """Parse /proc/<pid>/stat. The second field is the process's name in parentheses, which may hold any byte but 0.

    Raises:
        ValueError: It is not what the kernel writes.
    """
    fields = content[content.rfind(b")") + 1 :].split()
    if len(fields) < 22 or not content.endswith(b"\n") or not fields[0].isalpha():  # noqa: PLR2004 - see proc(5)
        raise ValueError(f"no stat of a process: {content[:60]!r}")
    figures = numbers((fields[1], *fields[7:15], fields[17], fields[19]))
    return Stat._make((fields[0].decode("ascii"), *figures))


def _late_field(stat: bytes, number: int) -> int:
    """A field of /proc/<pid>/stat by its number in proc(5), which counts from 1."""
    # Counted from the third: the first two are the process's number and name.
    field = stat[stat.rfind(b")") + 1 :].split()[number - 3 : number - 2]
    if not field or not stat.endswith(b"\n"):
        raise ValueError(f"no stat of a process with field {number}: {stat[:60]!r}")
    return numbers(field)[0]


HIDDEN: Final = 1
"""What `parse_start_code` gives where the kernel hides it."""


def parse_start_code(stat: bytes) -> int:
    """Parse where a process's code begins in memory, in /proc/<pid>/stat.

    It is `HIDDEN` to whoever may not trace the process (ptrace(2), PTRACE_MODE_READ_FSCREDS), and so is how it will have
    ended (do_task_stat in fs/proc/array.c). It is 0 of one without memory: dead, or the kernel's own; and of everybody
    where the kernel is gVisor, which keeps neither (pkg/sentry/fsimpl/proc/task_files.go).

    Raises:
        ValueError: It is not what the kernel writes.
    """
    return _late_field(stat, 26)


def parse_exit_code(stat: bytes) -> int:
    """Parse how a process has ended, in the form of waitpid(2), in /proc/<pid>/stat: since Linux 3.5.

    Only for one that is dead as a whole: of one whose main thread has ended before the others it is that thread's. It is
    0 of one that has ended well, and to whoever may not trace the process (see `parse_start_code`).

    Raises:
        ValueError: It is not what the kernel writes.
    """
    return _late_field(stat, 52)


def parse_statm(content: bytes) -> Statm:
    """Parse /proc/<pid>/statm.

    Raises:
        ValueError: It is not what the kernel writes.
    """
    fields = content.split()
    if len(fields) != 7 or not content.endswith(b"\n"):  # noqa: PLR2004 - see proc(5)
        raise ValueError(f"no statm of a process: {content[:60]!r}")
    return Statm(*numbers(fields[:3]))


_IO: Final = (b"rchar:", b"wchar:", b"syscr:", b"syscw:", b"read_bytes:", b"write_bytes:")


def parse_io(content: bytes) -> Io:
    """Parse /proc/<pid>/io.

    Raises:
        ValueError: It is not what the kernel writes.
    """
    fields = content.split()
    if tuple(fields[0:12:2]) != _IO or not content.endswith(b"\n"):
        raise ValueError(f"no io of a process: {content[:60]!r}")
    return Io(*numbers(fields[1:12:2]))


def _after(content: bytes, label: bytes) -> bytes:
    """The first field after a label that begins a line."""
    at = content.find(label)
    end = content.find(b"\n", at + len(label))
    if at < 0 or end < 0:
        raise ValueError(f"no {label.strip().decode()} in {content[:60]!r}")
    fields = content[at + len(label) : end].split()
    if not fields:
        raise ValueError(f"nothing after {label.strip().decode()}")
    return fields[0]


class Identity(NamedTuple):
    """Who a number of /proc is.

    Attributes:
        process: The process that it belongs to. A thread has a directory, too, which listings leave out; of a
            process's main thread the two numbers are the same.
        parent: The process's parent.
    """

    process: int
    parent: int


def parse_identity(status: bytes) -> Identity:
    """Parse what /proc/<pid>/status says of who it is.

    Raises:
        ValueError: It is not what the kernel writes.
    """
    return Identity(*numbers((_after(status, b"\nTgid:"), _after(status, b"\nPPid:"))))


def parse_context_switches(status: bytes) -> tuple[int, int]:
    """Parse the voluntary and involuntary context switches in /proc/<pid>/status: those of its main thread alone.

    Raises:
        ValueError: It is not what the kernel writes.
    """
    voluntary = _after(status, b"\nvoluntary_ctxt_switches:")
    involuntary = _after(status, b"\nnonvoluntary_ctxt_switches:")
    switches = numbers((voluntary, involuntary))
    return switches[0], switches[1]


def parse_smaps_rollup(content: bytes) -> Rollup:
    """Parse /proc/<pid>/smaps_rollup.

    Raises:
        ValueError: It is not what the kernel writes.
    """
    labels = (b"\nPss:", b"\nPrivate_Clean:", b"\nPrivate_Dirty:", b"\nPrivate_Hugetlb:")
    proportional, *private = numbers([_after(content, label) for label in labels])
    return Rollup(proportional * 1024, sum(private) * 1024)


def parse_children(content: bytes) -> list[int]:
    """Parse /proc/<pid>/task/<tid>/children: the numbers of that thread's children.

    Raises:
        ValueError: It is not what the kernel writes.
    """
    return numbers(content.split())


def parse_newest(loadavg: bytes) -> int:
    """Parse the last field of /proc/loadavg: the number that was given last, to a process or a thread.

    Numbers are given in rising order until the largest, then from a low one again (alloc_pid in kernel/pid.c). So
    whoever is newer than a look has a number above the one that was newest then.

    Raises:
        ValueError: It is not what the kernel writes.
    """
    fields = loadavg.split()
    if len(fields) != 5 or not loadavg.endswith(b"\n"):  # noqa: PLR2004 - see proc(5)
        raise ValueError(f"no loadavg: {loadavg[:60]!r}")
    return numbers(fields[4:])[0]
