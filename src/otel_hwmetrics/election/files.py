# SPDX-License-Identifier: Apache-2.0
"""Files that stay open to be locked and written to: no child has a part in them, and no other file is taken for one.

A lock of flock(2) belongs to the open file, so a forked child that had it open would keep its parent's office from
everybody. No fork comes between the opening of a file and its entry here; a child closes all that is entered.
"""

from __future__ import annotations

import contextlib
import os
from types import ModuleType

from otel_hwmetrics import forks
from otel_hwmetrics.descriptors import identity
from otel_hwmetrics.folders import Folder

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_open: set[Kept] = set()
_changing = forks.Section()


class Kept:
    """One file of a folder, open for as long as it is kept. Used by one thread at a time.

    The number of a descriptor says little (`identity`), so before it is written to, locked or closed it is looked at.

    Args:
        folder: Where it is.
        name: Its name, made if there is none.

    Raises:
        OSError: It cannot be opened.
    """

    __slots__ = ("_folder", "_identity", "_name", "_number")

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder = folder
        self._name = name
        with _changing:
            self._number = folder.open_file(name)
            self._identity = identity(self._number)
            _open.add(self)

    @property
    def stands(self) -> bool:
        """Whether it is still open, and where others look for it; True where that cannot be told."""
        return self._ours and self._folder.leads_to(self._name, self._number)

    @property
    def _ours(self) -> bool:
        return self._number >= 0 and identity(self._number) == self._identity

    def lock(self, *, shared: bool = False) -> bool:
        """Have its lock, alone or together with others, unless somebody has it otherwise. Never waits.

        Raises:
            OSError: It cannot be locked.
        """
        if fcntl is None or not self._ours:
            return False
        try:
            fcntl.flock(self._number, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def write(self, content: bytes, offset: int = 0) -> None:
        """Write over a part of it; nothing where that cannot be done."""
        with contextlib.suppress(OSError):
            if self._ours:
                os.pwrite(self._number, content, offset)

    def close(self) -> None:
        """Keep it no longer. In a forked child the parent still does."""
        with _changing:
            self._close()

    def _close(self) -> None:
        _open.discard(self)
        if self._ours:
            with contextlib.suppress(OSError):
                os.close(self._number)
        self._number = -1


@forks.in_child
def _close_in_child() -> None:
    for kept in tuple(_open):
        kept._close()  # noqa: SLF001 - without the lock: a child takes none
