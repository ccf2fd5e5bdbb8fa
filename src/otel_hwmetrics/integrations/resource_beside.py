# SPDX-License-Identifier: Apache-2.0
"""What a callback does beside the training: formatting, printing and writing, which may take long or never end."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable
from typing import Final

from otel_hwmetrics._guard import guard, staying
from otel_hwmetrics.threads import Lasting

WAITING: Final = 100
"""Most acts that wait, each of which may hold a snapshot: minutes of them, at a look a second. More are left out."""


class Beside:
    """Does one thing after the other on a daemon thread of its own, where it was started. Used by one thread.

    Args:
        name: The thread's, without the beginning that all of ours have.
        without: What is missing where the thread stays off, in words.
    """

    def __init__(self, name: str, without: str) -> None:
        self.left_out = 0
        """How many acts there was no room for."""
        self._waiting: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread = Lasting(name, self._work, without, again="with the next look")
        self._begun = False
        self._pid = os.getpid()

    def start(self) -> None:
        """Start the thread; so that nobody waits for that later."""
        self._begun = True
        self._thread.start()

    def do(self, act: Callable[[], object]) -> None:
        """Have something done; never waits. In a forked child, which has not got the thread, it is nothing."""
        if os.getpid() != self._pid:
            return
        if self._waiting.qsize() >= WAITING:
            self.left_out += 1
        else:
            self._waiting.put(act)
        self._thread.check()

    def end(self, timeout: float) -> int:
        """Have what waits done, and the thread end with that; what cannot be done by then is still done when it can.

        Args:
            timeout: Seconds to wait for it at most.

        Returns:
            How many acts are left to do.
        """
        if not self._begun or os.getpid() != self._pid:
            return 0
        self._waiting.put(None)
        self._thread.join(timeout)
        return self._waiting.qsize() if self._thread.alive else max(0, self._waiting.qsize() - 1)

    def _work(self) -> None:
        while (act := self._waiting.get()) is not None:
            with guard("showing and writing what the machine does"):
                staying(act, "a thread of its own")
