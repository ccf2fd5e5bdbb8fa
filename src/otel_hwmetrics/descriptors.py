# SPDX-License-Identifier: Apache-2.0
"""The numbers of open files: none of ours is that of the job's output, and none of the job's is closed for one of ours.

A process that has closed its standard output or errors gives their numbers to what is opened next: what is printed then
goes there, and what the job opens there later is taken for the file before it. So whatever we open is opened here
(tests/contracts/test_descriptors.py), and what is kept open is looked at before it is closed.
"""

from __future__ import annotations

import os
from typing import Final

_STANDARD: Final = 2  # 0 to 2 are input, output and errors


def opened(path: str | bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    """As `os.open`, and `apart`; also an opener for `open`.

    Raises:
        OSError: It cannot be opened.
    """
    return apart(os.open(path, flags, mode, dir_fd=dir_fd))


def apart(descriptor: int) -> int:
    """The same file by a number that is not the standard input's, output's or errors'; the one before is closed.

    Raises:
        OSError: There is no descriptor left; none stays open.
    """
    standard = []
    try:
        while descriptor <= _STANDARD:
            standard.append(descriptor)
            descriptor = os.dup(descriptor)
    finally:
        for each in standard:
            os.close(each)
    return descriptor


def identity(descriptor: int) -> tuple[int, int] | None:
    """Which file is open under a number (device and inode); None where none is, or it does not tell.

    A job that closes what it does not know, as some do to become a daemon, has the next file that it opens under the same
    number.
    """
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino
