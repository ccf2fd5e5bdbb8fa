# SPDX-License-Identifier: Apache-2.0
"""The job's own output: no line of ours waits for who reads it, and none is kept from whoever takes it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import select
import sys
from collections.abc import Iterator

import pytest

from otel_hwmetrics import output, redaction
from otel_hwmetrics.output import PAGE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no poll(2)")


class Kept(logging.Handler):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.said.append(record.getMessage())


class Odd(io.StringIO):
    """A stream of somebody's, which has no descriptor and says so in its own way."""

    def fileno(self) -> int:
        """Raise."""
        raise NotImplementedError


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe that nobody reads."""
    ends = os.pipe()
    yield ends
    for each in ends:
        os.close(each)


@pytest.fixture
def logger(pipe: tuple[int, int]) -> Iterator[logging.Logger]:
    """One of ours whose only handler writes to the pipe."""
    made = redaction.logger("otel_hwmetrics.of_the_output")
    made.propagate = False
    with os.fdopen(os.dup(pipe[1]), "w") as stream:
        made.handlers = [logging.StreamHandler(stream)]
        yield made
        made.handlers = []


def fill(pipe: tuple[int, int]) -> int:
    """Fill it; the bytes that it took. A handler that does not look would wait for ever, and the test with it."""
    os.set_blocking(pipe[1], False)
    filled = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += os.write(pipe[1], bytes(PAGE))
    os.set_blocking(pipe[1], True)
    return filled


def drained(pipe: tuple[int, int]) -> str:
    """What is in it."""
    given = b""
    poll = select.poll()
    poll.register(pipe[0], select.POLLIN)
    while poll.poll(0):
        given += os.read(pipe[0], 1 << 20)
    return given.decode().strip("\0")


def test_a_line_is_passed_over_while_nobody_takes_it(pipe: tuple[int, int], logger: logging.Logger) -> None:
    """That is counted; as soon as the pipe is read again, lines are logged again."""
    before = output.passed_over
    fill(pipe)
    logger.warning("lost")
    assert output.passed_over == before + 1
    assert drained(pipe) == ""
    logger.warning("there")
    assert drained(pipe) == "there\n"
    assert output.passed_over == before + 1


def test_a_line_is_kept_only_from_who_would_wait(pipe: tuple[int, int], logger: logging.Logger) -> None:
    """Other handlers get it, each by its own level, though one of them fails; one that does not want it is not asked."""
    before = output.passed_over
    critical, odd, kept, deaf = logging.StreamHandler(logger.handlers[0].stream), Kept(), Kept(), Kept()  # type: ignore[attr-defined]
    critical.setLevel(logging.CRITICAL)
    deaf.setLevel(logging.ERROR)
    odd.addFilter(lambda _: 1 // 0 > 0)
    fill(pipe)
    logger.handlers = [critical, kept]
    logger.warning("nobody waits")
    assert (kept.said, output.passed_over) == (["nobody waits"], before)
    logger.handlers = [*logger.handlers, logging.StreamHandler(critical.stream), odd, Kept(), deaf]
    logger.warning("password=%s", "hunter2")
    assert kept.said[1:] == logger.handlers[4].said == [f"password={redaction.REDACTED}"]  # type: ignore[attr-defined]
    assert deaf.said == []
    assert output.passed_over == before + 1


@pytest.mark.parametrize("as_json", [False, True])
def test_a_line_is_short_enough_for_a_pipe_that_takes_any(
    pipe: tuple[int, int], logger: logging.Logger, *, as_json: bool
) -> None:
    """With a traceback of any length, where a formatter writes that twice, too; the ends of it are there."""

    class Json(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            record.message = record.getMessage()
            fields = {"exc_info": record.exc_text, **{key: value for key, value in vars(record).items() if "." in key}}
            return json.dumps({"message": record.message, "level": record.levelname, **fields})

    logger.handlers[0].setFormatter(Json() if as_json else logging.Formatter("%(asctime)s %(name)s %(message)s"))
    assert fill(pipe) > PAGE
    os.read(pipe[0], PAGE)
    logger.warning("failed", exc_info=ValueError("x" * 3000 + " the end"))
    said = drained(pipe)
    assert 1000 < len(said) < PAGE
    assert "ValueError: xxx" in said
    assert "the end" in said


def test_what_is_too_long_all_the_same_is_passed_over(pipe: tuple[int, int], logger: logging.Logger) -> None:
    """A formatter may put as much around a line as it likes, or write each letter as many."""
    before = output.passed_over
    fill(pipe)
    os.read(pipe[0], PAGE)
    logger.handlers[0].setFormatter(logging.Formatter("x" * PAGE + "%(message)s"))
    logger.warning("long")
    assert output.passed_over == before + 1


def test_a_long_message_is_short(logger: logging.Logger) -> None:
    """Whoever writes it; its letters stay whole."""
    kept = Kept()
    logger.handlers = [kept]
    logger.warning("%s", "é" * 10_000)
    assert set(kept.said[0]) == set("é [.]")
    assert 1000 < len(kept.said[0].encode()) <= 1024


def test_what_fails_at_once_keeps_nobody_waiting(logger: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that is closed, has no descriptor or is odd, and a handler without one, are the handler's own matter."""
    logger.handlers[0].close()
    logger.handlers[0].stream = odd = Odd()  # type: ignore[attr-defined]
    logger.handlers.append(logging.NullHandler())
    closed = logging.StreamHandler(io.StringIO())
    closed.stream.close()
    monkeypatch.setattr(closed, "handleError", lambda _: None)
    logger.handlers.append(closed)
    logger.warning("a line")
    assert odd.getvalue() == "a line\n"
