# SPDX-License-Identifier: Apache-2.0
"""For calls that may hang for ever, such as one about a file at a server that is gone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from otel_hwmetrics._guard import guard

PATIENCE: Final = 0.2
"""Seconds that a call is waited for, the first time; as long as it hangs, no more."""

T = TypeVar("T")


class Patient(Generic[T]):
    """A call that may hang for ever, made on a thread of its own that is left behind if it does.

    Args:
        call: Raises OSError or ValueError when it fails. Its first caller waits `PATIENCE` seconds; while it still
            hangs, nobody waits again.
    """

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._answer: list[T | Exception] = []
        self._thread: threading.Thread | None = None

    def __call__(self) -> T:
        """The answer.

        Raises:
            TimeoutError: There is none yet.
            OSError: It failed, or no thread can be started for it now; ValueError: it failed.
        """
        if self._thread is None or not self._thread.is_alive():
            self._answer = []
            thread = threading.Thread(
                target=self._run, args=(self._answer,), name="hwmetrics-filesystem-call", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:  # the cgroup's or the user's limit of threads
                raise OSError("no thread can be started to ask the filesystem") from error
            self._thread = thread
            thread.join(PATIENCE)
        if self._thread.is_alive():
            raise TimeoutError("the filesystem does not answer")
        answer = self._answer[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _run(self, answer: list[T | Exception]) -> None:
        with guard("asking a filesystem", answer.append):
            try:
                answer.append(self._call())
            except (OSError, ValueError) as error:
                answer.append(error)
