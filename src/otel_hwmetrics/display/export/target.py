# SPDX-License-Identifier: Apache-2.0
"""Where an export goes: a file that is there when it is whole, or the standard output; and how far it has come."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final, TextIO

from otel_hwmetrics.descriptors import opened

Heard = Callable[[int], object]
"""Is called with how far an export has come, in nanoseconds since the epoch."""

STANDARD: Final = "-"
UNFINISHED: Final = ".part"
"""What the name of a file ends in until it is whole."""
_EACH: Final = 0.2
"""Seconds between two words of progress."""


@contextmanager
def target(path: str) -> Iterator[BinaryIO]:
    """A file to write to: a new one beside the one that is named, whose place it takes at the end.

    Args:
        path: Of the file; ``-`` for the standard output.

    Raises:
        OSError: It cannot be written; what was there before is as it was.
    """
    if path == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if os.path.exists(path) and not os.path.isfile(path):  # a named pipe, /dev/null
        with open(path, "wb", opener=_opened) as file:
            yield file
        return
    unfinished = f"{path}{UNFINISHED}"
    try:
        with open(unfinished, "wb", opener=_opened) as file:
            yield file
        os.replace(unfinished, path)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(unfinished)
        if isinstance(error, OSError) and error.filename == unfinished:
            raise OSError(error.errno, error.strerror, path) from error  # the name that somebody has typed
        raise


def _opened(path: str, flags: int) -> int:
    return opened(path, flags, 0o666)  # as `open` itself has it; less what the user's umask takes away


class MissingExtra(RuntimeError):
    """A package is not installed that an extra of ours brings.

    Args:
        what: What needs it.
        package: Its name.
        extra: The extra.
    """

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f"{what} needs {package}, which is not installed: pip install 'otel-hwmetrics[{extra}]'")


class NoEpochs(RuntimeError):
    """No training span of a run is an epoch."""

    def __init__(self) -> None:
        super().__init__("no training span of this run is called 'epoch': without --per-epoch it is one file")


class Refused(RuntimeError):
    """A backend has not taken something; the message says what and why."""


class Progress:
    """Says on a terminal how far a long export has come; nothing elsewhere.

    Args:
        output: The standard errors, as a rule.
        start_ns: Where it begins.
        end_ns: Where it ends.
    """

    def __init__(self, output: TextIO, start_ns: int, end_ns: int) -> None:
        self._output = output
        self._on = output.isatty()
        self._start, self._length = start_ns, max(1, end_ns - start_ns)
        self._told = 0.0
        self._shown = False

    def at(self, at_ns: int) -> None:
        """It has come to this moment of the run."""
        if not self._on or time.monotonic() - self._told < _EACH:
            return
        self._told, self._shown = time.monotonic(), True
        done = min(1.0, max(0.0, (at_ns - self._start) / self._length))
        print(f"\r{done:4.0%}", end="", file=self._output, flush=True)

    def over(self) -> None:
        """Nothing of it stays."""
        if self._shown:
            print("\r\033[K", end="", file=self._output, flush=True)
            self._shown = False
