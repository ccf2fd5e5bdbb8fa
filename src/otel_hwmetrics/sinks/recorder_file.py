# SPDX-License-Identifier: Apache-2.0
"""The file that a run is recorded in: made safely, written with patience, and left alone where it is no longer ours.

Everything is called on one thread, which may wait for a disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
import time
from collections.abc import Callable
from typing import Final

from otel_hwmetrics import forks, redaction
from otel_hwmetrics._guard import faults, guard
from otel_hwmetrics.descriptors import identity, opened
from otel_hwmetrics.folders import Folder, file_name
from otel_hwmetrics.recording import SUFFIX, Writer
from otel_hwmetrics.recording.nouns import About

try:
    import fcntl
except ImportError:  # no POSIX
    fcntl = None  # type: ignore[assignment]

_logger = redaction.logger()

BESIDE: Final = ("-wal", "-shm", "-journal")
"""What SQLite has beside a file, by its ending (https://www.sqlite.org/tempfiles.html)."""
LONGEST_PAUSE: Final = 60.0
"""Seconds between two tries at most, where the disk refuses."""
_MOST_OF_A_SECOND: Final = 20  # recordings of one process that begin in one second
_DESCRIPTORS: Final = "/proc/self/fd"
_PLACE: Final = "writing a recording"

_WHY: Final = {
    "disk is full": "the disk is full",
    "readonly": "the file or its file system is read-only",
    "locked": "another program has it locked",
    "malformed": "the file is damaged",
    "not a database": "the file is damaged",
    "disk I/O error": "the disk reports an error, or is full",
    "unable to open": "the file cannot be opened",
}
_DAMAGED: Final = "the file is damaged"
_GONE: Final = "it is no longer there"
_SHARED: Final = (510, 0x40000000 + 2)
"""Length and begin of the bytes that who has a database open holds, as long as it has a write-ahead log (SHARED_FIRST of
https://www.sqlite.org/src/file/src/os.h)."""


class RecordingFile:
    """One file at a time; where one is lost, removed by somebody or damaged, another one is begun.

    Args:
        folder: Where it goes.
        about: Gives who writes, when it is made.
        detail: As `Writer` has it.
        size: Likewise.
        keep: Seconds after which recordings of the folder are removed; 0 for never.
        pause: Seconds before the first try after a failure.
        monotonic: Seconds that never go back.
        time_ns: The wall clock.
    """

    def __init__(  # noqa: PLR0913 - each is a different part of the world
        self,
        folder: Folder,
        about: Callable[[int], About],
        *,
        detail: float,
        size: int,
        keep: float = 0.0,
        pause: float = 5.0,
        monotonic: Callable[[], float] = time.monotonic,
        time_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.path = ""
        self.failing = False
        """Whether the last try failed."""
        self.missing = 0
        """Looks that were never written, since the disk refused for too long."""
        self.writer: Writer | None = None
        self._before: Writer | None = None
        self._folder = folder
        self._about = about
        self._bounds = (detail, size)
        self._keep = keep
        self._pause = pause
        self._monotonic = monotonic
        self._time_ns = time_ns
        self._failures = 0
        self._retry_at = float("-inf")
        self._inode: tuple[int, int] | None = None
        self._held: dict[int, tuple[int, int]] = {}  # the numbers of what SQLite has open
        self._at_it = forks.Section()  # SQLite has locks of its own, for which a child would wait for ever

    def ready(self, *, at_once: bool = False) -> Writer | None:
        """What to write with; None where that is not to be had now.

        Args:
            at_once: Do not wait for the next try after a failure: there will be none.
        """
        if self._monotonic() < self._retry_at and not (at_once and self._retry_at < float("inf")):
            return None
        if self.writer is not None and (lost := self._lost()):
            self._leave(lost)
        if self.writer is None:
            try:
                with self._at_it:
                    self._open()
            except (sqlite3.Error, OSError, ValueError) as error:
                self._failed(error)
        return self.writer

    def commit(self) -> bool:
        """Write what was given to the writer; False where that failed, and then it waits for the next try."""
        writer = self.writer
        if writer is None:
            return False
        try:
            with self._at_it:
                writer.commit(self._time_ns())
        except sqlite3.Error as error:
            self._failed(error)
            return False
        self._succeeded()
        return True

    def finish(self) -> None:
        """Write what was given to the writer, and close the file in good order."""
        writer, self.writer = self.writer, None
        if writer is None:
            return
        try:
            with self._at_it:
                writer.close(self._time_ns())
        except sqlite3.Error as error:
            self._failed(error)

    def abandon(self) -> None:
        """Have no part in it, in a forked child."""
        writer, self.writer = self.writer, None
        self._retry_at = float("inf")
        if writer is not None:
            writer.abandon()

    def _open(self) -> None:
        now = self._time_ns()
        about = self._about(now)
        name = self._name(about.run, now)
        self.path = self._folder / name
        os.close(self._folder.open_file(name))  # for this user alone, and no link; SQLite opens it by its path
        detail, size = self._bounds
        try:
            self.writer = Writer(self.path, about, detail=detail, size=size)
            if self._before is not None:
                self.writer.go_on_from(self._before)
                self._before = None
        except BaseException:
            for ending in (*BESIDE, ""):  # the next try makes another one
                self._folder.remove(name + ending)
            raise
        self._inode = _inode(self.path)
        self._held = _descriptors_of(self.path)
        if self._keep:
            with guard("removing old recordings"):
                self._folder.expire(SUFFIX, self._keep, BESIDE, young=name, in_use=_is_open)

    def _name(self, run: str, now: int) -> str:
        """What no file is called yet."""
        for number in range(1, _MOST_OF_A_SECOND):
            name = file_name(run if number == 1 else f"{run[:40]}-{number}", SUFFIX, now)
            if not os.path.lexists(self._folder / name):
                return name
        raise FileExistsError(f"there are {_MOST_OF_A_SECOND} recordings of this second")

    def _lost(self) -> str:
        """Why the file is no longer there to be written; empty where it is.

        A job that closes whatever is open, as some do to become a daemon, has its next files under the numbers that SQLite
        writes to (https://www.sqlite.org/howtocorrupt.html, "Continuing to use a file descriptor after it has been closed").
        """
        if any(identity(number) != known for number, known in self._held.items()):
            return "the job has closed it"
        try:
            found = _identity(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return _GONE
        except OSError:  # a server that is away for a moment
            return ""
        return "" if self._inode in (found, None) else _GONE

    def _leave(self, why: str) -> None:
        """Let go of a file without touching it."""
        _logger.warning("The run is recorded in another file, training is not affected: of %s, %s.", self.path, why)
        faults[_PLACE] += 1
        if self.writer is not None:
            # Of what is damaged, closing would write more; under the numbers of what the job has closed is what is its own.
            if why == _GONE and self._held:
                with contextlib.suppress(sqlite3.Error):
                    self.writer.drop()
            else:
                self.writer.abandon()
            self._before = self.writer
        self.writer = None

    def _failed(self, error: Exception) -> None:
        why = next((why for mark, why in _WHY.items() if mark in str(error)), str(error))
        faults[_PLACE] += 1
        self._failures += 1
        self._retry_at = self._monotonic() + min(LONGEST_PAUSE, self._pause * 2 ** min(self._failures - 1, 16))
        if not self.failing:
            _logger.warning(
                "The run is not recorded at the moment, training is not affected: %s: %s. What was written before stays "
                "readable, and it is tried again.",
                self.path or self._folder.path,
                why,
            )
        self.failing = True
        if why == _DAMAGED and self.writer is not None:
            self._leave(why)

    def _succeeded(self) -> None:
        if self.failing:
            missing = f"; {self.missing} looks at the machine are missing" if self.missing else ""
            _logger.warning("The run is recorded again: %s%s.", self.path, missing)
            self.missing = 0
        self.failing = False
        self._failures = 0


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _inode(path: str) -> tuple[int, int] | None:
    try:
        return _identity(path)
    except OSError:
        return None


def _is_open(path: str) -> bool:
    """Whether a process has a recording open, of this machine: one that writes nothing since it is stopped, or its disk hangs.

    Where there are no such locks, as on some file servers, it is not known, and it is not.
    """
    if fcntl is None:
        return False
    if _descriptors_of(path):
        return True  # this one; and closing any descriptor of a file lets go of all locks that a process has on it
    try:
        descriptor = opened(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, *_SHARED)
    except OSError as error:
        return error.errno in (errno.EACCES, errno.EAGAIN)
    finally:
        os.close(descriptor)
    return False


def _descriptors_of(path: str) -> dict[int, tuple[int, int]]:
    """Under which numbers this process has a file open, and what SQLite has beside it; empty where that is not told."""
    files = {_inode(path + ending) for ending in ("", *BESIDE)} - {None}
    try:
        numbers = [int(name) for name in os.listdir(_DESCRIPTORS) if name.isdigit()]
    except OSError:
        return {}
    found = {number: identity(number) for number in numbers}
    return {number: known for number, known in found.items() if known is not None and known in files}
