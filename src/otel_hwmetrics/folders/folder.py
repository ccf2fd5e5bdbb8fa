# SPDX-License-Identifier: Apache-2.0
"""A folder, and the files in it: made whole, for their user alone, and removed when there are too many."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, cast

from otel_hwmetrics.descriptors import opened
from otel_hwmetrics.folders.names import STAMP
from otel_hwmetrics.ranks import WORLD_SIZE, ranks

KEEP = 50
"""Newest files of one kind that `Folder.prune` leaves; in a job of more than half as many ranks, two a rank."""
DRAFTS_FOR = 3600.0
"""Seconds after which what was never finished is removed: its writer was killed in the middle."""

_PRIVATE_FOLDER = 0o700
_PRIVATE_FILE = 0o600
_OTHERS = 0o077
_STANDING = (
    os.O_RDWR
    | os.O_CREAT
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a pipe would be waited at; a regular file does not know it
)

_DRAFT = re.compile(rf"\.{STAMP}-[A-Za-z0-9._-]+\.[0-9a-f]{{8}}\.part")


class Folder:
    """A folder for files of ours; it is made when the first is written. From any thread, and for several processes.

    Args:
        path: Where it is; absolute.
        alone: It must be ours alone, and no link to elsewhere: else nothing is written.
    """

    def __init__(self, path: str, *, alone: bool = False) -> None:
        self.path = path
        self._alone = alone

    def __truediv__(self, name: str) -> str:
        """The path of a file in it; the disk is not touched."""
        return os.path.join(self.path, name)

    @property
    def ours(self) -> bool:
        """Whether it is there and, where it must be ours alone, is."""
        try:
            with self._open():
                return True
        except OSError:
            return False

    def make(self) -> tuple[int, int]:
        """Make it, if it is not there yet, before there is a file to be written.

        Returns:
            Its device and inode, by which one folder is known under two paths.

        Raises:
            OSError: It cannot be made, or must be ours alone and is not.
        """
        _make(self.path)
        with self._open() as descriptor:
            found = os.stat(self.path if descriptor is None else descriptor)
        return found.st_dev, found.st_ino

    def open_file(self, name: str) -> int:
        """Open a file that stays where it is, for reading and writing, and make it if there is none: one to be locked.

        No link is followed, and what is opened is a regular file of this user's under this one name. So nobody can have
        us lock, fill or empty another file (https://cwe.mitre.org/data/definitions/59.html,
        https://cwe.mitre.org/data/definitions/62.html), nor wait at a pipe. It is not locked here, and programs that are
        started do not get it; a forked child does, and with it a part in the lock.

        Args:
            name: Of the file; in a folder that is made if it is missing.

        Returns:
            A descriptor, which is the caller's to close.

        Raises:
            OSError: It cannot be opened or made, or what is there is not such a file, or the folder not such a folder.
        """
        _make(self.path)
        with self._open() as folder:
            descriptor = opened(self._from(folder, name), _STANDING, _PRIVATE_FILE, dir_fd=folder)
        try:
            _check_standing(os.fstat(descriptor), self / name)
            if hasattr(os, "fchmod"):
                os.fchmod(descriptor, _PRIVATE_FILE)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def leads_to(self, name: str, descriptor: int) -> bool:
        """Whether a name still leads to the file that `open_file` opened, as far as can be told. Never raises `OSError`.

        It does not where somebody has cleaned up in the meantime: systemd removes a user's runtime folder, and what is
        theirs in /dev/shm, when their last session ends (``RemoveIPC=``, logind.conf(5)), though jobs go on.
        A lock on such a file keeps nobody out, since the next one makes another. Where it cannot be told, as without a
        descriptor to spare, it is taken to be where it was.
        """
        try:
            with self._open() as folder:
                found = os.stat(self._from(folder, name), dir_fd=folder, follow_symlinks=False)
            return os.path.samestat(found, os.fstat(descriptor))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True

    def names(self) -> list[str]:
        """The names of what is in it; empty where that cannot be told."""
        with contextlib.suppress(OSError), self._open() as descriptor:
            return os.listdir(self.path if descriptor is None else descriptor)
        return []

    def remove(self, name: str) -> None:
        """Remove one file of this user's, if it is there. Never raises `OSError`."""
        with contextlib.suppress(OSError), self._open() as descriptor:
            self._remove(name, descriptor)

    @contextlib.contextmanager
    def new(self, name: str) -> Iterator[BinaryIO]:
        """Write a file that is there as a whole or not at all; never waits for the disk itself (there is no fsync).

        What ends the process leaves the file in the kernel's hands; only the end of the machine would lose it. To wait
        for the disk would make a job wait that saves a checkpoint at the same time, and for ever where it hangs.

        Args:
            name: From `file_name`; a file of this name is replaced.

        Yields:
            The file, under its temporary name, which is its ``name``, should another library want to write it.

        Raises:
            OSError: It cannot be written; nothing is left of it.
        """
        _make(self.path)
        draft = _draft(name)
        with self._open() as descriptor:
            file = _created(self.path, draft, descriptor)
            try:
                with file:
                    yield file
                os.replace(
                    self._from(descriptor, draft),
                    self._from(descriptor, name),
                    src_dir_fd=descriptor,
                    dst_dir_fd=descriptor,
                )
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(self._from(descriptor, draft), dir_fd=descriptor)
                raise

    @contextlib.contextmanager
    def scratch(self, name: str) -> Iterator[str]:
        """A folder within it for another library's own files, for this user alone; it is gone with all in it at the end.

        If the process ends before, `prune` knows it by its name and removes it.

        Args:
            name: From `file_name`; that of the file which it is for.

        Yields:
            The path of the folder.

        Raises:
            OSError: It cannot be made.
        """
        _make(self.path)
        draft = _draft(name)
        with self._open() as descriptor:
            os.mkdir(self._from(descriptor, draft), _PRIVATE_FOLDER, dir_fd=descriptor)
        try:
            yield self / draft
        finally:
            shutil.rmtree(self / draft, ignore_errors=True)

    def prune(self, suffix: str, keep: int = 0) -> None:
        """Remove files of ours of one kind beyond the newest, and what was never finished. Never raises `OSError`.

        Only what is called as `file_name` calls files, and belongs to this user.

        Args:
            suffix: The kind.
            keep: How many stay; `KEEP`, or two a rank of this job, if not given.
        """
        keep = keep or max(KEEP, 2 * cast("int", ranks(os.environ).get(WORLD_SIZE, 1)))
        ours = re.compile(rf"{STAMP}-[A-Za-z0-9._-]+{re.escape(suffix)}")
        with contextlib.suppress(OSError), self._open() as descriptor:
            names = os.listdir(self.path if descriptor is None else descriptor)
            finished = sorted(name for name in names if ours.fullmatch(name))
            for name in finished[:-keep]:
                self._remove(name, descriptor)
            for name in filter(_DRAFT.fullmatch, names):
                self._remove_draft(name, descriptor)

    def expire(
        self,
        suffix: str,
        seconds: float,
        beside: Iterable[str] = (),
        *,
        young: str = "",
        in_use: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Remove files of ours of one kind to which nothing was written for so long. Never raises `OSError`.

        Only what is called as `file_name` calls files, and belongs to this user.

        Args:
            suffix: The kind.
            seconds: For how long.
            beside: Endings of further files that go with one, and are written to as well.
            young: The name of one that was just made: where a server's clock, or this machine's, is not what those had who
                wrote the others, nothing is older than it says.
            in_use: Whether somebody has a file open, given its path; asked of the old ones alone.
        """
        ours = re.compile(rf"{STAMP}-[A-Za-z0-9._-]+{re.escape(suffix)}")
        with contextlib.suppress(OSError), self._open() as descriptor:
            now = min(time.time(), self._written(young, descriptor)) if young else time.time()
            before = now - seconds
            for name in filter(ours.fullmatch, os.listdir(self.path if descriptor is None else descriptor)):
                parts = [name, *(name + ending for ending in beside)]
                if max(self._written(each, descriptor) for each in parts) < before and not in_use(self / name):
                    for each in reversed(parts):  # the one that the others go with is the last
                        self._remove(each, descriptor)

    def _written(self, name: str, descriptor: int | None) -> float:
        """When a file was last written to, seconds since the epoch; long ago where there is none."""
        try:
            return os.stat(self._from(descriptor, name), dir_fd=descriptor, follow_symlinks=False).st_mtime
        except OSError:
            return float("-inf")

    def _remove(self, name: str, descriptor: int | None) -> None:
        """Remove one file, if it is this user's; another process may be quicker."""
        path = self._from(descriptor, name)
        with contextlib.suppress(OSError):
            found = os.stat(path, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode) and mine(found):
                os.unlink(path, dir_fd=descriptor)

    def _remove_draft(self, name: str, descriptor: int | None) -> None:
        """Remove a file or a folder of what was never finished, once nobody can be writing it any more."""
        with contextlib.suppress(OSError):
            found = os.stat(self._from(descriptor, name), dir_fd=descriptor, follow_symlinks=False)
            if found.st_mtime >= time.time() - DRAFTS_FOR:
                return
            if stat.S_ISDIR(found.st_mode) and mine(found):
                shutil.rmtree(self / name, ignore_errors=True)  # it follows no link, within it neither
            else:
                self._remove(name, descriptor)

    def _from(self, descriptor: int | None, name: str) -> str:
        """How a file is reached from the opened folder; where none can be opened, by its path."""
        return self / name if descriptor is None else name

    @contextlib.contextmanager
    def _open(self) -> Iterator[int | None]:
        """The opened folder, so that nobody puts another in its place meanwhile; None where a platform cannot."""
        if os.open not in os.supports_dir_fd:
            yield None
            return
        descriptor = opened(self.path, os.O_RDONLY | os.O_DIRECTORY | (os.O_NOFOLLOW if self._alone else 0))
        try:
            found = os.fstat(descriptor)
            if self._alone and not (mine(found) and not found.st_mode & _OTHERS):
                raise PermissionError(f"{self.path} is not this user's alone")
            yield descriptor
        finally:
            os.close(descriptor)


def _draft(name: str) -> str:
    """What a file or folder is called until it is finished."""
    return f".{name}.{secrets.token_hex(4)}.part"


def mine(found: os.stat_result) -> bool:
    """Whether a file belongs to this user; where there are no owners, whatever there is does."""
    return not hasattr(os, "geteuid") or found.st_uid == os.geteuid()


def _check_standing(found: os.stat_result, path: str) -> None:
    """Refuse what is no regular file of this user's under one name.

    Raises:
        PermissionError: It is something else.
    """
    if not (stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and mine(found)):
        raise PermissionError(errno.EPERM, "not a file of this user's alone", path)


def _make(path: str) -> None:
    """Make a folder and those above it that are missing."""
    if not os.path.isdir(path):
        if os.path.dirname(path) != path:
            _make(os.path.dirname(path))
        with contextlib.suppress(FileExistsError):  # by another process; or it is no folder, as will be seen
            os.mkdir(path, _PRIVATE_FOLDER)


def _created(folder: str, name: str, descriptor: int | None) -> BinaryIO:
    """A new file, open for writing."""

    def opener(path: str, flags: int) -> int:
        flags |= getattr(os, "O_NOFOLLOW", 0)  # O_EXCL is among them, which does not follow a link either
        return opened(path if descriptor is None else name, flags, _PRIVATE_FILE, dir_fd=descriptor)

    return cast("BinaryIO", open(os.path.join(folder, name), "xb", opener=opener))
