# SPDX-License-Identifier: Apache-2.0
"""Whom nobody waits for: as a container's first process, we are the parent of all whose own has ended."""

from __future__ import annotations

import os
from collections.abc import Container
from typing import Final

FIRST: Final = 1
"""The process id of a container's first process; pid_namespaces(7)."""

_OF_THIS_THREAD: Final = 0x20000000  # __WNOTHREAD, waitid(2), include/uapi/linux/wait.h; the module os does not name it


def let_go(jobs: Container[int]) -> None:
    """Wait for those that have ended and are no jobs, which would take the container's process ids up for ever. Never blocks.

    Who is adopted is a child of the main thread. What other threads have started, as a library may, is waited for by these, and
    is left alone. Called on the main thread, once the jobs that have ended were let go of.

    Args:
        jobs: The processes that the launcher waits for itself.
    """
    try:
        while True:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | _OF_THIS_THREAD)
            if ended is None or ended.si_pid in jobs:  # a job that has ended since: its own SIGCHLD is to come
                return
            os.waitpid(ended.si_pid, os.WNOHANG)
    except ChildProcessError:  # there is none
        return
