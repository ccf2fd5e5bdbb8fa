# SPDX-License-Identifier: Apache-2.0
"""Locks that one process of a job has at a time, and that the kernel frees when it dies.

The ranks of a job may share some of the folders of `otel_hwmetrics.folders.runtime_folders`, in containers not always the
same ones. So an office is a lock in each folder, taken in their order and all of them: of any two processes that share
a folder one has it, and as all take them in one order, nobody waits for anybody in a circle.

The locks are of flock(2), which belong to the open file: a forked child would keep its parent's, so it closes them
(`Offices.abandon`), which leaves the parent's as they are; programs that are started do not get them (O_CLOEXEC).
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Final

from otel_hwmetrics.folders import Folder

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_LOOK_AFTER: Final = 10
"""Looks after which it is seen whether the files of the locks are still there: somebody may have cleaned up."""
FORGOTTEN: Final = 7 * 86400.0
"""Seconds after which what a job has left is removed, if nobody is of it any more."""

_MEMBERS = re.compile(r"([0-9a-f]{16})\.members")
_ODD = re.compile(r"[^A-Za-z0-9-]+")


class _Lock:
    """The lock of one file. It stays open while another process has it, to be asked for again at little cost."""

    __slots__ = ("_descriptor", "_folder", "_name")

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder = folder
        self._name = name
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Have it, unless somebody else has.

        Raises:
            OSError: The file cannot be opened or locked.
        """
        if self._descriptor is None:
            self._descriptor = self._folder.open_file(self._name)
        return _locked(self._descriptor)

    @property
    def stands(self) -> bool:
        """Whether its file is still where others look for it."""
        return self._descriptor is None or self._folder.leads_to(self._name, self._descriptor)

    def let_go(self) -> None:
        """Have it no more; in a forked child the parent still has it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)


class Offices:
    """The offices of one job. Used by one thread, but for `abandon`.

    Args:
        folders: Where the job's processes may meet; without any nobody is met, and nothing is had.
        job: Names it in file names.
    """

    def __init__(self, folders: Sequence[Folder], job: str) -> None:
        self.folders = list(folders) if fcntl is not None else []
        self._job = job
        self._members: list[int] = []
        self._locks: dict[str, list[_Lock]] = {}
        self._held: set[str] = set()
        self._met_first = False
        self._looks = 0

    def join(self, *, first: bool) -> None:
        """Be one of the job's processes. Who finds itself alone removes what an earlier run of the same name has left.

        Args:
            first: This is the local rank 0; others see that (`met_first`).
        """
        for folder in tuple(self.folders):
            try:
                self._join(folder, first=first)
            except OSError:  # full, or gone: nobody can meet there
                self.folders.remove(folder)

    def _join(self, folder: Folder, *, first: bool) -> None:
        members = folder.open_file(self.file("members"))
        self._members.append(members)
        if _locked(members):
            _clear(folder, self._job)
        _share(members)
        if first:
            os.close(folder.open_file(self.file("first")))
        for job in _forgotten(folder):
            if job != self._job:
                _remove(folder, job)

    @property
    def met_first(self) -> bool:
        """Whether the local rank 0 shares a folder with this process."""
        if not self._met_first:
            self._met_first = any(os.path.lexists(folder / self.file("first")) for folder in self.folders)
        return self._met_first

    def holds(self, office: str) -> bool:
        """Whether this process has it."""
        return office in self._held

    def take(self, office: str) -> bool:
        """Have an office, if nobody else has. Never waits.

        Returns:
            Whether this process has it now.
        """
        if office not in self._held and self.folders:
            if office not in self._locks:
                self._locks[office] = [_Lock(folder, self.file(f"{office}.lock")) for folder in self.folders]
            if _taken(self._locks[office]):
                self._held.add(office)
        return office in self._held

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

    def abandon(self) -> None:
        """Close everything: give up every office and be none of the job's any more; a forked child's parent keeps all."""
        members, self._members = self._members, []
        for office in tuple(self._locks):
            self.give_up(office)
        for descriptor in members:
            with contextlib.suppress(OSError):
                os.close(descriptor)

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


def _locked(descriptor: int) -> bool:
    """Take the lock of an open file, unless somebody has it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _share(descriptor: int) -> None:
    """Have the lock of an open file together with others; or not: then somebody is about to have it so, too."""
    if fcntl is not None:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _clear(folder: Folder, job: str) -> None:
    """Remove what an earlier run has left that counts: where its counters stood, and that its local rank 0 was there."""
    for name in folder.names():
        if name.startswith(f"{job}.") and name.endswith((".totals", ".first")):
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
    with contextlib.suppress(OSError):
        members = folder.open_file(f"{job}.members")
        try:
            if _locked(members):
                for name in folder.names():
                    if name.startswith(f"{job}."):
                        folder.remove(name)
        finally:
            os.close(members)
