# SPDX-License-Identifier: Apache-2.0
"""/proc/stat: what the CPUs spent their time on, and how many processes there are.

https://docs.kernel.org/filesystems/proc.html, "Miscellaneous kernel statistics in /proc/stat". Pure: bytes to values.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

# Up to nineteen digits: more than any machine counts. Twenty are seen only of a counter that fell below zero.
_NUMBER: Final = rb" (\d{1,19})"
_REST: Final = rb"(?: \d+)*\n"  # guest times, which user and nice hold already; whatever kernels may add
_TOTAL: Final = re.compile(rb"cpu " + _NUMBER * 8 + _REST)
_EACH: Final = re.compile(rb"cpu(\d{1,6})" + _NUMBER * 8 + _REST)
_PROCESSES: Final = re.compile(
    rb"\nprocesses" + _NUMBER + rb"\nprocs_running" + _NUMBER + rb"\n(?:procs_blocked" + _NUMBER + rb"\n)?"
)


class Ticks(NamedTuple):
    """Time by mode, in ticks (``sysconf(_SC_CLK_TCK)`` a second). Idle and iowait may fall; see proc(5)."""

    user: int
    nice: int
    system: int
    idle: int
    iowait: int
    irq: int
    softirq: int
    steal: int


class Processes(NamedTuple):
    """Attributes: created: forks since boot; running: runnable now; blocked: waiting for a disk now, if told."""

    created: int
    running: int
    blocked: int | None


def total(content: bytes) -> Ticks:
    """The time of all CPUs together.

    Raises:
        ValueError: The first line is not what kernels since 2.6.11 write.
    """
    match = _TOTAL.match(content)
    if match is None:
        raise ValueError("/proc/stat does not begin with the total of all CPUs")
    return Ticks._make(map(int, match.groups()))


def each(content: bytes) -> dict[int, Ticks]:
    """The time of each CPU that is online, by its number.

    Raises:
        ValueError: There is none, or a line is not what kernels since 2.6.11 write.
    """
    found: dict[int, Ticks] = {}
    position = content.find(b"\n") + 1
    while content.startswith(b"cpu", position):
        match = _EACH.match(content, position)
        if match is None:
            raise ValueError("/proc/stat has a CPU without its times")
        number, *ticks = map(int, match.groups())
        found[number] = Ticks._make(ticks)
        position = match.end()
    if not found:
        raise ValueError("/proc/stat tells of no CPU")
    return found


def processes(content: bytes) -> Processes | None:
    """How many processes there are and were; None where that is not told.

    Raises:
        ValueError: It is told, but not as kernels since 2.5.45 do.
    """
    # From the end: the line of interrupts before it has thousands of numbers.
    start = content.rfind(b"\nprocesses ")
    if start < 0:
        return None
    match = _PROCESSES.match(content, start)
    if match is None:
        raise ValueError("/proc/stat has no numbers of processes")
    created, running, blocked = match.groups()
    return Processes(int(created), int(running), int(blocked) if blocked is not None else None)
