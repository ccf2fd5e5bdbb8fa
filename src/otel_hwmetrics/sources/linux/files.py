# SPDX-License-Identifier: Apache-2.0
"""Reading one file of /proc or /sys again and again.

psutil opens, seeks, buffers and closes at each look, about six system calls a file, and each of them lets go of the
interpreter, which a busy training loop may give back only 5 ms later. A descriptor that is kept open takes one.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import Final, NamedTuple

from otel_hwmetrics.descriptors import identity, opened
from otel_hwmetrics.forks import Section

_FIRST_SIZE: Final = 4096
# What the kernel gives of a file of many records at a time is about a page (seq_read_iter in fs/seq_file.c).


class OwnReads(NamedTuple):
    """What this process's own looks at the kernel's files have read so far, which /proc/self/io counts as the job's.

    Attributes:
        calls: How many calls.
        bytes: How much they gave.
    """

    calls: int
    bytes: int


_own = [0, 0]
_files: weakref.WeakSet[KernelFile] = weakref.WeakSet()


def own_reads() -> OwnReads:
    """The reads so far, those under way included, at the size of their buffers: never less than the kernel has counted.

    Those of `KernelFile` alone, by far the most; what opens a file of its own is not among them.
    """
    return OwnReads(*_own)


def _pread(descriptor: int, size: int, offset: int) -> bytes:
    # Threads add to these without a lock, which a forked child might find taken for ever. CPython changes threads only
    # at calls and jumps back, so none is lost under the GIL; without it a few may be.
    _own[0] += 1
    _own[1] += size
    given = 0
    try:
        content = os.pread(descriptor, size, offset)
        given = len(content)
    finally:
        _own[1] -= size - given
    return content


def _close_in_child() -> None:
    """A forked child reads nothing of its parent's: its copies would be open for as long as a worker lives.

    It has read nothing yet, as the kernel counts, too.
    """
    _own[:] = 0, 0
    for file in tuple(_files):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


class _Opening(threading.local):
    """What no fork interrupts, for each thread that opens files: its child would hold one of which nobody knows."""

    def __init__(self) -> None:
        self.section = Section()


_opening: Final = _Opening()


class KernelFile:
    """A file that is opened at the first look, kept open, and read from its start at each.

    A descriptor of /proc/<pid> belongs to that process for ever: when it has ended, reading says so, also when its
    number has been given to another. The descriptor is closed on exec and in forked children.

    Args:
        path: Where it is.
        records: Whether the kernel writes it record by record (diskstats, mountstats, net/dev, children), so that one
            read may give less than there is; other files come whole.
    """

    __slots__ = ("__weakref__", "_descriptor", "_identity", "_records", "_size", "path")

    def __init__(self, path: str, *, records: bool = False) -> None:
        self.path = path
        self._records = records
        self._size = _FIRST_SIZE
        self._descriptor = -1
        self._identity: tuple[int, int] | None = None

    def read(self) -> bytes:
        """The whole content now. Called by one thread at a time.

        Raises:
            OSError: It cannot be opened or read, or its subject is gone; the next call opens it afresh.
        """
        if self._descriptor < 0:
            with _opening.section:
                self._descriptor = opened(self.path, os.O_RDONLY)
                self._identity = identity(self._descriptor)
                _files.add(self)
        try:
            return self._read()
        except OSError:
            self.close()
            raise

    def _read(self) -> bytes:
        content = _pread(self._descriptor, self._size, 0)
        if not content or (len(content) < self._size and not self._records):
            return content
        parts = [content]
        offset = len(content)
        while more := _pread(self._descriptor, self._size, offset):
            parts.append(more)
            offset += len(more)
        if not self._records:
            # A file that comes whole must not be put together from two moments: read it at once next time, and now.
            while offset >= self._size:
                self._size *= 2
            return _pread(self._descriptor, self._size, 0)
        return b"".join(parts)

    def close(self) -> None:
        """Let go of the descriptor, unless the job has another file there by now; a later read opens the file again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0 and identity(descriptor) == self._identity:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def __del__(self) -> None:
        """Nobody reads it any more: its descriptor goes with it."""
        if self._descriptor >= 0:
            self.close()
