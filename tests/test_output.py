# SPDX-License-Identifier: Apache-2.0
"""The job's own output: no line of ours waits for who reads it."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

import pytest

from otel_hwmetrics.output import WouldWait

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no poll(2)")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe that nobody reads."""
    ends = os.pipe()
    yield ends
    for each in ends:
        os.close(each)


@pytest.fixture
def logger(pipe: tuple[int, int]) -> Iterator[logging.Logger]:
    """One whose only handler writes to the pipe."""
    made = logging.getLogger("tests.output")
    made.propagate = False
    with os.fdopen(os.dup(pipe[1]), "w") as stream:
        made.handlers = [logging.StreamHandler(stream)]
        yield made
        made.handlers = []


def _passes(logger: logging.Logger) -> bool:
    record = logger.makeRecord(logger.name, logging.WARNING, __file__, 0, "a line", (), None)
    return WouldWait().filter(record)


def test_a_line_is_passed_over_while_nobody_takes_it(pipe: tuple[int, int], logger: logging.Logger) -> None:
    """As soon as the pipe is read again, lines are logged again."""
    assert _passes(logger)
    os.set_blocking(pipe[1], False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe[1], bytes(4096))
    assert not _passes(logger)
    os.read(pipe[0], 8192)
    assert _passes(logger)


def test_what_fails_at_once_keeps_nobody_waiting(logger: logging.Logger) -> None:
    """A stream that is closed or has no descriptor, and a handler without a stream, are the handler's own matter."""
    logger.handlers[0].close()
    logger.handlers[0].stream.close()  # type: ignore[attr-defined]
    logger.handlers.append(logging.NullHandler())
    assert _passes(logger)
