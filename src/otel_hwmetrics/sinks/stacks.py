# SPDX-License-Identifier: Apache-2.0
"""Where the threads of the job stand when it stalls.

Of each thread the calls that are open: file, line, function. No source is read and no variable looked at, so nothing of
the data, and no secret in a variable, is in it; what files, functions and threads are called goes through `redaction`.

Taken by `sys._current_frames` on a thread of ours, without stopping another one: a call into C that lets go of the
interpreter's lock, as those of PyTorch, of drivers and of the system do, is seen as the line that made it. While somebody
keeps the lock nothing of ours runs, no alert begins to fire either, and only another process can look (py-spy). The
watchdog in C that the standard library has, `faulthandler.dump_traceback_later`, is one for a process and does not tell
whether it is in use, so it is left to the job.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from types import FrameType
from typing import Final, NamedTuple

from otel_hwmetrics import redaction
from otel_hwmetrics.alerts.rule import State
from otel_hwmetrics.catalog import own
from otel_hwmetrics.sinks.base import Alert
from otel_hwmetrics.threads import PREFIX

RULES: Final = frozenset({"training_stalled", "gpu_idle"})
"""Alerts that are told with them: of a job that may hang."""
MOST: Final = 8192
"""Bytes of all stacks together."""
ON_A_SPAN: Final = 4096
"""Bytes of them that are on the event of a span: it waits in the job's memory for the span's end."""
STACKS: Final = 16
"""Different stacks; threads that stand at the same place are told of together."""
AN_HOUR: Final = 4
"""How often an hour they are taken."""
WALKED, WALKED_OF_OTHERS = 1000, 100
"""Open calls that are gone through, of the training's thread and of each other one."""

_HOUR: Final = 3600.0
_ENDS, _ENDS_OF_OTHERS = (30, 10), (12, 4)  # calls that are told of: the innermost, the outermost
_BEGINNING: Final = ("_bootstrap", "_bootstrap_inner")  # of every thread, in threading
_LONGEST: Final = 200  # letters of a name
_LEFT_OUT: Final = "(more is left out)"
_LINE: Final = re.compile(r'  File "(?P<file>[^"\n]+)", (?P<line>line \S+) in (?P<function>[^\n]+)')

Call = tuple[str, int | None, str]
"""A file, a line in it, and the function."""


class Stacks:
    """Takes them for the alerts of `RULES`, and now and then only.

    Args:
        on: Whether to.
        training: Gives the training's thread, which is told of first.
        monotonic: Seconds that never go back.
    """

    def __init__(
        self,
        training: Callable[[], threading.Thread],
        *,
        on: bool = True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._training = training
        self._on = on
        self._monotonic = monotonic
        self._taken: deque[float] = deque(maxlen=AN_HOUR)
        self._last = (0, "")  # of which moment, and what

    def attached(self, alert: Alert) -> Alert:
        """The alert with the stacks, if it begins to fire and is one of `RULES`. Called on the sampler's thread.

        Alerts of one look have the same ones. They are taken `AN_HOUR` times an hour at most.
        """
        step = alert.transition
        if not (self._on and alert.name in RULES and step.state is State.FIRING and not step.blind):
            return alert
        at, text = self._last
        if at != step.time_unix_nano:
            text = self._take()
            self._last = (step.time_unix_nano, text)
        if not text:
            return alert
        attributes = {**alert.attributes, own.CODE_STACKTRACE: shortened(text, ON_A_SPAN)}
        return replace(alert, stacks=text, attributes=attributes)

    def now(self) -> str:
        """Those of this moment, however often; empty where they are not wanted. From any thread; waits for no lock."""
        return taken(self._training()) if self._on else ""

    def _take(self) -> str:
        now = self._monotonic()
        if len(self._taken) == AN_HOUR and now - self._taken[0] < _HOUR:
            return ""
        self._taken.append(now)
        return self.now()


def taken(training: threading.Thread) -> str:
    """The stacks of this process's threads but ours, as text, the innermost call of each first.

    In the words of `faulthandler`, with names in place of numbers. Empty on a build of Python without the interpreter's
    lock: there the calls of a thread that runs cannot be gone through.

    Args:
        training: The thread that comes first; then the main one, then those that began first.
    """
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return ""
    # Both are copies that are made at once; `threading.enumerate` has a lock, which a thread that a signal has
    # interrupted may hold.
    named: dict[int, threading.Thread] = dict(getattr(threading, "_active", {}))
    frames = sys._current_frames()  # noqa: SLF001 - documented under this name, for debuggers
    frames.pop(threading.get_ident(), None)
    order = dict.fromkeys((training.ident, threading.main_thread().ident, *named, *frames))
    by_place: dict[object, tuple[list[str], _Open]] = {}  # what is to be written of each is dearer than to compare them
    for ident in filter(frames.__contains__, order):
        thread = named.get(ident or 0)
        name = f"{ident:#x}" if thread is None else thread.name
        if name.startswith(PREFIX):
            continue
        if ident == training.ident:
            name, calls = f"{clean(name)} [training]", _open_in(frames[ident], WALKED, *_ENDS)
        else:
            name, calls = clean(name), _open_in(frames[ident or 0], WALKED_OF_OTHERS, *_ENDS_OF_OTHERS)
        by_place.setdefault(calls.place, ([], calls))[0].append(name)
    return told((names, list(calls.lines())) for names, calls in islice(by_place.values(), STACKS + 1))


class _Open(NamedTuple):
    """The open calls of a thread.

    Attributes:
        inner: The innermost.
        left_out: What is between, in words.
        outer: The outermost.
    """

    inner: list[FrameType]
    left_out: str
    outer: list[FrameType]

    @property
    def place(self) -> object:
        """Equal for threads that stand at the same place."""
        return self.left_out, *((each.f_code, each.f_lasti) for part in (self.inner, self.outer) for each in part)

    def lines(self) -> Iterator[str]:
        """They as text."""
        yield from map(line, map(_call, self.inner))
        if self.left_out:
            yield f"  ... {self.left_out} ..."
            yield from map(line, map(_call, self.outer))


def _open_in(innermost: FrameType, most: int, inner: int, outer: int) -> _Open:
    """Those of a thread; it goes on meanwhile, so one that does not hang may be seen at two moments."""
    frames: list[FrameType] = []
    frame: FrameType | None = innermost
    while frame is not None and len(frames) < most:
        frames.append(frame)
        frame = frame.f_back
    while len(frames) > 1 and is_beginning(frames[-1].f_code.co_filename, frames[-1].f_code.co_name):
        frames.pop()
    if frame is not None:  # what is outermost is not known
        return _Open(frames[:inner], f"{len(frames) - inner} calls, and more", [])
    if len(frames) > inner + outer:
        return _Open(frames[:inner], f"{len(frames) - inner - outer} calls", frames[-outer:])
    return _Open(frames, "", [])


def _call(frame: FrameType) -> Call:
    code = frame.f_code
    return code.co_filename, frame.f_lineno, getattr(code, "co_qualname", code.co_name)  # the former from 3.11 on


def line(call: Call) -> str:
    """One call, as `faulthandler` writes it."""
    file, number, function = call
    return f'  File "{clean(file)}", line {"?" if number is None else number} in {clean(function)}'


def clean(name: str) -> str:
    """A name on one line, and of one that is too long its end; what cannot be shown becomes question marks."""
    name = name if len(name) <= _LONGEST else f"…{name[-_LONGEST:]}"
    return name if name.isprintable() else "".join(each if each.isprintable() else "?" for each in name)


def is_beginning(file: str, function: str) -> bool:
    """Whether a call is how every thread begins, and tells nothing."""
    return function.endswith(_BEGINNING) and file.endswith("threading.py")


def told(stacks: Iterable[tuple[Sequence[str], Sequence[str]]]) -> str:
    """Stacks as text: without secrets, `MOST` bytes at most, one block for all threads that stand at the same place.

    Args:
        stacks: The names of threads and the lines of their calls; those that matter most first.
    """
    by_place: dict[tuple[str, ...], list[str]] = {}
    for threads, lines in stacks:
        by_place.setdefault(tuple(lines), []).extend(threads)
    blocks: list[str] = []
    for lines, names in islice(by_place.items(), STACKS):
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""  # noqa: PLR2004 - names that are told
        blocks.append("\n".join((f"Thread {'; '.join(names[:3])}{more} (most recent call first):", *lines)))
        if sum(map(len, blocks)) > MOST:  # what is left out anyway needs no look for secrets
            break
    if len(by_place) > len(blocks):
        blocks.append(_LEFT_OUT)
    return shortened(redaction.text("\n\n".join(blocks)), MOST)


def shortened(text: str, most: int) -> str:
    """The first stacks of a text, whole ones as long as they fit; of the very first one as many lines as do.

    Args:
        text: As `told` gives it.
        most: Bytes, in UTF-8.
    """
    if len(text.encode()) <= most:
        return text
    blocks = text.split("\n\n")
    room = most - len(f"\n\n{_LEFT_OUT}")
    while len(blocks) > 1 and len("\n\n".join(blocks).encode()) > room:
        blocks.pop()
    lines = "\n\n".join(blocks).split("\n")
    while len(lines) > 1 and len("\n".join(lines).encode()) > room:
        lines.pop()
    return "\n".join(lines).encode()[:room].decode(errors="ignore") + f"\n\n{_LEFT_OUT}"


_OURS: Final = os.path.dirname(os.path.dirname(__file__))
_LIBRARIES: Final = (os.path.dirname(os.__file__), "<frozen ", _OURS + os.sep)


def place_in(text: str) -> str:
    """Where the first thread of a text stands, for a line of the log: the innermost call that is of no library.

    Args:
        text: As `told` gives it.

    Returns:
        ``/home/me/train.py, line 12 in collate``; empty where there is none.
    """
    calls = list(_LINE.finditer(text.partition("\n\n")[0]))
    own_calls = [call for call in calls if not _of_a_library(call["file"])]
    for call in (own_calls or calls)[:1]:
        return f"{call['file']}, {call['line']} in {call['function']}"
    return ""


def _of_a_library(file: str) -> bool:
    return file.startswith(_LIBRARIES) or "site-packages" in file or "dist-packages" in file
