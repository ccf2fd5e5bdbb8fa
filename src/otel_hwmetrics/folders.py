# SPDX-License-Identifier: Apache-2.0
"""Where files of ours go, what they are called, how they come to be there whole, and which of them are removed.

What a file holds tells of somebody's job, so it is for its user alone: files have the mode 0600, folders that are made
here 0700. A file is written under a temporary name beside its own and then renamed: no half file is ever met under the
final name. Other users may be able to write to the folder, if it is a shared one; so no link that is there already is
followed (https://cwe.mitre.org/data/definitions/59.html), a folder is opened once and everything in it reached from
there, and a folder below the machine's temporary one counts only if it is ours alone
(https://cwe.mitre.org/data/definitions/379.html).
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import BinaryIO, cast

from otel_hwmetrics.ranks import RANK, WORLD_SIZE, ranks

_logger = logging.getLogger("otel_hwmetrics")

OWN = "otel_hwmetrics"
"""The name of our folder in the user's."""

KEEP = 50
"""Newest files of one kind that `Folder.prune` leaves; in a job of more than half as many ranks, two a rank."""
DRAFTS_FOR = 3600.0
"""Seconds after which what was never finished is removed: its writer was killed in the middle."""

_PRIVATE_FOLDER = 0o700
_PRIVATE_FILE = 0o600
_OTHERS = 0o077

_STAMP = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}-[0-9]{2}-[0-9]{2}Z"
_DRAFT = re.compile(rf"\.{_STAMP}-[A-Za-z0-9._-]+\.[0-9a-f]{{8}}\.part")
_ODD = re.compile(r"[^A-Za-z0-9._]+")
_LONGEST_PART = 48


def folder(directory: str = "", environ: Mapping[str, str] | None = None) -> Folder | None:
    """The folder for our files: the first that there is, or can be made, and is writable.

    The option ``directory``; the place that is customary for what a program keeps between its runs; a folder of our own
    below the machine's temporary one. Nothing is made or written to find it, so a run that never needs it leaves none.

    Args:
        directory: The option; empty for none.
        environ: Instead of the process's own.

    Returns:
        None where nothing can be written at all.
    """
    environ = os.environ if environ is None else environ
    if not directory:
        return _unnamed(environ)
    named = os.path.abspath(os.path.expanduser(directory))
    if _writable(named):
        return Folder(named)
    found = _unnamed(environ)
    instead = f"files go to {found.path}" if found else "no files are written"
    _logger.warning("The folder %s cannot be written to: %s.", named, instead)
    return found


def _unnamed(environ: Mapping[str, str]) -> Folder | None:
    path = _customary(environ)
    return Folder(path) if path and _writable(path) else _temporary()


def _customary(environ: Mapping[str, str]) -> str:
    """Where a program of this user keeps its state; empty where nobody can tell.

    https://specifications.freedesktop.org/basedir-spec/latest/, which ignores a path that is not absolute; on Windows
    and macOS the folder of applications (FOLDERID_LocalAppData, NSApplicationSupportDirectory).
    """
    home = environ.get("HOME") or os.path.expanduser("~")
    if sys.platform == "win32":
        state = environ.get("LOCALAPPDATA") or os.path.join(home, "AppData", "Local")
    elif sys.platform == "darwin":
        state = os.path.join(home, "Library", "Application Support")
    else:
        state = os.path.join(home, ".local", "state")
    told = environ.get("XDG_STATE_HOME", "")
    state = told if os.path.isabs(told) else state
    return os.path.join(state, OWN) if os.path.isabs(state) else ""


def _writable(path: str) -> bool:
    """Whether a folder can be written to or, where there is none, be made."""
    while not os.path.lexists(path):
        above = os.path.dirname(path)
        if above == path:
            return False
        path = above
    effective = os.access in os.supports_effective_ids
    return os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK, effective_ids=effective)


def _temporary() -> Folder | None:
    try:
        parent = tempfile.gettempdir()
    except FileNotFoundError:  # there is none to be written to
        return None
    name = f"{OWN}-{os.geteuid()}" if hasattr(os, "geteuid") else OWN
    found = Folder(os.path.join(parent, name), alone=True)
    if os.path.lexists(found.path) and not found.ours:
        # The name is easily guessed, and somebody has taken it.
        found = Folder(f"{found.path}-{secrets.token_hex(4)}", alone=True)
    return found


def file_name(reason: str, suffix: str, time_unix_nano: int, environ: Mapping[str, str] | None = None) -> str:
    """What a file of this process is called; sorted by name, files are in the order of their time.

    Args:
        reason: Why it is written, in a word: the name of an alert.
        suffix: Its kind: ``.flight.jsonl``.
        time_unix_nano: Of what it tells of; told to the second, in UTC.
        environ: Instead of the process's own; for its rank.
    """
    stamp = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime(time_unix_nano // 1_000_000_000))
    rank = ranks(os.environ if environ is None else environ).get(RANK)
    parts = (stamp, host().partition(".")[0], "" if rank is None else f"rank{rank}", str(os.getpid()), reason)
    return "-".join(filter(None, map(_plain, parts))) + suffix


def _plain(part: str) -> str:
    """A part of a name as every file system and shell takes it; dashes stay, since stamps and hosts have them."""
    return "-".join(filter(None, (_ODD.sub("_", word) for word in part.split("-"))))[:_LONGEST_PART].strip("-")


def host() -> str:
    """What this machine calls itself."""
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")


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
        ours = re.compile(rf"{_STAMP}-[A-Za-z0-9._-]+{re.escape(suffix)}")
        with contextlib.suppress(OSError), self._open() as descriptor:
            names = os.listdir(self.path if descriptor is None else descriptor)
            finished = sorted(name for name in names if ours.fullmatch(name))
            for name in finished[:-keep]:
                self._remove(name, descriptor)
            for name in filter(_DRAFT.fullmatch, names):
                self._remove_draft(name, descriptor)

    def _remove(self, name: str, descriptor: int | None) -> None:
        """Remove one file, if it is this user's; another process may be quicker."""
        path = self._from(descriptor, name)
        with contextlib.suppress(OSError):
            found = os.stat(path, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode) and _mine(found):
                os.unlink(path, dir_fd=descriptor)

    def _remove_draft(self, name: str, descriptor: int | None) -> None:
        """Remove a file or a folder of what was never finished, once nobody can be writing it any more."""
        with contextlib.suppress(OSError):
            found = os.stat(self._from(descriptor, name), dir_fd=descriptor, follow_symlinks=False)
            if found.st_mtime >= time.time() - DRAFTS_FOR:
                return
            if stat.S_ISDIR(found.st_mode) and _mine(found):
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
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | (os.O_NOFOLLOW if self._alone else 0))
        try:
            found = os.fstat(descriptor)
            if self._alone and not (_mine(found) and not found.st_mode & _OTHERS):
                raise PermissionError(f"{self.path} is not this user's alone")
            yield descriptor
        finally:
            os.close(descriptor)


def _draft(name: str) -> str:
    """What a file or folder is called until it is finished."""
    return f".{name}.{secrets.token_hex(4)}.part"


def _mine(found: os.stat_result) -> bool:
    """Whether a file belongs to this user; where there are no owners, whatever there is does."""
    return not hasattr(os, "geteuid") or found.st_uid == os.geteuid()


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
        return os.open(path if descriptor is None else name, flags, _PRIVATE_FILE, dir_fd=descriptor)

    return cast("BinaryIO", open(os.path.join(folder, name), "xb", opener=opener))
