# SPDX-License-Identifier: Apache-2.0
"""The job's own output: no line of ours waits for who reads it.

Whoever writes to a pipe that is full waits for its reader: with the handler's lock, for which the training waits in its
turn when it logs or ends (`logging.shutdown`).
"""

from __future__ import annotations

import logging
import select
from collections.abc import Iterator


class WouldWait(logging.Filter):
    """Passes over a line that a handler would have to wait with, because its pipe or terminal takes nothing now."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line may be logged. From any thread."""
        return not any(map(_is_full, _handlers(logging.getLogger(record.name))))


def _handlers(logger: logging.Logger | None) -> Iterator[logging.Handler | None]:
    """Those of a logger and the ones above it; else that of last resort."""
    found = False
    while logger is not None:
        found = found or bool(logger.handlers)
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None
    if not found:
        yield logging.lastResort


def _is_full(handler: logging.Handler | None) -> bool:
    """Whether it writes to where nothing can be written now; what fails at once keeps nobody waiting.

    A pipe is writable where it takes a page, and our lines are shorter than that (`pipe_poll` in the kernel's fs/pipe.c).
    """
    try:
        descriptor = handler.stream.fileno()  # type: ignore[union-attr]  # AttributeError is one of the answers
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        return not poll.poll(0)
    except (AttributeError, OSError, ValueError, TypeError):  # it has none, or is closed; or Windows, which has no poll
        return False
