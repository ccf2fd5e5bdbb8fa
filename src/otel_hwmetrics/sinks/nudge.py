# SPDX-License-Identifier: Apache-2.0
"""A word to a thread that waits, which may be given from anywhere."""

from __future__ import annotations

import threading


class Nudge:
    """As `threading.Event`, for one thread that waits, and for givers that may not wait.

    An event has a lock that a signal's handler, or the end of an object, would wait for without an end where it comes in the
    middle of another `set` on the same thread. This is one lock that is let go of, which the interpreter does in one step.
    """

    def __init__(self) -> None:
        self._given = threading.Lock()
        self._given.acquire()

    def set(self) -> None:
        """Have the thread go on, or not wait the next time. On any thread, at any moment."""
        if self._given.locked():
            try:
                self._given.release()
            except RuntimeError:  # another one has at the same moment
                return

    def wait(self, timeout: float) -> bool:
        """Wait to be nudged, so many seconds at most; False where nobody did. What was said before is taken by it."""
        return self._given.acquire(timeout=min(timeout, threading.TIMEOUT_MAX))

    def clear(self) -> None:
        """Forget a nudge that was given already."""
        self._given.acquire(blocking=False)
