# SPDX-License-Identifier: Apache-2.0
"""Where files of ours go."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping

from otel_hwmetrics import redaction
from otel_hwmetrics.folders.folder import Folder, mine

_logger = redaction.logger()

OWN = "otel_hwmetrics"
"""The name of our folder in the user's."""

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - what is made in it is checked
"""A file system in memory that every process of a node sees; containers often have one of their own."""
TEMPORARY = "/tmp"  # noqa: S108 - likewise

MOUNTS = "/proc/self/mountinfo"

_SERVED = re.compile(r"nfs4?|cifs|smb3|ceph|lustre|gpfs|beegfs|wekafs|orangefs|afs|fuse\..+")
"""File systems that other machines have, too, or that need a server to answer."""


def folder(directory: str = "", environ: Mapping[str, str] | None = None) -> Folder | None:
    """The folder for our files: the first that there is, or can be made, and is writable.

    The option ``directory``, whoever owns it; a folder of our own in the place that is customary for what a program keeps
    between its runs, or below the machine's temporary one, each if it is ours alone. Nothing is made or written to find it, so a run that never needs it leaves none.

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
    """A folder of our own that nobody named: ours alone, since its name can be guessed, and its parent may be everybody's."""
    path = _customary(environ)
    if not path or not _writable(path):
        return _temporary()
    found = Folder(path, alone=True)
    if not os.path.lexists(path) or found.ours:
        return found
    instead = _temporary()
    files = f"files go to {instead.path}" if instead else "no files are written"
    _logger.warning("The folder %s is not this user's alone: %s. Option 'directory' names another.", path, files)
    return instead


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


def runtime_folders(environ: Mapping[str, str] | None = None) -> list[Folder]:
    """The folders in which processes of this user meet on this machine: each there, ours alone, and writable.

    In this order, which is the same for all ranks of a job: the user's runtime folder (XDG_RUNTIME_DIR), `SHARED_MEMORY`,
    the temporary folder that the environment names (TMPDIR), `TEMPORARY`. In each of them that exists it is
    ``otel_hwmetrics-<uid>``, made here with the mode 0700. A name that somebody else has taken is passed over and no other
    one is tried, since no other rank would find it; so is a folder in which everybody may rename what is ours, and one
    that a server keeps, which other machines see, too, and whose locks may hang.

    What is in them lasts as long as others let it: see `Folder.leads_to`.

    Args:
        environ: Instead of the process's own.

    Returns:
        One each, however often it is reached; none where a platform has neither owners nor opened folders.
    """
    if not hasattr(os, "geteuid") or os.open not in os.supports_dir_fd:
        return []
    found: dict[tuple[int, int], Folder] = {}
    for parent in _meeting_places(os.environ if environ is None else environ):
        folder = Folder(os.path.join(parent, f"{OWN}-{os.geteuid()}"), alone=True)
        with contextlib.suppress(OSError):
            found.setdefault(folder.make(), folder)
    return list(found.values())


def _meeting_places(environ: Mapping[str, str]) -> Iterator[str]:
    """Folders below which processes may meet, as far as they are there and local, and leave our folder its name."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    for path in (runtime, SHARED_MEMORY, environ.get("TMPDIR", ""), TEMPORARY):
        with contextlib.suppress(OSError, ValueError):
            if not os.path.isabs(path) or served(path):
                continue
            there = os.stat(path)
            others_may_rename = there.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not there.st_mode & stat.S_ISVTX
            # After `su` the environment may name the runtime folder of the user before; the specification says to whom it
            # has to belong. Of the others the owner is no matter: in a user namespace /tmp is nobody's.
            another_users = path == runtime and not mine(there)
            if stat.S_ISDIR(there.st_mode) and not others_may_rename and not another_users:
                yield path


def served(path: str) -> bool:
    """Whether a path is on another machine's file system, by `MOUNTS`, proc_pid_mountinfo(5); False where nothing tells."""
    path = os.path.join(os.path.realpath(path), "")
    best, kind = "", ""
    with contextlib.suppress(OSError), open(MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            mount, _, rest = line.partition(" - ")
            point = os.path.join(mount.split(" ")[4], "")
            if path.startswith(point) and len(point) >= len(best):  # of two at one place the later one is seen
                best, kind = point, rest.partition(" ")[0]
    return bool(_SERVED.fullmatch(kind))
