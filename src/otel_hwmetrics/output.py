# SPDX-License-Identifier: Apache-2.0
"""The job's own output: no line of ours waits for who reads it.

Whoever writes to a pipe that is full waits for its reader: with the handler's lock, for which the training waits in its
turn when it logs or ends (`logging.shutdown`).
"""

from __future__ import annotations

import logging
import os
import select
import stat
from collections.abc import Iterator
from typing import Any, Final

PAGE: Final = 4096
"""Bytes that a pipe takes at once when it says that it takes any (`pipe_poll` in the kernel's fs/pipe.c)."""

passed_over = 0
"""Lines that a handler was not given since the process began; exported as ``hwmetrics.internal.lines.dropped``."""


class Regardless:
    """Passes over any exception of somebody's objects, which may fail in their own ways.

    Logging catches what a handler raises, and nothing around filters; `_guard.guard` says by these what it caught.
    """

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        """End it: True where an exception is passed over."""
        return isinstance(error, Exception)


class WouldWait(logging.Filter):
    """Keeps a line from the handlers that would have to wait with it, since their pipe or terminal takes nothing now.

    A filter of a logger cannot choose handlers. So where there is such a one, it gives the line to the others itself, and
    logging does not. It must be the last filter: what the line will be is what is measured.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether logging itself may give the line to all of its handlers. From any thread."""
        global passed_over  # noqa: PLW0603 - a count, as `_guard.faults`
        asked = list(_asked(record))
        waiting = [each for each in asked if _would_wait(each, record)]
        if not waiting:
            return True
        passed_over += len(waiting)
        for each in asked:
            if each not in waiting:
                with Regardless():
                    each.handle(record)
        return False


def _asked(record: logging.LogRecord) -> Iterator[logging.Handler]:
    """The handlers that logging would give it to."""
    yield from (each for each in _handlers(logging.getLogger(record.name)) if record.levelno >= each.level)


def _handlers(logger: logging.Logger | None) -> Iterator[logging.Handler]:
    """Those of a logger and the ones above it; else that of last resort."""
    found = False
    while logger is not None:
        found = found or bool(logger.handlers)
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None
    if not found and logging.lastResort is not None:
        yield logging.lastResort


def _would_wait(handler: logging.Handler, record: logging.LogRecord) -> bool:
    """Whether it writes to where this line cannot be written now; what fails at once keeps nobody waiting.

    Nor does what has no descriptor; and Windows has no poll(2).
    """
    if not hasattr(select, "poll"):
        return False
    with Regardless():  # a notebook's stream may raise whatever it likes, as may somebody's formatter
        stream: Any = handler.stream  # type: ignore[attr-defined]  # AttributeError is one of the answers
        descriptor = stream.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        if not poll.poll(0):
            return True
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            # With all that the formatter puts around it, and as it would be written; one byte more ends the line.
            encoding = getattr(stream, "encoding", None) or "utf-8"
            return len(handler.format(record).encode(encoding, "backslashreplace")) >= PAGE
    return False
