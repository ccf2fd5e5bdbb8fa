# SPDX-License-Identifier: Apache-2.0
"""Locks that one process of a job has at a time, and that the kernel frees when it dies.

The ranks of a job may share some of the folders of `otel_hwmetrics.folders.runtime_folders`, in containers not always the
same ones. So an office is a lock in each folder, taken in their order and all of them: of any two processes that share
a folder one has it, and as all take them in one order, nobody waits for anybody in a circle.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from typing import Final

from otel_hwmetrics.election import files
from otel_hwmetrics.election.files import Kept
from otel_hwmetrics.folders import Folder

_LOOK_AFTER: Final = 10
"""Looks after which it is seen whether the files of the locks are still there: somebody may have cleaned up."""
_GATE_PATIENCE: Final = 1.0
"""Seconds for which a process that joins waits for others that do; each takes less than a millisecond."""
FORGOTTEN: Final = 7 * 86400.0
"""Seconds after which what a job has left is removed, if nobody is of it any more."""

_MEMBERS = re.compile(r"([0-9a-f]{16})\.members")
_ODD = re.compile(r"[^A-Za-z0-9-]+")


class _Lock:
    """The lock of one file. It stays open while another process has it, to be asked for again at little cost."""

    __slots__ = ("_file", "_folder", "_name")

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder = folder
        self._name = name
        self._file: Kept | None = None

    def take(self, *, shared: bool = False) -> bool:
        """Have it, unless somebody else has.

        Raises:
            OSError: The file cannot be opened or locked.
        """
        if self._file is None:
            self._file = Kept(self._folder, self._name)
        return self._file.lock(shared=shared)

    @property
    def stands(self) -> bool:
        """Whether its file is still where others look for it."""
        return self._file is None or self._file.stands

    def let_go(self) -> None:
        """Have it no more."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


class Offices:
    """The offices of one job. Used by one thread at a time.

    Args:
        folders: Where the job's processes may meet; without any nobody is met, and nothing is had.
        job: Names it in file names.
    """

    def __init__(self, folders: Sequence[Folder], job: str) -> None:
        self.folders = list(folders) if files.fcntl is not None else []
        self._job = job
        self._members: list[Kept] = []
        self._locks: dict[str, list[_Lock]] = {}
        self._held: set[str] = set()
        self._first: str | None = None
        self._looks = 0

    def join(self, as_first: str | None = None) -> None:
        """Be one of the job's processes. Who finds itself alone removes what an earlier run of the same name has left.

        Waits for others that join at the same time, a second at most.

        Args:
            as_first: What the local rank 0 lets the others know (`first`); None for any other rank.
        """
        for folder in tuple(self.folders):
            try:
                self._join(folder, as_first)
            except OSError:  # full, or gone: nobody can meet there
                self.folders.remove(folder)

    def _join(self, folder: Folder, as_first: str | None) -> None:
        with _gate(folder, self._job) as passed:
            members = Kept(folder, self.file("members"))
            self._members.append(members)
            if passed and members.lock():
                _clear(folder, self._job)
            members.lock(shared=True)
            if as_first is not None:
                with folder.new(self.file("first")) as file:
                    file.write(as_first.encode())
        for job in _forgotten(folder):
            if job != self._job:
                _remove(folder, job)

    @property
    def first(self) -> str | None:
        """What the local rank 0 let others know; None where it shares no folder with this process, or was not here yet."""
        for folder in self.folders if self._first is None else ():
            with contextlib.suppress(OSError), open(folder / self.file("first"), encoding="utf-8") as file:
                self._first = file.read(256)
                break
        return self._first

    def holds(self, office: str) -> bool:
        """Whether this process has it."""
        return office in self._held

    def take(self, office: str) -> bool:
        """Have an office, if nobody else has. Never waits.

        Returns:
            Whether this process has it now.
        """
        if office not in self._held and self.folders and _taken(self._locks_of(office)):
            self._held.add(office)
        return office in self._held

    def _locks_of(self, office: str) -> list[_Lock]:
        if office not in self._locks:
            self._locks[office] = [_Lock(folder, self.file(f"{office}.lock")) for folder in self.folders]
        return self._locks[office]

    def share(self, name: str) -> None:
        """Be one of those that have something together."""
        for lock in self._locks_of(name):
            with contextlib.suppress(OSError):
                lock.take(shared=True)

    def shared(self, name: str) -> bool:
        """Whether any other process has it; this one has it no more."""
        for lock in self._locks_of(name):
            with contextlib.suppress(OSError):
                free = lock.take()
                lock.let_go()
                if not free:
                    return True
        return False

    def give_up(self, office: str) -> None:
        """Let others have it."""
        self._held.discard(office)
        for lock in self._locks.get(office, ()):
            lock.let_go()

    def look_after(self) -> None:
        """Now and then, see that the locks still keep others out; an office whose files are gone is given up."""
        self._looks += 1
        if self._looks % _LOOK_AFTER == 0:
            for office, locks in self._locks.items():
                if not all(lock.stands for lock in locks):
                    self.give_up(office)

    def leave(self) -> None:
        """Give up every office, and be none of the job's any more."""
        for office in tuple(self._locks):
            self.give_up(office)
        members, self._members = self._members, []
        for file in members:
            file.close()

    def file(self, what: str) -> str:
        """The name of one of the job's files in each of its folders."""
        return f"{self._job}.{what}"


def office_name(kind: str, of: str = "") -> str:
    """What an office is called in file names: ``node``, ``gpu-GPU-afd2…``."""
    return "-".join(filter(None, (kind, _ODD.sub("_", of))))


def _taken(locks: Sequence[_Lock]) -> bool:
    """Take all of them, or none."""
    with contextlib.suppress(OSError):
        for number, lock in enumerate(locks):
            if not lock.take():
                for before in locks[:number]:
                    before.let_go()
                return False
        if all(lock.stands for lock in locks):
            return True
    for lock in locks:
        lock.let_go()
    return False


@contextlib.contextmanager
def _gate(folder: Folder, job: str, patience: float = _GATE_PATIENCE) -> Iterator[bool]:
    """Be the only one of a job that joins or removes; gives whether it is.

    Who has it may have been stopped: then one joins all the same, and removes nothing.
    """
    gate = Kept(folder, f"{job}.gate")
    try:
        deadline = time.monotonic() + patience
        while not (passed := gate.lock()) and time.monotonic() < deadline:
            time.sleep(0.001)
        yield passed
    finally:
        gate.close()


def _clear(folder: Folder, job: str) -> None:
    """Remove what an earlier run has left that counts: where its counters stood, and that its local rank 0 was there."""
    for name in folder.names():
        left = name.startswith(f"{job}.") and name.endswith((".totals", ".first"))
        if left or name.startswith(f".{job}."):  # the latter was never finished
            folder.remove(name)


def _forgotten(folder: Folder) -> Iterator[str]:
    """Jobs that were here long ago."""
    long_ago = time.time() - FORGOTTEN
    for name in folder.names():
        match = _MEMBERS.fullmatch(name)
        if match is not None:
            with contextlib.suppress(OSError):
                if os.stat(folder / name, follow_symlinks=False).st_mtime < long_ago:
                    yield match[1]


def _remove(folder: Folder, job: str) -> None:
    """Remove every file of a job that nobody is of any more."""
    with contextlib.suppress(OSError), _gate(folder, job, patience=0.0) as passed:
        members = Kept(folder, f"{job}.members")
        if passed and members.lock():
            for name in folder.names():
                if name.startswith((f"{job}.", f".{job}.")):
                    folder.remove(name)
        members.close()
