# SPDX-License-Identifier: Apache-2.0
"""Which processes are the job's: this one and what it started."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

_FIRST_PID_NAMESPACE: Final = 0xEFFFFFFC
# PROC_PID_INIT_INO in include/linux/proc_ns.h: the number of the host's own namespace of processes.
_DEEPEST: Final = 64


class Ours:
    """Tells the processes of this job from others'.

    Args:
        proc: Where the kernel shows processes.
        root: The process whose tree is the job.

    Attributes:
        can_tell: Whether the driver's numbers of processes are those of ``proc``.
        every: Seconds between two looks at a GPU's list of processes, where that is oftener than otherwise.
    """

    every: float | None = None

    def __init__(self, proc: str = "/proc", root: int | None = None) -> None:
        self._proc = proc
        numbers = self._own_numbers()
        # The first is that of the namespace that /proc is of, which is the host's where it was passed into a container.
        self._root = (numbers[0] if numbers else os.getpid()) if root is None else root
        try:
            self.can_tell = len(numbers) > 1 or os.stat(f"{proc}/self/ns/pid").st_ino == _FIRST_PID_NAMESPACE
        except OSError:
            self.can_tell = False

    def _own_numbers(self) -> list[int]:
        """This process's number in each namespace from that of /proc down to its own (``NSpid``, Linux 4.1)."""
        try:
            with open(f"{self._proc}/self/status", "rb") as file:
                for line in file:
                    if line.startswith(b"NSpid:"):
                        return [int(number) for number in line.split()[1:]]
        except (OSError, ValueError):
            pass
        return []

    def __contains__(self, pid: int) -> bool:
        """Whether it is the root or below it."""
        for _ in range(_DEEPEST):
            if pid == self._root:
                return True
            parent = self._parent(pid)
            if parent <= 1:
                return False
            pid = parent
        return False

    def heard(self, gpu: str, memory: Mapping[int, int | None]) -> None:
        """All that have memory on a GPU, whosever they are. Called on the source's thread.

        Args:
            gpu: Its UUID.
            memory: Bytes by the number of the process; None where the driver does not tell how many.
        """

    def _parent(self, pid: int) -> int:
        try:
            with open(f"{self._proc}/{pid}/stat", "rb") as file:
                # The name may hold anything, a closing parenthesis, too: what follows the last one is ours to read.
                return int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return 0
