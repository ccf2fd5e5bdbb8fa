# SPDX-License-Identifier: Apache-2.0
"""What is known of a tree at one moment, whoever looked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from otel_hwmetrics.catalog.tree import UNINTERRUPTIBLE
from otel_hwmetrics.sources.linux.proc_pid import Rollup

RUNNING: Final = "running"
SLEEPING: Final = "sleeping"
STOPPED: Final = "stopped"
DEFUNCT: Final = "defunct"
STATES: Final = (RUNNING, SLEEPING, UNINTERRUPTIBLE, STOPPED, DEFUNCT)
"""The values of `process.state`: the conventions' four, whose enumeration has another name in older ones, and ours."""


class Traffic(NamedTuple):
    """Bytes and calls, from the beginning of the tree.

    Attributes:
        read: Bytes that read calls gave; None where the platform does not count them.
        written: Bytes that write calls took.
        reads: Read calls.
        writes: Write calls.
        disk_read: Bytes that storage gave.
        disk_written: Bytes that storage took.
    """

    read: int | None
    written: int | None
    reads: int
    writes: int
    disk_read: int
    disk_written: int


@dataclass
class Census:
    """One look at a tree. What could not be read is None.

    Attributes:
        at: When the look began, in seconds of the monotonic clock.
        user: CPU seconds in user mode, of those that have ended, too.
        system: CPU seconds in the kernel.
        minor: Page faults without a read from storage.
        major: Page faults with one.
        traffic: Bytes and calls.
        resident: Bytes of physical memory, a shared page once for each process.
        threads: How many there are.
        states: How many processes are in each of `STATES`.
        started: Descendants met so far.
        ended: Those of them that are gone.
        failed: Those of them that were seen to have ended otherwise than well, by cause.
        untold: Those that were seen to have ended, of which the kernel does not tell us how.
    """

    at: float = 0.0
    user: float | None = None
    system: float | None = None
    minor: int | None = None
    major: int | None = None
    traffic: Traffic | None = None
    resident: int | None = None
    threads: int | None = None
    states: dict[str, int] = field(default_factory=dict)
    started: int = 0
    ended: int = 0
    failed: dict[str, int] | None = None
    untold: int = 0


class SharedMemory(NamedTuple):
    """Memory, counted page by page.

    Attributes:
        total: Bytes of physical memory, of each shared page the tree's part; None when a member's cannot be read.
        root: The root's; None when it is gone.
        failure: Why there is no total.
    """

    total: int | None
    root: Rollup | None
    failure: Exception | None = None


class Watched(ABC):
    """A tree that is watched: a root and the descendants that were met."""

    census: Census
    """As of the last look."""

    @abstractmethod
    def shared_memory(self) -> SharedMemory | None:
        """Count the pages; None when that is better not asked for now. May take long, and may hang.

        Raises:
            Unsupported: The platform will not tell.
            OSError: It does not tell this time, not even of the root.
            ValueError: What it tells of the root makes no sense.
        """

    @abstractmethod
    def context_switches(self) -> tuple[int, int]:
        """Voluntary and involuntary ones of the main threads, each as last seen.

        Raises:
            Unsupported: The platform will not tell.
        """

    @abstractmethod
    def uninterruptible(self) -> float | None:
        """For how many seconds a main thread has been in one uninterruptible sleep, of several the longest; 0 if none is.

        None when the last look could not see everybody.

        Raises:
            Unsupported: The platform will not tell.
            OSError: It does not tell this time.
            ValueError: What it tells makes no sense.
        """
